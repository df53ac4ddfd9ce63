//! Sends records to an environment's topics, one acknowledged record at a time.

use std::time::Duration;

use bytes::Bytes;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};

use crate::environment::Environment;

/// How long the brokers may take to acknowledge a record: longer than the election of a new leader.
const ACKNOWLEDGED_MS: &str = "60000";

/// A producer whose records every in-sync replica has acknowledged.
#[derive(Clone)]
pub struct Producer {
    client: FutureProducer,
}

/// A record to be sent. Without a key, any partition may get it; without a value it is a tombstone.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "it is sent by Producer::send"]
pub struct NewRecord {
    topic: String,
    partition: Option<i32>,
    key: Option<Bytes>,
    headers: Vec<(String, Bytes)>,
    value: Option<Bytes>,
}

/// Where a record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
}

/// Why there is no producer.
#[derive(Debug, thiserror::Error)]
#[error("could not make a producer")]
pub struct ProducerError(#[source] KafkaError);

/// Why a record is not known to be in its topic.
#[derive(Debug, thiserror::Error)]
#[error("no acknowledgement for a record to topic {topic}")]
pub struct SendError {
    topic: String,
    source: KafkaError,
}

impl Producer {
    /// A producer for the brokers of `environment`. It connects when it is first used.
    ///
    /// # Errors
    /// The client library refuses to make one: the environment has no brokers, or the process no threads left.
    pub fn of(environment: &Environment) -> Result<Self, ProducerError> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", environment.endpoints().brokers.join(","))
            .set("client.id", "greenroom-driver")
            .set("broker.address.family", "v4")
            .set("allow.auto.create.topics", "false")
            .set("acks", "all")
            // librdkafka's idempotent producer needs a second before its first record; one request in flight keeps
            // order.
            .set("max.in.flight.requests.per.connection", "1")
            .set("linger.ms", "0")
            .set("message.timeout.ms", ACKNOWLEDGED_MS)
            // Records of one key go where clients in other languages send them.
            .set("partitioner", "murmur2_random")
            .set("reconnect.backoff.ms", "20")
            .set("reconnect.backoff.max.ms", "200")
            .set("retry.backoff.ms", "20")
            .set("topic.metadata.refresh.fast.interval.ms", "20")
            // A topic that does not exist is an error at once, not when its time is over.
            .set("topic.metadata.propagation.max.ms", "1000")
            .set("socket.nagle.disable", "true")
            .set_log_level(RDKafkaLogLevel::Emerg);
        Ok(Self { client: config.create().map_err(ProducerError)? })
    }

    /// Sends a record and returns once it is acknowledged: everyone who reads the topic from now on finds it.
    ///
    /// # Errors
    /// Not acknowledged within a minute, or refused: no such topic or partition, too large. After a timeout it may
    /// have been stored all the same.
    pub async fn send(&self, record: NewRecord) -> Result<Position, SendError> {
        let NewRecord { topic, partition, key, headers, value } = record;
        let headers = headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
            headers.insert(Header { key, value: Some(value.as_ref()) })
        });
        let record = FutureRecord::<[u8], [u8]> {
            topic: &topic,
            partition,
            payload: value.as_deref(),
            key: key.as_deref(),
            timestamp: None,
            headers: Some(headers),
        };
        let sent = self.client.send(record, Duration::ZERO).await;
        match sent {
            Ok(delivery) => Ok(Position { partition: delivery.partition, offset: delivery.offset }),
            Err((source, _)) => Err(SendError { topic, source }),
        }
    }
}

impl NewRecord {
    /// A record without key and value.
    pub fn to(topic: impl Into<String>) -> Self {
        Self { topic: topic.into(), partition: None, key: None, headers: Vec::new(), value: None }
    }

    /// The key.
    pub fn key(self, key: impl AsRef<[u8]>) -> Self {
        Self { key: Some(Bytes::copy_from_slice(key.as_ref())), ..self }
    }

    /// The value.
    pub fn value(self, value: impl AsRef<[u8]>) -> Self {
        Self { value: Some(Bytes::copy_from_slice(value.as_ref())), ..self }
    }

    /// One more header, after those that it has.
    pub fn header(mut self, name: impl Into<String>, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.into(), Bytes::copy_from_slice(value.as_ref())));
        self
    }

    /// The partition, instead of the one that the key leads to.
    pub fn partition(self, partition: i32) -> Self {
        Self { partition: Some(partition), ..self }
    }
}

impl std::fmt::Debug for Producer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Producer").finish_non_exhaustive()
    }
}
