//! `doctor`: what is missing on this machine, and how to get it.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Command, ExitCode};

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use greenroom::artifacts::{self, PrepareOptions, Within};
use greenroom::docker::{self, Engine, EngineError};
use greenroom::plan::Runtime;
use greenroom::supervisor::state::Workspace;
use nix::sys::statvfs::statvfs;

use super::{answer, say};

/// What the artifacts take, with room for a second set while one is replaced, in bytes.
const CACHE_BYTES_MIN: u64 = 1 << 30;
/// What one environment takes of disk or memory, with room for its logs, in bytes.
const STATE_BYTES_MIN: u64 = 512 << 20;
/// What shall be left of memory for an environment and for whoever tests with it, in KiB.
const MEMORY_KIB_MIN: u64 = 1 << 20;
/// What has to be stored before an environment can start, as directories of the cache begin.
const STORED: [&str; 3] = ["jars-", "postgres-", "archive-"];
/// Has to be stored too, where this machine has no server of its own that will do.
const STORED_REDIS: &str = "redis-";

/// What was found of one thing: `Err` says what to do.
struct Finding {
    what: &'static str,
    found: Result<String, String>,
}

/// Looks at everything and says what is missing; fails if anything is.
pub(super) fn run(runtime: Runtime) -> anyhow::Result<ExitCode> {
    let mut findings = vec![
        Finding { what: "operating system", found: operating_system() },
        Finding { what: "C compiler", found: tool("cc", "--version", "apt-get install build-essential") },
        Finding { what: "C++ compiler", found: tool("c++", "--version", "apt-get install build-essential") },
        Finding { what: "make", found: tool("make", "--version", "apt-get install build-essential") },
        Finding { what: "JDK", found: jdk() },
        Finding { what: "Java compiler", found: java_compiler() },
        Finding { what: "Maven", found: tool("mvn", "--version", "apt-get install maven") },
        Finding { what: "cache", found: cache(runtime) },
        Finding { what: "state", found: state() },
        Finding { what: "memory", found: memory() },
        Finding { what: "loopback", found: loopback() },
    ];
    if runtime == Runtime::Process {
        findings.push(Finding { what: "CRIU", found: restorer(None) });
    }
    if runtime == Runtime::Docker {
        let engine = engine();
        let images =
            if engine.is_ok() { images() } else { Err("not looked for: there is no engine to ask".to_owned()) };
        findings.push(Finding { what: "container engine", found: engine });
        let held = if images.is_ok() { held() } else { None };
        findings.push(Finding { what: "images", found: images });
        if let Some(image) = held {
            findings.push(Finding { what: "CRIU", found: restorer(Some(&image)) });
        }
    }
    let mut table = Table::new();
    table.load_preset(NOTHING);
    for Finding { what, found } in &findings {
        let (mark, text) = found.as_ref().map_or_else(|missing| ("MISSING", missing), |found| ("ok", found));
        table.add_row([mark, what, text]);
    }
    answer(&table.to_string());
    let missing = findings.iter().filter(|finding| finding.found.is_err()).count();
    if missing == 0 {
        say("nothing is missing");
        return Ok(ExitCode::SUCCESS);
    }
    say(&format!("{missing} missing; get them as said above, then run this again"));
    Ok(ExitCode::FAILURE)
}

fn operating_system() -> Result<String, String> {
    let name = nix::sys::utsname::uname().map_err(|error| error.to_string())?;
    let told = format!("{} {} {}", name.sysname().display(), name.release().display(), name.machine().display());
    if cfg!(target_os = "linux") { Ok(told) } else { Err(format!("{told}: environments need Linux")) }
}

/// A program on the PATH, told by the first line of its version.
fn tool(name: &str, version: &str, get: &str) -> Result<String, String> {
    let missing = |why: String| format!("`{name}` {why}; {get}");
    let output = Command::new(name).arg(version).output().map_err(|error| missing(format!("does not run: {error}")))?;
    if !output.status.success() {
        return Err(missing(format!("fails: {}", String::from_utf8_lossy(&output.stderr).trim())));
    }
    Ok(first_words(&String::from_utf8_lossy(&output.stdout)))
}

/// The first line without what a terminal would colour.
fn first_words(text: &str) -> String {
    let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    line.replace("\u{1b}[1m", "").replace("\u{1b}[m", "").replace("\u{1b}[0m", "").trim().to_owned()
}

fn jdk() -> Result<String, String> {
    match artifacts::installed_jdk() {
        Ok(jdk) => Ok(format!("{} in {}", jdk.version, jdk.home.display())),
        Err(error) => Err(greenroom::report::chain(&error).replace('\n', "; ")),
    }
}

fn java_compiler() -> Result<String, String> {
    let compiler = artifacts::java_compiler();
    compiler
        .map(|path| path.display().to_string())
        .map_err(|error| greenroom::report::chain(&error).replace('\n', "; "))
}

/// Whether brokers are restored from a checkpoint, here or in an image. They need not be.
fn restorer(image: Option<&Within>) -> Result<String, String> {
    match artifacts::restorer(image).map_err(|error| greenroom::report::chain(&error).replace('\n', "; "))? {
        Ok(criu) => Ok(format!("{} (brokers begin as copies, in half the time)", criu.display())),
        Err(why) => Ok(format!("not used: {why} (brokers begin cold, which takes twice as long)")),
    }
}

/// The cache: where it is, that it can be written, what is stored there.
fn cache(runtime: Runtime) -> Result<String, String> {
    let cache = artifacts::cache_directory().map_err(|error| greenroom::report::chain(&error))?;
    let existing = cache.ancestors().find(|path| path.is_dir()).unwrap_or(&cache);
    writable(existing)?;
    let names: Vec<String> = std::fs::read_dir(&cache)
        .map(|entries| entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
        .unwrap_or_default();
    let is_stored = |kind: &str| names.iter().any(|name| name.starts_with(kind));
    if STORED.into_iter().all(is_stored) {
        if artifacts::has_redis(runtime) {
            return Ok(format!("{} (jars, PostgreSQL and class archives are stored)", cache.display()));
        }
        if is_stored(STORED_REDIS) {
            return Ok(format!("{} (jars, PostgreSQL, Redis and class archives are stored)", cache.display()));
        }
    }
    room(existing, CACHE_BYTES_MIN)?;
    Ok(format!("{} (the first `up` or `test` fetches what is missing, a minute or two)", cache.display()))
}

fn state() -> Result<String, String> {
    let workspace = Workspace::here().map_err(|error| greenroom::report::chain(&error))?;
    writable(&workspace.directory)?;
    room(&workspace.directory, STATE_BYTES_MIN)?;
    Ok(workspace.directory.display().to_string())
}

fn writable(directory: &Path) -> Result<(), String> {
    let access = nix::unistd::access(directory, nix::unistd::AccessFlags::W_OK);
    access.map_err(|error| format!("{} cannot be written ({error}); give yourself access to it", directory.display()))
}

fn room(directory: &Path, bytes_min: u64) -> Result<(), String> {
    let room = statvfs(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    let free = room.blocks_available() * room.fragment_size();
    if free >= bytes_min {
        return Ok(());
    }
    let (free, wanted) = (free >> 20, bytes_min >> 20);
    Err(format!("{} has {free} MiB free and {wanted} MiB are needed; make room", directory.display()))
}

fn memory() -> Result<String, String> {
    let text = std::fs::read_to_string("/proc/meminfo").map_err(|error| format!("/proc/meminfo: {error}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let available: Option<u64> = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    let available = available.ok_or("/proc/meminfo has no MemAvailable")?;
    let (kib, place, mend) = match groups_leave(Path::new("/sys/fs/cgroup"), &groups) {
        Some(kib) if kib < available => {
            (kib, " in this control group", "raise its `memory.max`, or end something in it")
        }
        _ => (available, "", "end something else"),
    };
    if kib < MEMORY_KIB_MIN {
        let (available, wanted) = (kib >> 10, MEMORY_KIB_MIN >> 10);
        let takes = "an environment takes 300 to 470";
        return Err(format!("{available} MiB available{place} and {wanted} are wanted ({takes}); {mend}"));
    }
    Ok(format!("{} MiB available{place}", kib >> 10))
}

/// What the limits of the control groups below `root`, of which `/proc/self/cgroup` says `groups`, leave of memory, in
/// KiB: what was read from files can be given back. Absent where there are none, and where they are of the first version.
fn groups_leave(root: &Path, groups: &str) -> Option<u64> {
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let leaves = |group: &Path| {
        let read = |name: &str| std::fs::read_to_string(group.join(name)).ok();
        let bytes = |name: &str| read(name)?.trim().parse::<u64>().ok();
        let stat = read("memory.stat").unwrap_or_default();
        let files = stat.lines().find_map(|line| line.strip_prefix("inactive_file ")?.parse::<u64>().ok());
        let taken = bytes("memory.current")?.saturating_sub(files.unwrap_or(0));
        Some(bytes("memory.max")?.saturating_sub(taken) >> 10)
    };
    let own = root.join(own);
    own.ancestors().take_while(|group| group.starts_with(root)).filter_map(leaves).min()
}

/// The container engine: that it answers, and is new enough.
fn engine() -> Result<String, String> {
    asked(async {
        let engine = Engine::here().await?;
        engine.shares_users().await?;
        engine.version().await
    })
}

/// The images of what is stored here.
fn images() -> Result<String, String> {
    let options = PrepareOptions { offline: true, runtime: Runtime::Docker };
    let toolchain = artifacts::prepare(&options, &mut |_| {});
    let toolchain = toolchain.map_err(|error| greenroom::report::chain(&error).replace('\n', "; "))?;
    let workspace = Workspace::here().map_err(|error| greenroom::report::chain(&error))?;
    let images = docker::pinned::chosen(&workspace.root);
    let images = images.map_err(|error| greenroom::report::chain(&error).replace('\n', "; "))?;
    let ours = docker::images::all(&toolchain).into_iter().zip([
        ("kafka", &images.kafka),
        ("postgres", &images.postgres),
        ("redis", &images.redis),
    ]);
    asked(async {
        let engine = Engine::here().await?;
        let mut names = Vec::new();
        for (ours, (part, others)) in ours {
            let (name, digest) = match others {
                Some(others) => (others.name.clone(), others.digest.as_deref()),
                None => (ours.name, None),
            };
            engine.holds(part, &name, digest).await?;
            names.push(format!("{part} in {name}"));
        }
        Ok(names.join(", "))
    })
}

/// The image of ours that brokers run in.
fn held() -> Option<Within> {
    let mut toolchain =
        artifacts::prepare(&PrepareOptions { offline: true, runtime: Runtime::Docker }, &mut |_| {}).ok()?;
    toolchain.images = docker::pinned::chosen(&Workspace::here().ok()?.root).ok()?;
    super::block_on(async { Ok(docker::brokers::image(&docker::host(), &toolchain).await?) }).ok()?
}

/// What the engine answers, or what can be done about its not answering.
fn asked(question: impl Future<Output = Result<String, EngineError>>) -> Result<String, String> {
    let told = |error: EngineError| format!("{}; {}", greenroom::report::chain(&error), error.advice());
    let answered = super::block_on(async { Ok(question.await.map_err(told)) });
    answered.map_err(|error| super::chain(&error))?
}

fn loopback() -> Result<String, String> {
    let address = Ipv4Addr::new(127, 16, 0, 1);
    let bound = TcpListener::bind((address, 0));
    bound.map_err(|error| format!("{address} cannot be used ({error}); bring up the loopback interface"))?;
    Ok("all of 127.0.0.0/8".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_narrowest_group_says_how_much_memory_is_left() {
        let root = tempfile::tempdir().expect("a directory");
        let limits = |group: &str, max: &str, current: u64, files: u64| {
            let group = root.path().join(group);
            std::fs::create_dir_all(&group).expect("a group");
            let write = |name: &str, text: String| std::fs::write(group.join(name), text).expect("a file");
            write("memory.max", format!("{max}\n"));
            write("memory.current", format!("{current}\n"));
            write("memory.stat", format!("anon 1\ninactive_file {files}\n"));
        };
        let left = |groups| groups_leave(root.path(), groups);
        limits("ci", "4194304", 3 << 20, 1 << 20);
        limits("ci/job", "max", 2 << 20, 0);
        assert_eq!(left("1:cpu:/\n0::/ci/job\n"), Some(2 << 10));
        limits("ci/job", "2097152", 2 << 20, 1 << 20);
        assert_eq!(left("0::/ci/job\n"), Some(1 << 10));
        assert_eq!(left("0::/\n"), None);
        assert_eq!(left("4:memory:/ci\n"), None);
    }
}
