//! How far the described consumer groups are behind the end of their topics.
//!
//! Asked over the wire protocol, because librdkafka finds a group's coordinator in steps of up to a second, which made
//! each settling 0.3 to 1.3 s long; this way a look takes a few milliseconds.
//!
//! The connections live as long as the settling. A group is compared with the high watermark, and offsets of open
//! transactions count as unknown, so an open transaction is not rest.
//! Known limit: a group that reads transactions with a client that never commits past a control record
//! (librdkafka) stays one behind, and is reported so.

use std::collections::{BTreeMap, HashMap};
use std::net::{AddrParseError, SocketAddrV4};

use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::{
    BrokerId, GroupId, ListOffsetsRequest, MetadataRequest, MetadataResponse, OffsetFetchRequest,
};
use kafka_protocol::protocol::StrBytes;

use super::settle::Waiting;
use crate::report::chain;
use crate::spec::ConsumerSpec;
use crate::wire::{Coordinates, Peer, WireError, brokers_of, coordinator, topic_name};

/// ListOffsets' timestamp for "the next offset to be written".
const LATEST: i64 = -1;
/// ListOffsets' replica id of a client.
const CLIENT: BrokerId = BrokerId(-1);

/// Connections for one description.
pub(super) struct Lag {
    bootstrap: Vec<SocketAddrV4>,
    consumers: Vec<ConsumerSpec>,
    peers: HashMap<SocketAddrV4, Peer>,
    /// By group.
    coordinators: HashMap<String, Peer>,
}

/// What one look at the cluster found.
#[derive(Default)]
pub(super) struct Look {
    pub(super) waiting: Vec<Waiting>,
    /// End offsets and committed offsets, to be compared with those of the next look.
    pub(super) counters: BTreeMap<(String, i32), i64>,
}

/// What one broker knows of the cluster.
struct Topology {
    /// The broker that said so, and is up therefore.
    told_by: SocketAddrV4,
    /// Every partition with its leader, none while it is being elected.
    leaders: BTreeMap<(String, i32), Option<SocketAddrV4>>,
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
            peers: HashMap::new(),
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
        let Topology { told_by, leaders } = self.topology().await?;
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
                let lag = ends.get(&(topic.clone(), partition)).map_or(0, |end| end - offset);
                look.counters.insert((format!("{group} {topic}"), partition), offset);
                if lag > 0 {
                    look.waiting.push(Waiting::Lag { group: group.clone(), topic, partition, lag });
                }
            }
        }
        look.counters.extend(ends);
        Ok(look)
    }

    /// Asks the first broker that answers for all topics. The next look begins with it: a paused one costs a long wait.
    async fn topology(&mut self) -> Result<Topology, WireError> {
        let request = MetadataRequest::default().with_topics(None).with_allow_auto_topic_creation(false);
        let mut refusal = WireError::NoBrokers;
        for index in 0..self.bootstrap.len() {
            let broker = self.bootstrap[index];
            match self.peer(broker).ask(&request).await {
                Ok(answer) => {
                    self.bootstrap.swap(0, index);
                    return Ok(Topology { told_by: broker, leaders: leaders(&answer) });
                }
                Err(error) => refusal = error,
            }
        }
        Err(refusal)
    }

    /// What `group` has committed in the given partitions, 0 where it has committed nothing.
    async fn committed(
        &mut self,
        told_by: SocketAddrV4,
        group: &str,
        partitions: &[(String, i32)],
    ) -> Result<BTreeMap<(String, i32), i64>, WireError> {
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

    /// The high watermark of every partition, one question per leader.
    async fn ends(
        &mut self,
        leaders: &BTreeMap<(String, i32), Option<SocketAddrV4>>,
    ) -> Result<BTreeMap<(String, i32), i64>, LookError> {
        let mut by_leader: BTreeMap<SocketAddrV4, Vec<(String, i32)>> = BTreeMap::new();
        for ((topic, partition), leader) in leaders {
            let leader = leader.ok_or_else(|| LookError::NoLeader { topic: topic.clone(), partition: *partition })?;
            by_leader.entry(leader).or_default().push((topic.clone(), *partition));
        }
        let mut ends = BTreeMap::new();
        for (leader, partitions) in by_leader {
            let topics = by_topic(&partitions)
                .into_iter()
                .map(|(topic, partitions)| {
                    let partitions = partitions
                        .into_iter()
                        .map(|partition| {
                            ListOffsetsPartition::default().with_partition_index(partition).with_timestamp(LATEST)
                        })
                        .collect();
                    ListOffsetsTopic::default().with_name(topic_name(&topic)).with_partitions(partitions)
                })
                .collect();
            let request = ListOffsetsRequest::default().with_replica_id(CLIENT).with_topics(topics);
            let leader = self.peer(leader);
            let answer = leader.ask(&request).await?;
            for topic in &answer.topics {
                for partition in &topic.partitions {
                    let name = topic.name.to_string();
                    let subject = format!("{name}[{}]", partition.partition_index);
                    leader.check::<ListOffsetsRequest>(partition.error_code, &subject)?;
                    ends.insert((name, partition.partition_index), partition.offset);
                }
            }
        }
        Ok(ends)
    }

    fn peer(&mut self, broker: SocketAddrV4) -> &mut Peer {
        self.peers.entry(broker).or_insert_with(|| Peer::new(broker))
    }
}

/// The leaders of all topics in an answer, Kafka's internal ones (`__…`) and the harness's own (`greenroom.…`) left out.
fn leaders(answer: &MetadataResponse) -> BTreeMap<(String, i32), Option<SocketAddrV4>> {
    let addresses: HashMap<_, _> =
        brokers_of(answer).into_iter().map(|broker| (BrokerId(broker.node_id), broker.address)).collect();
    let mut leaders = BTreeMap::new();
    for topic in &answer.topics {
        let name = topic.name.as_ref().map(|name| name.to_string()).unwrap_or_default();
        if name.starts_with("__") || name.starts_with("greenroom.") {
            continue;
        }
        for partition in &topic.partitions {
            let leader = addresses.get(&partition.leader_id).copied();
            leaders.insert((name.clone(), partition.partition_index), leader);
        }
    }
    leaders
}

fn by_topic(partitions: &[(String, i32)]) -> BTreeMap<String, Vec<i32>> {
    let mut topics: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    for (topic, partition) in partitions {
        topics.entry(topic.clone()).or_default().push(*partition);
    }
    topics
}
