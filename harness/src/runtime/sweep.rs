//! Finds and ends processes by the identity that they carry in their environment.
//!
//! The second net: a part's own session is signalled first; this also reaches what a part has started and
//! detached. Nothing without our mark is ever touched.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Process ids whose environment carries `variable=value`, and of what their first threads have started, whatever its
/// environment: one that was restored from a checkpoint has that of the checkpoint.
///
/// Processes of other users are not readable and so never found. Linux only: it reads `/proc` (proc(5)).
#[must_use]
pub fn carriers(variable: &str, value: &str) -> Vec<i32> {
    let carriers: BTreeSet<i32> = pids().filter(|pid| carries(*pid, variable, value)).collect();
    let started = carriers.iter().flat_map(|pid| descendants(*pid));
    carriers.iter().copied().chain(started).collect::<BTreeSet<_>>().into_iter().collect()
}

/// Process ids of what a process's first thread has started and of what those have, its own not among them; each after
/// who started it.
/// A kernel that does not tell (`CONFIG_PROC_CHILDREN`) cannot restore from a checkpoint either.
fn descendants(pid: i32) -> Vec<i32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let children = children.split_whitespace().filter_map(|child| child.parse().ok());
    children.flat_map(|child| [child].into_iter().chain(descendants(child))).collect()
}

/// Whether the environment of a process has `variable=value`; not so where it cannot be read.
pub(crate) fn carries(pid: i32, variable: &str, value: &str) -> bool {
    let mark = format!("{variable}={value}");
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
}

/// Programs that write their title over their environment, so that [`carriers`] does not find all of their processes.
const TITLED: [&str; 2] = ["postgres", "redis-server"];

/// The process that the one of a part has restored from a checkpoint: the last of the chain that led to it, in process
/// ids of its own. Nothing where it has restored none.
pub(crate) fn restored(pid: i32) -> Option<i32> {
    let has_own_ids = |pid: &i32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        ids.is_some_and(|ids| ids.split_whitespace().count() > 1)
    };
    descendants(pid).into_iter().rfind(has_own_ids)
}

/// Process ids of PostgreSQL and Redis servers, and their children, that work in `directory` or below it.
///
/// The program's name is asked for too: a person's shell that stands in the directory is left alone.
#[must_use]
pub fn servers_in(directory: &Path) -> Vec<i32> {
    let in_directory = |pid: &i32| {
        let process = PathBuf::from(format!("/proc/{pid}"));
        let stands = std::fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(directory));
        stands && std::fs::read_to_string(process.join("comm")).is_ok_and(|name| TITLED.contains(&name.trim()))
    };
    pids().filter(in_directory).collect()
}

/// Sends a signal to processes, of which some may have ended since they were found.
pub fn signal_each(pids: &[i32], signal: Signal) {
    for pid in pids {
        let _ = kill(Pid::from_raw(*pid), signal);
    }
}

fn pids() -> impl Iterator<Item = i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Duration;

    use super::*;
    use crate::attempts::look_until;

    /// Goal: what a process of ours has started is ours, though its environment does not say so.
    #[test]
    fn what_a_carrier_has_started_is_found_whatever_its_environment() {
        let (variable, value) = ("GREENROOM_SWEEP_TEST", std::process::id().to_string());
        let mut shell = Command::new("sh");
        let mut shell = shell.args(["-c", "env -i sleep 600 & wait"]).env(variable, &value).spawn().expect("a shell");
        let pid = i32::try_from(shell.id()).expect("a process id");
        let is_bare = |pid: &i32| std::fs::read(format!("/proc/{pid}/environ")).is_ok_and(|bytes| bytes.is_empty());
        let found = look_until(Duration::from_secs(10), Duration::from_millis(5), || {
            let found = carriers(variable, &value);
            Ok::<_, std::convert::Infallible>(found.iter().any(is_bare).then_some(found))
        });
        signal_each(&descendants(pid), Signal::SIGKILL);
        shell.kill().and_then(|()| shell.wait()).expect("it was there");
        let found = found.expect("looking cannot fail").expect("the process without an environment");
        assert!(found.len() == 2 && found.contains(&pid), "{found:?}");
    }
}
