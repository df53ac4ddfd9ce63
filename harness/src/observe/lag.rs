//! How far the described consumer groups are behind the end of their topics.
//!
//! Asked over the wire protocol, because librdkafka finds a group's coordinator in steps of up to a second, which made
//! each settling 0.3 to 1.3 s long; this way a look takes a few milliseconds.
//!
//! The connections live as long as the settling. A group is compared with the high watermark. An open transaction is
//! not rest, whoever reads its topic: what follows it is not read yet.
//! Known limit: a group that reads transactions with a client that never commits past a control record
//! (librdkafka) stays one behind, and is reported so.

use std::collections::{BTreeMap, HashMap};
use std::net::{AddrParseError, SocketAddrV4};

use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::{BrokerId, GroupId, ListOffsetsRequest, OffsetFetchRequest};
use kafka_protocol::protocol::StrBytes;

use super::brokers::is_of_the_system;
use super::settle::Waiting;
use super::topology::{self, Leader, Partition, Peers, Topology};
use crate::report::chain;
use crate::spec::ConsumerSpec;
use crate::wire::{Coordinates, Peer, WireError, coordinator, topic_name};

/// ListOffsets' timestamp for "the next offset to be written".
const LATEST: i64 = -1;
/// ListOffsets' replica id of a client.
const CLIENT: BrokerId = BrokerId(-1);

/// Connections for one description.
pub(super) struct Lag {
    bootstrap: Vec<SocketAddrV4>,
    consumers: Vec<ConsumerSpec>,
    peers: Peers,
    /// By group.
    coordinators: HashMap<String, Peer>,
}

/// What one look at the cluster found.
#[derive(Default)]
pub(super) struct Look {
    pub(super) waiting: Vec<Waiting>,
    /// End offsets and committed offsets, to be compared with those of the next look.
    pub(super) counters: BTreeMap<Partition, i64>,
}

/// How far a partition goes.
#[derive(Clone, Copy)]
struct End {
    /// The high watermark: the next offset to be written.
    written: i64,
    /// Whether something before it belongs to a transaction that is not decided.
    is_open: bool,
}

/// Which records ListOffsets counts.
#[derive(Clone, Copy)]
enum Isolation {
    ReadUncommitted = 0,
    /// Up to the first record of an open transaction.
    ReadCommitted = 1,
}

/// Why a look found nothing.
#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error("kafka")]
    Wire(#[from] WireError),
    #[error("kafka: {topic}[{partition}] has no leader")]
    NoLeader { topic: String, partition: i32 },
}

impl Lag {
    /// Connects to nothing yet. The brokers' addresses are `IPv4:port`.
    pub(super) fn new(brokers: &[String], consumers: &[ConsumerSpec]) -> Result<Self, AddrParseError> {
        Ok(Self {
            bootstrap: brokers.iter().map(|address| address.parse()).collect::<Result<_, _>>()?,
            consumers: consumers.to_vec(),
            peers: Peers::new(),
            coordinators: HashMap::new(),
        })
    }

    /// Looks once. What the cluster does not answer is something to wait for; the next look starts afresh.
    pub(super) async fn look(&mut self) -> Look {
        match self.try_look().await {
            Ok(look) => look,
            Err(error) => {
                self.peers.clear();
                self.coordinators.clear();
                Look { waiting: vec![Waiting::Unanswered { what: chain(&error) }], ..Look::default() }
            }
        }
    }

    /// Committed offsets are asked before end offsets, so that a lag of 0 cannot come from a record that was sent and
    /// consumed between the two questions.
    async fn try_look(&mut self) -> Result<Look, LookError> {
        let Topology { told_by, mut leaders } = topology::ask(&mut self.bootstrap, &mut self.peers).await?;
        leaders.retain(|(topic, _), _| is_of_the_system(topic));
        let told_by = *told_by.first().ok_or(WireError::NoBrokers)?;
        let mut committed = Vec::new();
        for consumer in self.consumers.clone() {
            let partitions: Vec<_> =
                leaders.keys().filter(|(topic, _)| consumer.topics.contains(topic)).cloned().collect();
            let offsets = self.committed(told_by, &consumer.group, &partitions).await?;
            committed.push((consumer, offsets));
        }
        let ends = self.ends(&leaders).await?;

        let mut look = Look::default();
        for (consumer, offsets) in committed {
            let group = &consumer.group;
            for topic in &consumer.topics {
                if !leaders.keys().any(|(name, _)| name == topic) {
                    look.waiting.push(Waiting::NoTopic { group: group.clone(), topic: topic.clone() });
                }
            }
            for ((topic, partition), offset) in offsets {
                let lag = ends.get(&(topic.clone(), partition)).map_or(0, |end| end.written - offset);
                look.counters.insert((format!("{group} {topic}"), partition), offset);
                if lag > 0 {
                    look.waiting.push(Waiting::Lag { group: group.clone(), topic, partition, lag });
                }
            }
        }
        for ((topic, partition), end) in ends {
            if end.is_open {
                look.waiting.push(Waiting::OpenTransaction { topic: topic.clone(), partition });
            }
            look.counters.insert((topic, partition), end.written);
        }
        Ok(look)
    }

    /// What `group` has committed in the given partitions, 0 where it has committed nothing.
    async fn committed(
        &mut self,
        told_by: SocketAddrV4,
        group: &str,
        partitions: &[Partition],
    ) -> Result<BTreeMap<Partition, i64>, WireError> {
        let mut offsets = BTreeMap::new();
        if partitions.is_empty() {
            return Ok(offsets);
        }
        let topics = by_topic(partitions)
            .into_iter()
            .map(|(topic, partitions)| {
                OffsetFetchRequestTopics::default().with_name(topic_name(&topic)).with_partition_indexes(partitions)
            })
            .collect();
        let asked = OffsetFetchRequestGroup::default()
            .with_group_id(GroupId(StrBytes::from_string(group.to_owned())))
            .with_topics(Some(topics));
        let request = OffsetFetchRequest::default().with_groups(vec![asked]).with_require_stable(true);
        let coordinator = self.coordinator(told_by, group).await?;
        let answer = coordinator.ask(&request).await?;
        for answered in &answer.groups {
            coordinator.check::<OffsetFetchRequest>(answered.error_code, &format!("group {group}"))?;
            for topic in &answered.topics {
                for partition in &topic.partitions {
                    let name = topic.name.to_string();
                    let subject = format!("group {group} in {name}[{}]", partition.partition_index);
                    coordinator.check::<OffsetFetchRequest>(partition.error_code, &subject)?;
                    offsets.insert((name, partition.partition_index), partition.committed_offset.max(0));
                }
            }
        }
        Ok(offsets)
    }

    async fn coordinator(&mut self, told_by: SocketAddrV4, group: &str) -> Result<&mut Peer, WireError> {
        let coordinator = match self.coordinators.remove(group) {
            Some(known) => known,
            None => coordinator(self.peer(told_by), Coordinates::Group, group).await?,
        };
        Ok(self.coordinators.entry(group.to_owned()).insert_entry(coordinator).into_mut())
    }

    /// How far every partition goes.
    async fn ends(&mut self, leaders: &BTreeMap<Partition, Leader>) -> Result<BTreeMap<Partition, End>, LookError> {
        let mut by_leader: BTreeMap<SocketAddrV4, Vec<(Partition, i32)>> = BTreeMap::new();
        for ((topic, partition), Leader { epoch, address }) in leaders {
            let address = address.ok_or_else(|| LookError::NoLeader { topic: topic.clone(), partition: *partition })?;
            by_leader.entry(address).or_default().push(((topic.clone(), *partition), *epoch));
        }
        let mut ends = BTreeMap::new();
        for (leader, partitions) in by_leader {
            let written = self.offsets(leader, &partitions, Isolation::ReadUncommitted).await?;
            // Asked later, so that what is decided meanwhile is not taken for open.
            let decided = self.offsets(leader, &partitions, Isolation::ReadCommitted).await?;
            for (partition, written) in written {
                let is_open = decided.get(&partition).is_some_and(|decided| *decided < written);
                ends.insert(partition, End { written, is_open });
            }
        }
        Ok(ends)
    }

    /// The next offset of each partition that this broker leads, in its own epoch: one that has been replaced and does
    /// not know it refuses.
    async fn offsets(
        &mut self,
        leader: SocketAddrV4,
        partitions: &[(Partition, i32)],
        isolation: Isolation,
    ) -> Result<BTreeMap<Partition, i64>, WireError> {
        let mut topics: BTreeMap<&str, Vec<ListOffsetsPartition>> = BTreeMap::new();
        for ((topic, partition), epoch) in partitions {
            let asked = ListOffsetsPartition::default().with_partition_index(*partition).with_timestamp(LATEST);
            topics.entry(topic).or_default().push(asked.with_current_leader_epoch(*epoch));
        }
        let topic = |(name, partitions): (&str, _)| {
            ListOffsetsTopic::default().with_name(topic_name(name)).with_partitions(partitions)
        };
        let request = ListOffsetsRequest::default()
            .with_replica_id(CLIENT)
            .with_isolation_level(isolation as i8)
            .with_topics(topics.into_iter().map(topic).collect());
        let leader = self.peer(leader);
        let answer = leader.ask(&request).await?;
        let mut offsets = BTreeMap::new();
        for topic in &answer.topics {
            for partition in &topic.partitions {
                let name = topic.name.to_string();
                let subject = format!("{name}[{}]", partition.partition_index);
                leader.check::<ListOffsetsRequest>(partition.error_code, &subject)?;
                offsets.insert((name, partition.partition_index), partition.offset);
            }
        }
        Ok(offsets)
    }

    fn peer(&mut self, broker: SocketAddrV4) -> &mut Peer {
        self.peers.entry(broker).or_insert_with(|| Peer::new(broker))
    }
}

fn by_topic(partitions: &[Partition]) -> BTreeMap<String, Vec<i32>> {
    let mut topics: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    for (topic, partition) in partitions {
        topics.entry(topic.clone()).or_default().push(*partition);
    }
    topics
}
