//! The first record of an environment, as two kinds of clients meet it.

use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use anyhow::Context;
use greenroom::wire;
use rdkafka::ClientConfig;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{FutureProducer, FutureRecord};

/// How long a record may take before the measurement counts as failed.
const DEADLINE: Duration = Duration::from_secs(30);
/// A group that no environment has.
const GROUP: &str = "greenroom.bench";

/// How long a new client took.
pub(super) struct First {
    /// To have a record acknowledged by all replicas in sync.
    pub(super) acknowledged: Duration,
    /// To read a record through a new group.
    pub(super) consumed: Duration,
}

/// What the brokers themselves need: no client library, no timers.
pub(super) async fn over_the_wire(brokers: &[SocketAddrV4], topic: &str) -> anyhow::Result<First> {
    let deadline = (Instant::now() + DEADLINE).into();
    let acknowledged = wire::acknowledge(brokers, topic, deadline).await?;
    let read = Box::pin(wire::first_record_through_new_group(brokers, topic, GROUP, deadline)).await?;
    Ok(First { acknowledged, consumed: read.consumed })
}

/// What a test meets that uses librdkafka with its default settings: the time to make the client is part of it.
pub(super) async fn with_librdkafka(brokers: &[SocketAddrV4], topic: &str) -> anyhow::Result<First> {
    let servers = brokers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let config = || {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &servers);
        config
    };
    let begun = Instant::now();
    let producer: FutureProducer = config().set("acks", "all").create().context("make a producer")?;
    let record = FutureRecord::<(), _>::to(topic).payload("first");
    producer.send(record, DEADLINE).await.map_err(|(error, _)| error).context("send the first record")?;
    let acknowledged = begun.elapsed();

    let begun = Instant::now();
    let mut group = config();
    group.set("group.id", GROUP).set("auto.offset.reset", "earliest");
    let consumer: StreamConsumer = group.create().context("make a consumer")?;
    consumer.subscribe(&[topic]).context("subscribe")?;
    let read = tokio::time::timeout(DEADLINE, first_of(&consumer)).await.context("wait for the first record")?;
    read.context("read the first record")?;
    let consumed = begun.elapsed();
    // Both talk to their brokers once more when they are dropped.
    tokio::task::spawn_blocking(move || drop((consumer, producer))).await?;
    Ok(First { acknowledged, consumed })
}

/// Reads until a record comes; a broker that is not connected yet is no failure.
async fn first_of(consumer: &StreamConsumer) -> Result<(), KafkaError> {
    loop {
        match consumer.recv().await {
            Ok(record) if record.payload().is_some() => return Ok(()),
            Ok(_) => {}
            Err(KafkaError::MessageConsumption(code)) if !matches!(code, rdkafka::types::RDKafkaErrorCode::Fatal) => {}
            Err(error) => return Err(error),
        }
    }
}
