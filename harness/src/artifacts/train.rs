//! The training run: a real cluster that does once what scenarios will do, so that its JVM learns what they need.

use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use tokio::runtime::Runtime;

use super::PrepareError;
use super::child::{LOOK_EVERY, Program};
use super::error::at;
use crate::attempts::look_until;
use crate::node::{NodeSettings, meta_properties, server_properties};
use crate::report::chain;
use crate::spec::Timings;
use crate::wire::{self, InternalTopics, Topic, WireError};

const NODES: u16 = 3;
const TOPIC: &str = "training";
const RECORDS: usize = 50;
const COMMIT_EVERY: usize = 10;
/// A topic's files are open until they are deleted, a minute after it by default, and a checkpoint shall have none of
/// them; the first of these is internal to Kafka.
const DELETE_SOON: &str = "log.initial.task.delay.ms=100\nlog.segment.delete.delay.ms=100\n";
/// How the directory of a partition ends that is to be deleted.
const TO_DELETE: &str = "-delete";

/// Without an archive a cluster starts in three to ten seconds.
const READY: Duration = Duration::from_secs(90);
/// For each operation of the client.
const OPERATION: Duration = Duration::from_secs(30);

/// A cluster in one JVM, for as long as it is trained.
///
/// All three nodes are in it, also for the separate layout: a JVM with one of them would be trained only in the roles
/// that fall to that node, and the coordinator of groups or the controller may be another one.
#[derive(Debug)]
pub(super) struct Cluster<'a> {
    /// What its process is, for a person.
    pub(super) name: &'a str,
    /// Directory for its nodes; removed at the end.
    pub(super) directory: &'a Path,
    /// How often it does what scenarios do: once is enough for classes to be loaded, and not for code to be compiled.
    pub(super) rounds: usize,
}

impl Cluster<'_> {
    /// Lets it work. `start` begins its process on properties files, `end` waits until it has ended.
    ///
    /// On a thread of its own: whoever prepares may be in the middle of an executor, which allows no other one.
    pub(super) fn train(
        &self,
        start: impl FnOnce(&[PathBuf]) -> Result<Program, PrepareError> + Send,
        end: impl FnOnce(&mut Program) -> Result<(), PrepareError> + Send,
    ) -> Result<(), PrepareError> {
        std::thread::scope(|scope| {
            let trained = scope.spawn(|| self.run(start, end)).join();
            trained.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn run(
        &self,
        start: impl FnOnce(&[PathBuf]) -> Result<Program, PrepareError>,
        end: impl FnOnce(&mut Program) -> Result<(), PrepareError>,
    ) -> Result<(), PrepareError> {
        let place = Place::free()?;
        let files = write_nodes(self.directory, &place)?;
        let mut program = start(&files)?;
        ready(&place, &mut program)?;
        work(&place, &mut program, self.rounds)?;
        deleted(self.directory, &program)?;
        end(&mut program)?;
        drop(program);
        fs::remove_dir_all(self.directory).map_err(at("remove", self.directory))
    }
}

fn work(place: &Place, program: &mut Program, rounds: usize) -> Result<(), PrepareError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|source| PrepareError {
        source: Some(source),
        ..PrepareError::new("failed to make an executor for the training run")
    })?;
    if let Err(error) = runtime.block_on(warm(place)) {
        return Err(program.failed(&format!("could not be warmed: {}", chain(&error))));
    }
    exercise(place, &runtime, rounds).map_err(|error| program.failed(&format!("failed its exercise: {error}")))
}

/// An address with all ports of the cluster free.
#[derive(Debug)]
struct Place {
    host: Ipv4Addr,
    client_ports: [u16; NODES as usize],
    controller_ports: [u16; NODES as usize],
}

impl Place {
    /// Looks in 127.240.0.0/16, where no environment lives.
    fn free() -> Result<Self, PrepareError> {
        let client_ports = [9092, 9093, 9094];
        let controller_ports = [9192, 9193, 9194];
        let seed = std::process::id();
        for attempt in 0..50 {
            // Neighbouring process ids and attempts land far apart.
            let [_, _, high, low] = (seed.wrapping_add(attempt * 7_919)).wrapping_mul(40_503).to_be_bytes();
            let host = Ipv4Addr::new(127, 240, high, low.clamp(1, 254));
            let free = |port: &u16| TcpListener::bind(SocketAddrV4::new(host, *port)).is_ok();
            if client_ports.iter().chain(&controller_ports).all(free) {
                return Ok(Self { host, client_ports, controller_ports });
            }
        }
        Err(PrepareError::new(
            "found no loopback address for the training run with ports 9092 to 9094 and 9192 to 9194 free",
        )
        .detail("tried 50 addresses in 127.240.0.0/16"))
    }

    fn brokers(&self) -> String {
        let brokers = self.client_ports.map(|port| format!("{}:{port}", self.host));
        brokers.join(",")
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.brokers());
        config
    }
}

/// Writes the files of all nodes and answers their properties files.
fn write_nodes(directory: &Path, place: &Place) -> Result<Vec<PathBuf>, PrepareError> {
    let mut files = Vec::new();
    for node_id in 1..=NODES {
        let data_dir = data_directory(directory, node_id);
        fs::create_dir_all(&data_dir).map_err(at("make the directory", &data_dir))?;
        let settings = NodeSettings {
            node_id: u32::from(node_id),
            host: place.host,
            listen: place.host,
            meeting: place.host,
            client_ports: &place.client_ports,
            controller_ports: &place.controller_ports,
            data_dir: &data_dir,
            cluster_id: "greenroom-training",
            replication: NODES,
            min_insync_replicas: 2,
            timings: Timings::Fast,
        };
        let own = directory.join(format!("node-{node_id}.properties"));
        for (path, text) in [
            (data_dir.join("meta.properties"), meta_properties(&settings)),
            (own.clone(), server_properties(&settings) + DELETE_SOON),
        ] {
            fs::write(&path, text).map_err(at("write", &path))?;
        }
        files.push(own);
    }
    Ok(files)
}

/// Waits until the files of deleted topics are gone.
fn deleted(directory: &Path, program: &Program) -> Result<(), PrepareError> {
    let is_to_delete = |partition: fs::DirEntry| partition.file_name().to_string_lossy().ends_with(TO_DELETE);
    let deleted = look_until(OPERATION, LOOK_EVERY, || {
        for node_id in 1..=NODES {
            let data = data_directory(directory, node_id);
            if fs::read_dir(&data).map_err(at("read", &data))?.flatten().any(is_to_delete) {
                return Ok(None);
            }
        }
        Ok(Some(()))
    })?;
    deleted.ok_or_else(|| program.failed(&format!("has files of deleted topics after {} s", OPERATION.as_secs())))
}

fn data_directory(directory: &Path, node_id: u16) -> PathBuf {
    directory.join(format!("data-{node_id}"))
}

/// Waits until the brokers know one another.
fn ready(place: &Place, program: &mut Program) -> Result<(), PrepareError> {
    let consumer: BaseConsumer = place.client().create().map_err(client_failed)?;
    let known = look_until(READY, LOOK_EVERY, || {
        if let Some(status) = program.ended()? {
            return Err(program.failed(&format!("ended while starting, with {status}")));
        }
        let known = consumer.fetch_metadata(None, Duration::from_millis(500)).map(|data| data.brokers().len());
        Ok(known.is_ok_and(|known| known == usize::from(NODES)).then_some(()))
    })?;
    known.ok_or_else(|| program.failed(&format!("is not ready after {} s", READY.as_secs())))
}

fn client_failed(error: KafkaError) -> PrepareError {
    PrepareError::new(format!("failed to make a Kafka client: {error}"))
}

/// What every start does: the very requests that warm a cluster.
async fn warm(place: &Place) -> Result<(), WireError> {
    let brokers = place.client_ports.map(|port| SocketAddrV4::new(place.host, port));
    let internal =
        InternalTopics { replication: NODES, min_insync_replicas: 2, offsets_partitions: 1, transaction_partitions: 1 };
    let topics = [Topic::new("warmed", 3, NODES)];
    wire::prepare(&brokers, &topics, &internal, (Instant::now() + OPERATION).into()).await.map(drop)
}

/// What scenarios do: topics, acknowledged records, a group, a transaction.
fn exercise(place: &Place, runtime: &Runtime, rounds: usize) -> Result<(), KafkaError> {
    create_topic(place, runtime)?;
    (1..=rounds).try_for_each(|round| {
        produce(place)?;
        transact(place)?;
        consume(place, round)
    })
}

fn create_topic(place: &Place, runtime: &Runtime) -> Result<(), KafkaError> {
    let admin: AdminClient<DefaultClientContext> = place.client().create()?;
    let topic = NewTopic::new(TOPIC, 3, TopicReplication::Fixed(i32::from(NODES)));
    let options = AdminOptions::new().operation_timeout(Some(OPERATION)).request_timeout(Some(OPERATION));
    let topics = [topic];
    let results = runtime.block_on(admin.create_topics(&topics, &options))?;
    let failed = results.into_iter().find_map(Result::err);
    failed.map_or(Ok(()), |(_, code)| Err(KafkaError::AdminOp(code)))
}

fn produce(place: &Place) -> Result<(), KafkaError> {
    let producer: BaseProducer = place.client().set("acks", "all").set("linger.ms", "0").create()?;
    send(&producer)?;
    producer.flush(OPERATION)
}

fn transact(place: &Place) -> Result<(), KafkaError> {
    let producer: BaseProducer = place.client().set("transactional.id", "training").create()?;
    producer.init_transactions(OPERATION)?;
    producer.begin_transaction()?;
    send(&producer)?;
    producer.commit_transaction(OPERATION)
}

fn send(producer: &BaseProducer) -> Result<(), KafkaError> {
    for number in 0..RECORDS {
        let key = format!("key-{}", number % 7);
        let record = BaseRecord::to(TOPIC).key(&key).payload("{\"eventId\":1}");
        producer.send(record).map_err(|(error, _)| error)?;
    }
    Ok(())
}

/// Reads what both producers have sent up to this round, through a group of its own, and commits as it goes.
fn consume(place: &Place, round: usize) -> Result<(), KafkaError> {
    let mut config = place.client();
    config
        .set("group.id", format!("training-{round}"))
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false");
    let consumer: BaseConsumer = config.create()?;
    consumer.subscribe(&[TOPIC])?;
    let deadline = Instant::now() + OPERATION;
    let mut seen = 0;
    while seen < 2 * RECORDS * round {
        match consumer.poll(Duration::from_millis(100)) {
            Some(record) => {
                let record = record?;
                seen += 1;
                if seen % COMMIT_EVERY == 0 {
                    consumer.commit_message(&record, CommitMode::Sync)?;
                }
            }
            None if Instant::now() >= deadline => {
                return Err(KafkaError::Global(rdkafka::types::RDKafkaErrorCode::OperationTimedOut));
            }
            None => {}
        }
    }
    consumer.commit_consumer_state(CommitMode::Sync)?;
    for partition in 0..3 {
        consumer.fetch_watermarks(TOPIC, partition, OPERATION)?;
    }
    Ok(())
}
