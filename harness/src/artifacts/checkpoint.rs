//! A checkpoint of three brokers' JVM: brokers begin as copies of one that has run brokers before, so that what it has
//! loaded, linked and compiled need not be done again.
//!
//! A cluster does in it once what scenarios do, is shut down in order, and CRIU writes the JVM to files. A copy has
//! never seen another environment: each is restored from those files, in namespaces of its own, which needs no root. The
//! files depend on all that a class archive depends on, on CRIU, and on the boot of the machine, whose clock the JVM
//! goes by; those for containers are made in a container, and depend on its image.
//!
//! Where there is no CRIU, or it cannot do this here, brokers begin cold, and the reason is kept. `GREENROOM_CRIU` names
//! another program, or is `none`.

mod tools;

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::archive::Java;
use super::child::{self, LOOK_EVERY, Program};
use super::error::at;
use super::store::{Key, Store};
use super::train::Cluster;
use super::{PrepareError, Reporter, Within};
use crate::attempts::look_until;
use crate::node::{archive_flags, jvm_flags, launcher_arguments, restore_command};
use crate::report::chain;
use crate::spec::Layout;
use crate::toolchain::{Archive, Checkpoint, Jdk, Start};
use tools::{KINDS, Tools, VARIABLE};

/// Changes when the training changes, so that checkpoints are made anew.
const TRAINING: &str = "1";
/// How often its brokers do what scenarios do. Copies take less CPU up to five times, and no less with twenty.
const ROUNDS: usize = 5;
const MAKE: &str = include_str!("../../artifacts/checkpoint/make.sh");
const RESTORE: &str = include_str!("../../artifacts/checkpoint/restore.sh");

/// What the heap of a copy touches is its own, however little is in use: a young generation that is small, and an old one
/// that shrinks to what is in use when the JVM rests.
const SMALL_HEAP: [&str; 5] =
    ["-Xmn24m", "-Xms48m", "-XX:MinHeapFreeRatio=10", "-XX:MaxHeapFreeRatio=20", "-XX:-ShrinkHeapInSteps"];

/// What the launcher says when no node runs any more.
const RESTING: &str = "greenroom launcher: at rest";
/// A combined quorum gives up its orderly shutdown after five seconds.
const REST: Duration = Duration::from_secs(60);
/// Writing or restoring 200 MB takes some tenths of a second.
const LIMIT: Duration = Duration::from_secs(60);

/// File in the directory of the JVM that takes its output, as make.sh says.
const OUTPUT: &str = "output";
/// File in an entry that says which boot it is of.
const BOOT: &str = "boot";
/// File in an entry that says what has made it.
const TOOLS: &str = "tools";
/// For how long it is believed that no checkpoint can be made.
const TRY_AGAIN: Duration = Duration::from_secs(60 * 60);
/// File in an entry that says why there is no checkpoint in it.
const REFUSED: &str = "refused";

/// What a JVM of brokers is made of.
pub(super) struct Brokers<'a> {
    pub(super) jdk: &'a Jdk,
    pub(super) classpath: &'a [PathBuf],
    pub(super) archive: &'a Archive,
}

/// How brokers begin as processes of this machine: restored where that works. `builds` differ whenever what they are made
/// of was made anew.
pub(super) fn here(
    store: &Store,
    brokers: &Brokers<'_>,
    builds: [&str; 2],
    reporter: &mut Reporter<'_>,
) -> Result<Start, PrepareError> {
    match Tools::here(env::var_os(VARIABLE).as_deref())? {
        Ok(tools) => prepare(store, &tools, brokers, &builds, reporter),
        Err(because) => Ok(cold(because)),
    }
}

/// How brokers begin in an image that holds them: restored where its base has CRIU.
pub(super) fn within(
    within: &Within,
    store: &Store,
    brokers: &Brokers<'_>,
    reporter: &mut Reporter<'_>,
) -> Result<Start, PrepareError> {
    match Tools::within(within, env::var_os(VARIABLE).as_deref()) {
        Ok(tools) => prepare(store, &tools, brokers, &[], reporter),
        Err(because) => Ok(cold(because)),
    }
}

fn prepare(
    store: &Store,
    tools: &Tools,
    brokers: &Brokers<'_>,
    builds: &[&str],
    reporter: &mut Reporter<'_>,
) -> Result<Start, PrepareError> {
    let launcher = launcher_arguments(brokers.classpath);
    let flags = jvm_flags(Layout::Colocated).into_iter().chain(archive_flags(brokers.archive));
    let flags: Vec<_> = flags.chain(SMALL_HEAP.map(str::to_owned)).collect();
    let (boot, place, all_flags) = (boot()?, tools.identity()?, flags.join("\n"));
    let inputs = [TRAINING, MAKE, RESTORE, &boot, &place].into_iter().chain(builds.iter().copied());
    let key = Key::new(tools.kind(), &inputs.chain([&*all_flags]).collect::<Vec<_>>());
    // A cache that one may only read serves others well.
    if !store.is_writable() && !store.holds(&key) && !tools.is_named {
        return Ok(cold("the cache, which would take the checkpoint, cannot be written"));
    }
    forget_refusal(store, &key);
    let mount = store.mount_point()?;
    let java = Java { program: brokers.jdk.home.join("bin/java"), flags: &flags, launcher: &launcher };
    let (step, mut refused) = (format!("checkpoint of a JVM of brokers, by CRIU{}", tools.place()), None);
    let entry = store.entry(&key, &step, reporter, |directory| {
        remove_earlier(store, &boot);
        for (name, text) in [(BOOT, &boot), (TOOLS, &place)] {
            let path = directory.join(name);
            fs::write(&path, text).map_err(at("write", &path))?;
        }
        let making = Making { tools, java: &java, directory, mount: &mount, log: &store.log(&key)? };
        let Err(error) = making.run() else { return Ok(()) };
        // What a person has asked for, or can do something about.
        if tools.is_named || error.hint.is_some() {
            return Err(error);
        }
        making.clear()?;
        let because = chain(&error);
        let path = directory.join(REFUSED);
        fs::write(&path, &because).map_err(at("write", &path))?;
        refused = Some(because);
        Ok(())
    })?;
    if let Some(because) = refused {
        reporter.tell(&step, super::ProgressState::Refused(because));
    }
    match fs::read_to_string(entry.path.join(REFUSED)) {
        // Found before by itself, and named by a person now.
        Ok(because) if tools.is_named => {
            Err(PrepareError::new(because).hint(format!("set {VARIABLE} to `none`, or to another program")))
        }
        Ok(because) => Ok(cold(because)),
        Err(_) => Ok(Start::Restored(tools.checkpoint(&entry.path, mount))),
    }
}

fn cold(because: impl Into<String>) -> Start {
    Start::Cold { because: because.into() }
}

/// The program that restores brokers here, or in an image, or why none does, as far as is known without making a
/// checkpoint.
///
/// # Errors
/// The one that `GREENROOM_CRIU` names does not.
pub(super) fn restorer(within: Option<&Within>) -> Result<Result<PathBuf, String>, PrepareError> {
    let variable = env::var_os(VARIABLE);
    let tools = match within {
        Some(within) => Tools::within(within, variable.as_deref()),
        None => Tools::here(variable.as_deref())?,
    };
    let tools = match tools {
        Ok(tools) => tools,
        Err(because) => return Ok(Err(because)),
    };
    match tools.ask().and_then(|()| tools.try_namespaces()) {
        Ok(()) => Ok(last_refusal(&tools).map_or_else(|| Ok(tools.criu().to_owned()), Err)),
        Err(error) if tools.is_named => Err(error),
        Err(error) => Ok(Err(error.message)),
    }
}

/// Why there is no checkpoint in the entry that was asked for last and that these tools have made.
fn last_refusal(tools: &Tools) -> Option<String> {
    let (store, made_by) = (Store::open().ok()?, tools.identity().ok()?);
    let is_of_them = |path: &PathBuf| fs::read_to_string(path.join(TOOLS)).is_ok_and(|made| made == made_by);
    let entries = store.idle(SystemTime::now()).ok()?.into_iter().filter(is_of_them);
    let last = entries.max_by_key(|path| Store::last_use(path))?;
    fs::read_to_string(last.join(REFUSED)).ok()
}

/// A machine may have been busy, or may allow today what it forbade: what was refused an hour ago is tried again.
fn forget_refusal(store: &Store, key: &Key) {
    let entry = store.path(key);
    let made = fs::metadata(entry.join(REFUSED)).and_then(|refused| refused.modified());
    if made.is_ok_and(|made| made.elapsed().is_ok_and(|age| age > TRY_AGAIN)) {
        // Where another process is at it, that is as good.
        let _ = store.remove(&entry, SystemTime::now());
    }
}

/// Removes checkpoints of earlier boots, best effort: none of them is of any use, and each takes 110 MB.
fn remove_earlier(store: &Store, boot: &str) {
    let uptime = fs::read_to_string("/proc/uptime").unwrap_or_default();
    let Some(uptime) = uptime.split('.').next().and_then(|seconds| seconds.parse().ok()) else { return };
    let Some(booted) = SystemTime::now().checked_sub(Duration::from_secs(uptime)) else { return };
    // The clock may have been set since, so the boot is compared too; a machine that shares the cache has another one,
    // and uses its own.
    let is_of_another = |path: &&PathBuf| fs::read_to_string(path.join(BOOT)).is_ok_and(|other| other != boot);
    let idle = store.idle(booted).unwrap_or_default();
    for earlier in idle.iter().filter(|path| is_checkpoint(path)).filter(is_of_another) {
        let _ = store.remove(earlier, booted);
    }
}

fn is_checkpoint(entry: &Path) -> bool {
    let name = entry.file_name().unwrap_or_default().to_string_lossy();
    name.rsplit_once('-').is_some_and(|(kind, _)| KINDS.contains(&kind))
}

/// This boot of the machine: its monotonic clock begins with it.
fn boot() -> Result<String, PrepareError> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    fs::read_to_string(path).map_err(at("read", path))
}

/// A checkpoint being made.
struct Making<'a> {
    tools: &'a Tools,
    java: &'a Java<'a>,
    /// The entry that takes it.
    directory: &'a Path,
    mount: &'a Path,
    log: &'a Path,
}

impl Making<'_> {
    fn run(&self) -> Result<(), PrepareError> {
        let checkpoint = self.tools.checkpoint(self.directory, self.mount.to_owned());
        for directory in [&checkpoint.images, &self.scratch()] {
            fs::create_dir(directory).map_err(at("make the directory", directory))?;
        }
        fs::write(&checkpoint.script, RESTORE).map_err(at("write", &checkpoint.script))?;
        self.tools.ask()?;
        self.tools.try_namespaces()?;
        let made = self.write(&checkpoint).and_then(|()| self.check(&checkpoint));
        made.map_err(|error| self.with_output(error))?;
        fs::remove_dir_all(self.scratch()).map_err(at("remove", &self.scratch()))
    }

    /// Where the JVMs work while this is made.
    fn scratch(&self) -> PathBuf {
        self.directory.join("scratch")
    }

    /// What the JVM said lies in what is removed, so an error tells the end of it.
    fn with_output(&self, error: PrepareError) -> PrepareError {
        let output = fs::read(self.scratch().join(OUTPUT)).unwrap_or_default();
        let said = child::last_lines(&String::from_utf8_lossy(&output), 20);
        let detail = [error.detail.clone(), Some(said)].into_iter().flatten().filter(|text| !text.is_empty());
        let detail = detail.collect::<Vec<_>>().join("\nthe JVM said last:\n");
        error.detail(detail)
    }

    /// Removes what was made so far; a JVM that was just killed may still write.
    fn clear(&self) -> Result<(), PrepareError> {
        let mut last = Ok(());
        let cleared = look_until(LIMIT, LOOK_EVERY, || {
            last = fs::remove_dir_all(self.directory).and_then(|()| fs::create_dir(self.directory));
            Ok::<_, PrepareError>(last.is_ok().then_some(()))
        })?;
        cleared.map_or_else(|| last.map_err(at("clear", self.directory)), Ok)
    }

    /// A cluster does what scenarios do, ends, and its JVM is written to files.
    fn write(&self, checkpoint: &Checkpoint) -> Result<(), PrepareError> {
        let scratch = self.scratch();
        let output = scratch.join(OUTPUT);
        let name = "the JVM of the checkpoint";
        let cluster = Cluster { name, directory: &scratch.join("trained"), rounds: ROUNDS };
        let start = |files: &[PathBuf]| {
            // A native library is unpacked where each copy finds a directory of its own.
            let unpacks = format!("-Djava.io.tmpdir={}", self.mount.display());
            let script = ["sh", "-c", MAKE, "make.sh"].map(OsStr::new).into_iter();
            let places = [self.tools.criu(), &checkpoint.images, &scratch, self.mount].map(Path::as_os_str);
            let java = self.java.command_line(&[unpacks], files);
            let arguments = script.chain(places).chain(java.iter().map(OsString::as_os_str));
            self.tools.start_in_namespaces(name, arguments, &[self.directory, self.mount], self.log)
        };
        let end = |program: &mut Program| {
            program.tell("rest");
            let resting = look_until(REST, LOOK_EVERY, || {
                if let Some(status) = program.ended()? {
                    return Err(program.failed(&format!("ended with {status}")));
                }
                let output = fs::read(&output).unwrap_or_default();
                Ok(String::from_utf8_lossy(&output).contains(RESTING).then_some(()))
            })?;
            resting.ok_or_else(|| program.failed(&format!("does not rest after {} s", REST.as_secs())))?;
            program.tell("checkpoint");
            program.succeed(LIMIT)
        };
        cluster.train(start, end)
    }

    /// Restores it once: brokers that begin so must do what others do.
    fn check(&self, checkpoint: &Checkpoint) -> Result<(), PrepareError> {
        let scratch = self.scratch();
        let name = "the restored JVM";
        let cluster = Cluster { name, directory: &scratch.join("restored"), rounds: 1 };
        let start = |files: &[PathBuf]| {
            let command = restore_command(checkpoint, &scratch, &scratch.join("criu.log"));
            let (sees, unshare) = ([self.directory, self.mount], &checkpoint.unshare);
            let mut program = self.tools.start(name, unshare, &command[1..], &sees, self.log)?;
            files.iter().for_each(|file| program.tell(&format!("node {}", file.display())));
            Ok(program)
        };
        cluster.train(start, |program| {
            program.close_input();
            program.wait(LIMIT).map(drop)
        })
    }
}
