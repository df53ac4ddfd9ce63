//! Does every broker list every broker?

use std::net::{Ipv4Addr, SocketAddrV4};

use futures_util::future::try_join_all;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{BrokerId, MetadataRequest, MetadataResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use tokio::time::Instant;

use super::connection::Peer;
use super::error::{Missing, WireError};
use super::until::{STARTING, Until};

/// A broker as the cluster's own metadata names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Broker {
    /// Its node id.
    pub node_id: i32,
    /// The address that it advertises to clients.
    pub address: SocketAddrV4,
}

/// A cluster all of whose brokers know one another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterView {
    /// The cluster's id.
    pub cluster_id: String,
    /// Every broker, by node id.
    pub brokers: Vec<Broker>,
}

/// Asks every broker, every 25 ms, for its metadata, until each one's own lists all of `brokers` and names a
/// controller.
///
/// # Errors
/// At `deadline`: which brokers were missing from whose view, and which of them refused the connection.
/// At once: an answer that is not Kafka's.
pub async fn cluster_listed(brokers: &[SocketAddrV4], deadline: Instant) -> Result<ClusterView, WireError> {
    cluster_listed_by(brokers, brokers, deadline).await
}

/// Like [`cluster_listed`], as these viewers alone see it.
///
/// # Errors
/// As for [`cluster_listed`].
pub async fn cluster_listed_by(
    viewers: &[SocketAddrV4],
    brokers: &[SocketAddrV4],
    deadline: Instant,
) -> Result<ClusterView, WireError> {
    let began = Instant::now();
    first(viewers)?;
    let views = viewers.iter().map(|viewer| listed_by(*viewer, brokers, deadline));
    let (views, missing): (Vec<_>, Vec<_>) = try_join_all(views).await?.into_iter().partition(Result::is_ok);
    let missing: Vec<Missing> = missing.into_iter().filter_map(Result::err).collect();
    match views.into_iter().flatten().next() {
        Some(view) if missing.is_empty() => Ok(view),
        _ => Err(WireError::Deadline {
            awaited: format!("a cluster of {} brokers that know one another", brokers.len()),
            waited_ms: began.elapsed().as_millis(),
            source: Some(Box::new(WireError::Unlisted(missing))),
        }),
    }
}

/// Waits for one broker's own view: a view of all brokers, or what was missing from it at the deadline.
async fn listed_by(
    viewer: SocketAddrV4,
    brokers: &[SocketAddrV4],
    deadline: Instant,
) -> Result<Result<ClusterView, Missing>, WireError> {
    let mut peer = Peer::new(viewer);
    let mut until = Until::new("a full listing", STARTING, deadline);
    let last = loop {
        let attempt = async {
            let answer = metadata(&mut peer, &[]).await?;
            complete(viewer, brokers, &answer).map_err(|missing| WireError::Unlisted(vec![missing]))
        };
        match until.attempt(attempt).await {
            Ok(Some(view)) => return Ok(Ok(view)),
            Ok(None) => {}
            Err(WireError::Deadline { source, .. }) => break source.map(|last| *last),
            Err(error) => return Err(error),
        }
    };
    let silent = match last {
        Some(WireError::Unlisted(mut views)) => match views.pop() {
            Some(missing) => return Ok(Err(missing)),
            None => "no answer".to_owned(),
        },
        Some(WireError::Unreachable { source, .. }) => source.to_string(),
        Some(error) => error.to_string(),
        None => "no answer".to_owned(),
    };
    Ok(Err(Missing { viewer, unlisted: Vec::new(), controller: false, silent: Some(silent) }))
}

fn complete(viewer: SocketAddrV4, brokers: &[SocketAddrV4], answer: &MetadataResponse) -> Result<ClusterView, Missing> {
    let listed = brokers_of(answer);
    let unlisted: Vec<SocketAddrV4> =
        brokers.iter().filter(|address| !listed.iter().any(|broker| broker.address == **address)).copied().collect();
    let controller = answer.controller_id != BrokerId(-1);
    if !unlisted.is_empty() || !controller {
        return Err(Missing { viewer, unlisted, controller, silent: None });
    }
    Ok(ClusterView {
        cluster_id: answer.cluster_id.as_ref().map(ToString::to_string).unwrap_or_default(),
        brokers: listed,
    })
}

/// The brokers in an answer, by node id. Hosts that are not IPv4 addresses are not ours and left out.
pub(crate) fn brokers_of(answer: &MetadataResponse) -> Vec<Broker> {
    let mut brokers: Vec<Broker> = answer
        .brokers
        .iter()
        .filter_map(|broker| {
            let host: Ipv4Addr = broker.host.parse().ok()?;
            let port = u16::try_from(broker.port).ok()?;
            Some(Broker { node_id: broker.node_id.0, address: SocketAddrV4::new(host, port) })
        })
        .collect();
    brokers.sort();
    brokers
}

/// One broker's metadata of `topics`, without creating any.
pub(super) async fn metadata(peer: &mut Peer, topics: &[&str]) -> Result<MetadataResponse, WireError> {
    let named = |name: &&str| MetadataRequestTopic::default().with_name(Some(topic_name(name)));
    let request = MetadataRequest::default()
        .with_topics(Some(topics.iter().map(named).collect()))
        .with_allow_auto_topic_creation(false);
    peer.ask(&request).await
}

/// The broker that is asked where any will do.
pub(super) fn first(brokers: &[SocketAddrV4]) -> Result<SocketAddrV4, WireError> {
    brokers.first().copied().ok_or(WireError::NoBrokers)
}

/// A topic's name as the protocol's messages hold it.
pub(crate) fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}
