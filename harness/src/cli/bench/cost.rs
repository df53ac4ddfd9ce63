//! What processes cost and whether they run, from `/proc` (proc(5)).

use std::io;

use anyhow::Context;
use nix::unistd::{SysconfVar, sysconf};

/// Where `utime` stands among the fields after the process's name (proc_pid_stat(5): the 14th of all, the name is the
/// second); `stime`, `cutime` and `cstime` follow it.
const UTIME: usize = 11;
/// As above, for the number of threads (the 20th of all).
const THREADS: usize = 17;

/// User and system time of processes and of the children that they have waited for, in seconds.
pub(super) fn cpu_seconds(pids: &[i32]) -> anyhow::Result<f64> {
    let ticks_per_second = sysconf(SysconfVar::CLK_TCK)?.context("the clock tick is unknown")?;
    let mut ticks = 0_u32;
    for pid in pids {
        let Some(stat) = read(*pid, "stat")? else { continue };
        let times = after_name(&stat).skip(UTIME).take(4);
        ticks += times.filter_map(|time| time.parse::<u32>().ok()).sum::<u32>();
    }
    Ok(f64::from(ticks) / f64::from(i32::try_from(ticks_per_second)?))
}

/// Proportional set size of processes, in megabytes of 10⁶ bytes.
pub(super) fn memory_mb(pids: &[i32]) -> anyhow::Result<f64> {
    let mut kibibytes = 0_u32;
    for pid in pids {
        let Some(rollup) = read(*pid, "smaps_rollup")? else { continue };
        let pss = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
        let value = pss.and_then(|pss| pss.split_whitespace().next()).and_then(|value| value.parse::<u32>().ok());
        // A process that has just ended has no memory any more.
        kibibytes += value.unwrap_or_default();
    }
    Ok(f64::from(kibibytes) * 1_024.0 / 1e6)
}

/// Whether a process has not ended. One that has lost its memory but not yet all of its threads still runs; a zombie,
/// of which nothing is left but its status, does not.
pub(super) fn runs(pid: i32) -> bool {
    let Ok(Some(stat)) = read(pid, "stat") else { return false };
    let is_zombie = after_name(&stat).next() == Some("Z");
    let threads = after_name(&stat).nth(THREADS).and_then(|threads| threads.parse::<u32>().ok());
    !is_zombie || threads.is_some_and(|threads| threads > 1)
}

/// The fields of `stat` after the process's name, which may hold spaces and brackets itself.
fn after_name(stat: &str) -> std::str::SplitWhitespace<'_> {
    stat.rsplit_once(") ").map(|(_, fields)| fields).unwrap_or_default().split_whitespace()
}

/// A file of a process; `None` if it has ended.
fn read(pid: i32, file: &str) -> anyhow::Result<Option<String>> {
    let path = format!("/proc/{pid}/{file}");
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.raw_os_error() == Some(nix::libc::ESRCH) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("read {path}")),
    }
}
