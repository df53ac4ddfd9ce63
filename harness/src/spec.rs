//! What should exist: the inert description of one environment, read from one TOML file.
//!
//! A description lies beside its fixture (`fixtures/<system>/environment.toml`); tests and
//! `test-env` read the same file. Nothing here touches the machine: [`crate::plan`] turns a
//! spec into everything that will run.
//!
//! Deliberately absent: defaults that depend on the machine, and any field that only one system needs.

mod check;
mod faults;
mod observe;
pub(crate) mod pattern;
mod read;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::node::INTERNAL_PORT_OFFSET;
use crate::plan::{CONTROLLER_PORT_OFFSET, Scope};

pub(crate) use check::meaningless;
pub use faults::{FailpointsSpec, NoFailpoint, RequestSpec};
pub use observe::{AuditSpec, ConsumerSpec, ExpectedSpec, HistorySpec, IdleSpec, ObserveSpec, SettleSpec};
pub use read::{SpecError, read, read_str};

/// One environment: brokers, stores and programs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Short name of the system, used in identifiers and file names.
    pub name: String,
    /// Where links stand, so that the ways there can be broken; see [`crate::link`].
    #[serde(default)]
    pub links: Links,
    /// The Kafka cluster; absent where the system needs none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kafka: Option<KafkaSpec>,
    /// The PostgreSQL server; absent where the system needs none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postgres: Option<PostgresSpec>,
    /// The Redis server; absent where the system needs none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis: Option<RedisSpec>,
    /// The programs, in the order in which they are listed to a person.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub programs: Vec<ProgramSpec>,
    /// Variables that every program and every client of the environment gets.
    /// Values are templates, see [`crate::plan::template`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, String>,
    /// When the system is at rest.
    #[serde(default)]
    pub settle: SettleSpec,
    /// What is written down at the end of a scenario, and how values are named there.
    #[serde(default)]
    pub observe: ObserveSpec,
    /// What may stand in the logs of a scenario that passes.
    #[serde(default)]
    pub audit: AuditSpec,
}

impl Spec {
    /// Whether somebody else's [service](crate::service) is in the place of a program.
    #[must_use]
    pub fn is_of_somebody_else(&self) -> bool {
        self.programs.iter().any(|program| program.replaced)
    }

    /// Every port that the parts will listen on.
    #[must_use]
    pub fn ports(&self, scope: Scope) -> Vec<u16> {
        self.listeners(scope).filter_map(|listener| u16::try_from(listener.port).ok()).collect()
    }

    /// Who listens where.
    fn listeners(&self, scope: Scope) -> impl Iterator<Item = Listener<'_>> {
        let kafka = self.kafka.iter().flat_map(|kafka| {
            let beside = |offset: u16, part| {
                let first = u32::from(kafka.port) + u32::from(offset);
                let place = || "kafka.port".to_owned();
                (0..kafka.brokers).map(move |index| Listener { port: first + u32::from(index), part, place: place() })
            };
            let internal = (self.links != Links::None).then(|| beside(INTERNAL_PORT_OFFSET, "kafka among brokers"));
            let clients = beside(0, "kafka");
            clients.chain(beside(CONTROLLER_PORT_OFFSET, "kafka's controllers")).chain(internal.into_iter().flatten())
        });
        let store = |port: u16, part: &'static str| Listener { port: port.into(), part, place: format!("{part}.port") };
        let postgres = self.postgres.iter().map(move |postgres| store(postgres.port, "postgres"));
        let redis = self.redis.iter().map(move |redis| store(redis.port, "redis"));
        let programs = self.programs.iter().enumerate().filter(move |(_, program)| scope.has(program));
        let programs = programs.flat_map(|(position, program)| {
            (0..program.instances).map(move |instance| Listener {
                port: u32::from(program.port) + u32::from(instance),
                part: &program.name,
                place: format!("programs.{position}.port"),
            })
        });
        kafka.chain(postgres).chain(redis).chain(programs)
    }
}

/// A part that listens.
struct Listener<'a> {
    /// At this port, which may lie beyond the last one.
    port: u32,
    part: &'a str,
    /// Where the description says it, or what it follows from.
    place: String,
}

/// Where links stand. Each costs a little: see `bench links`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Links {
    /// Nowhere: nothing but the parts themselves can be broken.
    #[default]
    None,
    /// In front of every part, for its clients; brokers meet one another without links.
    Clients,
    /// Between brokers too, where each has a process of its own: the quorum and replication can be broken.
    All,
}

/// How the brokers are laid out over operating-system processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// All brokers in one JVM: the fastest start; single brokers cannot be killed or paused.
    #[default]
    Colocated,
    /// A JVM for each broker: what every broker fault needs.
    Separate,
}

/// Which timings the cluster runs with. Neither changes what the cluster guarantees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Timings {
    /// Short elections and heartbeats, so that a cluster is ready and recovers quickly.
    #[default]
    Fast,
    /// Kafka's own defaults; threads and partitions of internal topics stay few.
    ProductionLike,
}

/// A Kafka cluster of combined KRaft nodes (broker and controller in one).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaSpec {
    /// How many nodes, 1 to 9.
    #[serde(default = "three")]
    pub brokers: u16,
    /// Replication factor of topics that name none, and of Kafka's internal topics.
    #[serde(default = "three")]
    pub replication: u16,
    /// `min.insync.replicas` of the cluster.
    #[serde(default = "two")]
    pub min_insync_replicas: u16,
    /// First client port; the brokers take consecutive ones from here.
    #[serde(default = "kafka_port")]
    pub port: u16,
    /// How the brokers are laid out over processes.
    #[serde(default)]
    pub layout: Layout,
    /// Which timings the cluster runs with.
    #[serde(default)]
    pub timings: Timings,
    /// Topics that exist before the first program starts.
    #[serde(default)]
    pub topics: Vec<TopicSpec>,
}

/// A topic made before the first program starts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopicSpec {
    /// Its name.
    pub name: String,
    /// How many partitions.
    #[serde(default = "one")]
    pub partitions: u16,
    /// Replication factor, where it differs from the cluster's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replication: Option<u16>,
}

/// A PostgreSQL server with one database.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostgresSpec {
    /// TCP port.
    #[serde(default = "postgres_port")]
    pub port: u16,
    /// Name of the database made for the system.
    pub database: String,
    /// Role that owns it.
    #[serde(default = "postgres_name")]
    pub user: String,
    /// Password that clients are told; the server trusts its own loopback address.
    #[serde(default = "postgres_name")]
    pub password: String,
}

/// A Redis server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedisSpec {
    /// TCP port.
    #[serde(default = "redis_port")]
    pub port: u16,
}

/// A program of the environment: the system under test or one that it talks to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProgramSpec {
    /// Its name; also its part name (`logs shop`).
    pub name: String,
    /// The binary of this workspace that it runs. One of this, `command` and `image`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binary: Option<String>,
    /// The command that it runs, each argument a template.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// The image of a container that it runs in, by the image's own command; needs the runtime `docker`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Absolute path of the directory that it runs in; where absent, an empty one that goes with the environment. An
    /// image says its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<PathBuf>,
    /// HTTP port of the first instance; further ones take consecutive ports.
    pub port: u16,
    /// How many instances run side by side.
    #[serde(default = "one")]
    pub instances: u16,
    /// Whether it is the system under test; `--only infrastructure` leaves those out.
    #[serde(default)]
    pub under_test: bool,
    /// Whether a link stands in front of it, which can be broken; it must then listen on `{bind}`.
    #[serde(default)]
    pub link: bool,
    /// Path that answers 200 once the program can do its work.
    #[serde(default = "health")]
    pub ready: String,
    /// What anyone's implementation of the same contract has, for a [service](crate::service) in this one's place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contract: Option<ContractSpec>,
    /// Variables for this program alone. Values are templates.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, String>,
    /// What it can be asked to do wrong, by name; see `test-env fault ask`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub faults: BTreeMap<String, RequestSpec>,
    /// A variant of it that dies where it is told to; see `test-env up --crash-at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failpoints: Option<FailpointsSpec>,
    /// Whether somebody else's [service](crate::service) is in its place. No description says so, but who starts it.
    #[serde(skip)]
    pub replaced: bool,
    /// Whether that service runs elsewhere, so that nothing can be done to it.
    #[serde(skip)]
    pub elsewhere: bool,
}

/// What can be asked of every implementation of a program's contract.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContractSpec {
    /// Path that answers 200 in all of them, once they can do their work.
    pub ready: String,
    /// The variables that all of them read.
    pub variables: Vec<String>,
}

fn one() -> u16 {
    1
}
fn two() -> u16 {
    2
}
fn three() -> u16 {
    3
}
fn kafka_port() -> u16 {
    9092
}
fn postgres_port() -> u16 {
    5432
}
fn redis_port() -> u16 {
    6379
}
fn postgres_name() -> String {
    "postgres".to_owned()
}
fn health() -> String {
    "/health".to_owned()
}
