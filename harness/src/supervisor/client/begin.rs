//! Starts a supervisor and hears from it how that went.
//!
//! Deliberately absent: trying again; see [`Connection::open`](super::Connection::open).

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};

use super::super::serve::{IS_TAKEN, LISTENS};
use super::super::state::{House, STATE_VARIABLE, Workspace};
use crate::runtime::{ENVIRONMENT_VARIABLE, SUPERVISOR_VARIABLE};

/// How long a supervisor may take to begin.
pub(super) const BEGIN_DEADLINE: Duration = Duration::from_secs(60);

/// How far a supervisor has come that was started.
pub(super) enum Begun {
    /// It listens.
    Listens,
    /// Another one lives in its house, or is just leaving it.
    IsTaken,
}

/// Starts a supervisor and waits until it says that it listens, or that it cannot live there yet.
pub(super) async fn start(workspace: &Workspace, house: &House, binary: &Path) -> io::Result<Begun> {
    house.make().map_err(io::Error::other)?;
    let log = std::fs::OpenOptions::new().create(true).append(true).read(true).open(house.log());
    let mut log = match log {
        // Somebody sweeps after a dead one.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Begun::IsTaken),
        log => log?,
    };
    let mut command = tokio::process::Command::new(binary);
    command.arg("supervise").arg(house.path()).current_dir(&workspace.root);
    command.env(STATE_VARIABLE, workspace.base());
    // It is nobody's part: whoever starts it may run in an environment that ends before it.
    command.env_remove(ENVIRONMENT_VARIABLE).env_remove(SUPERVISOR_VARIABLE);
    // Settings of that shell for sessions with databases are not for everyone's.
    command.env_remove("PGOPTIONS");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::from(log.try_clone()?));
    let mut supervisor = command.spawn()?;
    let Some(output) = supervisor.stdout.take() else {
        return Err(io::Error::other("its output cannot be read"));
    };
    let mut line = String::new();
    let mut output = BufReader::new(output);
    tokio::time::timeout(BEGIN_DEADLINE, output.read_line(&mut line)).await??;
    match line.trim() {
        LISTENS => Ok(Begun::Listens),
        IS_TAKEN => Ok(Begun::IsTaken),
        _ => {
            // By the open file: its watcher removes its house.
            let said = crate::runtime::last_lines_of(&mut log);
            Err(io::Error::other(format!("it ended at once; its last lines:\n{said}")))
        }
    }
}
