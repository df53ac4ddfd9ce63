//! Which broker leads: a partition, or the quorum of controllers.

use std::net::SocketAddrV4;

use kafka_protocol::messages::describe_quorum_request::{PartitionData, TopicData};
use kafka_protocol::messages::{BrokerId, DescribeQuorumRequest};
use tokio::time::Instant;

use super::cluster::{first, metadata, topic_name};
use super::connection::Peer;
use super::error::WireError;
use super::topics::seen_of;
use super::until::{RUNNING, Until};

/// The topic in which the quorum keeps the cluster's metadata; its one partition is led by the active controller.
const CLUSTER_METADATA: &str = "__cluster_metadata";

/// The node id of the broker that leads a partition, by the metadata of the first of `brokers` that answers. One that
/// has died leads until the others have missed it.
///
/// # Errors
/// At `deadline`: no broker answered, or none of them knew a leader.
pub async fn partition_leader(
    brokers: &[SocketAddrV4],
    topic: &str,
    partition: i32,
    deadline: Instant,
) -> Result<i32, WireError> {
    let awaited = format!("a leader of partition {partition} of {topic}");
    asked_in_turn(brokers, &awaited, deadline, async |peer| {
        let answer = metadata(peer, &[topic]).await?;
        let seen = seen_of(peer.address(), &answer, topic)?;
        let found = seen.partitions.iter().find(|found| found.partition_index == partition);
        Ok(found
            .ok_or_else(|| WireError::TopicNotReady {
                broker: peer.address(),
                topic: topic.to_owned(),
                state: format!("without a partition {partition}"),
            })?
            .leader_id)
    })
    .await
}

/// The node id of the broker that leads the quorum of controllers, by its own word: whoever is asked asks it.
///
/// # Errors
/// At `deadline`: no broker answered, or the quorum had no leader.
pub async fn quorum_leader(brokers: &[SocketAddrV4], deadline: Instant) -> Result<i32, WireError> {
    let partition = PartitionData::default().with_partition_index(0);
    let topic = TopicData::default().with_topic_name(topic_name(CLUSTER_METADATA)).with_partitions(vec![partition]);
    let request = DescribeQuorumRequest::default().with_topics(vec![topic]);
    asked_in_turn(brokers, "a leader of the quorum", deadline, async |peer| {
        let answer = peer.ask(&request).await?;
        peer.check::<DescribeQuorumRequest>(answer.error_code, CLUSTER_METADATA)?;
        let partition = answer.topics.first().and_then(|topic| topic.partitions.first());
        let partition = peer.entry::<DescribeQuorumRequest, _>(partition, CLUSTER_METADATA)?;
        peer.check::<DescribeQuorumRequest>(partition.error_code, CLUSTER_METADATA)?;
        Ok(partition.leader_id)
    })
    .await
}

/// Asks one broker after the other until one of them gives an answer.
async fn asked_in_turn(
    brokers: &[SocketAddrV4],
    awaited: &str,
    deadline: Instant,
    mut question: impl AsyncFnMut(&mut Peer) -> Result<BrokerId, WireError>,
) -> Result<i32, WireError> {
    first(brokers)?;
    let mut peers: Vec<Peer> = brokers.iter().map(|broker| Peer::new(*broker)).collect();
    let mut until = Until::new(awaited, RUNNING, deadline);
    loop {
        for peer in &mut peers {
            if let Some(leader) = until.attempt(question(peer)).await? {
                return Ok(leader.0);
            }
        }
    }
}
