//! Finds the newest installed JDK by reading `release` files; starts nothing.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use super::PrepareError;
use crate::toolchain::Jdk;

/// The oldest JDK that runs Kafka 4 brokers.
const OLDEST: u16 = 17;

/// Where JDKs may be.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// `GREENROOM_JAVA_HOME`: used instead of all others.
    pub(super) chosen: Option<PathBuf>,
    /// Directories that may be a JDK.
    pub(super) candidates: Vec<PathBuf>,
}

/// The JDK that runs the brokers, and the one that compiles.
#[derive(Debug)]
pub(super) struct Choice {
    /// Runs the brokers.
    pub(super) found: Jdk,
    /// Newest one that has a compiler; runs Maven. Absent where only runtimes are installed.
    pub(super) compiler: Option<PathBuf>,
    /// What the brokers' JDK is, byte for byte enough for a class archive to depend on.
    pub(super) identity: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    jdk: Jdk,
    order: Vec<u32>,
}

impl Places {
    /// The variables, the `PATH` and the usual directories of this machine.
    pub(super) fn of_this_machine() -> Self {
        let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let mut candidates: Vec<PathBuf> = set("JAVA_HOME").into_iter().collect();
        let path = env::var_os("PATH").unwrap_or_default();
        let java = env::split_paths(&path).map(|directory| directory.join("java"));
        // `/usr/bin/java` leads through links to `<home>/bin/java`.
        let homes = java.filter_map(|java| Some(java.canonicalize().ok()?.parent()?.parent()?.to_owned()));
        candidates.extend(homes);
        for directory in ["/usr/lib/jvm", "/opt"] {
            candidates.extend(fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()));
        }
        Self { chosen: set("GREENROOM_JAVA_HOME"), candidates }
    }
}

/// The newest JDK of these places.
pub(super) fn choose(places: &Places) -> Result<Choice, PrepareError> {
    let install = "install one, for instance with `apt-get install openjdk-17-jdk-headless`, \
                   or set GREENROOM_JAVA_HOME to its directory";
    if let Some(home) = &places.chosen {
        let found = examine(home).map_err(|why| {
            PrepareError::new(format!("GREENROOM_JAVA_HOME is {}, {why}", home.display())).hint(install)
        })?;
        if found.jdk.major < OLDEST {
            let version = &found.jdk.version;
            let message =
                format!("GREENROOM_JAVA_HOME is {}, a JDK {version}; Kafka needs {OLDEST} or newer", home.display());
            return Err(PrepareError::new(message).hint(install));
        }
        // A runtime may be chosen for the brokers; then another one compiles.
        return Ok(choice(&found, &examine_all(&places.candidates)));
    }
    let all = examine_all(&places.candidates);
    match all.first() {
        Some(newest) if newest.jdk.major >= OLDEST => Ok(choice(newest, &all)),
        Some(newest) => {
            let Jdk { home, version, .. } = &newest.jdk;
            let message =
                format!("the newest JDK found is {version} in {}; Kafka needs {OLDEST} or newer", home.display());
            Err(PrepareError::new(message).hint(install))
        }
        None => Err(PrepareError::new(format!("no JDK found; Kafka needs {OLDEST} or newer"))
            .detail("looked at GREENROOM_JAVA_HOME, JAVA_HOME, `java` on the PATH, /usr/lib/jvm/* and /opt/*")
            .hint(install)),
    }
}

fn choice(found: &Found, all: &[Found]) -> Choice {
    let compiles = |jdk: &Found| jdk.jdk.major >= OLDEST && jdk.jdk.home.join("bin/javac").is_file();
    let compiler = std::iter::once(found).chain(all).find(|jdk| compiles(jdk)).map(|jdk| jdk.jdk.home.clone());
    Choice { found: found.jdk.clone(), compiler, identity: identity(&found.jdk.home) }
}

/// All JDKs of these directories, newest first, each once.
fn examine_all(candidates: &[PathBuf]) -> Vec<Found> {
    let mut all: Vec<Found> = candidates.iter().filter_map(|home| examine(home).ok()).collect();
    // Equal versions are ordered by place, so that the choice does not change from run to run.
    all.sort_by(|a, b| b.order.cmp(&a.order).then_with(|| a.jdk.home.cmp(&b.jdk.home)));
    all.dedup_by(|a, b| a.jdk.home == b.jdk.home);
    all
}

fn examine(home: &Path) -> Result<Found, String> {
    let home = home.canonicalize().map_err(|error| format!("which cannot be read: {error}"))?;
    if !home.join("bin/java").is_file() {
        return Err("which holds no bin/java".to_owned());
    }
    let release = fs::read_to_string(home.join("release"))
        .map_err(|error| format!("whose `release` file cannot be read: {error}"))?;
    let version = version(&release).ok_or("whose `release` file names no JAVA_VERSION")?.to_owned();
    let order = order(&version);
    let major = order.first().and_then(|major| u16::try_from(*major).ok());
    let major = major.ok_or_else(|| format!("whose version {version:?} is not understood"))?;
    Ok(Found { jdk: Jdk { home, major, version }, order })
}

/// `JAVA_VERSION` of a `release` file.
fn version(release: &str) -> Option<&str> {
    release.lines().find_map(|line| Some(line.strip_prefix("JAVA_VERSION=")?.trim().trim_matches('"')))
}

/// The parts of a version that order it; `1.8.0_402` is a version 8 (JEP 223).
fn order(version: &str) -> Vec<u32> {
    let numbers = version.split(['.', '_', '+', '-']).map_while(|part| part.parse().ok());
    let mut numbers: Vec<u32> = numbers.collect();
    if numbers.len() > 1 && numbers[0] == 1 {
        numbers.remove(0);
    }
    numbers
}

fn identity(home: &Path) -> String {
    let mut identity = home.display().to_string();
    for file in ["release", "lib/modules", "lib/server/libjvm.so"] {
        let stamp = fs::metadata(home.join(file)).map(|data| (data.len(), data.modified().ok()));
        identity.push_str(&format!("\n{file} {:?}", stamp.ok()));
    }
    identity
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jdk(directory: &Path, name: &str, version: &str, compiler: bool) -> PathBuf {
        let home = directory.join(name);
        fs::create_dir_all(home.join("bin")).unwrap();
        fs::write(home.join("bin/java"), "").unwrap();
        if compiler {
            fs::write(home.join("bin/javac"), "").unwrap();
        }
        fs::write(home.join("release"), format!("IMPLEMENTOR=\"x\"\nJAVA_VERSION=\"{version}\"\n")).unwrap();
        home.canonicalize().unwrap()
    }

    #[test]
    fn versions_are_ordered_by_number() {
        assert!(order("25.0.3") > order("17.0.15"));
        assert!(order("17.0.15") > order("17.0.9"));
        assert_eq!(order("1.8.0_402"), [8, 0, 402]);
        assert_eq!(order("26-ea"), [26]);
        assert_eq!(version("A=\"1\"\nJAVA_VERSION=\"21.0.1\"\n"), Some("21.0.1"));
    }

    #[test]
    fn the_newest_runs_the_brokers_and_the_newest_compiler_runs_maven() {
        let directory = tempfile::tempdir().unwrap();
        let old = jdk(directory.path(), "a", "17.0.15", true);
        let new = jdk(directory.path(), "b", "25.0.3", false);
        let candidates = vec![old.clone(), directory.path().join("absent"), new.clone()];
        let choice = choose(&Places { chosen: None, candidates }).unwrap();
        assert_eq!((choice.found.home, choice.found.major), (new, 25));
        assert_eq!(choice.compiler, Some(old));
    }

    #[test]
    fn a_chosen_jdk_is_used_or_refused_but_never_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let eleven = jdk(directory.path(), "eleven", "11.0.2", true);
        let newer = jdk(directory.path(), "newer", "21.0.2", true);
        let places = Places { chosen: Some(eleven), candidates: vec![newer] };
        let error = choose(&places).unwrap_err();
        assert!(error.message.contains("a JDK 11.0.2; Kafka needs 17 or newer"), "{error}");
        let absent = Places { chosen: Some(directory.path().join("absent")), candidates: Vec::new() };
        assert!(choose(&absent).unwrap_err().message.contains("which cannot be read"));
    }

    #[test]
    fn no_jdk_says_where_it_looked() {
        let error = choose(&Places::default()).unwrap_err();
        assert!(error.detail.unwrap().contains("/usr/lib/jvm"));
        assert!(error.hint.unwrap().contains("GREENROOM_JAVA_HOME"));
    }
}
