//! What environments are made from on this machine: inert data that [`artifacts`](crate::artifacts) finds and makes and
//! a [`plan`](crate::plan) reads.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// User and group `nobody`, as whom PostgreSQL runs under root, which it refuses to be.
pub const UNPRIVILEGED_ID: u32 = 65_534;

/// All that a plan needs to know of the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Toolchain {
    /// The JDK that runs the brokers.
    pub jdk: Jdk,
    /// Kafka's jars and class archives.
    pub kafka: Kafka,
    /// The PostgreSQL server.
    pub postgres: Postgres,
    /// The Redis server.
    pub redis: Redis,
    /// Images that parts run in instead of those that are built of all this.
    #[serde(default)]
    pub images: PartImages,
}

/// Images that others have made, for parts that shall run in them where they run in containers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartImages {
    /// For the brokers.
    pub kafka: Option<PartImage>,
    /// For PostgreSQL.
    pub postgres: Option<PartImage>,
    /// For Redis.
    pub redis: Option<PartImage>,
}

/// An image that others have made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartImage {
    /// Its name and tag, such as `postgres:17`.
    pub name: String,
    /// What it must hold, as `sha256:…`; anything, where absent.
    pub digest: Option<String>,
    /// Its directory of Kafka's jars; of no meaning for other parts.
    pub jars: PathBuf,
}

/// An installed JDK.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jdk {
    /// Its directory, holding `bin/java`.
    pub home: PathBuf,
    /// Its feature version, such as 25.
    pub major: u16,
    /// Its full version, such as `25.0.3`.
    pub version: String,
}

/// Kafka's server jars.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kafka {
    /// Its version.
    pub version: String,
    /// All jars of a node, the launcher's among them, in the order in which the archives were made.
    pub classpath: Vec<PathBuf>,
    /// Archive for three brokers in one JVM.
    pub colocated_archive: Option<Archive>,
    /// Archive for one broker in a JVM.
    pub separate_archive: Option<Archive>,
    /// How brokers begin.
    pub start: Start,
}

/// How a JVM of brokers begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "how")]
pub enum Start {
    /// As a copy of one that has run brokers before.
    Restored(Checkpoint),
    /// As one that has run nothing yet.
    Cold {
        /// Why it is no copy, as a fragment.
        because: String,
    },
}

/// A JVM in files: it has run brokers once, and waits for the names of others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The image that it was made in, and in which alone it can be restored; absent where it was made outside of any.
    pub image: Option<HeldImage>,
    /// The program `unshare`, which makes namespaces.
    pub unshare: PathBuf,
    /// The program `criu`, which restores.
    pub criu: PathBuf,
    /// The script that calls it.
    pub script: PathBuf,
    /// Directory of the files.
    pub images: PathBuf,
    /// Empty directory over which each copy's own is mounted, for the copy alone.
    pub mount: PathBuf,
}

impl Checkpoint {
    /// What of this machine is read where it is restored.
    pub(crate) fn reads(&self) -> Vec<PathBuf> {
        vec![self.script.clone(), self.images.clone(), self.mount.clone()]
    }
}

/// An image that the engine has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldImage {
    /// Its name and tag.
    pub name: String,
    /// Its id, which another one of that name has not.
    pub id: String,
}

/// Loaded and linked classes in a file that a JVM maps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Archive {
    /// Which of the JDK's two mechanisms reads it.
    pub kind: ArchiveKind,
    /// The file.
    pub path: PathBuf,
}

/// A mechanism of the JDK for class archives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ArchiveKind {
    /// AOT cache, made in one step since JDK 25 (JEP 514).
    AotCache,
    /// Dynamic AppCDS archive (JEP 350), for older JDKs.
    AppCds,
}

/// A PostgreSQL server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Postgres {
    /// Its directory, holding `bin/postgres`, `lib` and `share`; others may read it.
    pub home: PathBuf,
    /// Its version, such as `17.11`.
    pub version: String,
    /// A data directory as `initdb` leaves it: superuser `postgres`, UTF-8, trusting 127.0.0.0/8. Never run on it; copy
    /// it. Made by root, it belongs to `nobody`.
    pub data_template: PathBuf,
}

/// A Redis server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redis {
    /// The program.
    pub binary: PathBuf,
    /// Its version.
    pub version: String,
}
