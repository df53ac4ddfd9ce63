//! Ends and removes what a dead supervisor left: its processes and its directories, nothing else.
//!
//! Two use it: the watcher, a process of its own whose input closes when the supervisor dies in any way,
//! and the next supervisor of the workspace.

use std::convert::Infallible;
use std::io::{Read, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::state::{House, Workspace};
use crate::attempts::look_until;
use crate::runtime::{self, SUPERVISOR_VARIABLE};

/// How long a swept process may take to end once it was killed.
const SWEEP_LIMIT: Duration = Duration::from_secs(2);
/// How long a database may take before it is killed, which leaves its memory segment behind: it may only have had no
/// processor until then.
const SERVER_LIMIT: Duration = Duration::from_secs(10);
/// Pause between two looks at what is left.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The watcher's life: waits until its input closes, then sweeps the house if its supervisor died in it. Where the house
/// has gone, what bears the supervisor's `identity` is ended all the same.
pub fn watch(house: &House, identity: &str) {
    // In a session of its own, so that what ends the supervisor's does not end the watcher.
    let _ = nix::unistd::setsid();
    let mut end = Vec::new();
    let _ = std::io::stdin().read_to_end(&mut end);
    // The kernel closes a dead process's files one after the other: the lock may be let go of after our input.
    // Another supervisor that has taken the house meanwhile keeps it, and has swept it.
    let _swept = look_until(SWEEP_LIMIT, LOOK_EVERY, || {
        Ok::<_, Infallible>((sweep(house) || !house.path().exists()).then_some(()))
    });
    if !house.path().exists() {
        end_all_of(identity, house.path());
    }
}

/// Ends every process that bears this variable with this value; `false` if some were left after a while.
pub(super) fn end_carriers(variable: &str, value: &str) -> bool {
    let ended = look_until(SWEEP_LIMIT, LOOK_EVERY, || {
        let carriers = runtime::carriers(variable, value);
        runtime::signal_each(&carriers, Signal::SIGKILL);
        Ok::<_, Infallible>(carriers.is_empty().then_some(()))
    });
    matches!(ended, Ok(Some(())))
}

/// Sweeps a house, unless a supervisor lives in it; `true` if it did.
pub fn sweep(house: &House) -> bool {
    if !house.path().is_dir() {
        return false;
    }
    let Ok(_lock) = house.lock() else {
        return false;
    };
    end_the_dead(house);
    demolish(house);
    true
}

/// Ends whatever runs of a supervisor that died in a house whose lock the caller holds, and keeps its log: whoever asks
/// why has nothing else.
fn end_the_dead(house: &House) {
    let Ok(identity) = std::fs::read_to_string(house.identity()) else { return };
    end_all_of(&identity, house.path());
    let log = std::fs::OpenOptions::new().append(true).create(true).open(house.log());
    let told = log.and_then(|mut log| writeln!(log, "supervisor {identity} has died; what it left was swept"));
    // Copied: the caller's own words may go to the same file.
    let _ = told.and_then(|()| std::fs::copy(house.log(), house.last_log()));
}

/// Removes a house whose lock the caller holds. It is renamed first, in one step: whoever makes the house anew from
/// then on has a directory of its own, which this does not touch.
pub fn demolish(house: &House) {
    let name = house.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
    let aside = house.path().with_file_name(format!("{}{name}-{}", House::DYING, std::process::id()));
    if std::fs::rename(house.path(), &aside).is_ok() {
        remove(&aside);
    }
}

/// Removes what demolitions that were killed have left in a workspace.
pub fn clear_ruins(workspace: &Workspace) {
    for ruin in workspace.ruins() {
        remove(&ruin);
    }
}

/// Removes what an earlier supervisor left in the house that the caller has just locked.
pub fn clear(house: &House) {
    end_the_dead(house);
    let entries = std::fs::read_dir(house.path()).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.path().is_dir()) {
        remove(&entry.path());
    }
}

/// Removes a directory in which a dying process may still make a file; `false` leaves files to the next sweep.
pub(super) fn remove(directory: &Path) -> bool {
    let removed = look_until(SWEEP_LIMIT, LOOK_EVERY, || {
        let removed = std::fs::remove_dir_all(directory).is_ok() || !directory.exists();
        Ok::<_, Infallible>(removed.then_some(()))
    });
    matches!(removed, Ok(Some(())))
}

/// Ends every process of a supervisor and waits until they have gone.
fn end_all_of(identity: &str, directory: &Path) {
    let begun = Instant::now();
    // What is still there at the limit is left to the next supervisor, which sweeps again.
    let _gone = look_until(SERVER_LIMIT + SWEEP_LIMIT, LOOK_EVERY, || {
        let servers = runtime::servers_in(directory);
        // A server may not have written its title yet, or never does, as PostgreSQL's first process.
        let mut carriers = runtime::carriers(SUPERVISOR_VARIABLE, identity);
        carriers.retain(|pid| !servers.contains(pid));
        if carriers.is_empty() && servers.is_empty() {
            return Ok::<_, Infallible>(Some(()));
        }
        let server_signal = if begun.elapsed() < SERVER_LIMIT { Signal::SIGQUIT } else { Signal::SIGKILL };
        runtime::signal_each(&carriers, Signal::SIGKILL);
        runtime::signal_each(&servers, server_signal);
        // What stands still does not see it before it goes on.
        runtime::signal_each(&servers, Signal::SIGCONT);
        Ok(None)
    });
}
