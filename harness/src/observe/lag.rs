//! How far the described consumer groups are behind the end of their topics.
//!
//! The connections live as long as the settling. A group is compared with the high watermark, and offsets of open
//! transactions count as unknown, so an open transaction is not rest.
//! Known limit: a group that reads transactions with a client that never commits past a control record
//! (librdkafka) stays one behind, and is reported so.

mod peer;

use std::collections::{BTreeMap, HashMap};
use std::io;

use kafka_protocol::error::ParseResponseErrorCode as _;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::{
    BrokerId, FindCoordinatorRequest, GroupId, ListOffsetsRequest, MetadataRequest, OffsetFetchRequest, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use super::settle::Waiting;
use crate::spec::ConsumerSpec;
use peer::{Asked, Peer};

/// ListOffsets' timestamp for "the next offset to be written".
const LATEST: i64 = -1;
/// ListOffsets' replica id of a client.
const CLIENT: BrokerId = BrokerId(-1);

/// Connections for one description.
pub(super) struct Lag {
    bootstrap: Vec<String>,
    consumers: Vec<ConsumerSpec>,
    peers: HashMap<String, Peer>,
    coordinators: HashMap<String, String>,
}

/// What one look at the cluster found.
#[derive(Default)]
pub(super) struct Look {
    pub(super) waiting: Vec<Waiting>,
    /// End offsets and committed offsets, to be compared with those of the next look.
    pub(super) counters: BTreeMap<(String, i32), i64>,
}

/// Every partition with the address of its leader, none while it is being elected.
type Leaders = BTreeMap<(String, i32), Option<String>>;

impl Lag {
    pub(super) fn new(bootstrap: &[String], consumers: &[ConsumerSpec]) -> Self {
        Self {
            bootstrap: bootstrap.to_vec(),
            consumers: consumers.to_vec(),
            peers: HashMap::new(),
            coordinators: HashMap::new(),
        }
    }

    /// Looks once. What the cluster does not answer is something to wait for; the next look starts afresh.
    pub(super) async fn look(&mut self) -> Look {
        match self.try_look().await {
            Ok(look) => look,
            Err(error) => {
                self.peers.clear();
                self.coordinators.clear();
                Look { waiting: vec![Waiting::Unanswered { what: format!("kafka: {error}") }], ..Look::default() }
            }
        }
    }

    /// Committed offsets are asked before end offsets, so that a lag of 0 cannot come from a record that was sent and
    /// consumed between the two questions.
    async fn try_look(&mut self) -> io::Result<Look> {
        let leaders = self.leaders().await?;
        let mut committed = Vec::new();
        for consumer in self.consumers.clone() {
            let partitions: Vec<_> =
                leaders.keys().filter(|(topic, _)| consumer.topics.contains(topic)).cloned().collect();
            let offsets = self.committed(&consumer.group, &partitions).await?;
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

    /// Asks any broker that answers for all topics, Kafka's internal ones (`__…`) and the harness's own
    /// (`greenroom.…`) left out.
    async fn leaders(&mut self) -> io::Result<Leaders> {
        let request = MetadataRequest::default().with_topics(None).with_allow_auto_topic_creation(false);
        let mut answer = Err(io::Error::other("no broker is described"));
        for address in self.bootstrap.clone() {
            answer = self.ask(&address, &request).await;
            if answer.is_ok() {
                break;
            }
        }
        let answer = answer?;
        let addresses: HashMap<_, _> = answer
            .brokers
            .iter()
            .map(|broker| (broker.node_id, format!("{}:{}", &*broker.host, broker.port)))
            .collect();
        let mut leaders = Leaders::new();
        for topic in &answer.topics {
            let name = topic.name.as_ref().map(|name| name.to_string()).unwrap_or_default();
            if name.starts_with("__") || name.starts_with("greenroom.") {
                continue;
            }
            for partition in &topic.partitions {
                let leader = addresses.get(&partition.leader_id).cloned();
                leaders.insert((name.clone(), partition.partition_index), leader);
            }
        }
        Ok(leaders)
    }

    /// What `group` has committed in the given partitions, 0 where it has committed nothing.
    async fn committed(
        &mut self,
        group: &str,
        partitions: &[(String, i32)],
    ) -> io::Result<BTreeMap<(String, i32), i64>> {
        let mut offsets = BTreeMap::new();
        if partitions.is_empty() {
            return Ok(offsets);
        }
        let coordinator = self.coordinator(group).await?;
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
        let answer = self.ask(&coordinator, &request).await?;
        for answered in &answer.groups {
            refuse(answered.error_code, &format!("offsets of group {group}"))?;
            for topic in &answered.topics {
                for partition in &topic.partitions {
                    let name = topic.name.to_string();
                    refuse(partition.error_code, &format!("offset of group {group} in {name}"))?;
                    offsets.insert((name, partition.partition_index), partition.committed_offset.max(0));
                }
            }
        }
        Ok(offsets)
    }

    async fn coordinator(&mut self, group: &str) -> io::Result<String> {
        if let Some(known) = self.coordinators.get(group) {
            return Ok(known.clone());
        }
        let request = FindCoordinatorRequest::default()
            .with_key_type(0)
            .with_coordinator_keys(vec![StrBytes::from_string(group.to_owned())]);
        let any = self.peers.keys().next().cloned().ok_or_else(|| io::Error::other("no broker answers"))?;
        let answer = self.ask(&any, &request).await?;
        let found =
            answer.coordinators.first().ok_or_else(|| io::Error::other(format!("group {group} has no coordinator")))?;
        refuse(found.error_code, &format!("coordinator of group {group}"))?;
        let address = format!("{}:{}", &*found.host, found.port);
        self.coordinators.insert(group.to_owned(), address.clone());
        Ok(address)
    }

    /// The high watermark of every partition, one question per leader.
    async fn ends(&mut self, leaders: &Leaders) -> io::Result<BTreeMap<(String, i32), i64>> {
        let mut by_leader: BTreeMap<String, Vec<(String, i32)>> = BTreeMap::new();
        for ((topic, partition), leader) in leaders {
            let leader =
                leader.clone().ok_or_else(|| io::Error::other(format!("{topic}[{partition}] has no leader")))?;
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
            let answer = self.ask(&leader, &request).await?;
            for topic in &answer.topics {
                for partition in &topic.partitions {
                    let name = topic.name.to_string();
                    refuse(partition.error_code, &format!("end of {name}[{}]", partition.partition_index))?;
                    ends.insert((name, partition.partition_index), partition.offset);
                }
            }
        }
        Ok(ends)
    }

    async fn ask<R: Asked>(&mut self, address: &str, request: &R) -> io::Result<R::Answer> {
        let mut peer = match self.peers.remove(address) {
            Some(peer) => peer,
            None => Peer::connect(address).await.map_err(|error| named(address, &error))?,
        };
        let answer = peer.ask(request).await.map_err(|error| named(address, &error))?;
        // Kept only after a whole answer: a broken connection is not asked twice.
        self.peers.insert(address.to_owned(), peer);
        Ok(answer)
    }
}

fn named(address: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("broker {address}: {error}"))
}

fn refuse(code: i16, what: &str) -> io::Result<()> {
    match code.err() {
        None => Ok(()),
        Some(error) => Err(io::Error::other(format!("{what}: {error}"))),
    }
}

fn by_topic(partitions: &[(String, i32)]) -> BTreeMap<String, Vec<i32>> {
    let mut topics: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    for (topic, partition) in partitions {
        topics.entry(topic.clone()).or_default().push(*partition);
    }
    topics
}

fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}
