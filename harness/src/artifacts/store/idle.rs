//! Entries that no version has used for a while.
//!
//! An entry's last use is the time of its manifest, which is set whenever somebody asks for the entry.
//!
//! Deliberately absent: whether something runs from an entry now, however long ago it was asked for. Whoever removes
//! entries looks for that first.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::manifest::{MANIFEST, State, examine};
use super::{Key, PrepareError, Store, at, remove_tree};

/// How many characters of a hash an entry's name ends with.
const HASH_CHARACTERS: usize = 16;

/// Notes that an entry was asked for now. Best effort: a cache that one may only read is used by others.
pub(super) fn note_use(entry: &Path) {
    if let Ok(file) = File::options().append(true).open(entry.join(MANIFEST)) {
        let _ = file.set_modified(SystemTime::now());
    }
}

impl Store {
    /// The finished entries that were last used before `since`, by name. What is not named like one is nobody's of
    /// ours.
    pub(in super::super) fn idle(&self, since: SystemTime) -> Result<Vec<PathBuf>, PrepareError> {
        let entries = fs::read_dir(&self.root).map_err(at("read the cache directory", &self.root))?;
        let paths = entries.flatten().map(|entry| entry.path());
        let mut idle: Vec<_> = paths.filter(|path| is_entry(path) && was_used_before(path, since)).collect();
        idle.sort();
        Ok(idle)
    }

    /// When an entry was asked for last.
    pub(in super::super) fn last_use(entry: &Path) -> Option<SystemTime> {
        entry.join(MANIFEST).metadata().and_then(|data| data.modified()).ok()
    }

    /// Removes an entry that was last used before `since`; says whether it has gone: not where somebody makes it anew
    /// just now, or has asked for it meanwhile.
    pub(in super::super) fn remove(&self, entry: &Path, since: SystemTime) -> Result<bool, PrepareError> {
        let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let key = Key { name };
        let (_lock, is_held) = self.try_lock(&key)?;
        // Looked at before it is moved too: one in use is not to be moved away and back.
        if !is_held || !was_used_before(entry, since) {
            return Ok(false);
        }
        let aside = self.put_aside(entry, &key)?;
        if !was_used_before(&aside, since) {
            fs::rename(&aside, entry).map_err(at("move back", &aside))?;
            return Ok(false);
        }
        remove_tree(&aside).map_err(at("remove", &aside))?;
        Ok(true)
    }
}

/// Whether a directory is named like an entry and has the manifest of one.
fn is_entry(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let is_named = name.rsplit_once('-').is_some_and(|(kind, hash)| {
        !kind.starts_with('.') && hash.len() == HASH_CHARACTERS && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
    });
    is_named && matches!(examine(path), Ok(State::Intact(_)))
}

fn was_used_before(entry: &Path, since: SystemTime) -> bool {
    Store::last_use(entry).is_some_and(|used| used < since)
}
