//! Starts processes from one thread that lives as long as the supervisor.
//!
//! `PR_SET_PDEATHSIG` fires when the *thread* that spawned a process ends and is cleared by a change of user
//! (prctl(2)), so all spawning happens on the supervisor's main thread, and the signal is set last before `exec`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::mpsc;

use nix::sys::signal::Signal;
use tokio::sync::oneshot;

use super::process::Processes;
use crate::docker::EngineError;
use crate::parent_death;
use crate::plan::{Kind, Part};
use crate::toolchain::UNPRIVILEGED_ID;

type Job = Box<dyn FnOnce() + Send>;

/// Hands processes to be started to the [`SpawnLoop`].
#[derive(Clone)]
pub struct Spawner(mpsc::Sender<Job>);

/// Runs on the supervisor's main thread and starts what it is handed.
pub struct SpawnLoop(mpsc::Receiver<Job>);

/// Why a part could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The operating system refused.
    #[error("failed to run {}", command.display())]
    Run {
        /// The program.
        command: std::path::PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The log file could not be made.
    #[error("failed to open the log {}", path.display())]
    Log {
        /// The log.
        path: std::path::PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The file that tells a container who its users are could not be written.
    #[error("failed to write {}", path.display())]
    Users {
        /// The file.
        path: std::path::PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The container engine refused.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Its container ended while it was being started.
    #[error("its container ended at once ({0})")]
    Ended(std::process::ExitStatus),
    /// The environment is being taken away.
    #[error("the environment is being taken away")]
    Closed,
    /// The part runs.
    #[error("it runs already")]
    Runs,
}

impl Spawner {
    /// A spawner and the loop that serves it.
    #[must_use]
    pub fn new() -> (Self, SpawnLoop) {
        let (sender, receiver) = mpsc::channel();
        (Self(sender), SpawnLoop(receiver))
    }

    /// Starts a part as one of `processes`; beside its own variables it has those `inherited`.
    ///
    /// The process is registered before this returns, also when the caller has been cancelled meanwhile:
    /// nothing can be started that a teardown does not see.
    ///
    /// # Errors
    /// The operating system refuses, or the environment is being taken away.
    pub async fn spawn(
        &self,
        part: &Part,
        inherited: &Inherited,
        processes: &Arc<Processes>,
    ) -> Result<(), SpawnError> {
        let (answer, answered) = oneshot::channel();
        let (part, inherited, processes) = (part.clone(), inherited.clone(), Arc::clone(processes));
        let job: Job = Box::new(move || {
            let spawned = processes.add(&part.name, &part.input, || run(&part, &inherited));
            // The caller may have gone; the process is registered all the same.
            let _ = answer.send(spawned);
        });
        if self.0.send(job).is_err() {
            return Err(SpawnError::Closed);
        }
        answered.await.unwrap_or(Err(SpawnError::Closed))
    }
}

impl SpawnLoop {
    /// Serves until the last [`Spawner`] is gone. Must be called on the main thread, inside a runtime's context.
    pub fn serve(self) {
        for job in self.0 {
            job();
        }
    }
}

/// Runs one process in a session of its own, its output appended to its log.
fn run(part: &Part, inherited: &Inherited) -> Result<tokio::process::Child, SpawnError> {
    let open = || std::fs::OpenOptions::new().create(true).append(true).open(&part.log);
    let log_error = |source| SpawnError::Log { path: part.log.clone(), source };
    let output = open().map_err(log_error)?;
    let errors = output.try_clone().map_err(log_error)?;
    let program = part.command.first().map(String::as_str).unwrap_or_default();
    let mut command = std::process::Command::new(program);
    command.args(&part.command[1.min(part.command.len())..]);
    command.env_clear().envs(inherited).envs(&part.variables).current_dir(&part.directory);
    command.stdout(Stdio::from(output)).stderr(Stdio::from(errors));
    // The launcher of Kafka ends when its input closes; everything else has none.
    command.stdin(if part.kind == Kind::Kafka { Stdio::piped() } else { Stdio::null() });
    if drops_privileges(part) {
        command.uid(UNPRIVILEGED_ID).gid(UNPRIVILEGED_ID);
    }
    parent_death::in_own_session(&mut command, death_signal(&part.kind));
    let spawned = tokio::process::Command::from(command).spawn();
    spawned.map_err(|source| SpawnError::Run { command: program.into(), source })
}

/// Whether a part runs as [`UNPRIVILEGED_ID`] here.
pub(crate) fn drops_privileges(part: &Part) -> bool {
    matches!(part.kind, Kind::Postgres { .. }) && nix::unistd::geteuid().is_root()
}

/// The signal that ends a part at once. PostgreSQL is asked for an immediate shutdown, which also
/// releases its System V segment; SIGKILL would leave that behind for good.
pub(crate) fn death_signal(kind: &Kind) -> Signal {
    match kind {
        Kind::Postgres { .. } => Signal::SIGQUIT,
        Kind::Kafka | Kind::Redis | Kind::Program { .. } => Signal::SIGKILL,
    }
}

/// The signal that ends a part in good order. PostgreSQL would wait for its clients to leave at SIGTERM.
pub(crate) fn stop_signal(kind: &Kind) -> Signal {
    match kind {
        Kind::Postgres { .. } => Signal::SIGINT,
        Kind::Kafka | Kind::Redis | Kind::Program { .. } => Signal::SIGTERM,
    }
}

/// The variables that a part inherits; all others are planned.
pub(crate) const INHERITED: [&str; 4] = ["PATH", "HOME", "LANG", "TMPDIR"];

/// What a part inherits: from whoever asks for the environment, and not from whoever started the supervisor. Values
/// need not be UTF-8.
pub type Inherited = BTreeMap<String, OsString>;

/// What parts inherit from this process.
#[must_use]
pub fn inherited() -> Inherited {
    INHERITED.into_iter().filter_map(|name| Some((name.to_owned(), std::env::var_os(name)?))).collect()
}
