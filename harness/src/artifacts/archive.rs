//! The class archive of a layout: classes loaded, linked and laid out once, so that a start maps them.
//!
//! JDK 25 and later make an AOT cache in one step (JEP 514), older ones a dynamic AppCDS archive (JEP 350). JDK 24 has
//! AOT caches too, but in two steps (JEP 483); it gets AppCDS. Both are made by a training run and depend on the JDK,
//! the jars with their paths and times, and the flags of the JVM.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::child::{self, Program};
use super::jdk::Choice;
use super::store::{Key, Store};
use super::train::Cluster;
use super::{PrepareError, Reporter};
use crate::node::{archive_flags, jvm_flags, launcher_arguments};
use crate::spec::Layout;
use crate::toolchain::{Archive, ArchiveKind};

/// Changes when the training changes, so that archives are made anew.
const TRAINING: &str = "2";

/// Writing 70 MB after a training run takes some five seconds of CPU.
const LIMIT: Duration = Duration::from_secs(180);

/// An archive, and what differs whenever it was made anew.
#[derive(Debug)]
pub(super) struct Archived {
    pub(super) archive: Archive,
    pub(super) build: String,
}

/// The archive of `layout` for these jars and this JDK.
pub(super) fn prepare(
    store: &Store,
    choice: &Choice,
    classpath: &[PathBuf],
    jars_build: &str,
    layout: Layout,
    reporter: &mut Reporter<'_>,
) -> Result<Archived, PrepareError> {
    let jdk = &choice.found;
    let (kind, file) =
        if jdk.major >= 25 { (ArchiveKind::AotCache, "kafka.aot") } else { (ArchiveKind::AppCds, "kafka.jsa") };
    let (kind_name, layout_name) = match (kind, layout) {
        (ArchiveKind::AotCache, Layout::Colocated) => ("AOT cache", "colocated"),
        (ArchiveKind::AotCache, Layout::Separate) => ("AOT cache", "separate"),
        (ArchiveKind::AppCds, Layout::Colocated) => ("AppCDS archive", "colocated"),
        (ArchiveKind::AppCds, Layout::Separate) => ("AppCDS archive", "separate"),
    };
    let launcher = launcher_arguments(classpath);
    let flags = jvm_flags(layout);
    let inputs = [TRAINING, &choice.identity, jars_build, &flags.join("\n"), &launcher.join("\n")];
    let key = Key::new(&format!("archive-{layout_name}"), &inputs);
    let step = format!("{kind_name} of JDK {}, {layout_name} brokers", jdk.version);
    let entry = store.entry(&key, &step, reporter, |directory| {
        let log = store.log(&key)?;
        let archive = Archive { kind, path: directory.join(file) };
        let java = Java { program: jdk.home.join("bin/java"), flags: &flags, launcher: &launcher };
        let training = directory.join("training");
        record(
            &java,
            &archive,
            &Cluster { name: "the broker of the training run", directory: &training, rounds: 1 },
            &log,
        )?;
        check(&java, &archive, &log)
    })?;
    Ok(Archived { archive: Archive { kind, path: entry.path.join(file) }, build: entry.build })
}

/// A JVM that runs the launcher.
#[derive(Debug)]
pub(super) struct Java<'a> {
    pub(super) program: PathBuf,
    pub(super) flags: &'a [String],
    pub(super) launcher: &'a [String],
}

impl Java<'_> {
    /// The command that runs `node_files`, with `more` flags.
    fn command(&self, more: &[String], node_files: &[PathBuf]) -> Command {
        // Flags for a JVM in this process's environment would change what the archive fits.
        let mut command = child::bare(&self.program);
        command.args(&self.command_line(more, node_files)[1..]);
        command
    }

    /// The words of that command.
    pub(super) fn command_line(&self, more: &[String], node_files: &[PathBuf]) -> Vec<OsString> {
        let words = [self.flags, more, self.launcher].into_iter().flatten().map(OsString::from);
        [self.program.clone().into()].into_iter().chain(words).chain(node_files.iter().map(OsString::from)).collect()
    }
}

/// Runs a cluster through its paces; its JVM ends in order, so that it writes its archive.
fn record(java: &Java<'_>, archive: &Archive, cluster: &Cluster<'_>, log: &Path) -> Result<(), PrepareError> {
    // Native libraries are unpacked there, and stay when a JVM is killed.
    let unpacks = format!("-Djava.io.tmpdir={}", cluster.directory.display());
    let recording = [recording_flag(archive), unpacks];
    let start = |files: &[PathBuf]| Program::start(cluster.name, java.command(&recording, files), log);
    cluster.train(start, |program| {
        program.tell("exit");
        program.succeed(LIMIT)
    })
}

fn recording_flag(archive: &Archive) -> String {
    let path = archive.path.display();
    match archive.kind {
        ArchiveKind::AotCache => format!("-XX:AOTCacheOutput={path}"),
        ArchiveKind::AppCds => format!("-XX:ArchiveClassesAtExit={path}"),
    }
}

/// Starts the launcher without a node on the new archive: it must get as far as to miss the node's file.
///
/// A JVM that cannot use its archive starts all the same, three times slower; that shall be an error here.
fn check(java: &Java<'_>, archive: &Archive, log: &Path) -> Result<(), PrepareError> {
    let mut flags = archive_flags(archive);
    if archive.kind == ArchiveKind::AppCds {
        flags.push("-Xshare:on".to_owned());
    }
    child::empty(log)?;
    let mut program = Program::start("the check of the new class archive", java.command(&flags, &[]), log)?;
    program.wait(LIMIT)?;
    let output = std::fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    if archive.path.is_file() && output.contains("no node file was given") {
        return Ok(());
    }
    Err(program.failed("failed; the JVM cannot use it"))
}
