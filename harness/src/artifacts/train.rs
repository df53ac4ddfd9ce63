//! The training run: a real cluster that does once what scenarios will do, watched by the JVM that writes the archive.

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
use super::archive::Java;
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

/// Without an archive a cluster starts in three to ten seconds.
const READY: Duration = Duration::from_secs(90);
/// For each operation of the client.
const OPERATION: Duration = Duration::from_secs(30);

/// What is trained.
#[derive(Debug)]
pub(super) struct Training<'a> {
    /// The JVM.
    pub(super) java: &'a Java<'a>,
    /// Directory for the nodes; removed at the end.
    pub(super) directory: &'a Path,
    /// Takes the output of the JVMs.
    pub(super) log: &'a Path,
}

/// Runs a cluster through its paces; the JVM with `recording_flag` ends in order, so that it writes its archive.
///
/// All three nodes are in it, also for the separate layout: a JVM with one of them would be trained only in the roles
/// that fall to that node, and the coordinator of groups or the controller may be another one.
///
/// On a thread of its own: whoever prepares may be in the middle of an executor, which allows no other one.
pub(super) fn run(training: &Training<'_>, recording_flag: &str, limit: Duration) -> Result<(), PrepareError> {
    std::thread::scope(|scope| {
        let trained = scope.spawn(|| train(training, recording_flag, limit)).join();
        trained.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn train(training: &Training<'_>, recording_flag: &str, limit: Duration) -> Result<(), PrepareError> {
    let place = Place::free()?;
    let files = write_nodes(training.directory, &place)?;
    // Native libraries are unpacked there, and stay when a JVM is killed.
    let recording = [recording_flag.to_owned(), format!("-Djava.io.tmpdir={}", training.directory.display())];
    let name = "the broker of the training run";
    let mut program = Program::start(name, training.java.command(&recording, &files), training.log)?;
    ready(&place, &mut program)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|source| PrepareError {
        source: Some(source),
        ..PrepareError::new("failed to make an executor for the training run")
    })?;
    if let Err(error) = runtime.block_on(warm(&place)) {
        return Err(program.failed(&format!("could not be warmed: {}", chain(&error))));
    }
    if let Err(error) = exercise(&place, &runtime) {
        return Err(program.failed(&format!("failed its exercise: {error}")));
    }
    program.tell("exit");
    program.succeed(limit)?;
    drop(program);
    fs::remove_dir_all(training.directory).map_err(at("remove", training.directory))
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
        let data_dir = directory.join(format!("data-{node_id}"));
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
            (own.clone(), server_properties(&settings)),
        ] {
            fs::write(&path, text).map_err(at("write", &path))?;
        }
        files.push(own);
    }
    Ok(files)
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
fn exercise(place: &Place, runtime: &Runtime) -> Result<(), KafkaError> {
    create_topic(place, runtime)?;
    produce(place)?;
    transact(place)?;
    consume(place)
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

/// Reads what both producers sent, through a group, and commits.
fn consume(place: &Place) -> Result<(), KafkaError> {
    let mut config = place.client();
    config.set("group.id", "training").set("auto.offset.reset", "earliest").set("enable.auto.commit", "false");
    let consumer: BaseConsumer = config.create()?;
    consumer.subscribe(&[TOPIC])?;
    let deadline = Instant::now() + OPERATION;
    let mut seen = 0;
    while seen < 2 * RECORDS {
        match consumer.poll(Duration::from_millis(100)) {
            Some(record) => {
                record?;
                seen += 1;
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
