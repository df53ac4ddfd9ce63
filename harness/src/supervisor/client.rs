//! The other side of the supervisor: finds or starts it, asks it, holds a lease.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::UnixStream;

use super::protocol::{Action, Event, Incoming, Order, Outgoing, Request, Summary, sides};
use super::state::{House, StateError, Workspace};
use crate::plan::Plan;
use crate::report::Problem;

/// How long a supervisor may take to begin.
const BEGIN_DEADLINE: Duration = Duration::from_secs(20);

/// Why the supervisor could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The state directory cannot be used.
    #[error("failed to find the supervisor")]
    State(#[from] StateError),
    /// The supervisor could not be started.
    #[error("failed to start the supervisor {}; its log is {}", binary.display(), log.display())]
    Start {
        /// Its binary.
        binary: PathBuf,
        /// Its log.
        log: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The connection to it broke.
    #[error("lost the connection to the supervisor")]
    Lost {
        /// The cause.
        source: io::Error,
    },
    /// It could not do what it was asked.
    #[error("{0}")]
    Refused(Problem),
}

/// A connection to a supervisor.
#[derive(Debug)]
pub struct Connection {
    incoming: Incoming,
    outgoing: Outgoing,
    /// Requests whose answers have not come yet: more than none where a caller was cancelled.
    unanswered: u32,
}

/// An environment on loan. It ends when this is dropped, released, or its process dies in any way.
#[derive(Debug)]
pub struct Lease {
    connection: Connection,
    /// Everything that runs.
    pub plan: Plan,
    /// From the request until it was ready.
    pub took: Duration,
}

/// What the holder of a lease hears unasked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// A part has ended.
    PartEnded {
        /// The part.
        part: String,
        /// How.
        status: String,
    },
    /// The environment was ended by somebody else.
    Ended,
}

/// Asks the supervisor of this workspace and build for an environment, and starts the supervisor where none runs;
/// `step` hears of every event until the environment is lent.
///
/// # Errors
/// The supervisor cannot be started, or the environment did not start; nothing of it is left then.
pub async fn lease(
    workspace: &Workspace,
    binary: &Path,
    order: Order,
    mut step: impl FnMut(&Event),
) -> Result<Lease, ClientError> {
    let begun = Instant::now();
    loop {
        let mut heard = false;
        let listen = |event: &Event| {
            heard = true;
            step(event);
        };
        match Connection::open(workspace, binary).await?.lease(order.clone(), listen).await {
            // It was just ending, killed or for want of anyone who needed it: the next one is found or started.
            Err(ClientError::Lost { .. }) if !heard && begun.elapsed() < BEGIN_DEADLINE => {}
            lease => return lease,
        }
    }
}

impl Connection {
    /// Connects to the supervisor of this workspace and build; starts it where none runs.
    ///
    /// # Errors
    /// It cannot be started, or does not listen in time.
    pub async fn open(workspace: &Workspace, binary: &Path) -> Result<Self, ClientError> {
        let house = workspace.house(binary)?;
        let begun = Instant::now();
        loop {
            if let Ok(connection) = Self::to(&house).await {
                return Ok(connection);
            }
            // One of several clients starts it; the others find it when they get the lock.
            let waiting = workspace.clone();
            let locking = tokio::task::spawn_blocking(move || waiting.lock_start());
            let _lock = locking.await.map_err(|panic| ClientError::Lost { source: io::Error::other(panic) })??;
            if let Ok(connection) = Self::to(&house).await {
                return Ok(connection);
            }
            match start(workspace, &house, binary).await {
                Ok(()) => {}
                // One that is just ending still holds its house.
                Err(_) if begun.elapsed() < BEGIN_DEADLINE / 4 => {}
                Err(source) => {
                    return Err(ClientError::Start { binary: binary.to_owned(), log: house.log(), source });
                }
            }
        }
    }

    /// Connects to a supervisor that runs.
    ///
    /// # Errors
    /// None listens there.
    pub async fn to(house: &House) -> io::Result<Self> {
        let (incoming, outgoing) = sides(UnixStream::connect(house.socket()).await?);
        Ok(Self { incoming, outgoing, unanswered: 0 })
    }

    /// Asks for an environment; `step` hears of every event until it is lent.
    ///
    /// # Errors
    /// It did not start; nothing of it is left then.
    pub async fn lease(mut self, order: Order, mut step: impl FnMut(&Event)) -> Result<Lease, ClientError> {
        self.send(&Request::Start(Box::new(order))).await?;
        let mut plan = None;
        loop {
            let event = self.receive().await?;
            step(&event);
            match event {
                Event::Planned(planned) => plan = Some(*planned),
                Event::Lent { took_ms } => {
                    let missing = || Problem::new("the supervisor lent an environment without a plan");
                    let plan = plan.ok_or_else(|| ClientError::Refused(missing()))?;
                    return Ok(Lease { connection: self, plan, took: Duration::from_millis(took_ms) });
                }
                Event::Failed(problem) => return Err(ClientError::Refused(problem)),
                Event::Started { .. }
                | Event::Ready { .. }
                | Event::PartEnded { .. }
                | Event::Done
                | Event::Kept { .. }
                | Event::Status(_) => {}
            }
        }
    }

    /// All environments of this supervisor.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn status(&mut self) -> Result<Vec<Summary>, ClientError> {
        match self.ask(&Request::Status).await? {
            Event::Status(summaries) => Ok(summaries),
            other => Err(unexpected(&other)),
        }
    }

    /// Ends one environment, or all of them; returns when they are gone.
    ///
    /// # Errors
    /// There is no such environment, or the connection broke.
    pub async fn end(&mut self, environment: Option<String>) -> Result<(), ClientError> {
        self.ask(&Request::End { environment }).await.map(drop)
    }

    /// Does something to an environment that somebody else may hold; returns when it is done.
    ///
    /// # Errors
    /// There is no such environment, it could not be done, or the connection broke.
    pub async fn act(&mut self, environment: Option<String>, action: Action) -> Result<(), ClientError> {
        self.ask(&Request::Act { environment, action }).await.map(drop)
    }

    async fn ask(&mut self, request: &Request) -> Result<Event, ClientError> {
        // The supervisor gives up an environment whose holder asks again without waiting: what a caller that was
        // cancelled has left is awaited first.
        while self.unanswered > 0 {
            self.answer().await?;
        }
        self.unanswered += 1;
        self.send(request).await?;
        match self.answer().await? {
            Event::Failed(problem) => Err(ClientError::Refused(problem)),
            event => Ok(event),
        }
    }

    async fn answer(&mut self) -> Result<Event, ClientError> {
        loop {
            match self.receive().await? {
                // Unasked; the summary tells of it too.
                Event::PartEnded { .. } => {}
                event => {
                    self.unanswered -= 1;
                    return Ok(event);
                }
            }
        }
    }

    async fn send(&mut self, request: &Request) -> Result<(), ClientError> {
        self.outgoing.send(request).await.map_err(|source| ClientError::Lost { source })
    }

    async fn receive(&mut self) -> Result<Event, ClientError> {
        let event = self.incoming.next().await.map_err(|source| ClientError::Lost { source })?;
        event.ok_or_else(|| ClientError::Lost { source: io::ErrorKind::UnexpectedEof.into() })
    }
}

impl Lease {
    /// Gives the environment back; returns when its end is certain, not when it is complete.
    ///
    /// # Errors
    /// The connection broke, which ends the environment too.
    pub async fn release(mut self) -> Result<(), ClientError> {
        self.connection.ask(&Request::Release).await.map(drop)
    }

    /// Keeps logs, plan and description for a person, and says where.
    ///
    /// # Errors
    /// They cannot be written, or the connection broke.
    pub async fn keep(&mut self) -> Result<PathBuf, ClientError> {
        match self.connection.ask(&Request::Keep).await? {
            Event::Kept { directory } => Ok(directory),
            other => Err(unexpected(&other)),
        }
    }

    /// Does something to the environment; returns when it is done.
    ///
    /// # Errors
    /// It could not be done, or the connection broke.
    pub async fn act(&mut self, action: Action) -> Result<(), ClientError> {
        self.connection.act(None, action).await
    }

    /// How every part is.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn summary(&mut self) -> Result<Summary, ClientError> {
        let mut summaries = self.connection.status().await?;
        summaries.pop().ok_or_else(|| ClientError::Lost { source: io::ErrorKind::UnexpectedEof.into() })
    }

    /// Waits for what nobody asked for: a part that ends, or the environment that somebody else ends.
    ///
    /// # Errors
    /// The supervisor died, and the environment with it.
    pub async fn news(&mut self) -> Result<News, ClientError> {
        loop {
            match self.connection.receive().await? {
                Event::PartEnded { part, status } => return Ok(News::PartEnded { part, status }),
                _ if self.connection.unanswered > 0 => self.connection.unanswered -= 1,
                _ => return Ok(News::Ended),
            }
        }
    }
}

/// Asks the supervisor of an older build to end when its last lease ends. Does not wait.
pub(super) fn retire(house: &House) {
    use std::io::Write;
    let message = serde_json::to_vec(&Request::Retire).unwrap_or_default();
    if let Ok(mut stream) = std::os::unix::net::UnixStream::connect(house.socket()) {
        let _ = stream.write_all(&message).and_then(|()| stream.write_all(b"\n"));
    }
}

fn unexpected(event: &Event) -> ClientError {
    ClientError::Refused(Problem::new(format!("the supervisor answered something else: {event:?}")))
}

/// Starts a supervisor and waits until it says that it listens.
async fn start(workspace: &Workspace, house: &House, binary: &Path) -> io::Result<()> {
    house.make().map_err(io::Error::other)?;
    let log = std::fs::OpenOptions::new().create(true).append(true).open(house.log())?;
    let mut command = tokio::process::Command::new(binary);
    command.arg("supervise").arg(house.path()).current_dir(&workspace.root);
    command.env(super::state::STATE_VARIABLE, workspace.base());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::from(log));
    let mut supervisor = command.spawn()?;
    let Some(output) = supervisor.stdout.take() else {
        return Err(io::Error::other("its output cannot be read"));
    };
    let mut line = String::new();
    let mut output = BufReader::new(output);
    tokio::time::timeout(BEGIN_DEADLINE, output.read_line(&mut line)).await??;
    if line.trim() == "ready" {
        return Ok(());
    }
    let said = crate::runtime::last_lines(&house.log());
    Err(io::Error::other(format!("it ended at once; its last lines:\n{said}")))
}
