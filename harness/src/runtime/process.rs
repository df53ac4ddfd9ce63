//! The processes of one environment: registered before anyone can lose them, ended together.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncWriteExt as _, Interest};
use tokio::net::unix::pipe;
use tokio::process::ChildStdin;
use tokio::sync::watch;

use super::SpawnError;

/// What a part does at the moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PartState {
    /// Not started yet.
    Planned,
    /// Started, not ready yet.
    Starting,
    /// Its first real operation would succeed.
    Ready,
    /// It stands still, because it was told to.
    Paused,
    /// Its process has ended, as said.
    Exited(String),
}

/// The processes of one environment.
#[derive(Debug)]
pub struct Processes {
    registry: Mutex<Registry>,
    /// Counts the processes that have ended, so that a waiter wakes.
    exits: watch::Sender<usize>,
    /// Counts the parts for which files are being made.
    preparing: watch::Sender<usize>,
    /// Becomes true, with the registry locked, when nothing more may start.
    closed: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Registry {
    processes: BTreeMap<String, Process>,
}

#[derive(Debug)]
struct Process {
    pid: Pid,
    /// Becomes true when the id may be somebody else's, which can be before it has ended.
    reaped: Arc<AtomicBool>,
    exit: watch::Receiver<Option<ExitStatus>>,
    paused: bool,
}

impl fmt::Display for PartState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Planned => formatter.write_str("not started"),
            Self::Starting => formatter.write_str("starting"),
            Self::Ready => formatter.write_str("ready"),
            Self::Paused => formatter.write_str("paused"),
            Self::Exited(status) => write!(formatter, "ended ({status})"),
        }
    }
}

impl Registry {
    /// Whether a process may be started for a part, where nothing more may start once the registry is `closed`.
    fn admits(&self, part: &str, closed: bool) -> Result<(), SpawnError> {
        if closed {
            return Err(SpawnError::Closed);
        }
        // One that nobody knows any more would outlive its environment.
        if self.processes.get(part).is_some_and(Process::runs) {
            return Err(SpawnError::Runs);
        }
        Ok(())
    }
}

impl Process {
    fn runs(&self) -> bool {
        self.exit.borrow().is_none()
    }

    /// Whether a signal to its id meets it.
    fn can_be_signalled(&self) -> bool {
        self.runs() && !self.reaped.load(Ordering::Acquire)
    }
}

impl Default for Processes {
    fn default() -> Self {
        Self {
            registry: Mutex::default(),
            exits: watch::Sender::new(0),
            preparing: watch::Sender::new(0),
            closed: watch::Sender::new(false),
        }
    }
}

/// Files or a container are being made for a part, also when the start that asked for them has been cancelled.
pub(crate) struct Preparing(Arc<Processes>);

impl Drop for Preparing {
    fn drop(&mut self) {
        self.0.preparing.send_modify(|count| *count -= 1);
    }
}

/// How long a process may outlive the one that was started for it. Then its input is closed, by which it ends.
const UNREAD: Duration = Duration::from_secs(10);

/// Waits until nobody has the other end of a pipe: a process that was restored from a checkpoint is not our child, and
/// ends a moment after the one that is.
async fn until_unread(input: ChildStdin) {
    let Ok(input) = input.into_owned_fd().and_then(pipe::Sender::from_owned_fd) else { return };
    let unread = async { while input.ready(Interest::ERROR).await.is_ok_and(|ready| !ready.is_error()) {} };
    let _ = tokio::time::timeout(UNREAD, unread).await;
}

impl Processes {
    /// Starts a process with `run` and registers it, unless the environment is being taken away. Its input, where it
    /// has one, begins with the lines of `input`; it has ended when nobody is left who could read on.
    ///
    /// # Errors
    /// What `run` answers, [`SpawnError::Closed`], or [`SpawnError::Runs`] where the part runs already.
    pub(super) fn add(
        &self,
        part: &str,
        input: &[String],
        run: impl FnOnce() -> Result<tokio::process::Child, SpawnError>,
    ) -> Result<(), SpawnError> {
        let mut registry = self.lock();
        registry.admits(part, *self.closed.borrow())?;
        let mut child = run()?;
        let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) else {
            return Err(SpawnError::Closed);
        };
        let reaped = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&reaped);
        let input: String = input.iter().map(|line| format!("{line}\n")).collect();
        let ended = async move {
            // `wait` would close it, and Kafka's launcher ends when it closes.
            let mut stdin = child.stdin.take();
            if let Some(stdin) = &mut stdin {
                // Who reads nothing has ended, which is told below.
                let _ = stdin.write_all(input.as_bytes()).await;
            }
            let status = child.wait().await.unwrap_or_default();
            told.store(true, Ordering::Release);
            if let Some(stdin) = stdin {
                until_unread(stdin).await;
            }
            status
        };
        self.watch(&mut registry, part, pid, reaped, ended);
        Ok(())
    }

    /// Registers a process that somebody else has started, and whose end `ended` tells.
    ///
    /// # Errors
    /// [`SpawnError::Closed`] when the environment is being taken away, or [`SpawnError::Runs`] where the part runs
    /// already: then the caller ends what it has started.
    pub(crate) fn register(
        &self,
        part: &str,
        pid: i32,
        ended: impl Future<Output = ExitStatus> + Send + 'static,
    ) -> Result<(), SpawnError> {
        let mut registry = self.lock();
        registry.admits(part, *self.closed.borrow())?;
        self.watch(&mut registry, part, pid, Arc::default(), ended);
        Ok(())
    }

    fn watch(
        &self,
        registry: &mut Registry,
        part: &str,
        pid: i32,
        reaped: Arc<AtomicBool>,
        ended: impl Future<Output = ExitStatus> + Send + 'static,
    ) {
        let (told, exit) = watch::channel(None);
        let exits = self.exits.clone();
        tokio::spawn(async move {
            let status = ended.await;
            let _ = told.send(Some(status));
            exits.send_modify(|count| *count += 1);
        });
        registry.processes.insert(part.to_owned(), Process { pid: Pid::from_raw(pid), reaped, exit, paused: false });
    }

    /// Waits until a process has ended that nobody asked to end, and says which and how.
    pub async fn first_exit(&self) -> (String, ExitStatus) {
        self.next_exit(&mut BTreeSet::new()).await
    }

    /// Like [`Processes::first_exit`], for processes whose ids are not among those `told` before.
    pub async fn next_exit(&self, told: &mut BTreeSet<i32>) -> (String, ExitStatus) {
        let mut exits = self.exits.subscribe();
        loop {
            let ended = self.lock().processes.iter().find_map(|(part, process)| {
                let status = (*process.exit.borrow()).filter(|_| !told.contains(&process.pid.as_raw()));
                status.map(|status| (part.clone(), process.pid.as_raw(), status))
            });
            if let Some((part, pid, status)) = ended {
                told.insert(pid);
                return (part, status);
            }
            if exits.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// How a part has ended; absent while it runs.
    #[must_use]
    pub fn exit_of(&self, part: &str) -> Option<ExitStatus> {
        self.lock().processes.get(part).and_then(|process| *process.exit.borrow())
    }

    /// Process id of a part that was started.
    #[must_use]
    pub fn pid_of(&self, part: &str) -> Option<i32> {
        self.lock().processes.get(part).map(|process| process.pid.as_raw())
    }

    /// Sessions of the parts that run, each led by the part's own process.
    #[must_use]
    pub fn sessions(&self) -> BTreeMap<i32, String> {
        let registry = self.lock();
        let running = registry.processes.iter().filter(|(_, process)| process.runs());
        running.map(|(part, process)| (process.pid.as_raw(), part.clone())).collect()
    }

    /// Sends a signal to the process group of a running part; `false` if it does not run.
    pub fn signal(&self, part: &str, signal: Signal) -> bool {
        let mut registry = self.lock();
        let Some(process) = registry.processes.get_mut(part).filter(|process| process.can_be_signalled()) else {
            return false;
        };
        let sent = killpg(process.pid, signal).is_ok();
        match signal {
            Signal::SIGSTOP => process.paused |= sent,
            Signal::SIGCONT => process.paused &= !sent,
            _ => {}
        }
        sent
    }

    /// Whether a part runs, and goes on.
    #[must_use]
    pub fn goes_on(&self, part: &str) -> bool {
        self.lock().processes.get(part).is_some_and(|process| process.runs() && !process.paused)
    }

    /// Whether a part runs, and stands still.
    #[must_use]
    pub fn is_paused(&self, part: &str) -> bool {
        self.lock().processes.get(part).is_some_and(|process| process.runs() && process.paused)
    }

    /// Waits until a part has ended; `false` if `limit` passed before. One that was never started has ended.
    pub async fn ended(&self, part: &str, limit: Duration) -> bool {
        let exit = self.lock().processes.get(part).map(|process| process.exit.clone());
        let Some(mut exit) = exit else { return true };
        tokio::time::timeout(limit, exit.wait_for(Option::is_some)).await.is_ok()
    }

    /// Lets nothing more start.
    pub fn close(&self) {
        let _registry = self.lock();
        self.closed.send_replace(true);
    }

    /// Does something for the parts until it is done or nothing more may start; `None` in the second case.
    pub(super) async fn while_open<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut closed = self.closed.subscribe();
        tokio::select! {
            biased;
            // The sender lives as long as `self`.
            _ = closed.wait_for(|closed| *closed) => None,
            done = work => Some(done),
        }
    }

    /// Sends each part the signal that `choose` gives for its name.
    pub fn signal_all(&self, choose: impl Fn(&str) -> Signal) {
        let registry = self.lock();
        // An id that was waited for may be somebody else's by now.
        let running = registry.processes.iter().filter(|(_, process)| process.can_be_signalled());
        for (part, process) in running {
            // A paused process does not see SIGQUIT before it goes on.
            let _ = killpg(process.pid, choose(part));
            let _ = killpg(process.pid, Signal::SIGCONT);
        }
    }

    /// Says that files or a container are being made for a part, until the answer is dropped; `None` when nothing more
    /// may start.
    pub(crate) fn prepare(self: &Arc<Self>) -> Option<Preparing> {
        let _registry = self.lock();
        if *self.closed.borrow() {
            return None;
        }
        self.preparing.send_modify(|count| *count += 1);
        Some(Preparing(Arc::clone(self)))
    }

    /// Waits until nothing is being made for a part; `false` if `limit` passed before.
    pub(crate) async fn none_prepared(&self, limit: Duration) -> bool {
        let mut preparing = self.preparing.subscribe();
        tokio::time::timeout(limit, preparing.wait_for(|count| *count == 0)).await.is_ok()
    }

    /// Waits until every process has ended and nothing is being made; `false` if `limit` passed before.
    pub async fn all_ended(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        if !self.none_prepared(limit).await {
            return false;
        }
        let waiting: Vec<_> = self.lock().processes.values().map(|process| process.exit.clone()).collect();
        for mut exit in waiting {
            let remaining = deadline.saturating_duration_since(Instant::now());
            let ended = tokio::time::timeout(remaining, exit.wait_for(Option::is_some)).await;
            if ended.is_err() {
                return false;
            }
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use super::*;
    use crate::runtime::until;

    /// Goal: a part's input begins as planned, and it has ended only when whoever reads that input has.
    #[tokio::test]
    async fn a_part_has_ended_when_nobody_reads_its_input() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        nix::unistd::mkfifo(&at("gate"), nix::sys::stat::Mode::S_IRWXU).expect("a gate");
        // The shell ends at once; what it leaves behind reads on until the gate opens.
        let script = r#"exec 3<&0; (read line <&3; echo "$line" >told; read go <gate) & exit 7"#;
        let processes = Processes::default();
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", script]).current_dir(directory.path()).stdin(Stdio::piped());
        let input = ["node 1".to_owned(), "node 2".to_owned()];
        let run = || Ok(tokio::process::Command::from(shell).spawn().expect("a shell"));
        processes.add("part", &input, run).expect("it is the first");
        let shell = processes.pid_of("part").expect("it was started");

        let seen = async || {
            let reaped = !std::path::Path::new(&format!("/proc/{shell}")).exists();
            let told = std::fs::read_to_string(at("told")).unwrap_or_default();
            if reaped && told == "node 1\n" { Ok(()) } else { Err(format!("reaped: {reaped}, told: {told:?}")) }
        };
        until(Instant::now() + UNREAD / 2, Duration::from_millis(5), seen).await.expect("its input is read");
        assert_eq!(processes.exit_of("part"), None);
        std::fs::write(at("gate"), "go\n").expect("it is waited for");
        assert!(processes.ended("part", UNREAD / 2).await, "nobody reads any more");
        assert_eq!(processes.exit_of("part").and_then(|status| status.code()), Some(7));
    }
}
