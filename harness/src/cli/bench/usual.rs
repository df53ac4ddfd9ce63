//! Three brokers with Kafka's default settings, PostgreSQL and Redis, as people start them without this project: each
//! in a container of its own, in a bridge network, its port shown at a fixed one of this machine; in the same images as
//! ours.
//!
//! In favour of those whom we compare ourselves with: no image is pulled, and no JVM formats the brokers' directories.
//! In ours: their data lies on the engine's disk and not in memory. The brokers use the class archive of our images, as
//! those of Apache's image use its own. Deliberately absent: how it is started, which is [`scripts`](super::scripts)
//! and `testcontainers`.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use greenroom::docker::{host, images};
use greenroom::spec::Spec;
use greenroom::toolchain::{Archive, ArchiveKind, Toolchain, UNPRIVILEGED_ID};
use greenroom::wire::{self, Topic};
use tokio::process::Command;

use super::alone::{AS_SHIPPED, SHIPPED_CLASS, own_address};
use super::ground::START_DEADLINE;

/// Borne by all that is made here; its value is the process id of the measurement.
pub(super) const LABEL: &str = "greenroom.bench";
/// Where the network shows ports that name no address of this machine, instead of everywhere.
const SHOWN_AT: &str = "com.docker.network.bridge.host_binding_ipv4";
/// Identity of the brokers' cluster.
const CLUSTER: &str = "greenroom-usual";

/// What is started, and where it is found.
pub(super) struct Usual {
    /// Name of the network.
    pub(super) network: String,
    /// At which address of this machine all ports are.
    pub(super) address: Ipv4Addr,
    pub(super) brokers: Vec<Contained>,
    pub(super) postgres: Contained,
    pub(super) redis: Contained,
    /// The topics, of which the original's scripts made the first two.
    pub(super) topics: Vec<Topic>,
}

/// One container.
pub(super) struct Contained {
    /// Its name, by which the others of the network find it.
    pub(super) name: String,
    pub(super) image: String,
    /// User and group, as `1000:1000`.
    pub(super) user: String,
    /// What a shell in it runs, the program last.
    pub(super) command: String,
    /// The port that it listens on.
    pub(super) inside: u16,
    /// The port of this machine where that is found.
    pub(super) outside: u16,
}

impl Usual {
    /// Describes it; nothing is started.
    pub(super) fn new(spec: &Spec, toolchain: &Toolchain) -> anyhow::Result<Self> {
        let kafka = spec.kafka.as_ref().context("this environment has no Kafka")?;
        let (network, address) = (format!("greenroom-bench-{}", std::process::id()), own_address());
        let name = |part: &str| format!("{network}-{part}");
        let voters: Vec<_> = (1..=3).map(|id| format!("{id}@{}:9093", name(&format!("kafka-{id}")))).collect();
        let brokers = (1..=3).map(|id| {
            let (name, outside) = (name(&format!("kafka-{id}")), 11_110 + id);
            let command = broker(toolchain, &properties(id, &name, &voters.join(","), address, outside));
            let image = images::kafka(toolchain).name;
            Contained { name, image, user: "0:0".to_owned(), command, inside: 9092, outside }
        });
        let (brokers, unprivileged) = (brokers.collect(), format!("{UNPRIVILEGED_ID}:{UNPRIVILEGED_ID}"));
        let postgres = Contained {
            name: name("postgres"),
            image: images::postgres(toolchain).name,
            user: unprivileged.clone(),
            command: postgres(&toolchain.postgres.home),
            inside: 5432,
            outside: 5555,
        };
        let redis = Contained {
            name: name("redis"),
            image: images::redis(toolchain).name,
            user: unprivileged,
            command: format!("cd /tmp && exec {} --protected-mode no", toolchain.redis.binary.display()),
            inside: 6379,
            outside: 6666,
        };
        let topics = kafka.topics.iter().map(|topic| Topic::new(&topic.name, topic.partitions, 3)).collect();
        Ok(Self { network, address, brokers, postgres, redis, topics })
    }

    /// The brokers' addresses, as a client of this machine reaches them.
    pub(super) fn addresses(&self) -> Vec<SocketAddrV4> {
        self.brokers.iter().map(|broker| SocketAddrV4::new(self.address, broker.outside)).collect()
    }

    /// What makes the network.
    pub(super) fn network_arguments(&self) -> [String; 7] {
        let shown = format!("{SHOWN_AT}={}", self.address);
        ["network", "create", "--label", &label(), "--opt", &shown, &self.network].map(str::to_owned)
    }

    /// Waits until every topic of these has all its replicas in sync.
    pub(super) async fn in_sync(&self, topics: impl Iterator<Item = &Topic>, begun: Instant) -> anyhow::Result<()> {
        let names: Vec<_> = topics.map(|topic| topic.name.clone()).collect();
        let waited = wire::replicas_in_sync(&self.addresses(), &names, 3, (begun + START_DEADLINE).into()).await;
        waited.context("wait for the topics' replicas")
    }
}

/// The label of all that this process makes.
pub(super) fn label() -> String {
    format!("{LABEL}={}", std::process::id())
}

/// Removes containers and networks of this process and of those of its kind that have ended; says how long it took.
pub(super) async fn remove() -> anyhow::Result<Duration> {
    let begun = Instant::now();
    let format = format!("{{{{.ID}}}} {{{{.Label \"{LABEL}\"}}}}");
    let containers =
        left(&["ps", "--all", "--no-trunc", "--filter", &format!("label={LABEL}"), "--format", &format]).await?;
    if !containers.is_empty() {
        docker(&[&["rm", "--force", "--volumes"].map(str::to_owned)[..], &containers].concat()).await?;
    }
    let networks = left(&["network", "ls", "--filter", &format!("label={LABEL}"), "--format", &format]).await?;
    if !networks.is_empty() {
        docker(&[&["network", "rm"].map(str::to_owned)[..], &networks].concat()).await?;
    }
    Ok(begun.elapsed())
}

/// Ids of what a question lists, without what another running process has made.
async fn left(question: &[&str]) -> anyhow::Result<Vec<String>> {
    let listed = docker(&question.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()).await?;
    let own = std::process::id().to_string();
    let ours = listed.lines().filter_map(|line| line.split_once(' '));
    let ours = ours.filter(|(_, pid)| *pid == own || !Path::new("/proc").join(pid).exists());
    Ok(ours.map(|(id, _)| id.to_owned()).collect())
}

/// Runs the engine's command line and returns what it says.
pub(super) async fn docker(arguments: &[String]) -> anyhow::Result<String> {
    // The engine that environments are in, whatever context the command line would choose.
    let ran = Command::new("docker").env("DOCKER_HOST", host()).args(arguments).kill_on_drop(true).output().await;
    let output = ran.context("run `docker`, the engine's command line, which this measurement needs")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`docker {}` failed: {}", arguments.join(" "), said.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What a broker's shell runs: its files, then the JVM as it is shipped.
fn broker(toolchain: &Toolchain, (meta, properties): &(String, String)) -> String {
    let java = toolchain.jdk.home.join("bin/java");
    let [meta, properties] = [meta, properties].map(|text| quoted(text));
    format!(
        "mkdir /tmp/data && printf %s {meta} >/tmp/data/meta.properties && printf %s {properties} >/tmp/broker.properties \
         && exec {} {} {} -cp {} {SHIPPED_CLASS} /tmp/broker.properties",
        java.display(),
        AS_SHIPPED.join(" "),
        toolchain.kafka.separate_archive.as_ref().map(archive).unwrap_or_default(),
        classpath(toolchain),
    )
}

/// What lets a JVM use an archive, and do without one that does not fit.
fn archive(archive: &Archive) -> String {
    let path = archive.path.display();
    match archive.kind {
        ArchiveKind::AotCache => format!("-XX:AOTCache={path}"),
        ArchiveKind::AppCds => format!("-XX:SharedArchiveFile={path}"),
    }
}

/// All jars, as a JVM is told them.
pub(super) fn classpath(toolchain: &Toolchain) -> String {
    let jars: Vec<_> = toolchain.kafka.classpath.iter().map(|jar| jar.display().to_string()).collect();
    jars.join(":")
}

/// `meta.properties` and the settings of one broker.
fn properties(id: u16, name: &str, voters: &str, address: Ipv4Addr, outside: u16) -> (String, String) {
    let meta = format!("version=1\ncluster.id={CLUSTER}\nnode.id={id}\n");
    let settings = format!(
        "process.roles=broker,controller\n\
         node.id={id}\n\
         controller.quorum.voters={voters}\n\
         controller.listener.names=CONTROLLER\n\
         inter.broker.listener.name=INTERNAL\n\
         listeners=CLIENT://:9092,CONTROLLER://:9093,INTERNAL://:19092\n\
         advertised.listeners=CLIENT://{address}:{outside},INTERNAL://{name}:19092\n\
         listener.security.protocol.map=CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT,INTERNAL:PLAINTEXT\n\
         default.replication.factor=3\n\
         min.insync.replicas=2\n\
         offsets.topic.replication.factor=3\n\
         transaction.state.log.replication.factor=3\n\
         log.dirs=/tmp/data\n"
    );
    (meta, settings)
}

/// What PostgreSQL's shell runs: what the official image does when it is first started.
fn postgres(home: &Path) -> String {
    let bin = home.join("bin");
    let bin = bin.display();
    format!(
        "{bin}/initdb --pgdata /tmp/data --username postgres --auth trust >/dev/null \
         && echo host all all all trust >>/tmp/data/pg_hba.conf \
         && exec {bin}/postgres -D /tmp/data -k /tmp -c listen_addresses='*'"
    )
}

/// A text as one word of a shell.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
