//! The other side of the supervisor: finds or starts it, asks it, holds a lease.

mod begin;

use std::future::ready;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::net::UnixStream;

use super::protocol::{Action, Event, Incoming, MessageError, Order, Outgoing, Request, Summary, sides};
use super::state::{House, StateError, Workspace};
use crate::attempts::Attempts;
use crate::plan::Plan;
use crate::report::Problem;
use begin::{BEGIN_DEADLINE, Begun, start};

/// How long one that is ending may take to leave its house.
const TAKEN_DEADLINE: Duration = Duration::from_secs(60);
/// Time between two tries to find or start one.
const TRY_EVERY: Duration = Duration::from_millis(10);

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
    #[error("lost the connection to the supervisor (if it has died, its log is {})", log.display())]
    Lost {
        /// Where its log is kept.
        log: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// What was to be said cannot be, or what it said was not understood.
    #[error("failed to speak with the supervisor, which may be of another build")]
    Speech {
        /// The cause.
        source: MessageError,
    },
    /// The environment was taken away.
    #[error("the environment was ended by another command")]
    Ended,
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
    /// Whether the environment that it holds was ended by somebody else.
    ended: bool,
    /// Where the supervisor lives.
    house: House,
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
    let mut attempts = Attempts::new(TRY_EVERY, Instant::now() + BEGIN_DEADLINE);
    loop {
        let in_time = attempts.make(ready(())).await.is_some();
        let mut heard = false;
        let listen = |event: &Event| {
            heard = true;
            step(event);
        };
        match Connection::open(workspace, binary).await?.lease(order.clone(), listen).await {
            // It was just ending, killed or for want of anyone who needed it: the next one is found or started.
            Err(ClientError::Lost { source, .. }) if !heard && in_time && is_of_the_end(&source) => {}
            lease => return lease,
        }
    }
}

/// Whether the other side has just ended.
fn is_of_the_end(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    [BrokenPipe, ConnectionReset, UnexpectedEof].contains(&error.kind())
}

impl Connection {
    /// Connects to the supervisor of this workspace and build; starts it where none runs.
    ///
    /// # Errors
    /// It cannot be started, or does not listen in time.
    pub async fn open(workspace: &Workspace, binary: &Path) -> Result<Self, ClientError> {
        let house = workspace.house(binary)?;
        let mut attempts = Attempts::new(TRY_EVERY, Instant::now() + TAKEN_DEADLINE);
        loop {
            let in_time = attempts.make(ready(())).await.is_some();
            if let Ok(connection) = Self::to(&house).await {
                return Ok(connection);
            }
            // One of several clients starts it; the others find it when they get the lock.
            let waiting = workspace.clone();
            let locking = tokio::task::spawn_blocking(move || waiting.lock_start());
            let _lock = locking.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
            if let Ok(connection) = Self::to(&house).await {
                return Ok(connection);
            }
            let source = match start(workspace, &house, binary).await {
                Ok(Begun::Listens) => continue,
                // One that is just ending still holds its house.
                Ok(Begun::IsTaken) if in_time => continue,
                Ok(Begun::IsTaken) => io::Error::other("another one that does not answer still has its directory"),
                Err(source) => source,
            };
            // Its watcher may have swept after it.
            let log = Some(house.log()).filter(|log| log.exists()).unwrap_or_else(|| house.last_log());
            return Err(ClientError::Start { binary: binary.to_owned(), log, source });
        }
    }

    /// Connects to a supervisor that runs.
    ///
    /// # Errors
    /// None listens there.
    pub async fn to(house: &House) -> io::Result<Self> {
        let (incoming, outgoing) = sides(UnixStream::connect(house.socket()).await?);
        Ok(Self { incoming, outgoing, unanswered: 0, ended: false, house: house.clone() })
    }

    /// Where the supervisor lives.
    #[must_use]
    pub fn house(&self) -> &House {
        &self.house
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
                | Event::Ended
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
        let sent = self.outgoing.send(request).await;
        sent.map_err(|error| self.failed(error))
    }

    async fn receive(&mut self) -> Result<Event, ClientError> {
        if self.ended {
            return Err(ClientError::Ended);
        }
        let event = self.incoming.next().await;
        let event =
            event.map_err(|error| self.failed(error))?.ok_or_else(|| self.lost(io::ErrorKind::UnexpectedEof.into()))?;
        self.ended = matches!(event, Event::Ended);
        if self.ended { Err(ClientError::Ended) } else { Ok(event) }
    }

    fn failed(&self, error: MessageError) -> ClientError {
        match error {
            MessageError::Broken(source) => self.lost(source),
            source => ClientError::Speech { source },
        }
    }

    fn lost(&self, source: io::Error) -> ClientError {
        // What it said before it turned away is the reason.
        if self.ended { ClientError::Ended } else { ClientError::Lost { log: self.house.last_log(), source } }
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
        summaries.pop().ok_or_else(|| self.connection.lost(io::ErrorKind::UnexpectedEof.into()))
    }

    /// Waits for what nobody asked for: a part that ends, or the environment that somebody else ends.
    ///
    /// # Errors
    /// The supervisor died, and the environment with it.
    pub async fn news(&mut self) -> Result<News, ClientError> {
        loop {
            match self.connection.receive().await {
                Ok(Event::PartEnded { part, status }) => return Ok(News::PartEnded { part, status }),
                Err(ClientError::Ended) => return Ok(News::Ended),
                // The answer to what a cancelled caller has asked.
                Ok(_) => self.connection.unanswered = self.connection.unanswered.saturating_sub(1),
                Err(error) => return Err(error),
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
