//! Does once what a client would otherwise meet first, and takes it back.
//!
//! The internal topics are made and their coordinators loaded, every broker gets its block of producer ids,
//! a record has been replicated and acknowledged, and a group has joined, read, committed and left.
//! The group and its topic are removed again. One trace stays: the transactional id, which Kafka
//! cannot be asked to forget; brokers drop it after a week of disuse.
//!
//! All topics, the brokers' internal ones included, are made by one request. A follower that already
//! waits at a leader for records learns of further partitions only when that wait ends, after
//! `replica.fetch.wait.max.ms` (500 ms unless set): made one after the other, every later topic would delay
//! its first replicated record by that. It also spares the brokers' warnings when several of them make the
//! same internal topic at once.

use std::net::SocketAddrV4;
use std::time::Duration;

use futures_util::future::try_join_all;
use kafka_protocol::messages::{InitProducerIdRequest, TransactionalId};
use kafka_protocol::protocol::StrBytes;
use tokio::time::Instant;

use super::connection::Peer;
use super::consume::read_first;
use super::error::WireError;
use super::group::{Coordinates, Member, coordinator};
use super::produce::acknowledge;
use super::topics::{Topic, create_topics, remove};
use super::until::{RUNNING, Until};

/// The throw-away topic that [`make_topics`] makes and [`Warmed::complete`] removes.
pub const READY_TOPIC: &str = NAME;
/// The name of the throw-away topic, group and transactional id.
const NAME: &str = "greenroom.ready";
/// The size of a segment of an internal topic, by Kafka's default, in bytes.
const SEGMENT_BYTES: &str = "104857600";
/// The timeout of a transaction that is never begun, in milliseconds.
const TRANSACTION_TIMEOUT_MS: i32 = 10_000;

/// The brokers' settings that say what the internal topics look like.
///
/// They must be the brokers' own: a coordinator finds its partition with the count that it was configured with.
#[derive(Clone, Copy, Debug)]
pub struct InternalTopics {
    /// `offsets.topic.replication.factor` and `transaction.state.log.replication.factor`,
    /// also for the throw-away topic.
    pub replication: u16,
    /// `transaction.state.log.min.isr`.
    pub min_insync_replicas: u16,
    /// `offsets.topic.num.partitions`.
    pub offsets_partitions: u16,
    /// `transaction.state.log.num.partitions`.
    pub transaction_partitions: u16,
}

impl InternalTopics {
    /// What is made besides a system's topics: the throw-away topic, and the internal topics with the settings
    /// that brokers give them (`GroupCoordinatorService.groupMetadataTopicConfigs` and
    /// `TransactionStateManager.transactionTopicConfigs` in Kafka 4.3).
    fn topics(&self) -> [Topic; 3] {
        let topic = |name, partitions| Topic::new(name, partitions, self.replication);
        let mut offsets = topic("__consumer_offsets", self.offsets_partitions);
        offsets.settings = vec![
            ("cleanup.policy", "compact".to_owned()),
            ("segment.bytes", SEGMENT_BYTES.to_owned()),
            ("compression.type", "producer".to_owned()),
        ];
        let mut transactions = topic("__transaction_state", self.transaction_partitions);
        transactions.settings = vec![
            ("cleanup.policy", "compact".to_owned()),
            ("segment.bytes", SEGMENT_BYTES.to_owned()),
            ("compression.type", "uncompressed".to_owned()),
            ("unclean.leader.election.enable", "false".to_owned()),
            ("min.insync.replicas", self.min_insync_replicas.to_string()),
        ];
        [topic(NAME, 1), offsets, transactions]
    }
}

/// Makes `topics` and, with the same request, the internal topics and the throw-away one that [`warm`] uses;
/// waits as [`create_topics`] does. Clients may be started from then on: [`warm`] runs beside them.
///
/// # Errors
/// As [`create_topics`].
pub async fn make_topics(
    brokers: &[SocketAddrV4],
    topics: &[Topic],
    internal: &InternalTopics,
    deadline: Instant,
) -> Result<(), WireError> {
    let all = [topics, &internal.topics()].concat();
    create_topics(brokers, &all, deadline).await
}

/// When each part of [`warm`] was done, counted from its call; they run side by side.
#[derive(Clone, Copy, Debug)]
pub struct Warmth {
    /// A record sent with `acks=all` was acknowledged.
    pub acknowledged: Duration,
    /// A group had joined, read and committed.
    pub group: Duration,
}

/// A warm cluster, with the throw-away topic and group still there.
#[derive(Debug)]
#[must_use = "the throw-away topic and group stay until this is completed"]
pub struct Warmed {
    /// How long it took.
    pub warmth: Warmth,
    brokers: Vec<SocketAddrV4>,
    member: Member,
}

/// Loads the coordinator of groups and does once what every client does first: a record is acknowledged, and a
/// new group reads it and commits. [`make_topics`] comes before it, [`Warmed::complete`] after it.
///
/// # Errors
/// The first step that fails for good, or that was still failing at `deadline`.
pub async fn warm(brokers: &[SocketAddrV4], deadline: Instant) -> Result<Warmed, WireError> {
    let began = Instant::now();
    let acknowledged = async {
        acknowledge(brokers, NAME, deadline).await?;
        Ok(began.elapsed())
    };
    let joined = Box::pin(Member::join(brokers, NAME, NAME, deadline));
    let (mut member, acknowledged) = tokio::try_join!(joined, acknowledged)?;
    Box::pin(read_first(&mut member, brokers, NAME, deadline)).await?;
    member.commit(deadline).await?;
    let warmth = Warmth { acknowledged, group: began.elapsed() };
    Ok(Warmed { warmth, brokers: brokers.to_vec(), member })
}

impl Warmed {
    /// Does what only some clients need: loads the coordinator of transactions and gives every broker its block of
    /// producer ids. Removes the throw-away topic and group. Clients need not wait for it.
    ///
    /// # Errors
    /// As [`warm`].
    pub async fn complete(self, deadline: Instant) -> Result<Warmth, WireError> {
        let Self { warmth, brokers, member } = self;
        let producers = try_join_all(brokers.iter().map(|broker| producer_id(*broker, deadline)));
        tokio::try_join!(
            Box::pin(transactional_id(&brokers, deadline)),
            Box::pin(producers),
            Box::pin(member.leave_and_remove(deadline)),
            Box::pin(remove(&brokers, NAME, deadline))
        )?;
        Ok(warmth)
    }
}

/// Registers the throw-away transactional id, which makes the internal topic and loads its coordinator.
async fn transactional_id(brokers: &[SocketAddrV4], deadline: Instant) -> Result<(), WireError> {
    let mut coordinator = None;
    let mut until = Until::new("a transactional id", RUNNING, deadline);
    for asked in brokers.iter().cycle() {
        if until.attempt(register(&mut coordinator, *asked)).await?.is_some() {
            break;
        }
    }
    Ok(())
}

async fn register(located: &mut Option<Peer>, asked: SocketAddrV4) -> Result<(), WireError> {
    let mut peer = match located.take() {
        Some(peer) => peer,
        None => coordinator(&mut Peer::new(asked), Coordinates::Transaction, NAME).await?,
    };
    let id = TransactionalId(StrBytes::from_static_str(NAME));
    let registered = init_producer_id(&mut peer, Some(id)).await;
    // As in `Member::enter`: a refusal passes, and only a broker that is gone is looked up again.
    if matches!(registered, Err(WireError::Refused { .. })) {
        *located = Some(peer);
    }
    registered
}

/// Has a broker hand out a producer id, for which it first gets a block of them from the controller.
async fn producer_id(broker: SocketAddrV4, deadline: Instant) -> Result<(), WireError> {
    let mut peer = Peer::new(broker);
    let mut until = Until::new("a producer id", RUNNING, deadline);
    while until.attempt(init_producer_id(&mut peer, None)).await?.is_none() {}
    Ok(())
}

async fn init_producer_id(peer: &mut Peer, transactional_id: Option<TransactionalId>) -> Result<(), WireError> {
    let request = InitProducerIdRequest::default()
        .with_transactional_id(transactional_id)
        .with_transaction_timeout_ms(TRANSACTION_TIMEOUT_MS);
    let answer = peer.ask(&request).await?;
    peer.check::<InitProducerIdRequest>(answer.error_code, NAME)
}
