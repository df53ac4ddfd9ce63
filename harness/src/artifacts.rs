//! What environments are made of: found on the machine, fetched or made once, then only looked up.
//!
//! [`prepare`] answers with a [`Toolchain`]: a JDK, Kafka's jars with a class archive for each layout, PostgreSQL with
//! a prepared data directory, and a Redis server. Whatever is made lies in the `store`, one directory per hash of what
//! it was made from; a finished one never changes. The steps, each in its own file: `jdk` looks, `maven` fetches
//! and compiles, `postgres` and `redis` unpack, `relink`, `archive` and `checkpoint` let brokers start fast.
//!
//! Deliberately absent: starting an environment. The processes run here (Maven, `initdb`, the brokers of the training
//! run) end before [`prepare`] returns. A PostgreSQL that runs as another user needs its copy of the data directory
//! changed to that user, with mode 0700; whoever copies it does that.

mod archive;
mod checkpoint;
mod child;
mod error;
mod jdk;
mod maven;
mod postgres;
mod redis;
mod relink;
mod store;
mod train;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

pub use error::PrepareError;

use crate::plan::Runtime;
use crate::spec::Layout;
use crate::toolchain::{HeldImage, Jdk, Kafka, PartImages, Start, Toolchain};
use store::Store;

/// How to prepare.
#[derive(Clone, Debug, Default)]
pub struct PrepareOptions {
    /// Fetch nothing; what is missing is an error that names it. What can be made from what is there, is made.
    pub offline: bool,
    /// What parts run as: in a container none of this machine's libraries is found, which its own Redis needs.
    pub runtime: Runtime,
}

/// Something that happened while preparing. Nothing is told of what was there already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is being prepared, for a person.
    pub step: String,
    /// What happened to it.
    pub state: ProgressState,
}

/// What happened to a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProgressState {
    /// Another process is making the same; it is waited for.
    Waiting,
    /// What was stored is damaged and is made anew; says what is damaged.
    Damaged(String),
    /// It cannot be made, for this reason, and environments do without it.
    Refused(String),
    /// It began.
    Started,
    /// It ended well.
    Done {
        /// How long it took.
        elapsed: Duration,
    },
}

/// Finds, fetches and makes all that environments need, and says where it is.
///
/// Blocks: a few milliseconds where all is there, a minute or two where nothing is. Several processes may do so at
/// once, and each may be killed at any point.
///
/// # Errors
/// Something is missing, has the wrong version, cannot be read or written, or failed; the error says what, where and
/// what to do.
pub fn prepare(options: &PrepareOptions, progress: &mut dyn FnMut(Progress)) -> Result<Toolchain, PrepareError> {
    let store = Store::open()?;
    let mut reporter = Reporter { progress };
    let jdk = jdk::choose(&jdk::Places::of_this_machine())?;
    let jars = maven::jars(&store, &jdk, options.offline, &mut reporter)?;
    let postgres = postgres::prepare(&store, &jars, &mut reporter)?;
    let redis = redis::prepare(&store, &jars, options.runtime, &mut reporter)?;
    let relink::Relinked { classpath, build } = relink::prepare(&store, &jdk, jars, &mut reporter)?;
    let colocated = archive::prepare(&store, &jdk, &classpath, &build, Layout::Colocated, &mut reporter)?;
    let separate = archive::prepare(&store, &jdk, &classpath, &build, Layout::Separate, &mut reporter)?;
    let start = match options.runtime {
        Runtime::Process => {
            let brokers = checkpoint::Brokers { jdk: &jdk.found, classpath: &classpath, archive: &colocated.archive };
            checkpoint::here(&store, &brokers, [&jdk.identity, &colocated.build], &mut reporter)?
        }
        Runtime::Docker => Start::Cold { because: "no image is known yet".to_owned() },
    };
    let kafka = Kafka {
        version: maven::pinned("kafka.version").to_owned(),
        classpath,
        colocated_archive: Some(colocated.archive),
        separate_archive: Some(separate.archive),
        start,
    };
    Ok(Toolchain { jdk: jdk.found, kafka, postgres, redis, images: PartImages::default() })
}

/// An image of brokers, and how a container of it is made by the engine's command.
#[derive(Clone, Debug)]
pub struct Within {
    /// The image.
    pub image: HeldImage,
    /// Where the engine listens that has it, as its command takes it.
    pub host: String,
    /// What its container bears, as `name=value`, by which a sweep knows that its maker is dead.
    pub label: String,
}

/// How brokers begin in an image that was made from `toolchain`: [`prepare`] knows no images.
///
/// Blocks as [`prepare`] does.
///
/// # Errors
/// As those of [`prepare`].
pub fn prepare_within(
    within: &Within,
    toolchain: &Toolchain,
    progress: &mut dyn FnMut(Progress),
) -> Result<Start, PrepareError> {
    let Kafka { classpath, colocated_archive, .. } = &toolchain.kafka;
    let Some(archive) = colocated_archive else {
        return Ok(Start::Cold { because: "there is no class archive".to_owned() });
    };
    let brokers = checkpoint::Brokers { jdk: &toolchain.jdk, classpath, archive };
    checkpoint::within(within, &Store::open()?, &brokers, &mut Reporter { progress })
}

/// The JDK that environments use here: the newest installed one, unless `GREENROOM_JAVA_HOME` names another.
///
/// # Errors
/// There is none, or the named one is none or too old.
pub fn installed_jdk() -> Result<Jdk, PrepareError> {
    Ok(jdk::choose(&jdk::Places::of_this_machine())?.found)
}

/// The Java compiler that makes the launcher, which may be another JDK's than [`installed_jdk`].
///
/// # Errors
/// There is no JDK, or none with a compiler.
pub fn java_compiler() -> Result<PathBuf, PrepareError> {
    let choice = jdk::choose(&jdk::Places::of_this_machine())?;
    choice.compiler.map(|home| home.join("bin/javac")).ok_or_else(|| maven::no_compiler(&choice.found))
}

/// The CRIU that lets brokers begin as copies of a JVM that has run brokers, or why they begin cold: as processes of this
/// machine, or in an image.
///
/// # Errors
/// The one that `GREENROOM_CRIU` names cannot do it here, or is none.
pub fn restorer(within: Option<&Within>) -> Result<Result<PathBuf, String>, PrepareError> {
    checkpoint::restorer(within)
}

/// Whether this machine has a Redis server that will do, so that none has to be stored.
#[must_use]
pub fn has_redis(runtime: Runtime) -> bool {
    redis::of_this_machine(runtime).is_some()
}

/// Where prepared things are stored, without preparing or making anything.
///
/// # Errors
/// No place can be told, because neither a cache nor a home directory is set.
pub fn cache_directory() -> Result<PathBuf, PrepareError> {
    store::location()
}

/// What is stored and was last used before `since`.
///
/// # Errors
/// The cache cannot be read.
pub fn idle(since: SystemTime) -> Result<Vec<PathBuf>, PrepareError> {
    if cache_directory()?.is_dir() { Store::open()?.idle(since) } else { Ok(Vec::new()) }
}

/// Removes what [`idle`] has found, and says whether it has gone: not where somebody has asked for it meanwhile. It is
/// made again when somebody needs it.
///
/// # Errors
/// It cannot be removed.
pub fn remove(stored: &Path, since: SystemTime) -> Result<bool, PrepareError> {
    Store::open()?.remove(stored, since)
}

/// The mode that lets others read and run what its owner can: a part may run as another user, and the umask may be
/// narrow.
pub(crate) fn open_mode(mode: u32) -> u32 {
    let own = mode & 0o500;
    (mode & 0o777) | own >> 3 | own >> 6
}

/// Tells of steps.
struct Reporter<'a> {
    progress: &'a mut dyn FnMut(Progress),
}

impl Reporter<'_> {
    fn tell(&mut self, step: &str, state: ProgressState) {
        (self.progress)(Progress { step: step.to_owned(), state });
    }

    fn step<T>(&mut self, step: &str, work: impl FnOnce() -> Result<T, PrepareError>) -> Result<T, PrepareError> {
        let begun = Instant::now();
        self.tell(step, ProgressState::Started);
        let value = work()?;
        self.tell(step, ProgressState::Done { elapsed: begun.elapsed() });
        Ok(value)
    }
}
