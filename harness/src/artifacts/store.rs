//! Where prepared things lie: one directory for each hash of what it was made from.
//!
//! An entry is built in a directory beside its final place and renamed there when it is complete, so a process that
//! is killed leaves nothing that looks finished. Building happens under a lock of the entry's own: several processes
//! that need the same thing wait for the first, and what a killed one left is removed by the next. A finished entry
//! never changes; its [`manifest`] tells when somebody else has changed it.
//!
//! Deleting the whole store is always safe while nothing runs from it; what no version uses any more is [`idle`].

mod idle;
mod location;
mod manifest;
#[cfg(test)]
mod tests;

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::error::at;
use super::{PrepareError, ProgressState, Reporter, child};
use crate::attempts::look_until;
pub(super) use location::location;
use manifest::{Manifest, State};
pub(super) use manifest::{hex, sha256};

/// A directory of entries.
#[derive(Debug)]
pub(super) struct Store {
    root: PathBuf,
}

/// Names one entry: what kind of thing, and the hash of what it is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    name: String,
}

/// A finished entry.
#[derive(Debug)]
pub(super) struct Entry {
    /// Its directory.
    pub(super) path: PathBuf,
    /// Differs whenever the entry was built anew, also from the same inputs.
    pub(super) build: String,
}

impl Key {
    /// The key of a `kind` of thing made from `inputs`.
    pub(super) fn new(kind: &str, inputs: &[&str]) -> Self {
        let mut hash = Sha256::new();
        for input in inputs {
            // Lengths keep neighbouring inputs apart.
            hash.update(input.len().to_le_bytes());
            hash.update(input);
        }
        let digest = hex(&hash.finalize());
        Self { name: format!("{kind}-{}", &digest[..16]) }
    }
}

impl Store {
    /// Opens the store of this user, and makes its directory if it is absent.
    pub(super) fn open() -> Result<Self, PrepareError> {
        let root = location()?;
        location::check(&root, nix::unistd::geteuid().is_root())?;
        if !root.is_dir() {
            fs::create_dir_all(&root).map_err(at("make the cache directory", &root))?;
            open_to_others(&root)?;
        }
        let store = Self { root };
        store.sweep()?;
        Ok(store)
    }

    /// The file that takes the output of a program run for `key`. It is empty, so that an error shows this run's only.
    pub(super) fn log(&self, key: &Key) -> Result<PathBuf, PrepareError> {
        let directory = self.root.join("logs");
        fs::create_dir_all(&directory).map_err(at("make the directory", &directory))?;
        let log = directory.join(format!("{}.log", key.name));
        child::empty(&log)?;
        Ok(log)
    }

    /// An empty directory, always the same, over which a process may mount another one for itself alone.
    pub(super) fn mount_point(&self) -> Result<PathBuf, PrepareError> {
        let directory = self.root.join("mount");
        fs::create_dir_all(&directory).map_err(at("make the directory", &directory))?;
        // Who looks at what is mounted there sees no links.
        directory.canonicalize().map_err(at("find", &directory))
    }

    /// Where the entry of this key lies, if there is one.
    pub(super) fn path(&self, key: &Key) -> PathBuf {
        self.root.join(&key.name)
    }

    /// Whether there is an entry of this key.
    pub(super) fn holds(&self, key: &Key) -> bool {
        self.path(key).join(manifest::MANIFEST).exists()
    }

    /// Whether entries can be made.
    pub(super) fn is_writable(&self) -> bool {
        nix::unistd::access(&self.root, nix::unistd::AccessFlags::W_OK).is_ok()
    }

    /// The entry of this key, built by `build` in the directory given to it if it is absent or damaged.
    pub(super) fn entry(
        &self,
        key: &Key,
        step: &str,
        reporter: &mut Reporter<'_>,
        build: impl FnOnce(&Path) -> Result<(), PrepareError>,
    ) -> Result<Entry, PrepareError> {
        let path = self.path(key);
        // Noted first: whoever removes idle entries either sees this use, or has taken the entry away by now.
        idle::note_use(&path);
        if let State::Intact(build) = manifest::examine(&path)?
            && path.join(manifest::MANIFEST).exists()
        {
            return Ok(Entry { path, build });
        }
        let _lock = self.lock(key, step, reporter)?;
        match manifest::examine(&path)? {
            // Another process was first.
            State::Intact(build) => {
                idle::note_use(&path);
                return Ok(Entry { path, build });
            }
            State::Absent => {}
            State::Damaged(what) => {
                reporter.tell(step, ProgressState::Damaged(what));
                self.put_aside(&path, key)?;
            }
        }
        self.remove_leftovers(key)?;
        let directory = self.root.join(format!("{}{}", building(key), std::process::id()));
        fs::create_dir(&directory).map_err(at("make the directory", &directory))?;
        let built = reporter.step(step, || {
            open_to_others(&directory)?;
            build(&directory)?;
            Manifest::of(&directory)?.write(&directory)
        });
        let build = match built {
            Ok(build) => build,
            Err(error) => {
                // Before anything is removed: a program may have failed without telling that it met a full disk.
                let error = error.notice_full_disk_of(&self.root);
                // What cannot be removed now is removed by the next process that builds this entry.
                let _ = fs::remove_dir_all(&directory);
                return Err(error);
            }
        };
        fs::rename(&directory, &path).map_err(at("rename into place", &path))?;
        Ok(Entry { path, build })
    }

    fn lock(&self, key: &Key, step: &str, reporter: &mut Reporter<'_>) -> Result<File, PrepareError> {
        let (file, is_held) = self.try_lock(key)?;
        if !is_held {
            reporter.tell(step, ProgressState::Waiting);
            file.lock().map_err(at("lock", &self.root.join("locks").join(&key.name)))?;
        }
        Ok(file)
    }

    /// The lock of an entry, and whether it is held now or somebody else has it.
    fn try_lock(&self, key: &Key) -> Result<(File, bool), PrepareError> {
        let directory = self.root.join("locks");
        fs::create_dir_all(&directory).map_err(at("make the directory", &directory))?;
        let path = directory.join(&key.name);
        let file = File::create(&path).map_err(at("open the lock", &path))?;
        match file.try_lock() {
            Ok(()) => Ok((file, true)),
            Err(TryLockError::WouldBlock) => Ok((file, false)),
            Err(TryLockError::Error(error)) => Err(PrepareError::io("lock", &path, error)),
        }
    }

    /// Takes an entry away at once, so that a process killed while removing it leaves no half of it; answers where it
    /// is.
    fn put_aside(&self, path: &Path, key: &Key) -> Result<PathBuf, PrepareError> {
        let aside = self.root.join(format!("{}damaged", building(key)));
        let _ = fs::remove_dir_all(&aside);
        fs::rename(path, &aside).map_err(at("move away", path))?;
        Ok(aside)
    }

    /// Removes what killed processes left of any entry, unless somebody builds that entry now.
    fn sweep(&self) -> Result<(), PrepareError> {
        let entries = fs::read_dir(&self.root).map_err(at("read the cache directory", &self.root))?;
        for entry in entries {
            let name = entry.map_err(at("read the cache directory", &self.root))?.file_name();
            let name = name.to_string_lossy();
            let Some((key, _)) = name.strip_prefix(BUILDING).and_then(|rest| rest.rsplit_once('-')) else { continue };
            let lock = File::open(self.root.join("locks").join(key));
            if lock.as_ref().is_ok_and(|lock| lock.try_lock().is_err()) {
                continue;
            }
            // Best effort: nothing depends on it, and whoever may not do this may still use what is finished.
            let _ = fs::remove_dir_all(self.root.join(&*name));
        }
        Ok(())
    }

    fn remove_leftovers(&self, key: &Key) -> Result<(), PrepareError> {
        let entries = fs::read_dir(&self.root).map_err(at("read the cache directory", &self.root))?;
        for entry in entries {
            let entry = entry.map_err(at("read the cache directory", &self.root))?;
            if entry.file_name().to_string_lossy().starts_with(&building(key)) {
                let path = entry.path();
                // What it ran may write on for a moment.
                let removed = look_until(LEFT_LIMIT, child::LOOK_EVERY, || match remove_tree(&path) {
                    Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(None),
                    removed => removed.map(Some),
                });
                let removed = removed.and_then(|removed| removed.ok_or(io::ErrorKind::DirectoryNotEmpty.into()));
                removed.map_err(at("remove what an interrupted run left in", &path))?;
            }
        }
        Ok(())
    }
}

/// How long what an interrupted run has left may resist.
const LEFT_LIMIT: Duration = Duration::from_secs(10);

/// Begins the name of a directory in which an entry is built.
const BUILDING: &str = ".building-";

fn building(key: &Key) -> String {
    format!("{BUILDING}{}-", key.name)
}

fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// PostgreSQL may run as another user, who must get to its programs whatever the umask is.
fn open_to_others(directory: &Path) -> Result<(), PrepareError> {
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).map_err(at("set the mode of", directory))
}
