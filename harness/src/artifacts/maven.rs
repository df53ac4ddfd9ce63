//! Fetches the jars and compiles the launcher: one Maven call on the committed `harness/artifacts/pom.xml`.
//!
//! Which repository the jars come from is the affair of the machine's Maven settings. What came is compared with the
//! committed checksums, whatever Maven thinks of it.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::child::{self, Program, find_program};
use super::error::at;
use super::jdk::Choice;
use super::store::{Key, Store, sha256};
use super::{PrepareError, Reporter};
use crate::toolchain::Jdk;

const POM: &str = include_str!("../../artifacts/pom.xml");
const LAUNCHER: &str = include_str!("../../artifacts/launcher/greenroom/Launcher.java");
const RELINK: &str = include_str!("../../artifacts/launcher/greenroom/Relink.java");
const CHECKSUMS: &str = include_str!("../../artifacts/checksums.sha256");

/// The launcher is built here, so no checksum of it is committed.
pub(super) const LAUNCHER_JAR: &str = "greenroom-launcher.jar";

/// What Maven fills, each a directory.
const PARTS: [&str; 4] = ["kafka", "postgres", "redis", "tools"];

/// A slow connection may take long for 70 MB; one that stands still must not take for ever.
const LIMIT: Duration = Duration::from_secs(30 * 60);

/// The fetched jars.
#[derive(Debug)]
pub(super) struct Jars {
    /// Class path of a node, in order.
    pub(super) kafka: Vec<PathBuf>,
    /// Holds the PostgreSQL binaries.
    pub(super) postgres: PathBuf,
    /// Holds a Redis server.
    pub(super) redis: PathBuf,
    /// Reads and writes classes (ASM).
    pub(super) asm: PathBuf,
    /// Differs whenever the jars were fetched anew.
    pub(super) build: String,
}

/// The value of a property of the committed `pom.xml`.
pub(super) fn pinned(property: &str) -> &'static str {
    let value = POM.split_once(&format!("<{property}>")).and_then(|(_, rest)| rest.split_once('<'));
    value.map(|(value, _)| value).expect("the committed pom.xml pins this property")
}

/// The committed hash of a fetched jar. Unlike a build's identity it stays when the jars are fetched anew.
pub(super) fn pinned_hash(jar: &Path) -> &'static str {
    let name = jar.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let hash = CHECKSUMS.lines().find_map(|line| line.split_once("  ").filter(|(_, of)| *of == name));
    hash.map(|(hash, _)| hash).expect("every fetched jar was compared with its committed hash")
}

/// The jars, fetched if they are not stored yet.
pub(super) fn jars(
    store: &Store,
    jdk: &Choice,
    offline: bool,
    reporter: &mut Reporter<'_>,
) -> Result<Jars, PrepareError> {
    let key = Key::new("jars", &[POM, LAUNCHER, RELINK, CHECKSUMS, env::consts::ARCH]);
    let step = if offline { "Jars (offline, from Maven's local repository)" } else { "Jars by Maven" };
    let entry = store.entry(&key, step, reporter, |directory| {
        let log = store.log(&key)?;
        fetch(directory, jdk, offline, &log)?;
        verify(directory, &expected()?)
    })?;
    Ok(Jars {
        kafka: files(&entry.path.join("kafka"))?,
        postgres: only_file(&entry.path.join("postgres"))?,
        redis: only_file(&entry.path.join("redis"))?,
        asm: only_file(&entry.path.join("tools"))?,
        build: entry.build,
    })
}

fn fetch(directory: &Path, jdk: &Choice, offline: bool, log: &Path) -> Result<(), PrepareError> {
    let maven = find_program("mvn").ok_or_else(|| {
        PrepareError::new(format!("Maven is needed to fetch {}, and there is no `mvn` on the PATH", wanted()))
            .hint("install Maven 3.8 or newer, for instance with `apt-get install maven`")
    })?;
    let home = jdk.compiler.as_ref().ok_or_else(|| no_compiler(&jdk.found))?;
    let source = directory.join("source");
    let package = source.join("launcher/greenroom");
    fs::create_dir_all(&package).map_err(at("make the directory", &package))?;
    let launcher = [(package.join("Launcher.java"), LAUNCHER), (package.join("Relink.java"), RELINK)];
    for (path, content) in [(source.join("pom.xml"), POM)].into_iter().chain(launcher) {
        fs::write(&path, content).map_err(at("write", &path))?;
    }
    let mut command = child::command(&maven);
    command.args(["--batch-mode", "--strict-checksums", "--no-transfer-progress"]);
    if offline {
        command.arg("--offline");
    }
    command.arg(format!("-Dgreenroom.output={}", directory.display())).arg("package");
    command.current_dir(&source).env("JAVA_HOME", home).env_remove("MAVEN_ARGS");
    let ended = Program::start("Maven", command, log)?.succeed(LIMIT);
    ended.map_err(|error| explain(error, offline, log))?;
    fs::remove_dir_all(&source).map_err(at("remove", &source))
}

/// Only a runtime is installed.
pub(super) fn no_compiler(found: &Jdk) -> PrepareError {
    PrepareError::new(format!("no Java compiler found; the JDK in {} has no bin/javac", found.home.display()))
        .hint("install a full JDK 17 or newer, for instance with `apt-get install openjdk-17-jdk-headless`")
}

/// Tells a failure of Maven by its own error lines.
fn explain(error: PrepareError, offline: bool, log: &Path) -> PrepareError {
    let output = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let errors: Vec<&str> = output.lines().filter_map(told_error).take(5).collect();
    let detail = if errors.is_empty() {
        error.detail.clone().unwrap_or_default()
    } else {
        format!("{}\nall of it is in {}", errors.join("\n"), log.display())
    };
    if offline {
        let message =
            format!("offline, and these are neither stored nor all in Maven's local repository: {}", wanted());
        return PrepareError::new(message).detail(detail).hint("run once without --offline");
    }
    let hint = error.hint.clone().unwrap_or_else(|| {
        "if a file could not be fetched, check the connection and the mirror in ~/.m2/settings.xml, then run again"
            .to_owned()
    });
    PrepareError::new(format!("failed to fetch {}: {}", wanted(), error.message)).detail(detail).hint(hint)
}

/// What a line of Maven's output tells of a failure; its advice on its own options left out.
fn told_error(line: &str) -> Option<&str> {
    let told = line.strip_prefix("[ERROR]")?.trim();
    let told = told.split(" -> [Help").next().unwrap_or(told);
    let advice = ["To see the full stack trace", "Re-run Maven", "For more information", "[Help "];
    (!told.is_empty() && !advice.iter().any(|advice| told.starts_with(advice))).then_some(told)
}

/// What this step is for, with versions.
fn wanted() -> String {
    // Without PostgreSQL for two platforms, Redis and ASM.
    let jars = CHECKSUMS.lines().count() - 4;
    format!(
        "Kafka {} ({jars} jars and the launcher), PostgreSQL {} (embedded-postgres-binaries-{}) and Redis \
         (embedded-redis {})",
        pinned("kafka.version"),
        pinned("postgres.version"),
        postgres_platform(),
        pinned("embedded-redis.version"),
    )
}

fn postgres_platform() -> &'static str {
    if env::consts::ARCH == "aarch64" { "linux-arm64v8" } else { "linux-amd64" }
}

/// Name and hash of every jar that must come; the binaries of other platforms left out.
fn expected() -> Result<BTreeMap<&'static str, &'static str>, PrepareError> {
    let own = format!("-{}-", postgres_platform());
    let mut expected = BTreeMap::new();
    for line in CHECKSUMS.lines() {
        let (hash, name) = line
            .split_once("  ")
            .ok_or_else(|| PrepareError::new(format!("checksums.sha256 has a line that is not understood: {line}")))?;
        if !name.starts_with("embedded-postgres-binaries-") || name.contains(&own) {
            expected.insert(name, hash);
        }
    }
    Ok(expected)
}

/// Compares what came with what is expected.
fn verify(directory: &Path, expected: &BTreeMap<&str, &str>) -> Result<(), PrepareError> {
    let hint = "remove it from Maven's local repository (~/.m2/repository) and run again; if it comes back, \
                the repository that Maven uses serves something else than was pinned";
    let mut missing = expected.clone();
    for part in PARTS {
        for path in files(&directory.join(part))? {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if name == LAUNCHER_JAR {
                continue;
            }
            let Some(hash) = missing.remove(name.as_str()) else {
                let message = format!("Maven fetched {name}, for which checksums.sha256 has no line");
                return Err(PrepareError::new(message).hint("add it after checking it, or exclude it in pom.xml"));
            };
            let found = sha256(&path).map_err(at("read", &path))?;
            if found != hash {
                return Err(PrepareError::new(format!("{name} is not what was pinned"))
                    .detail(format!("its SHA-256 is {found} instead of {hash}"))
                    .hint(hint));
            }
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = missing.into_keys().collect();
    Err(PrepareError::new(format!("Maven did not fetch {}", names.join(", "))))
}

/// The files of a directory, in order of their names: the same class path every time.
fn files(directory: &Path) -> Result<Vec<PathBuf>, PrepareError> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(at("read", directory))? {
        files.push(entry.map_err(at("read", directory))?.path());
    }
    files.sort();
    Ok(files)
}

fn only_file(directory: &Path) -> Result<PathBuf, PrepareError> {
    let files = files(directory)?;
    let [only] = files.as_slice() else {
        return Err(PrepareError::new(format!("{} holds {} files instead of one", directory.display(), files.len())));
    };
    Ok(only.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_files_agree() {
        let expected = expected().unwrap();
        for (name, property) in
            [("kafka_2.13-{}.jar", "kafka.version"), ("embedded-redis-{}.jar", "embedded-redis.version")]
        {
            let jar = name.replace("{}", pinned(property));
            assert!(expected.contains_key(jar.as_str()), "{jar} has no checksum");
        }
        assert_eq!(expected.keys().filter(|name| name.starts_with("embedded-postgres")).count(), 1);
        assert!(expected.values().all(|hash| hash.len() == 64));
    }

    #[test]
    fn a_jar_that_is_not_what_was_pinned_is_named() {
        let directory = tempfile::tempdir().unwrap();
        for part in PARTS {
            fs::create_dir(directory.path().join(part)).unwrap();
        }
        let jar = directory.path().join("kafka/a.jar");
        fs::write(&jar, "abc").unwrap();
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        verify(directory.path(), &BTreeMap::from([("a.jar", abc)])).unwrap();
        let wrong = verify(directory.path(), &BTreeMap::from([("a.jar", "00")])).unwrap_err();
        assert_eq!(wrong.message, "a.jar is not what was pinned");
        let unknown = verify(directory.path(), &BTreeMap::new()).unwrap_err();
        assert!(unknown.message.contains("fetched a.jar"));
        let absent = verify(directory.path(), &BTreeMap::from([("a.jar", abc), ("b.jar", abc)])).unwrap_err();
        assert_eq!(absent.message, "Maven did not fetch b.jar");
    }

    #[test]
    fn offline_names_what_is_missing_and_what_maven_said() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        fs::write(&log, "[INFO] x\n[ERROR] Cannot access central in offline mode -> [Help 1]\n[ERROR] \n").unwrap();
        let error = explain(PrepareError::new("Maven ended with 1"), true, &log);
        let kafka = format!("Kafka {} (", pinned("kafka.version"));
        assert!(error.message.starts_with("offline") && error.message.contains(&kafka), "{error}");
        assert!(error.detail.unwrap().starts_with("Cannot access central in offline mode\n"));
        assert_eq!(error.hint.unwrap(), "run once without --offline");
    }
}
