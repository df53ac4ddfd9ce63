//! Every record of every topic, read with `assign` from the first offset to the end offset, never with a group.
//!
//! Reading stops on *position*: the control records of transactions take offsets and are never delivered, so a count
//! would wait for ever. Within a partition the offsets are checked: in order and, unless the topic is
//! described as having gaps, without holes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::consumer::Consumer as _;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use super::ANSWER;
use super::brokers::{self, Quiet};

/// Longest wait for all records.
const READING: Duration = Duration::from_secs(30);

/// One record as it lies in its partition.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
    /// Milliseconds since 1970 by the clock of producer or broker; none where the record has none.
    pub timestamp_ms: Option<i64>,
    /// Key.
    pub key: Option<Bytes>,
    /// Headers in the order of the record.
    pub headers: Vec<(String, Option<Bytes>)>,
    /// Value; none is a tombstone.
    pub value: Option<Bytes>,
}

/// One topic with all its records by partition and offset.
#[derive(Clone, Debug, PartialEq)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// How many partitions it has.
    pub partitions: i32,
    /// Its records.
    pub records: Vec<Record>,
}

/// Why topics could not be read.
#[derive(Debug, thiserror::Error)]
pub enum TopicsError {
    /// Records are gone from the beginning of a partition: what happened can't be told whole.
    #[error("{topic}[{partition}] begins at offset {offset} instead of 0")]
    Truncated {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// Its first offset.
        offset: i64,
    },
    /// The cluster did not answer.
    #[error("could not read the topics: {action}")]
    Kafka {
        /// What was being done.
        action: &'static str,
        /// The cause.
        source: KafkaError,
    },
    /// Reading took too long.
    #[error("could not read to the end of {topic}[{partition}]: at offset {at} of {end} after {} s", READING.as_secs())]
    Stuck {
        /// Topic.
        topic: String,
        /// Partition.
        partition: i32,
        /// Next offset that was expected.
        at: i64,
        /// End offset.
        end: i64,
        /// The last connection that broke meanwhile.
        source: Option<Box<KafkaError>>,
    },
    /// Offsets are missing or out of order.
    #[error(
        "{topic}[{partition}] has offset {found} where {expected} was expected (a compacted or transactional topic belongs in observe.gaps)"
    )]
    Hole {
        /// Topic.
        topic: String,
        /// Partition.
        partition: i32,
        /// Offset expected next.
        expected: i64,
        /// Offset found next, the end offset if there was no further record.
        found: i64,
    },
}

/// What is left to read of a partition.
struct Reading {
    topic: String,
    partition: i32,
    /// The next offset expected.
    at: i64,
    end: i64,
    records: Vec<Record>,
    done: bool,
}

/// Reads all topics but internal ones. Blocks: call it from [`tokio::task::spawn_blocking`].
///
/// # Errors
/// See [`TopicsError`]; `gaps` names the topics in which offsets without a record are expected.
pub fn read(bootstrap: &[String], gaps: &[String]) -> Result<Vec<Topic>, TopicsError> {
    let kafka = |action| move |source| TopicsError::Kafka { action, source };
    let consumer = brokers::client(bootstrap).map_err(kafka("make a client"))?;
    let topics = brokers::topics(&consumer, ANSWER).map_err(kafka("list the topics"))?;
    let begins =
        brokers::offsets(&consumer, &topics, Offset::Beginning, ANSWER).map_err(kafka("ask for first offsets"))?;
    let ends = brokers::offsets(&consumer, &topics, Offset::End, ANSWER).map_err(kafka("ask for end offsets"))?;
    let ends: BTreeMap<_, _> = ends.into_iter().map(|(topic, partition, end)| ((topic, partition), end)).collect();

    if let Some((topic, partition, at)) = begins.iter().find(|(_, _, at)| *at != 0) {
        return Err(TopicsError::Truncated { topic: topic.clone(), partition: *partition, offset: *at });
    }
    let mut readings: Vec<_> = begins
        .into_iter()
        .filter_map(|(topic, partition, at)| {
            let end = ends.get(&(topic.clone(), partition)).copied().unwrap_or(0);
            (end > at).then(|| Reading { topic, partition, at, end, records: Vec::new(), done: false })
        })
        .collect();
    let consumer = Arc::new(consumer);
    read_partitions(&consumer, &mut readings, gaps)?;
    // Destroying a consumer takes librdkafka 100 ms, which no one needs to wait for.
    std::thread::spawn(move || drop(consumer));

    readings.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
    let mut by_topic: BTreeMap<String, Vec<Record>> = BTreeMap::new();
    for reading in readings {
        by_topic.entry(reading.topic).or_default().extend(reading.records);
    }
    Ok(topics
        .into_iter()
        .map(|(name, partitions)| Topic { records: by_topic.remove(&name).unwrap_or_default(), name, partitions })
        .collect())
}

/// Each partition has its own queue, because an end-of-partition event names the partition but not the topic.
fn read_partitions(
    consumer: &Arc<brokers::QuietConsumer>,
    readings: &mut [Reading],
    gaps: &[String],
) -> Result<(), TopicsError> {
    let kafka = |action| move |source| TopicsError::Kafka { action, source };
    if readings.is_empty() {
        return Ok(());
    }
    let mut assignment = TopicPartitionList::new();
    for reading in readings.iter() {
        assignment
            .add_partition_offset(&reading.topic, reading.partition, Offset::Offset(reading.at))
            .map_err(kafka("assign partitions"))?;
    }
    let queues: Vec<PartitionQueue<Quiet>> = readings
        .iter()
        .map(|reading| {
            consumer
                .split_partition_queue(&reading.topic, reading.partition)
                .ok_or_else(|| kafka("split a partition's queue")(KafkaError::Canceled))
        })
        .collect::<Result<_, _>>()?;
    consumer.assign(&assignment).map_err(kafka("assign partitions"))?;

    let started = Instant::now();
    let mut broken = None;
    loop {
        for (reading, queue) in readings.iter_mut().zip(&queues) {
            drain(reading, queue, gaps.contains(&reading.topic), &mut broken)?;
        }
        let Some(left) = readings.iter().find(|reading| !reading.done) else {
            return Ok(());
        };
        if started.elapsed() > READING {
            let Reading { partition, at, end, .. } = *left;
            return Err(TopicsError::Stuck {
                topic: left.topic.clone(),
                partition,
                at,
                end,
                source: broken.map(Box::new),
            });
        }
        // Serves the client's own events and is the pause between two rounds.
        if let Some(Err(error)) = consumer.poll(Duration::from_millis(1)) {
            pass_over(error, &mut broken)?;
        }
    }
}

/// Takes what the partition's queue holds now, up to a connection that broke.
fn drain(
    reading: &mut Reading,
    queue: &PartitionQueue<Quiet>,
    may_have_gaps: bool,
    broken: &mut Option<KafkaError>,
) -> Result<(), TopicsError> {
    while !reading.done {
        match queue.poll(Duration::ZERO) {
            None => return Ok(()),
            Some(Ok(message)) => reading.take(&message, may_have_gaps)?,
            // Everything up to the end as it was when asked has been delivered; what took the rest of the
            // offsets were control records.
            Some(Err(KafkaError::PartitionEOF(_))) => {
                if !may_have_gaps && reading.at < reading.end {
                    return Err(reading.hole(reading.end));
                }
                reading.done = true;
            }
            Some(Err(error)) => return pass_over(error, broken),
        }
    }
    Ok(())
}

/// A connection that broke is made again by the client, as long as the deadline allows; everything else is final.
fn pass_over(error: KafkaError, broken: &mut Option<KafkaError>) -> Result<(), TopicsError> {
    use RDKafkaErrorCode::{AllBrokersDown, BrokerTransportFailure, Resolve};
    match error {
        KafkaError::MessageConsumption(BrokerTransportFailure | AllBrokersDown | Resolve) => {
            *broken = Some(error);
            Ok(())
        }
        source => Err(TopicsError::Kafka { action: "read records", source }),
    }
}

impl Reading {
    fn take(&mut self, message: &BorrowedMessage<'_>, may_have_gaps: bool) -> Result<(), TopicsError> {
        let offset = message.offset();
        if offset >= self.end {
            // Came after the end offsets were taken.
            self.done = true;
            return Ok(());
        }
        if offset < self.at || (offset > self.at && !may_have_gaps) {
            return Err(self.hole(offset));
        }
        let headers = message.headers().map_or_else(Vec::new, |headers| {
            headers.iter().map(|header| (header.key.to_owned(), header.value.map(Bytes::copy_from_slice))).collect()
        });
        self.records.push(Record {
            topic: self.topic.clone(),
            partition: self.partition,
            offset,
            timestamp_ms: message.timestamp().to_millis(),
            key: message.key().map(Bytes::copy_from_slice),
            headers,
            value: message.payload().map(Bytes::copy_from_slice),
        });
        self.at = offset + 1;
        self.done = self.at >= self.end;
        Ok(())
    }

    fn hole(&self, found: i64) -> TopicsError {
        TopicsError::Hole { topic: self.topic.clone(), partition: self.partition, expected: self.at, found }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_broken_connection_is_passed_over() {
        let mut broken = None;
        for code in
            [RDKafkaErrorCode::BrokerTransportFailure, RDKafkaErrorCode::Resolve, RDKafkaErrorCode::AllBrokersDown]
        {
            pass_over(KafkaError::MessageConsumption(code), &mut broken).unwrap();
            assert_eq!(broken, Some(KafkaError::MessageConsumption(code)));
        }
        for error in [
            KafkaError::MessageConsumption(RDKafkaErrorCode::OffsetOutOfRange),
            KafkaError::MessageConsumption(RDKafkaErrorCode::BadMessage),
            KafkaError::MessageConsumptionFatal(RDKafkaErrorCode::AllBrokersDown),
        ] {
            assert!(matches!(pass_over(error, &mut None), Err(TopicsError::Kafka { .. })));
        }
    }
}
