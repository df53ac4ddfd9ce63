//! One member of one consumer group: joins, commits, leaves, and removes the group.
//!
//! It speaks the classic group protocol, the one that librdkafka and the Java client use unless told otherwise.

use std::net::SocketAddrV4;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::consumer_protocol_assignment::TopicPartition;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    ConsumerProtocolAssignment, ConsumerProtocolSubscription, DeleteGroupsRequest, FindCoordinatorRequest, GroupId,
    JoinGroupRequest, LeaveGroupRequest, OffsetCommitRequest, OffsetFetchRequest, SyncGroupRequest,
};
use kafka_protocol::protocol::{Encodable, StrBytes};
use tokio::time::Instant;

use super::call::Call;
use super::cluster::{first, topic_name};
use super::connection::Peer;
use super::error::{DecodeError, WireError};
use super::until::{RUNNING, Until};

/// The session of a member that lives for a few milliseconds, or for much longer where everything starts at once: as
/// long as a start may take. It leaves by itself, so nobody waits for the end of its session.
const SESSION_TIMEOUT_MS: i32 = 60_000;
/// The version of the consumer protocol inside of JoinGroup and SyncGroup.
const CONSUMER_PROTOCOL: i16 = 1;
/// The member's name. Should the answer to its joining be lost, it joins again in its own place; the coordinator would
/// wait for a nameless one that has been forgotten until its session ends.
const INSTANCE: &str = "greenroom";
const PROTOCOL_TYPE: &str = "consumer";
const ASSIGNOR: &str = "range";

/// What a coordinator coordinates: the key type of FindCoordinator.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Coordinates {
    Group = 0,
    Transaction = 1,
}

/// Finds the coordinator of `key`, which makes the internal topic where it does not exist yet.
pub(crate) async fn coordinator(asked: &mut Peer, kind: Coordinates, key: &str) -> Result<Peer, WireError> {
    let request = FindCoordinatorRequest::default()
        .with_key_type(kind as i8)
        .with_coordinator_keys(vec![StrBytes::from_string(key.to_owned())]);
    let answer = asked.ask(&request).await?;
    let found = asked.entry::<FindCoordinatorRequest, _>(answer.coordinators.first(), key)?;
    asked.check::<FindCoordinatorRequest>(found.error_code, key)?;
    let address = found.host.parse().ok().zip(u16::try_from(found.port).ok());
    let (host, port) = asked.entry::<FindCoordinatorRequest, _>(address, key)?;
    Ok(Peer::new(SocketAddrV4::new(host, port)))
}

/// The only member of a group, assigned partition 0 of one topic.
#[derive(Debug)]
pub(super) struct Member {
    /// The group's coordinator, once `located`.
    coordinator: Peer,
    located: bool,
    group: GroupId,
    topic: String,
    id: StrBytes,
    generation: i32,
}

impl Member {
    /// Joins `group`, retrying while its coordinator is being made or loaded.
    pub(super) async fn join(
        brokers: &[SocketAddrV4],
        group: &str,
        topic: &str,
        deadline: Instant,
    ) -> Result<Self, WireError> {
        let mut member = Self {
            coordinator: Peer::new(first(brokers)?),
            located: false,
            group: GroupId(StrBytes::from_string(group.to_owned())),
            topic: topic.to_owned(),
            id: StrBytes::new(),
            generation: -1,
        };
        let mut until = Until::new("a new group's member", RUNNING, deadline);
        // Another broker is asked each time: one that is gone must not be asked for ever.
        for asked in brokers.iter().cycle() {
            if until.attempt(member.enter(*asked)).await?.is_some() {
                break;
            }
        }
        Ok(member)
    }

    async fn enter(&mut self, asked: SocketAddrV4) -> Result<(), WireError> {
        if !self.located {
            let mut asked = Peer::new(asked);
            self.coordinator = coordinator(&mut asked, Coordinates::Group, &self.group).await?;
        }
        let entered = self.join_and_sync().await;
        // A coordinator that is still loading says so, or that it is none yet; looking it up again
        // would give the same. Only a broker that is gone must not be asked for ever.
        self.located = matches!(entered, Ok(()) | Err(WireError::Refused { .. }));
        entered
    }

    async fn join_and_sync(&mut self) -> Result<(), WireError> {
        let answer = self.coordinator.ask(&self.join_request()?).await?;
        self.check::<JoinGroupRequest>(answer.error_code)?;
        self.id = answer.member_id;
        self.generation = answer.generation_id;
        let partition = TopicPartition::default().with_topic(topic_name(&self.topic)).with_partitions(vec![0]);
        let assignment = ConsumerProtocolAssignment::default().with_assigned_partitions(vec![partition]);
        let assignment = SyncGroupRequestAssignment::default()
            .with_member_id(self.id.clone())
            .with_assignment(self.versioned(&assignment)?);
        let request = SyncGroupRequest::default()
            .with_group_id(self.group.clone())
            .with_generation_id(self.generation)
            .with_member_id(self.id.clone())
            .with_protocol_type(Some(StrBytes::from_static_str(PROTOCOL_TYPE)))
            .with_protocol_name(Some(StrBytes::from_static_str(ASSIGNOR)))
            .with_assignments(vec![assignment]);
        let answer = self.coordinator.ask(&request).await?;
        self.check::<SyncGroupRequest>(answer.error_code)
    }

    fn join_request(&self) -> Result<JoinGroupRequest, WireError> {
        let subscription =
            ConsumerProtocolSubscription::default().with_topics(vec![StrBytes::from_string(self.topic.clone())]);
        let protocol = JoinGroupRequestProtocol::default()
            .with_name(StrBytes::from_static_str(ASSIGNOR))
            .with_metadata(self.versioned(&subscription)?);
        Ok(JoinGroupRequest::default()
            .with_group_id(self.group.clone())
            .with_session_timeout_ms(SESSION_TIMEOUT_MS)
            .with_rebalance_timeout_ms(SESSION_TIMEOUT_MS)
            .with_group_instance_id(Some(StrBytes::from_static_str(INSTANCE)))
            .with_protocol_type(StrBytes::from_static_str(PROTOCOL_TYPE))
            .with_protocols(vec![protocol]))
    }

    /// The consumer protocol's messages carry their version in front of them.
    fn versioned(&self, message: &impl Encodable) -> Result<Bytes, WireError> {
        let mut bytes = BytesMut::new();
        bytes.put_i16(CONSUMER_PROTOCOL);
        message.encode(&mut bytes, CONSUMER_PROTOCOL).map_err(|source| WireError::Unreadable {
            broker: self.coordinator.address(),
            request: "JoinGroup",
            source: DecodeError::Malformed(source.into()),
        })?;
        Ok(bytes.freeze())
    }

    fn check<C: Call>(&self, code: i16) -> Result<(), WireError> {
        self.coordinator.check::<C>(code, &self.group)
    }

    /// Asks for the committed offset, as every consumer does first. A new group has none.
    pub(super) async fn committed(&mut self) -> Result<(), WireError> {
        let topic =
            OffsetFetchRequestTopics::default().with_name(topic_name(&self.topic)).with_partition_indexes(vec![0]);
        let group = OffsetFetchRequestGroup::default().with_group_id(self.group.clone()).with_topics(Some(vec![topic]));
        let request = OffsetFetchRequest::default().with_groups(vec![group]);
        let answer = self.coordinator.ask(&request).await?;
        let group = self.coordinator.entry::<OffsetFetchRequest, _>(answer.groups.first(), &self.group)?;
        self.check::<OffsetFetchRequest>(group.error_code)
    }

    /// Commits offset 1 of partition 0.
    pub(super) async fn commit(&mut self, deadline: Instant) -> Result<(), WireError> {
        let partition = OffsetCommitRequestPartition::default().with_committed_offset(1);
        let topic =
            OffsetCommitRequestTopic::default().with_name(topic_name(&self.topic)).with_partitions(vec![partition]);
        let request = OffsetCommitRequest::default()
            .with_group_id(self.group.clone())
            .with_generation_id_or_member_epoch(self.generation)
            .with_member_id(self.id.clone())
            .with_topics(vec![topic]);
        let mut until = Until::new("an offset committed", RUNNING, deadline);
        while until.attempt(self.commit_once(&request)).await?.is_none() {}
        Ok(())
    }

    async fn commit_once(&mut self, request: &OffsetCommitRequest) -> Result<(), WireError> {
        let answer = self.coordinator.ask(request).await?;
        let topic = answer.topics.first();
        let partition = topic.and_then(|topic| topic.partitions.first());
        let partition = self.coordinator.entry::<OffsetCommitRequest, _>(partition, &self.group)?;
        self.check::<OffsetCommitRequest>(partition.error_code)
    }

    /// Leaves the group and removes it with its offsets.
    pub(super) async fn leave_and_remove(mut self, deadline: Instant) -> Result<(), WireError> {
        let mut until = Until::new("the throw-away group left", RUNNING, deadline);
        while until.attempt(self.leave()).await?.is_none() {}
        let mut until = Until::new("the throw-away group removed", RUNNING, deadline);
        while until.attempt(self.remove()).await?.is_none() {}
        Ok(())
    }

    async fn leave(&mut self) -> Result<(), WireError> {
        let member = MemberIdentity::default().with_member_id(self.id.clone());
        let request = LeaveGroupRequest::default().with_group_id(self.group.clone()).with_members(vec![member]);
        let answer = self.coordinator.ask(&request).await?;
        self.check::<LeaveGroupRequest>(answer.error_code)
    }

    async fn remove(&mut self) -> Result<(), WireError> {
        let request = DeleteGroupsRequest::default().with_groups_names(vec![self.group.clone()]);
        let answer = self.coordinator.ask(&request).await?;
        let removed = self.coordinator.entry::<DeleteGroupsRequest, _>(answer.results.first(), &self.group)?;
        // An earlier attempt whose answer was lost may have removed it.
        if removed.error_code == ResponseError::GroupIdNotFound.code() {
            return Ok(());
        }
        self.check::<DeleteGroupsRequest>(removed.error_code)
    }
}
