//! Makes topics, and removes the throw-away one.

use std::net::SocketAddrV4;

use futures_util::future::try_join_all;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::{BrokerId, CreateTopicsRequest, DeleteTopicsRequest, MetadataResponse};
use kafka_protocol::protocol::StrBytes;
use tokio::time::Instant;

use super::cluster::{first, metadata, topic_name};
use super::connection::{BROKER_TIMEOUT_MS, Peer};
use super::error::WireError;
use super::until::{RUNNING, Until};

/// A topic that should exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// How many partitions.
    pub partitions: u16,
    /// How many replicas each partition has.
    pub replication: u16,
    /// Settings, by Kafka's names, that differ from the cluster's.
    pub settings: Vec<(&'static str, String)>,
}

impl Topic {
    /// A topic with the cluster's settings.
    pub fn new(name: impl Into<String>, partitions: u16, replication: u16) -> Self {
        Self { name: name.into(), partitions, replication, settings: Vec::new() }
    }
}

/// Makes all `topics` with one request and waits until, on every broker's own metadata, each partition
/// has a leader and all its replicas are in sync. A topic that exists with the same shape is left as it is.
///
/// # Errors
/// At once for a topic that cannot be made or exists with another shape;
/// at `deadline`, naming the broker and the topic that was not ready.
pub async fn create_topics(brokers: &[SocketAddrV4], topics: &[Topic], deadline: Instant) -> Result<(), WireError> {
    if topics.is_empty() {
        return Ok(());
    }
    // Any broker will do: it forwards the request to the active controller (KIP-590).
    let mut peer = Peer::new(first(brokers)?);
    let request = creation(topics);
    let mut until = Until::new("the topics made", RUNNING, deadline);
    while until.attempt(create(&mut peer, &request)).await?.is_none() {}
    try_join_all(brokers.iter().map(|broker| async move {
        let mut peer = Peer::new(*broker);
        let mut until = Until::new("every topic ready", RUNNING, deadline);
        while until.attempt(all_shaped(&mut peer, topics)).await?.is_none() {}
        Ok(())
    }))
    .await
    .map(drop)
}

/// Waits until, on the own metadata of each of `brokers`, every partition of `topics` has a leader and just `replicas`
/// replicas in sync: how a cluster is known to have missed a broker, or to be whole again.
///
/// # Errors
/// At `deadline`, naming the broker and the topic for which it was otherwise.
pub async fn replicas_in_sync(
    brokers: &[SocketAddrV4],
    topics: &[String],
    replicas: usize,
    deadline: Instant,
) -> Result<(), WireError> {
    try_join_all(brokers.iter().map(|broker| async move {
        let mut peer = Peer::new(*broker);
        let mut until = Until::new("every replica in its place", RUNNING, deadline);
        while until.attempt(all_in_sync(&mut peer, topics, replicas)).await?.is_none() {}
        Ok(())
    }))
    .await
    .map(drop)
}

/// Removes a topic and waits until no broker lists it any more.
pub(super) async fn remove(brokers: &[SocketAddrV4], name: &str, deadline: Instant) -> Result<(), WireError> {
    let mut peer = Peer::new(first(brokers)?);
    let mut until = Until::new("the throw-away topic removed", RUNNING, deadline);
    while until.attempt(delete(&mut peer, name)).await?.is_none() {}
    try_join_all(brokers.iter().map(|broker| async move {
        let mut peer = Peer::new(*broker);
        let mut until = Until::new("the throw-away topic unlisted", RUNNING, deadline);
        while until.attempt(unlisted(&mut peer, name)).await?.is_none() {}
        Ok(())
    }))
    .await
    .map(drop)
}

fn setting((name, value): &(&'static str, String)) -> CreatableTopicConfig {
    CreatableTopicConfig::default()
        .with_name(StrBytes::from_static_str(name))
        .with_value(Some(StrBytes::from_string(value.clone())))
}

fn creation(topics: &[Topic]) -> CreateTopicsRequest {
    let creatable = |topic: &Topic| {
        CreatableTopic::default()
            .with_name(topic_name(&topic.name))
            .with_num_partitions(i32::from(topic.partitions))
            .with_replication_factor(i16::try_from(topic.replication).unwrap_or(i16::MAX))
            .with_configs(topic.settings.iter().map(setting).collect())
    };
    CreateTopicsRequest::default()
        .with_topics(topics.iter().map(creatable).collect())
        .with_timeout_ms(BROKER_TIMEOUT_MS)
}

async fn create(peer: &mut Peer, request: &CreateTopicsRequest) -> Result<(), WireError> {
    let answer = peer.ask(request).await?;
    for topic in answer.topics {
        // Made by an earlier attempt whose answer was lost, or by an earlier start of the cluster;
        // its shape is compared when the metadata is read.
        if topic.error_code != ResponseError::TopicAlreadyExists.code() {
            peer.check::<CreateTopicsRequest>(topic.error_code, &topic.name)?;
        }
    }
    Ok(())
}

async fn delete(peer: &mut Peer, name: &str) -> Result<(), WireError> {
    let topic = DeleteTopicState::default().with_name(Some(topic_name(name)));
    let request = DeleteTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(BROKER_TIMEOUT_MS);
    let answer = peer.ask(&request).await?;
    answer
        .responses
        .iter()
        .filter(|topic| !is_unknown(topic.error_code))
        .try_for_each(|topic| peer.check::<DeleteTopicsRequest>(topic.error_code, name))
}

async fn all_shaped(peer: &mut Peer, topics: &[Topic]) -> Result<(), WireError> {
    let names: Vec<&str> = topics.iter().map(|topic| topic.name.as_str()).collect();
    let answer = metadata(peer, &names).await?;
    for topic in topics {
        shaped(peer.address(), topic, seen_of(peer.address(), &answer, &topic.name)?)?;
    }
    Ok(())
}

async fn all_in_sync(peer: &mut Peer, topics: &[String], replicas: usize) -> Result<(), WireError> {
    let names: Vec<&str> = topics.iter().map(String::as_str).collect();
    let answer = metadata(peer, &names).await?;
    for name in names {
        let topic = seen_of(peer.address(), &answer, name)?;
        if let Some(partition) = topic.partitions.iter().find(|partition| partition.isr_nodes.len() != replicas) {
            let (found, index) = (partition.isr_nodes.len(), partition.partition_index);
            return Err(not_ready(
                peer.address(),
                name,
                &format!("with {found} replicas of partition {index} in sync"),
            ));
        }
    }
    Ok(())
}

async fn unlisted(peer: &mut Peer, name: &str) -> Result<(), WireError> {
    let answer = metadata(peer, &[name]).await?;
    if answer.topics.iter().all(|topic| is_unknown(topic.error_code)) {
        return Ok(());
    }
    Err(not_ready(peer.address(), name, "still listed"))
}

fn is_unknown(code: i16) -> bool {
    code == ResponseError::UnknownTopicOrPartition.code()
}

/// The topic in `answer`, if every partition of it has a leader.
pub(super) fn seen_of<'a>(
    broker: SocketAddrV4,
    answer: &'a MetadataResponse,
    name: &str,
) -> Result<&'a MetadataResponseTopic, WireError> {
    let found = answer.topics.iter().find(|topic| topic.name.as_ref().is_some_and(|found| found.as_str() == name));
    let Some(topic) = found.filter(|topic| !is_unknown(topic.error_code)) else {
        return Err(not_ready(broker, name, "not at all"));
    };
    if let Some(code) = ResponseError::try_from_code(topic.error_code) {
        return Err(not_ready(broker, name, &format!("with error {code}")));
    }
    let leaderless =
        topic.partitions.iter().find(|partition| partition.error_code != 0 || partition.leader_id == BrokerId(-1));
    match leaderless {
        Some(partition) => {
            let state = format!("without a leader for partition {}", partition.partition_index);
            Err(not_ready(broker, name, &state))
        }
        None => Ok(topic),
    }
}

/// Compares a topic with what was asked for, and its in-sync replicas with its replicas.
fn shaped(broker: SocketAddrV4, asked: &Topic, seen: &MetadataResponseTopic) -> Result<(), WireError> {
    let differs = seen.partitions.len() != usize::from(asked.partitions)
        || seen.partitions.iter().any(|partition| partition.replica_nodes.len() != usize::from(asked.replication));
    if differs {
        let replicas = seen.partitions.first().map_or(0, |partition| partition.replica_nodes.len());
        return Err(WireError::TopicDiffers {
            topic: asked.name.clone(),
            found: shape(seen.partitions.len(), replicas),
            asked: shape(usize::from(asked.partitions), usize::from(asked.replication)),
        });
    }
    let behind = seen.partitions.iter().find(|partition| partition.isr_nodes.len() < partition.replica_nodes.len());
    match behind {
        Some(partition) => {
            let state = format!(
                "with {} of {} replicas of partition {} in sync",
                partition.isr_nodes.len(),
                partition.replica_nodes.len(),
                partition.partition_index
            );
            Err(not_ready(broker, &asked.name, &state))
        }
        None => Ok(()),
    }
}

fn shape(partitions: usize, replicas: usize) -> String {
    format!("{partitions} partitions and {replicas} replicas each")
}

fn not_ready(broker: SocketAddrV4, topic: &str, state: &str) -> WireError {
    WireError::TopicNotReady { broker, topic: topic.to_owned(), state: state.to_owned() }
}
