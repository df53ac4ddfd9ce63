//! `gc`: removes what is kept for later and has not been used for a while.
//!
//! Two things of ours grow: the evidence of failures and the cache of prepared artifacts. What belongs to running
//! environments is the supervisor's, which removes it by itself.
//!
//! Deliberately absent: images. They bear the label `greenroom.base`, and the engine removes them by that and their
//! age.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use greenroom::artifacts;
use greenroom::environment::kept_directory;
use greenroom::supervisor::state::Workspace;

use super::{answer, say};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Remove what has not been used for a while.
#[derive(clap::Args)]
pub(crate) struct Gc {
    /// What was last used more than this many days ago.
    #[arg(long, value_name = "DAYS", default_value_t = 14)]
    older_than: u32,
    /// Only say what would be removed.
    #[arg(long)]
    dry_run: bool,
}

impl Gc {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let since = SystemTime::now().checked_sub(DAY * self.older_than).unwrap_or(SystemTime::UNIX_EPOCH);
        let mut bytes = 0;
        for path in failures(&kept_directory(&Workspace::here()?).join("failures"), since)? {
            bytes += self.take_away(&path, || {
                std::fs::remove_dir_all(&path).with_context(|| format!("remove {}", path.display())).map(|()| true)
            })?;
        }
        for entry in artifacts::idle(since)? {
            if runs_from(&entry) {
                say(&format!("{} stays: something runs from it", entry.display()));
            } else {
                bytes += self.take_away(&entry, || Ok(artifacts::remove(&entry, since)?))?;
            }
        }
        if bytes == 0 {
            say(&format!("nothing else was last used more than {} days ago", self.older_than));
        }
        let what = if self.dry_run { "would be freed" } else { "freed" };
        say(&format!("{} MB {what}", bytes / 1_000_000));
        Ok(ExitCode::SUCCESS)
    }

    /// Removes a directory by what says whether it has gone, or only says so; answers how much room that makes.
    fn take_away(&self, path: &Path, remove: impl FnOnce() -> anyhow::Result<bool>) -> anyhow::Result<u64> {
        let bytes = size_of(path);
        let what = format!("{} ({} MB)", path.display(), bytes / 1_000_000);
        if self.dry_run {
            answer(&what);
        } else if remove()? {
            answer(&format!("removed {what}"));
        } else {
            say(&format!("{what} stays: somebody has just asked for it"));
            return Ok(0);
        }
        Ok(bytes)
    }
}

/// Evidence of failures that was kept before `since`.
fn failures(directory: &Path, since: SystemTime) -> anyhow::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("read {}", directory.display()))?,
    };
    let kept_before = |path: &PathBuf| path.metadata().and_then(|data| data.modified()).is_ok_and(|kept| kept < since);
    let mut old: Vec<_> =
        entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir() && kept_before(path)).collect();
    old.sort();
    Ok(old)
}

/// Whether a program of a directory runs, or one was told a path in it.
fn runs_from(directory: &Path) -> bool {
    let place = directory.display().to_string();
    let all = procfs::process::all_processes().into_iter().flatten().flatten();
    all.filter_map(|process| process.cmdline().ok()).any(|words| words.iter().any(|word| word.contains(&place)))
}

/// How many bytes the files of a directory have; what cannot be read counts for nothing.
fn size_of(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let sizes = entries.filter_map(|entry| {
        let path: PathBuf = entry.path();
        let data = path.symlink_metadata().ok()?;
        Some(if data.is_dir() { size_of(&path) } else { data.len() })
    });
    sizes.sum()
}
