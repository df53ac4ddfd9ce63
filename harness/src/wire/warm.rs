//! Does once what a client would otherwise meet first, and takes it back.
//!
//! The internal topics are made and their coordinators loaded, every broker gets its block of producer ids,
//! every broker's log has taken a replicated record, and a group has joined, read, committed and left.
//! The group and its topic are removed again. One trace stays: the transactional id, which Kafka
//! cannot be asked to forget; brokers drop it after a week of disuse.

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
use super::produce::acknowledge_on;
use super::topics::{Topic, create_topics, led_everywhere, remove};
use super::until::{RUNNING, Until};

/// The name of the throw-away topic, group and transactional id.
const NAME: &str = "greenroom.ready";
const OFFSETS_TOPIC: &str = "__consumer_offsets";
const TRANSACTIONS_TOPIC: &str = "__transaction_state";
/// The timeout of a transaction that is never begun, in milliseconds.
const TRANSACTION_TIMEOUT_MS: i32 = 10_000;

/// What to warm.
#[derive(Clone, Copy, Debug)]
pub struct WarmOptions {
    /// How many replicas the throw-away topic's partitions have.
    pub replication: u16,
    /// Whether to make the transactions' internal topic and load its coordinator.
    pub transactions: bool,
}

/// How long each part of [`warm`] took, counted from its call; they run side by side.
#[derive(Clone, Copy, Debug)]
pub struct Warmth {
    /// Until a record sent with `acks=all` was acknowledged by a partition on each broker.
    pub acknowledged: Duration,
    /// Until a group had joined, read, committed and gone.
    pub group: Duration,
    /// Until the transactions' coordinator had taken a transactional id.
    pub transactions: Duration,
    /// Until every broker handed out producer ids.
    pub producers: Duration,
    /// Until all was done and the throw-away topic gone.
    pub total: Duration,
}

/// Makes the internal topics and loads their coordinators, then removes the throw-away topic and group that it used.
///
/// # Errors
/// The first step that fails for good, or that was still failing at `deadline`.
pub async fn warm(
    brokers: &[SocketAddrV4],
    options: &WarmOptions,
    deadline: Instant,
) -> Result<Warmth, WireError> {
    let began = Instant::now();
    let partitions = u16::try_from(brokers.len()).unwrap_or(u16::MAX);
    let topic = Topic {
        name: NAME.to_owned(),
        // Leaders are dealt out evenly, so that this is one partition for each broker to lead.
        partitions,
        replication: options.replication,
    };
    let logs = async {
        create_topics(brokers, std::slice::from_ref(&topic), deadline).await?;
        let acknowledged = (0..i32::from(partitions))
            .map(|partition| acknowledge_on(brokers, NAME, partition, deadline));
        try_join_all(acknowledged).await?;
        Ok(began.elapsed())
    };
    let group = async {
        let member = Member::join(brokers, NAME, NAME, deadline).await?;
        led_everywhere(brokers, &[OFFSETS_TOPIC], deadline).await?;
        Ok(member)
    };
    let transactions = async {
        if options.transactions {
            transactional_id(brokers, deadline).await?;
            led_everywhere(brokers, &[TRANSACTIONS_TOPIC], deadline).await?;
        }
        Ok(began.elapsed())
    };
    let producers = async {
        try_join_all(brokers.iter().map(|broker| producer_id(*broker, deadline))).await?;
        Ok(began.elapsed())
    };
    let read = async {
        let (mut member, acknowledged) = tokio::try_join!(group, logs)?;
        read_first(&mut member, brokers, NAME, deadline).await?;
        member.commit(deadline).await?;
        member.leave_and_remove(deadline).await?;
        Ok((acknowledged, began.elapsed()))
    };
    let ((acknowledged, group), transactions, producers) =
        tokio::try_join!(Box::pin(read), Box::pin(transactions), Box::pin(producers))?;
    remove(brokers, NAME, deadline).await?;
    Ok(Warmth {
        acknowledged,
        group,
        transactions,
        producers,
        total: began.elapsed(),
    })
}

/// Registers the throw-away transactional id, which makes the internal topic and loads its coordinator.
async fn transactional_id(brokers: &[SocketAddrV4], deadline: Instant) -> Result<(), WireError> {
    let mut until = Until::new("a transactional id", RUNNING, deadline);
    for asked in brokers.iter().cycle() {
        if until.attempt(register(*asked)).await?.is_some() {
            break;
        }
    }
    Ok(())
}

async fn register(asked: SocketAddrV4) -> Result<(), WireError> {
    let mut asked = Peer::new(asked);
    let mut coordinator = coordinator(&mut asked, Coordinates::Transaction, NAME).await?;
    let id = TransactionalId(StrBytes::from_static_str(NAME));
    init_producer_id(&mut coordinator, Some(id)).await
}

/// Has a broker hand out a producer id, for which it first gets a block of them from the controller.
async fn producer_id(broker: SocketAddrV4, deadline: Instant) -> Result<(), WireError> {
    let mut peer = Peer::new(broker);
    let mut until = Until::new("a producer id", RUNNING, deadline);
    while until
        .attempt(init_producer_id(&mut peer, None))
        .await?
        .is_none()
    {}
    Ok(())
}

async fn init_producer_id(
    peer: &mut Peer,
    transactional_id: Option<TransactionalId>,
) -> Result<(), WireError> {
    let request = InitProducerIdRequest::default()
        .with_transactional_id(transactional_id)
        .with_transaction_timeout_ms(TRANSACTION_TIMEOUT_MS);
    let answer = peer.ask(&request).await?;
    peer.check::<InitProducerIdRequest>(answer.error_code, NAME)
}
