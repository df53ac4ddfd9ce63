//! Programs that are run while preparing. None outlives its [`Program`]: dropping it kills it; nor the thread that
//! started it.

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::PrepareError;
use super::error::at;
use crate::attempts::look_until;
use crate::binaries::is_program;
use crate::node::LOCALE;
use crate::parent_death::{end_with_parent, in_own_session};
use crate::runtime::inherited;

/// The pause between two looks at something that is waited for.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(10);

/// How long it may take to take away what is left of a program.
pub(super) const REMOVAL: Duration = Duration::from_secs(30);

/// A running program whose output goes to a log.
#[derive(Debug)]
pub(super) struct Program {
    name: String,
    child: Child,
    log: PathBuf,
    taken_away_by: Option<Command>,
}

impl Program {
    /// Starts a command made by [`command`] or [`bare`], appending its output to `log`. Its input is a pipe that closes
    /// when this is dropped or when this process ends in any way.
    pub(super) fn start(name: &str, mut command: Command, log: &Path) -> Result<Self, PrepareError> {
        let output = OpenOptions::new().create(true).append(true).open(log).map_err(at("open the log", log))?;
        let errors = output.try_clone().map_err(at("open the log", log))?;
        command.stdin(Stdio::piped()).stdout(output).stderr(errors);
        let program = PathBuf::from(command.get_program());
        let child = command.spawn().map_err(at("run", &program))?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned(), taken_away_by: None })
    }

    /// Lets this command take away what is left of it when it is dropped: what it runs may be no child of it.
    pub(super) fn taken_away_by(mut self, command: Command) -> Self {
        self.taken_away_by = Some(command);
        self
    }

    /// Writes a line to its input.
    pub(super) fn tell(&mut self, line: &str) {
        if let Some(input) = self.child.stdin.as_mut() {
            // A program that has ended reads nothing; waiting for it tells how it ended.
            let _ = writeln!(input, "{line}");
        }
    }

    /// Closes its input, as the end of this process would.
    pub(super) fn close_input(&mut self) {
        self.child.stdin = None;
    }

    /// How it ended, if it has.
    pub(super) fn ended(&mut self) -> Result<Option<ExitStatus>, PrepareError> {
        self.child.try_wait().map_err(|source| self.lost(source))
    }

    /// Waits until it ends by itself, at most for `limit`.
    pub(super) fn wait(&mut self, limit: Duration) -> Result<ExitStatus, PrepareError> {
        let ended = look_until(limit, LOOK_EVERY, || self.ended())?;
        ended.ok_or_else(|| self.failed(&format!("has not ended after {} s", limit.as_secs())))
    }

    /// Waits as [`Program::wait`] does; any code but 0 is an error.
    pub(super) fn succeed(&mut self, limit: Duration) -> Result<(), PrepareError> {
        let status = self.wait(limit)?;
        if status.success() { Ok(()) } else { Err(self.failed(&format!("ended with {status}"))) }
    }

    /// An error about this program with the end of its log.
    pub(super) fn failed(&self, how: &str) -> PrepareError {
        let output = fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        let mut detail = last_lines(&output, 20);
        detail.push_str(&format!("\nall of it is in {}", self.log.display()));
        PrepareError::new(format!("{} {how}", self.name)).detail(detail).notice_full_disk(&output)
    }

    fn lost(&self, source: std::io::Error) -> PrepareError {
        PrepareError { source: Some(source), ..PrepareError::new(format!("lost sight of {}", self.name)) }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(command) = &mut self.taken_away_by {
            // One that has ended by itself is gone already.
            let _ = answer(command, REMOVAL);
        }
    }
}

/// What a command says, which is soon at its end and says little.
///
/// # Errors
/// It cannot be run, or has not ended after `limit`; it is killed then.
pub(super) fn answer(command: &mut Command, limit: Duration) -> io::Result<Output> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    match look_until(limit, LOOK_EVERY, || child.try_wait())? {
        Some(_) => child.wait_with_output(),
        None => {
            let _ = child.kill();
            let _ = child.wait();
            Err(io::Error::new(io::ErrorKind::TimedOut, format!("it has not ended after {} s", limit.as_secs())))
        }
    }
}

/// A command for `program` that ends with the calling thread. It takes paths as they are: by the locale of many machines
/// a JVM would not know a letter beyond ASCII.
pub(super) fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env("LC_ALL", LOCALE);
    end_with_parent(&mut command);
    command
}

/// Like [`command`], but as a part is run: it inherits nothing of this process beyond what every part does, not whose it
/// is, nor flags for a JVM.
pub(super) fn bare(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().envs(inherited()).env("LC_ALL", LOCALE);
    in_own_session(&mut command, Signal::SIGKILL);
    command
}

/// A program on the `PATH`.
pub(super) fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|directory| directory.join(name)).find(|candidate| is_program(candidate))
}

/// Empties a log, so that an error shows this run's output only.
pub(super) fn empty(log: &Path) -> Result<(), PrepareError> {
    File::create(log).map(drop).map_err(at("write the log", log))
}

/// The last lines of a program's output.
pub(super) fn last_lines(output: &str, count: usize) -> String {
    let lines: Vec<&str> = output.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_program_shows_the_end_of_its_output_and_its_log() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        let mut command = Command::new("sh");
        command.args(["-c", "echo one; echo two >&2; exit 3"]);
        let mut program = Program::start("the program", command, &log).unwrap();
        let error = program.succeed(Duration::from_secs(10)).unwrap_err();
        assert!(error.message.starts_with("the program ended with"), "{error}");
        assert!(error.detail.unwrap().starts_with("one\ntwo\n"));
    }

    #[test]
    fn a_dropped_program_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new("sleep");
        command.arg("600");
        let program = Program::start("sleep", command, &directory.path().join("log")).unwrap();
        let pid = nix::unistd::Pid::from_raw(program.child.id().try_into().unwrap());
        drop(program);
        assert_eq!(nix::sys::signal::kill(pid, None), Err(nix::Error::ESRCH));
    }
}
