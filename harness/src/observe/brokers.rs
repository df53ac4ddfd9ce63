//! The Kafka client that reads topics: quick on a local cluster, silent, and never a member of a group.
//!
//! Every function here blocks: call it from [`tokio::task::spawn_blocking`].

use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::{Offset, TopicPartitionList};

/// A consumer that reports nothing by itself: what matters comes back as a result.
pub(super) type QuietConsumer = BaseConsumer<Quiet>;

/// Drops log lines and background errors. A broker that is down is an everyday event in a test of faults.
pub(super) struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, _level: RDKafkaLogLevel, _facility: &str, _message: &str) {}
    fn error(&self, _error: KafkaError, _reason: &str) {}
}

impl ConsumerContext for Quiet {}

/// Makes a client. librdkafka wants a group to be named where partitions are assigned; it is never joined.
pub(super) fn client(brokers: &[String]) -> KafkaResult<QuietConsumer> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", brokers.join(","))
        .set("group.id", "greenroom-observer")
        .set("client.id", "greenroom-observer")
        .set("broker.address.family", "v4")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("enable.partition.eof", "true")
        .set("allow.auto.create.topics", "false")
        .set("check.crcs", "true")
        .set("auto.offset.reset", "error")
        .set("isolation.level", "read_committed")
        // A restarted broker is back within a second; librdkafka's own back-off would see it later.
        .set("reconnect.backoff.ms", "20")
        .set("reconnect.backoff.max.ms", "200")
        .set("retry.backoff.ms", "20")
        .set("socket.nagle.disable", "true")
        .set("fetch.wait.max.ms", "10")
        .set("fetch.error.backoff.ms", "10")
        .set("topic.metadata.refresh.fast.interval.ms", "20")
        .set("topic.metadata.refresh.interval.ms", "1000")
        .set_log_level(RDKafkaLogLevel::Emerg);
    config.create_with_context(Quiet)
}

/// Whether what a topic holds is news of the system: Kafka's internal ones (`__…`) and the harness's own
/// (`greenroom.…`) are not.
pub(super) fn is_of_the_system(topic: &str) -> bool {
    !topic.starts_with("__") && !topic.starts_with("greenroom.")
}

/// Every topic with its number of partitions, Kafka's internal ones (`__…`) and the harness's own (`greenroom.…`) left
/// out; sorted by name.
pub(super) fn topics(client: &QuietConsumer, timeout: Duration) -> KafkaResult<Vec<(String, i32)>> {
    let metadata = client.fetch_metadata(None, timeout)?;
    let mut topics: Vec<_> = metadata
        .topics()
        .iter()
        .filter(|topic| is_of_the_system(topic.name()))
        .map(|topic| (topic.name().to_owned(), i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX)))
        .collect();
    topics.sort();
    Ok(topics)
}

/// The first offset (`Offset::Beginning`) or the next one to be written (`Offset::End`) of every partition, asked in
/// one request per broker. librdkafka's raw values of these two are what the protocol's ListOffsets calls
/// earliest (-2) and latest (-1).
pub(super) fn offsets(
    client: &QuietConsumer,
    topics: &[(String, i32)],
    which: Offset,
    timeout: Duration,
) -> KafkaResult<Vec<(String, i32, i64)>> {
    let list = partitions(topics, which)?;
    if list.count() == 0 {
        return Ok(Vec::new());
    }
    read_offsets(&client.offsets_for_times(list, timeout)?)
}

fn partitions(topics: &[(String, i32)], offset: Offset) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for (topic, count) in topics {
        for partition in 0..*count {
            list.add_partition_offset(topic, partition, offset)?;
        }
    }
    Ok(list)
}

fn read_offsets(list: &TopicPartitionList) -> KafkaResult<Vec<(String, i32, i64)>> {
    list.elements()
        .iter()
        .map(|element| {
            element.error()?;
            let offset = match element.offset() {
                Offset::Offset(offset) => offset,
                _ => 0,
            };
            Ok((element.topic().to_owned(), element.partition(), offset))
        })
        .collect()
}
