//! Commands that end when the thread that started them does, in whatever way: the first net under everything that runs.
//!
//! `PR_SET_PDEATHSIG` (prctl(2)) fires when the *thread* that spawned a process ends, and a change of user clears it:
//! it is set last before `exec`, and whoever spawns must live as long as the process should. Here is the only `unsafe`
//! code.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::libc;
use nix::sys::signal::Signal;

/// Closes what is open beyond standard input, output and error. Best effort: Linux can since 5.11, and what this
/// process has opened itself is closed anyway.
#[expect(unsafe_code, reason = "no library has this call")]
fn close_inherited() {
    // SAFETY: it marks files to be closed by `exec`, and touches no memory (close_range(2)).
    unsafe {
        libc::syscall(libc::SYS_close_range, FIRST_OF_OTHERS, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
    }
}

/// The first file beyond standard input, output and error.
const FIRST_OF_OTHERS: libc::c_uint = 3;

/// Lets a command end by SIGKILL with the thread that spawns it.
pub fn end_with_parent(command: &mut Command) {
    before_exec(command, false, Signal::SIGKILL);
}

/// Runs a command in a session of its own, so that signals to its parent's are not for it, without files that others
/// have left open to this process, and lets it end by `signal` with the thread that spawns it.
pub(crate) fn in_own_session(command: &mut Command, signal: Signal) {
    before_exec(command, true, signal);
}

#[expect(unsafe_code, reason = "the only way to act between fork and exec; the closure makes four system calls")]
fn before_exec(command: &mut Command, own_session: bool, death_signal: Signal) {
    let parent = nix::unistd::getpid();
    let before_exec = move || {
        if own_session {
            nix::unistd::setsid()?;
            close_inherited();
        }
        nix::sys::prctl::set_pdeathsig(death_signal)?;
        // The parent may have died before the signal was set.
        if nix::unistd::getppid() == parent { Ok(()) } else { Err(io::Error::from(nix::Error::ESRCH)) }
    };
    // SAFETY: the closure allocates nothing and calls only async-signal-safe functions (signal-safety(7)).
    unsafe {
        command.pre_exec(before_exec);
    }
}
