//! Reads a topic's first record through a group.

use std::net::SocketAddrV4;
use std::time::Duration;

use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{BrokerId, FetchRequest, ListOffsetsRequest};
use tokio::time::Instant;

use super::cluster::topic_name;
use super::connection::Peer;
use super::error::WireError;
use super::group::Member;
use super::produce::{acknowledge, leader_of};
use super::until::{RUNNING, Until};

/// How long a fetch waits at the broker for the first byte, in milliseconds.
const FETCH_WAIT_MS: i32 = 500;
/// More than one record of ours; a larger first batch is sent whole regardless (KIP-74).
const FETCH_BYTES_MAX: i32 = 1024 * 1024;
/// `ListOffsets` for the first offset there is.
const EARLIEST: i64 = -2;

/// When a new group's first record arrived, counted from the call.
#[derive(Clone, Copy, Debug)]
pub struct FirstRecord {
    /// Until the group had its member and the member its assignment.
    pub joined: Duration,
    /// Until the first record was read.
    pub consumed: Duration,
    /// Until its offset was committed.
    pub committed: Duration,
}

/// Measures what a consumer meets: sends one record to partition 0 of `topic`, joins the new group `group`,
/// reads from the partition's beginning until a record comes, commits, leaves and removes the group.
/// The record stays in the topic.
///
/// # Errors
/// The first step that fails for good, or that was still failing at `deadline`.
pub async fn first_record_through_new_group(
    brokers: &[SocketAddrV4],
    topic: &str,
    group: &str,
    deadline: Instant,
) -> Result<FirstRecord, WireError> {
    let began = Instant::now();
    let joining = async {
        let member = Member::join(brokers, group, topic, deadline).await?;
        Ok((member, began.elapsed()))
    };
    let sending = Box::pin(acknowledge(brokers, topic, deadline));
    let ((mut member, joined), _) = tokio::try_join!(Box::pin(joining), sending)?;
    read_first(&mut member, brokers, topic, deadline).await?;
    let consumed = began.elapsed();
    member.commit(deadline).await?;
    let committed = began.elapsed();
    member.leave_and_remove(deadline).await?;
    Ok(FirstRecord { joined, consumed, committed })
}

/// Reads from where the group left off, which for a new group is the partition's beginning,
/// until a record comes.
pub(super) async fn read_first(
    member: &mut Member,
    brokers: &[SocketAddrV4],
    topic: &str,
    deadline: Instant,
) -> Result<(), WireError> {
    let mut until = Until::new("a record read", RUNNING, deadline);
    while until.attempt(read(member, brokers, topic)).await?.is_none() {}
    Ok(())
}

async fn read(member: &mut Member, brokers: &[SocketAddrV4], topic: &str) -> Result<(), WireError> {
    member.committed().await?;
    let mut leader = leader_of(brokers, topic).await?;
    let offset = leader.earliest(topic, 0).await?;
    while !fetch(&mut leader, topic, offset).await? {}
    Ok(())
}

impl Peer {
    /// The first offset that a partition still has; its leader is asked.
    pub(crate) async fn earliest(&mut self, topic: &str, partition: i32) -> Result<i64, WireError> {
        let asked = ListOffsetsPartition::default().with_partition_index(partition).with_timestamp(EARLIEST);
        let asked = ListOffsetsTopic::default().with_name(topic_name(topic)).with_partitions(vec![asked]);
        let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![asked]);
        let answer = self.ask(&request).await?;
        let subject = format!("{topic}[{partition}]");
        let found = answer.topics.first().and_then(|topic| topic.partitions.first());
        let found = self.entry::<ListOffsetsRequest, _>(found, &subject)?;
        self.check::<ListOffsetsRequest>(found.error_code, &subject)?;
        Ok(found.offset)
    }
}

/// Fetches once; says whether a record came.
async fn fetch(leader: &mut Peer, topic: &str, offset: i64) -> Result<bool, WireError> {
    let partition = FetchPartition::default().with_fetch_offset(offset).with_partition_max_bytes(FETCH_BYTES_MAX);
    let asked = FetchTopic::default().with_topic(topic_name(topic)).with_partitions(vec![partition]);
    let request = FetchRequest::default()
        .with_max_wait_ms(FETCH_WAIT_MS)
        .with_min_bytes(1)
        .with_max_bytes(FETCH_BYTES_MAX)
        .with_topics(vec![asked]);
    let answer = leader.ask(&request).await?;
    leader.check::<FetchRequest>(answer.error_code, topic)?;
    let partition = answer.responses.first().and_then(|topic| topic.partitions.first());
    let partition = leader.entry::<FetchRequest, _>(partition, topic)?;
    leader.check::<FetchRequest>(partition.error_code, topic)?;
    Ok(partition.records.as_ref().is_some_and(|records| !records.is_empty()))
}
