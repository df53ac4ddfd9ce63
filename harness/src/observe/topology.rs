//! Who leads which partition, as the brokers say that know the newest of it.
//!
//! A broker that is parted from the others goes on saying that it leads, and answers with an end that nothing moves any
//! more. So more than half of the brokers are asked, and of what they say the newest leader counts.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddrV4;
use std::time::Duration;

use kafka_protocol::messages::{BrokerId, MetadataRequest, MetadataResponse};

use crate::wire::{Peer, WireError, brokers_of};

/// How long a broker's answer is awaited while others may give it.
const QUICKLY: Duration = Duration::from_millis(500);

/// A topic's name and a partition's number.
pub(super) type Partition = (String, i32);

/// Every partition with its leader, Kafka's internal ones included.
#[derive(Debug, Default)]
pub(super) struct Topology {
    /// The brokers that knew the newest of all that was said.
    pub(super) told_by: Vec<SocketAddrV4>,
    /// The leaders.
    pub(super) leaders: BTreeMap<Partition, Leader>,
}

/// Who leads a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Leader {
    /// How many leaders there were before it.
    pub(super) epoch: i32,
    /// Where it listens; nowhere while one is being elected.
    pub(super) address: Option<SocketAddrV4>,
}

/// Connections to brokers by address.
pub(super) type Peers = HashMap<SocketAddrV4, Peer>;

/// Asks brokers until more than half have answered, or all were asked. Those that answer stand first afterwards.
///
/// # Errors
/// None answered; this is what the last said.
pub(super) async fn ask(brokers: &mut [SocketAddrV4], peers: &mut Peers) -> Result<Topology, WireError> {
    let wanted = brokers.len() / 2 + 1;
    let mut answers = Vec::new();
    let mut refusal = WireError::NoBrokers;
    // One that stands still is waited for only where the others are too few.
    for patience in [Some(QUICKLY), None] {
        for index in answers.len()..brokers.len() {
            let broker = brokers[index];
            match told(peers, broker, patience).await {
                Some(Ok(leaders)) => {
                    brokers[answers.len()..=index].rotate_right(1);
                    answers.push((broker, leaders));
                }
                Some(Err(error)) => refusal = error,
                None => {}
            }
            if answers.len() == wanted {
                return Ok(newest(answers));
            }
        }
    }
    if answers.is_empty() { Err(refusal) } else { Ok(newest(answers)) }
}

/// What a broker says of the leaders; nothing where it has not answered when patience is over.
async fn told(
    peers: &mut Peers,
    broker: SocketAddrV4,
    patience: Option<Duration>,
) -> Option<Result<BTreeMap<Partition, Leader>, WireError>> {
    let request = MetadataRequest::default().with_topics(None).with_allow_auto_topic_creation(false);
    let answer = peers.entry(broker).or_insert_with(|| Peer::new(broker)).ask(&request);
    let answer = match patience {
        Some(patience) => tokio::time::timeout(patience, answer).await.ok()?,
        None => answer.await,
    };
    Some(answer.map(|answer| leaders(&answer)))
}

fn newest(answers: Vec<(SocketAddrV4, BTreeMap<Partition, Leader>)>) -> Topology {
    let mut leaders: BTreeMap<Partition, Leader> = BTreeMap::new();
    for (partition, leader) in answers.iter().flat_map(|(_, leaders)| leaders) {
        let known = leaders.entry(partition.clone()).or_insert(*leader);
        *known = (*known).max(*leader);
    }
    let knows = |told: &BTreeMap<Partition, Leader>| {
        let newest = |(partition, newest): (&Partition, &Leader)| {
            told.get(partition).is_some_and(|leader| leader.epoch == newest.epoch)
        };
        leaders.iter().all(newest)
    };
    let mut told_by: Vec<_> = answers.iter().filter(|(_, told)| knows(told)).map(|(broker, _)| *broker).collect();
    // Each knew something that the others did not yet.
    if told_by.is_empty() {
        told_by = answers.iter().map(|(broker, _)| *broker).collect();
    }
    Topology { told_by, leaders }
}

fn leaders(answer: &MetadataResponse) -> BTreeMap<Partition, Leader> {
    let addresses: HashMap<_, _> =
        brokers_of(answer).into_iter().map(|broker| (BrokerId(broker.node_id), broker.address)).collect();
    let of_topic = |topic: &kafka_protocol::messages::metadata_response::MetadataResponseTopic| {
        let name = topic.name.as_ref().map(|name| name.to_string()).unwrap_or_default();
        let leader = |partition: &kafka_protocol::messages::metadata_response::MetadataResponsePartition| Leader {
            epoch: partition.leader_epoch,
            address: addresses.get(&partition.leader_id).copied(),
        };
        topic.partitions.iter().map(|found| ((name.clone(), found.partition_index), leader(found))).collect::<Vec<_>>()
    };
    answer.topics.iter().flat_map(of_topic).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broker(number: u8) -> SocketAddrV4 {
        SocketAddrV4::new([127, 0, 0, number].into(), 9092)
    }

    fn says(number: u8, leaders: &[(i32, i32, u8)]) -> (SocketAddrV4, BTreeMap<Partition, Leader>) {
        let leader = |&(partition, epoch, leader): &(i32, i32, u8)| {
            (("goods".to_owned(), partition), Leader { epoch, address: (leader > 0).then(|| broker(leader)) })
        };
        (broker(number), leaders.iter().map(leader).collect())
    }

    #[test]
    fn one_that_is_parted_from_the_others_is_not_believed() {
        let parted = says(1, &[(0, 4, 1), (1, 2, 3)]);
        let others = says(2, &[(0, 5, 2), (1, 2, 3)]);
        for answers in [vec![parted.clone(), others.clone()], vec![others.clone(), parted.clone()]] {
            let Topology { told_by, leaders } = newest(answers);
            assert_eq!((told_by, leaders), (vec![broker(2)], others.1.clone()));
        }
    }

    #[test]
    fn one_that_has_not_heard_of_a_topic_is_not_asked_for_it() {
        let Topology { told_by, leaders } = newest(vec![says(1, &[]), says(2, &[(0, 0, 2)])]);
        assert_eq!((told_by, leaders.len()), (vec![broker(2)], 1));
    }

    #[test]
    fn who_knows_a_leader_is_heard_before_who_knows_none() {
        let Topology { told_by, leaders } = newest(vec![says(1, &[(0, 4, 0)]), says(2, &[(0, 4, 2)])]);
        assert_eq!((told_by.len(), leaders[&("goods".to_owned(), 0)].address), (2, Some(broker(2))));
    }

    #[test]
    fn where_each_knows_something_all_are_named() {
        let told_by = newest(vec![says(1, &[(0, 4, 1), (1, 3, 1)]), says(2, &[(0, 5, 2), (1, 2, 3)])]).told_by;
        assert_eq!(told_by, [broker(1), broker(2)]);
    }
}
