//! A checkpoint of three brokers' JVM: brokers begin as copies of one that has run brokers before, so that what it has
//! loaded, linked and compiled need not be done again.
//!
//! A cluster does in it once what scenarios do, is shut down in order, and CRIU writes the JVM to files. A copy has
//! never seen another environment: each is restored from those files, in namespaces of its own, which needs no root. The
//! files depend on all that a class archive depends on, on CRIU, and on the boot of the machine, whose clock the JVM
//! goes by.
//!
//! Where there is no CRIU, or it cannot do this here, brokers begin cold, and the reason is kept. `GREENROOM_CRIU` names
//! another program, or is `none`.

use std::collections::BTreeSet;
use std::env;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::archive::{Archived, Java};
use super::child::{self, LOOK_EVERY, Program};
use super::error::at;
use super::jdk::Choice;
use super::store::{Key, Store};
use super::train::Cluster;
use super::{PrepareError, Reporter};
use crate::attempts::look_until;
use crate::binaries::is_program;
use crate::node::{IN_NAMESPACES, archive_flags, jvm_flags, launcher_arguments, restore_command};
use crate::plan::Runtime;
use crate::report::chain;
use crate::spec::Layout;
use crate::toolchain::{Checkpoint, Start};

/// Which CRIU is taken.
const VARIABLE: &str = "GREENROOM_CRIU";
/// Where system programs lie that a user's `PATH` may leave out.
const OF_THE_SYSTEM: [&str; 2] = ["/usr/local/sbin", "/usr/sbin"];

/// The oldest CRIU that does without root, and knows the kernels of today.
const VERSION_MIN: u16 = 4;
/// How the names of entries begin.
const KIND: &str = "checkpoint";
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
/// For how long it is believed that no checkpoint can be made.
const TRY_AGAIN: Duration = Duration::from_secs(60 * 60);
/// File in an entry that says why there is no checkpoint in it.
const REFUSED: &str = "refused";

/// What makes checkpoints here.
#[derive(Debug)]
struct Tools {
    criu: PathBuf,
    /// Whether a person has named it, and wants to hear where it does not work.
    is_named: bool,
    unshare: PathBuf,
}

/// How brokers begin: restored where that works.
pub(super) fn prepare(
    store: &Store,
    choice: &Choice,
    classpath: &[PathBuf],
    archived: &Archived,
    runtime: Runtime,
    reporter: &mut Reporter<'_>,
) -> Result<Start, PrepareError> {
    if runtime == Runtime::Docker {
        return Ok(cold("containers are no copies"));
    }
    let tools = match tools(env::var_os(VARIABLE).as_deref())? {
        Ok(tools) => tools,
        Err(because) => return Ok(cold(because)),
    };
    let launcher = launcher_arguments(classpath);
    let flags = jvm_flags(Layout::Colocated).into_iter().chain(archive_flags(&archived.archive));
    let flags: Vec<_> = flags.chain(SMALL_HEAP.map(str::to_owned)).collect();
    let (boot, machine) = (boot()?, identities(&tools)?);
    let inputs = [TRAINING, MAKE, RESTORE, &boot, &machine, &choice.identity, &archived.build, &flags.join("\n")];
    let key = Key::new(KIND, &inputs);
    // A cache that one may only read serves others well.
    if !store.is_writable() && !store.holds(&key) && !tools.is_named {
        return Ok(cold("the cache, which would take the checkpoint, cannot be written"));
    }
    forget_refusal(store, &key);
    let mount = store.mount_point()?;
    let java = Java { program: choice.found.home.join("bin/java"), flags: &flags, launcher: &launcher };
    let (step, mut refused) = ("checkpoint of a JVM of brokers, by CRIU", None);
    let entry = store.entry(&key, step, reporter, |directory| {
        remove_earlier(store, &boot);
        let path = directory.join(BOOT);
        fs::write(&path, &boot).map_err(at("write", &path))?;
        let making = Making { tools: &tools, java: &java, directory, mount: &mount, log: &store.log(&key)? };
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
        reporter.tell(step, super::ProgressState::Refused(because));
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

/// The programs, or why there are none.
fn tools(named: Option<&OsStr>) -> Result<Result<Tools, String>, PrepareError> {
    let named = named.filter(|name| !name.is_empty());
    if named.is_some_and(|name| name == "none") {
        return Ok(Err(format!("{VARIABLE} is none")));
    }
    let criu = match named.map(PathBuf::from) {
        Some(named) if !named.is_absolute() || !is_program(&named) => {
            return Err(PrepareError::new(format!("{VARIABLE} is {}, which is no program", named.display()))
                .hint("set it to the absolute path of CRIU's program, to `none`, or leave it unset"));
        }
        Some(named) => Some(named),
        None => child::find_program("criu").or_else(|| {
            OF_THE_SYSTEM.into_iter().map(|directory| Path::new(directory).join("criu")).find(|path| is_program(path))
        }),
    };
    let Some(criu) = criu else { return Ok(Err("there is no `criu` (4.0 or later)".to_owned())) };
    let Some(unshare) = child::find_program("unshare") else { return Ok(Err("there is no `unshare`".to_owned())) };
    Ok(Ok(Tools { criu, is_named: named.is_some(), unshare }))
}

impl Tools {
    /// Whether CRIU is new enough. What it can do here is seen when a checkpoint is made.
    fn ask(&self) -> Result<(), PrepareError> {
        let answer = child::bare(&self.criu).arg("--version").output().map_err(at("run", &self.criu))?;
        let answer = String::from_utf8_lossy(&answer.stdout).into_owned();
        let version = answer.lines().find_map(|line| line.strip_prefix("Version: "));
        match version.map(|version| (version, version.split('.').next().and_then(|major| major.parse::<u16>().ok()))) {
            Some((_, Some(VERSION_MIN..))) => Ok(()),
            Some((version, _)) => {
                Err(PrepareError::new(format!("{} is CRIU {version}, and 4.0 or later is needed", self.criu.display())))
            }
            None => Err(PrepareError::new(format!("{} does not tell its version", self.criu.display()))),
        }
    }

    /// Whether namespaces are allowed here.
    fn try_namespaces(&self) -> Result<(), PrepareError> {
        let answer = child::bare(&self.unshare).args(IN_NAMESPACES).arg("true").output();
        let answer = answer.map_err(at("run", &self.unshare))?;
        let said = String::from_utf8_lossy(&answer.stderr).trim().to_owned();
        if answer.status.success() { Ok(()) } else { Err(PrepareError::new(format!("no namespaces here: {said}"))) }
    }

    fn checkpoint(&self, entry: &Path, mount: PathBuf) -> Checkpoint {
        Checkpoint {
            unshare: self.unshare.clone(),
            criu: self.criu.clone(),
            script: entry.join("restore.sh"),
            images: entry.join("images"),
            mount,
        }
    }
}

/// The program that restores brokers here, or why none does, as far as is known without making a checkpoint.
///
/// # Errors
/// The one that `GREENROOM_CRIU` names does not.
pub(super) fn restorer() -> Result<Result<PathBuf, String>, PrepareError> {
    let tools = match tools(env::var_os(VARIABLE).as_deref())? {
        Ok(tools) => tools,
        Err(because) => return Ok(Err(because)),
    };
    match tools.ask().and_then(|()| tools.try_namespaces()) {
        Ok(()) => Ok(last_refusal().map_or(Ok(tools.criu), Err)),
        Err(error) if tools.is_named => Err(error),
        Err(error) => Ok(Err(error.message)),
    }
}

/// Why there is no checkpoint in the entry that was asked for last.
fn last_refusal() -> Option<String> {
    let store = Store::open().ok()?;
    let entries = store.idle(SystemTime::now()).ok()?.into_iter().filter(|path| is_checkpoint(path));
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
    entry.file_name().is_some_and(|name| name.to_string_lossy().starts_with(KIND))
}

/// This boot of the machine: its monotonic clock begins with it.
fn boot() -> Result<String, PrepareError> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    fs::read_to_string(path).map_err(at("read", path))
}

/// What changes when CRIU is replaced, or the C library, which a JVM has open: CRIU restores what it finds unchanged.
fn identities(tools: &Tools) -> Result<String, PrepareError> {
    let maps = Path::new("/proc/self/maps");
    let mapped = fs::read_to_string(maps).map_err(at("read", maps))?;
    let is_of_libc = |path: &&str| {
        let name = path.rsplit('/').next().unwrap_or_default();
        name.starts_with("libc.so") || name.starts_with("ld-linux") || name.starts_with("libc-")
    };
    let libc: BTreeSet<_> =
        mapped.lines().filter_map(|line| line.split_whitespace().nth(5)).filter(is_of_libc).collect();
    let programs = libc.into_iter().map(Path::new).chain([tools.criu.as_path()]);
    programs.map(identity).collect::<Result<Vec<_>, _>>().map(|all| all.join("\n"))
}

fn identity(program: &Path) -> Result<String, PrepareError> {
    let found = fs::metadata(program).map_err(at("look at", program))?;
    Ok(format!("{} {} {}.{}", program.display(), found.len(), found.mtime(), found.mtime_nsec()))
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
            let mut command = child::bare(&self.tools.unshare);
            command.args(IN_NAMESPACES).args(["sh", "-c", MAKE, "make.sh"]);
            command.args([&self.tools.criu, &checkpoint.images, &scratch]).arg(self.mount);
            command.args(self.java.command_line(&[unpacks], files));
            Program::start(name, command, self.log)
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
            let mut command = child::bare(&checkpoint.unshare);
            command.args(&restore_command(checkpoint, &scratch, &scratch.join("criu.log"))[1..]);
            let mut program = Program::start(name, command, self.log)?;
            files.iter().for_each(|file| program.tell(&format!("node {}", file.display())));
            Ok(program)
        };
        cluster.train(start, |program| {
            program.close_input();
            program.wait(LIMIT).map(drop)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn criu_is_done_without_where_that_is_said_and_a_wrong_name_is_an_error() {
        let none = tools(Some(OsStr::new("none"))).expect("that can be said");
        assert_eq!(none.unwrap_err(), "GREENROOM_CRIU is none");
        for name in ["/nowhere/criu", "criu"] {
            let error = tools(Some(OsStr::new(name))).unwrap_err();
            assert_eq!(error.message, format!("GREENROOM_CRIU is {name}, which is no program"));
            assert!(error.hint.is_some());
        }
    }
}
