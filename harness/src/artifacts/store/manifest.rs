//! What an entry held when it was finished, and whether it still does.
//!
//! The size and time of every file are compared each time, which costs a microsecond a file; a file whose time has
//! changed is hashed. A file that was changed and given its old size and time back goes unnoticed.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};

use super::super::PrepareError;
use super::super::error::at;

/// Name of the manifest's file in an entry. Its first line is `greenroom-entry 1 BUILD`; each other line tells one
/// file: size in bytes, modification time in nanoseconds, SHA-256, path.
pub(super) const MANIFEST: &str = ".manifest";

const HEADER: &str = "greenroom-entry 1 ";

/// What is at the place of an entry.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing.
    Absent,
    /// What was built, with the build's identity.
    Intact(String),
    /// Something else; says which file and how.
    Damaged(String),
}

/// All files of an entry.
#[derive(Debug)]
pub(super) struct Manifest {
    lines: String,
}

impl Manifest {
    /// Reads all that is in `directory`.
    pub(super) fn of(directory: &Path) -> Result<Self, PrepareError> {
        let mut lines = String::new();
        list(directory, directory, &mut lines)?;
        Ok(Self { lines })
    }

    /// Writes it into `directory` and gives the build an identity.
    pub(super) fn write(&self, directory: &Path) -> Result<String, PrepareError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let build = format!("{now:x}-{:x}", std::process::id());
        let path = directory.join(MANIFEST);
        fs::write(&path, format!("{HEADER}{build}\n{}", self.lines)).map_err(at("write", &path))?;
        Ok(build)
    }
}

/// Compares what is at `entry` with its manifest.
pub(super) fn examine(entry: &Path) -> Result<State, PrepareError> {
    let path = entry.join(MANIFEST);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let there = entry.symlink_metadata().is_ok();
            return Ok(if there { State::Damaged(format!("{} is gone", path.display())) } else { State::Absent });
        }
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return Ok(State::Damaged(format!("{} is not text", path.display())));
        }
        Err(error) => return Err(PrepareError::io("read", &path, error)),
    };
    let mut lines = text.lines();
    let Some(build) = lines.next().and_then(|line| line.strip_prefix(HEADER)) else {
        return Ok(State::Damaged(format!("{} does not begin as it should", path.display())));
    };
    for line in lines {
        if let Some(damage) = compare(entry, line) {
            return Ok(State::Damaged(damage));
        }
    }
    Ok(State::Intact(build.to_owned()))
}

/// What is wrong with the file that `line` tells of, if anything.
fn compare(entry: &Path, line: &str) -> Option<String> {
    let mut fields = line.splitn(4, ' ');
    let (Some(size), Some(time), Some(hash), Some(name)) = (fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return Some(format!("{} has a line that is cut off", entry.join(MANIFEST).display()));
    };
    let path = entry.join(name);
    let shown = path.display();
    let data = match fs::symlink_metadata(&path) {
        Ok(data) => data,
        Err(error) => return Some(format!("{shown}: {error}")),
    };
    if size.parse() != Ok(data.len()) {
        return Some(format!("{shown} has {} bytes instead of {size}", data.len()));
    }
    if time.parse() == Ok(modified_ns(&data)) {
        return None;
    }
    match sha256(&path) {
        Ok(found) if found == hash => {
            // Touched only. A class archive depends on the times of its jars, so the old time comes back.
            restore_time(&path, time);
            None
        }
        Ok(found) => Some(format!("{shown} has SHA-256 {found} instead of {hash}")),
        Err(error) => Some(format!("{shown}: {error}")),
    }
}

/// Best effort: whoever may not do this also may not start what depends on it, and is told then.
fn restore_time(path: &Path, time_ns: &str) {
    let time = time_ns.parse().ok().and_then(|time| UNIX_EPOCH.checked_add(Duration::from_nanos(time)));
    if let (Some(time), Ok(file)) = (time, File::open(path)) {
        let _ = file.set_modified(time);
    }
}

fn list(root: &Path, directory: &Path, lines: &mut String) -> Result<(), PrepareError> {
    let entries = fs::read_dir(directory).map_err(at("read", directory))?;
    for entry in entries {
        let path = entry.map_err(at("read", directory))?.path();
        let data = fs::symlink_metadata(&path).map_err(at("read", &path))?;
        if data.is_dir() {
            list(root, &path, lines)?;
        } else if data.is_file() {
            let hash = sha256(&path).map_err(at("read", &path))?;
            let name = path.strip_prefix(root).unwrap_or(&path).display();
            writeln!(lines, "{} {} {hash} {name}", data.len(), modified_ns(&data)).expect("a string takes any text");
        }
    }
    Ok(())
}

fn modified_ns(data: &fs::Metadata) -> i128 {
    i128::from(data.mtime()) * 1_000_000_000 + i128::from(data.mtime_nsec())
}

/// SHA-256 of a file, in hexadecimal.
pub(in super::super) fn sha256(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(hex(&hash.finalize()));
        }
        hash.update(&buffer[..read]);
    }
}

/// Bytes in hexadecimal.
pub(in super::super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes any text");
        text
    })
}
