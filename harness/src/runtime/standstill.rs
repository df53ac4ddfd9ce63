//! Knows when processes that were sent SIGSTOP stand still.
//!
//! `kill` returns when the signal is queued. Each thread stops by itself, when it next comes back from the kernel or
//! gets a processor: on a busy machine a JVM of two hundred threads takes milliseconds, and answers meanwhile.
//!
//! Linux only: it reads `/proc` (proc(5)).

use std::convert::Infallible;
use std::time::Duration;

use nix::unistd::Pid;
use procfs::process::Process;

use crate::attempts::look_until;

/// Pause between two looks.
const INTERVAL: Duration = Duration::from_millis(1);

/// Blocks until no thread of the process group `group` or of `others` goes on; `false` if `limit` passed before.
pub(crate) fn stand_still(group: Pid, others: &[i32], limit: Duration) -> bool {
    let look = || {
        let all = procfs::process::all_processes().into_iter().flatten().flatten();
        let mut meant = all.filter(|process| {
            let in_group = || process.stat().is_ok_and(|stat| stat.pgrp == group.as_raw());
            others.contains(&process.pid) || in_group()
        });
        Ok::<_, Infallible>((!meant.any(|process| goes_on(&process))).then_some(()))
    };
    matches!(look_until(limit, INTERVAL, look), Ok(Some(())))
}

/// Whether any thread does. What cannot be read has ended.
fn goes_on(process: &Process) -> bool {
    let states = process.tasks().into_iter().flatten().flatten().filter_map(|task| task.stat().ok());
    // T: stopped; t: stopped by a debugger; Z and X: ended.
    states.into_iter().any(|stat| !matches!(stat.state, 'T' | 't' | 'Z' | 'X'))
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt as _;
    use std::process::Command;

    use nix::sys::signal::{Signal, killpg};

    use super::*;

    /// Goal: a process that goes on is not taken for one that stands still, nor one that has ended for one that goes
    /// on.
    #[test]
    fn what_was_stopped_stands_still_and_what_goes_on_does_not() {
        let mut busy =
            Command::new("sh").args(["-c", "while :; do :; done"]).process_group(0).spawn().expect("a shell");
        let group = Pid::from_raw(i32::try_from(busy.id()).expect("a process id"));
        let soon = Duration::from_secs(10);
        let goes_on = !stand_still(group, &[], Duration::ZERO);
        let sent = killpg(group, Signal::SIGSTOP);
        let stopped = stand_still(group, &[], soon);
        let by_id = stand_still(Pid::from_raw(i32::MAX), &[group.as_raw()], soon);
        busy.kill().expect("it was there");
        busy.wait().expect("its end");
        assert!(goes_on && sent.is_ok() && stopped && by_id, "{goes_on} {sent:?} {stopped} {by_id}");
        assert!(stand_still(group, &[], Duration::ZERO), "it has ended");
    }
}
