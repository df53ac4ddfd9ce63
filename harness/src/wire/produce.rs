//! Sends one record with `acks=all` and waits for its acknowledgement.

use std::net::SocketAddrV4;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::ProduceRequest;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::records::{
    Compression, NO_PARTITION_LEADER_EPOCH, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE, Record, RecordBatchEncoder,
    RecordEncodeOptions, TimestampType,
};
use tokio::time::Instant;

use super::cluster::{brokers_of, first, metadata, topic_name};
use super::connection::{BROKER_TIMEOUT_MS, Peer};
use super::error::{DecodeError, WireError};
use super::topics::seen_of;
use super::until::{RUNNING, Until};

/// Sends one record with `acks=all` to partition 0 of `topic` and waits for its acknowledgement.
/// Returns the time from the call to the acknowledgement, finding the leader included.
///
/// # Errors
/// At once for a record that the broker refuses for good; at `deadline`, with the last refusal.
pub async fn acknowledge(brokers: &[SocketAddrV4], topic: &str, deadline: Instant) -> Result<Duration, WireError> {
    let began = Instant::now();
    let awaited = format!("a record acknowledged by topic {topic}");
    let mut leader = None;
    let mut until = Until::new(&awaited, RUNNING, deadline);
    while until.attempt(send(brokers, &mut leader, topic)).await?.is_none() {}
    Ok(began.elapsed())
}

/// Asks the first broker for the leader of partition 0.
pub(super) async fn leader_of(brokers: &[SocketAddrV4], topic: &str) -> Result<Peer, WireError> {
    let asked = first(brokers)?;
    let mut peer = Peer::new(asked);
    let answer = metadata(&mut peer, &[topic]).await?;
    let leader = seen_of(asked, &answer, topic)?
        .partitions
        .iter()
        .find(|found| found.partition_index == 0)
        .map(|found| found.leader_id.0);
    let address =
        brokers_of(&answer).into_iter().find(|broker| Some(broker.node_id) == leader).map(|broker| broker.address);
    match address {
        Some(address) if address == asked => Ok(peer),
        Some(address) => Ok(Peer::new(address)),
        None => Err(WireError::TopicNotReady {
            broker: asked,
            topic: topic.to_owned(),
            state: "without a listed leader for partition 0".to_owned(),
        }),
    }
}

/// Sends to the partition's `known` leader, which stays known only if it acknowledges.
async fn send(brokers: &[SocketAddrV4], known: &mut Option<Peer>, topic: &str) -> Result<(), WireError> {
    let mut leader = match known.take() {
        Some(leader) => leader,
        None => leader_of(brokers, topic).await?,
    };
    let records =
        batch().map_err(|source| WireError::Unreadable { broker: leader.address(), request: "Produce", source })?;
    let data = PartitionProduceData::default().with_records(Some(records));
    let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(BROKER_TIMEOUT_MS).with_topic_data(vec![
        TopicProduceData::default().with_name(topic_name(topic)).with_partition_data(vec![data]),
    ]);
    let answer = leader.ask(&request).await?;
    let written = answer.responses.first().and_then(|topic| topic.partition_responses.first());
    let written = leader.entry::<ProduceRequest, _>(written, topic)?;
    leader.check::<ProduceRequest>(written.error_code, topic)
}

/// A batch of one record, not idempotent: losing or doubling it harms nobody.
fn batch() -> Result<Bytes, DecodeError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let record = Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: NO_PARTITION_LEADER_EPOCH,
        producer_id: NO_PRODUCER_ID,
        producer_epoch: NO_PRODUCER_EPOCH,
        timestamp_type: TimestampType::Creation,
        offset: 0,
        sequence: NO_SEQUENCE,
        timestamp: i64::try_from(now.as_millis()).unwrap_or(i64::MAX),
        key: None,
        value: Some(Bytes::from_static(b"ready")),
        headers: Default::default(),
    };
    let options = RecordEncodeOptions { version: 2, compression: Compression::None };
    let mut batch = BytesMut::new();
    RecordBatchEncoder::encode(&mut batch, [&record], &options)
        .map_err(|source| DecodeError::Malformed(source.into()))?;
    Ok(batch.freeze())
}
