//! Everything that will run: addresses, files, arguments and variables of every part.
//!
//! A plan is computed from a [`Spec`], the [`Toolchain`] and a [`Site`], prints as text and is
//! snapshot-tested without starting anything. [`crate::runtime`] starts exactly what it says.
//!
//! Deliberately absent: the machine. Nothing here reads a file, a port or the clock.

mod container;
mod database_url;
mod others;
mod part;
pub mod template;
#[cfg(test)]
pub(crate) mod tests;
mod text;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::link::PlannedLink;
use crate::spec::{Layout, Links, ProgramSpec, Spec, meaningless};
use crate::toolchain::Toolchain;
pub use container::{ImageKind, PlannedContainer};
pub(crate) use part::{CONTROLLER_PORT_OFFSET, is_instance_of};
use template::Names;

/// Name of the part that brokers of one process are.
pub(crate) const BROKERS: &str = "kafka";

/// What the parts of an environment run as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Runtime {
    /// Processes of this machine.
    #[default]
    Process,
    /// Containers of this machine's engine; the programs of the system stay processes, unless one of them is an image.
    Docker,
}

/// Where an environment stands: its identity, its address and its directory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Site {
    /// Identity of the environment, in the name of everything of it.
    pub environment: String,
    /// Identity of the supervisor that owns it.
    pub supervisor: String,
    /// Loopback address of its own, where clients find everything.
    pub address: Ipv4Addr,
    /// Loopback address that the parts behind links listen on; unused where there are none.
    pub backstage: Ipv4Addr,
    /// Directory of its own; gone with it.
    pub directory: PathBuf,
    /// Where the binaries of the workspace lie.
    pub binaries: PathBuf,
    /// What its parts run as.
    pub runtime: Runtime,
    /// Where its brokers and stores listen; what stands here before it is planned counts for nothing.
    #[serde(default)]
    pub network: Network,
}

/// Whose network the brokers and stores of an environment listen in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// This machine's, at loopback addresses of the environment's own.
    #[default]
    Machine,
    /// That of its containers, of which the engine shows the ports here.
    Containers,
}

/// Which parts of a description are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// All of it.
    #[default]
    Everything,
    /// All but the programs under test.
    Infrastructure,
}

impl Site {
    /// The address that brokers and stores listen on: in a network of containers all of them, since the engine brings
    /// what comes to [`Site::backstage`] to one that it chose.
    pub(crate) fn listen(&self) -> Ipv4Addr {
        match self.network {
            Network::Machine => self.backstage,
            Network::Containers => Ipv4Addr::UNSPECIFIED,
        }
    }
}

impl Scope {
    /// Whether a program is wanted.
    pub(crate) fn has(self, program: &ProgramSpec) -> bool {
        match self {
            Self::Everything => true,
            Self::Infrastructure => !program.under_test,
        }
    }
}

/// All that will run for one environment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Name of the description.
    pub name: String,
    /// Where it stands.
    pub site: Site,
    /// How the brokers are laid out; absent without Kafka.
    pub layout: Option<Layout>,
    /// What clients of the environment are told.
    pub variables: BTreeMap<String, String>,
    /// Topics made before the first program starts.
    pub topics: Vec<PlannedTopic>,
    /// The parts, infrastructure first.
    pub parts: Vec<Part>,
    /// What stands in front of them.
    pub links: Vec<PlannedLink>,
}

/// A topic with nothing left to default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedTopic {
    /// Its name.
    pub name: String,
    /// How many partitions.
    pub partitions: u16,
    /// Replication factor.
    pub replication: u16,
}

/// One operating-system process and all that it needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Its name, unique in the environment (`kafka-2`, `postgres`, `shop`).
    pub name: String,
    /// What it is and how it is known to be ready.
    pub kind: Kind,
    /// What a person is told of it, such as `Apache Kafka 4.3.2, 3 brokers`.
    pub version: String,
    /// Where clients find it, the first address first: those of its links, where it has some.
    pub addresses: Vec<SocketAddrV4>,
    /// Directories made before it starts.
    pub directories: Vec<PathBuf>,
    /// Prepared directories copied before it starts.
    pub copies: Vec<PlannedCopy>,
    /// Files written before it starts.
    pub files: Vec<PlannedFile>,
    /// The container that it runs in; absent where it is a process of this machine.
    pub container: Option<PlannedContainer>,
    /// The program and its arguments; empty where an image says it.
    pub command: Vec<String>,
    /// Lines that its standard input begins with.
    pub input: Vec<String>,
    /// Its whole environment, apart from what every process inherits (`PATH`, `HOME`, `LANG`).
    pub variables: BTreeMap<String, String>,
    /// Working directory.
    pub directory: PathBuf,
    /// File that takes its standard output and error.
    pub log: PathBuf,
}

/// What a part is; decides how it is known to be ready and how it ends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum Kind {
    /// One or more brokers in one JVM.
    Kafka,
    /// A PostgreSQL server; never runs as root.
    Postgres {
        /// Database made for the system.
        database: String,
        /// Role that owns it.
        user: String,
    },
    /// A Redis server.
    Redis,
    /// A program that answers 200 at this URL once it can do its work.
    Program {
        /// Readiness URL.
        ready: String,
        /// Whether it is the system under test.
        under_test: bool,
    },
}

/// A directory tree copied before a part starts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedCopy {
    /// Source.
    pub from: PathBuf,
    /// Target, absent before.
    pub to: PathBuf,
}

/// A file written before a part starts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedFile {
    /// Where.
    pub path: PathBuf,
    /// Its text.
    pub content: String,
}

/// Why no plan could be made.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// What was asked for beside the description, or by a test, made something of it that cannot be started.
    #[error("the description as it was changed cannot be started: {0}")]
    Meaning(String),
    /// An image was named where nothing runs in containers.
    #[error("{program} is an image, which `--runtime docker` runs")]
    ImageAmongProcesses {
        /// The program.
        program: String,
    },
    /// An image would go round the links.
    #[error("{program} is an image, which reaches the other parts without links; use `--links none`")]
    ImageAndLinks {
        /// The program.
        program: String,
    },
    /// Images alone have nobody who holds their network and their processes together.
    #[error("{program} is an image and nothing else runs in a container; add a broker, a store or a binary")]
    OnlyImages {
        /// One of the programs.
        program: String,
    },
    /// A template names something that the description does not have.
    #[error("{place} names `{{{name}}}`, which this environment does not have; expected one of {expected}")]
    UnknownName {
        /// Where the template stands.
        place: String,
        /// What it names.
        name: String,
        /// The names that exist.
        expected: String,
    },
    /// A template has a brace without a partner.
    #[error("{place} has a brace without a partner in {template:?}; write `{{{{` and `}}}}` for braces themselves")]
    Unbalanced {
        /// Where the template stands.
        place: String,
        /// The template.
        template: String,
    },
}

impl Part {
    /// Whether its process is a copy from a checkpoint, below the one that restores it: such a one is told by its input
    /// what others are told by arguments.
    pub(crate) fn is_restored(&self) -> bool {
        !self.input.is_empty()
    }
}

impl Plan {
    /// The URL of the database for a client of ours, which needs no password.
    #[must_use]
    pub fn database_url(&self) -> Option<String> {
        self.parts.iter().find_map(|part| match &part.kind {
            Kind::Postgres { database, user } => {
                Some(database_url::database_url(user, None, part.addresses.first()?, database) + "?sslmode=disable")
            }
            Kind::Kafka | Kind::Redis | Kind::Program { .. } => None,
        })
    }

    /// Computes all that will run.
    ///
    /// # Errors
    /// The description cannot be started, or a template of it names something that does not exist.
    pub fn new(spec: &Spec, scope: Scope, toolchain: &Toolchain, mut site: Site) -> Result<Self, PlanError> {
        if let Some(fault) = meaningless(spec) {
            return Err(PlanError::Meaning(fault));
        }
        let image = spec.programs.iter().find(|program| scope.has(program) && program.image.is_some());
        if let Some(program) = image.map(|program| program.name.clone()) {
            if site.runtime == Runtime::Process {
                return Err(PlanError::ImageAmongProcesses { program });
            }
            if spec.links != Links::None {
                return Err(PlanError::ImageAndLinks { program });
            }
        }
        if spec.links == Links::None {
            site.backstage = site.address;
        }
        site.network = part::network(spec, site.runtime);
        let names = Names::of(spec, &site);
        let variables = names.expand_all("variables", &spec.variables)?;
        let mut parts = Vec::new();
        if let Some(kafka) = &spec.kafka {
            parts.extend(part::kafka(spec, kafka, toolchain, &site));
        }
        if let Some(postgres) = &spec.postgres {
            parts.push(part::postgres(postgres, toolchain, &site));
        }
        if let Some(redis) = &spec.redis {
            parts.push(part::redis(redis, toolchain, &site));
        }
        for program in spec.programs.iter().filter(|program| scope.has(program)) {
            for instance in 0..program.instances {
                let container = image.and_then(|_| part::container(program, toolchain, &site));
                parts.push(part::program(program, instance, &names, &variables, &site, container)?);
            }
        }
        let holds_together = |part: &Part| part.container.as_ref().is_some_and(|it| it.kind != ImageKind::Service);
        if let Some(program) = image.filter(|_| !parts.iter().any(holds_together)) {
            return Err(PlanError::OnlyImages { program: program.name.clone() });
        }
        Ok(Self {
            name: spec.name.clone(),
            layout: spec.kafka.as_ref().map(|kafka| kafka.layout),
            topics: planned_topics(spec),
            links: part::links(spec, &parts, &site),
            variables,
            parts,
            site,
        })
    }

    /// Client addresses of the brokers, in order of their ids; empty without Kafka.
    #[must_use]
    pub fn brokers(&self) -> Vec<SocketAddrV4> {
        let kafka = self.parts.iter().filter(|part| part.kind == Kind::Kafka);
        kafka.flat_map(|part| part.addresses.iter().copied()).collect()
    }

    /// The part of this name.
    #[must_use]
    pub fn part(&self, name: &str) -> Option<&Part> {
        self.parts.iter().find(|part| part.name == name)
    }
}

/// Name of one instance of a program: the first bears the program's own.
#[must_use]
pub fn instance_name(program: &ProgramSpec, instance: u16) -> String {
    if instance == 0 { program.name.clone() } else { format!("{}-{}", program.name, instance + 1) }
}

fn planned_topics(spec: &Spec) -> Vec<PlannedTopic> {
    let kafka = spec.kafka.iter();
    kafka
        .flat_map(|kafka| {
            kafka.topics.iter().map(|topic| PlannedTopic {
                name: topic.name.clone(),
                partitions: topic.partitions,
                replication: topic.replication.unwrap_or(kafka.replication),
            })
        })
        .collect()
}
