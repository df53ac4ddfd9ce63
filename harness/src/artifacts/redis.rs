//! A Redis server: the system's, if it is new enough, else the static one that a jar carries. Containers get that one in
//! any case: they lack the libraries that the system's is linked to.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::child::find_program;
use super::error::at;
use super::maven::{Jars, pinned_hash};
use super::store::{Key, Store};
use super::{PrepareError, Reporter};
use crate::plan::Runtime;
use crate::toolchain::Redis;

/// The oldest version that is used from the system; the same minor version as the jar's.
const OLDEST: [u32; 2] = [6, 2];

/// The server of this machine.
pub(super) fn prepare(
    store: &Store,
    jars: &Jars,
    runtime: Runtime,
    reporter: &mut Reporter<'_>,
) -> Result<Redis, PrepareError> {
    if let Some(system) = of_this_machine(runtime) {
        return Ok(system);
    }
    let jar = File::open(&jars.redis).map_err(at("open", &jars.redis))?;
    let broken = |error: zip::result::ZipError| PrepareError::io("read", &jars.redis, error.into());
    let mut zip = zip::ZipArchive::new(jar).map_err(broken)?;
    let names: Vec<String> = zip.file_names().map(str::to_owned).collect();
    let (name, version) = for_this_machine(&names).ok_or_else(|| {
        PrepareError::new("no Redis server for this machine")
            .detail(format!("{} holds none for Linux on {}", jars.redis.display(), std::env::consts::ARCH))
            .hint("install Redis 6.2 or newer, so that `redis-server` is on the PATH")
    })?;
    let key = Key::new("redis", &[pinned_hash(&jars.redis), name]);
    let entry = store.entry(&key, &format!("Redis {version}"), reporter, |directory| {
        let binary = directory.join("redis-server");
        let mut packed = zip.by_name(name).map_err(broken)?;
        let mut file = File::create(&binary).map_err(at("make", &binary))?;
        io::copy(&mut packed, &mut file).map_err(at("write", &binary))?;
        fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).map_err(at("set the mode of", &binary))
    })?;
    // The file's name is that of the jar's release: the program knows better what it is.
    let binary = entry.path.join("redis-server");
    let told = told_version(&binary).unwrap_or_else(|| version.to_owned());
    Ok(Redis { binary, version: told })
}

/// The one on the PATH, if there is one that will do.
pub(super) fn of_this_machine(runtime: Runtime) -> Option<Redis> {
    match runtime {
        Runtime::Process => find_program("redis-server").and_then(of_the_system),
        Runtime::Docker => None,
    }
}

/// The system's server, unless it is too old or does not tell its version.
fn of_the_system(binary: PathBuf) -> Option<Redis> {
    let version = told_version(&binary)?;
    let numbers: Vec<u32> = version.split('.').map_while(|part| part.parse().ok()).collect();
    // Links are not followed: where `redis-server` is one, Redis tells by its name what it is to be.
    (numbers.as_slice() >= OLDEST.as_slice()).then_some(Redis { binary, version })
}

/// What a server says of itself.
fn told_version(binary: &Path) -> Option<String> {
    let output = Command::new(binary).arg("--version").output().ok()?;
    version_in(&String::from_utf8_lossy(&output.stdout)).map(str::to_owned)
}

/// `Redis server v=7.0.15 sha=…`
fn version_in(output: &str) -> Option<&str> {
    output.split_whitespace().find_map(|word| word.strip_prefix("v="))
}

/// The jar's file for Linux on this processor, such as `redis-server-6.2.6-v5-linux-amd64`, and its version.
fn for_this_machine(names: &[String]) -> Option<(&str, &str)> {
    let processor = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        _ => return None,
    };
    names.iter().find_map(|name| {
        let version = name.strip_prefix("redis-server-")?.strip_suffix(&format!("-linux-{processor}"))?;
        Some((name.as_str(), version.split('-').next().unwrap_or(version)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        let output = "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=x\n";
        assert_eq!(version_in(output), Some("7.0.15"));
        let names = ["redis-server-6.2.6-v5-linux-amd64", "redis-server-6.2.7-linux-arm64", "redis/X.class"];
        let names = names.map(str::to_owned);
        let (_, version) = for_this_machine(&names).unwrap();
        assert!(version == "6.2.6" || version == "6.2.7", "{version}");
    }
}
