//! What a client and the supervisor say to one another: one JSON value a line over a Unix socket.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use crate::link::{Change, Route};
use crate::plan::{Plan, Runtime, Scope};
use crate::report::Problem;
use crate::runtime::{Inherited, PartState};
use crate::spec::Spec;
use crate::toolchain::Toolchain;

/// Longest message: a plan of a hundred parts has some hundred kilobytes.
const MESSAGE_BYTES_MAX: u64 = 16 << 20;

/// What a client asks.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Start an environment and lend it for as long as this connection lasts.
    Start(Box<Order>),
    /// On a connection with a lease: take the environment away. Answered as soon as its end is certain.
    Release,
    /// On a connection with a lease: keep its logs, plan and description. Answered with [`Event::Kept`].
    Keep,
    /// Do something to an environment.
    Act {
        /// Which; absent on a connection with a lease, which has its own.
        environment: Option<String>,
        /// What.
        action: Action,
    },
    /// Tell of all environments.
    Status,
    /// End one environment, or all of them, whoever holds the lease.
    End {
        /// Which; all where absent.
        environment: Option<String>,
    },
    /// A newer build has taken over: end when the last lease ends.
    Retire,
}

/// What can be done to a running environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Send a signal to a part.
    Signal {
        /// The part.
        part: String,
        /// Which.
        signal: PartSignal,
    },
    /// Start a part again, at the same addresses; one that runs is killed first.
    Restart {
        /// The part.
        part: String,
    },
    /// Break or heal ways from clients to parts. Of several that are healed, some may be whole already.
    Link {
        /// Which.
        routes: Vec<Route>,
        /// What becomes of it.
        change: Change,
    },
    /// Have a program do something wrong that only it can; see [`RequestSpec`](crate::spec::RequestSpec).
    Ask {
        /// The program, or one instance of it.
        part: String,
        /// What, as its description names it.
        fault: String,
        /// The value that the fault takes, as a person writes it.
        value: Option<String>,
    },
}

/// What can be done to a part by a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PartSignal {
    /// SIGTERM: end in good order; to PostgreSQL SIGINT, its fast shutdown, which does not wait for clients.
    Stop,
    /// SIGKILL; to PostgreSQL SIGQUIT, its immediate shutdown, which loses as much and leaves no shared memory behind.
    Kill,
    /// SIGSTOP.
    Pause,
    /// SIGCONT.
    Resume,
}

/// An environment that a client wants.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Order {
    /// What should exist.
    pub spec: Spec,
    /// Whether somebody else's [service](crate::service) is in it, which no description says.
    pub of_somebody_else: bool,
    /// Which parts of it.
    pub scope: Scope,
    /// What they run as.
    pub runtime: Runtime,
    /// Where the container engine listens that would run them, as [`docker::host`](crate::docker::host) says.
    pub engine: String,
    /// What it is made from.
    pub toolchain: Toolchain,
    /// Where the workspace's binaries lie.
    pub binaries: PathBuf,
    /// What its parts find of the environment of whoever asks, as [`inherited`](crate::runtime::inherited) says.
    pub inherited: Inherited,
    /// Where logs, plan and description are kept when something fails.
    pub evidence: PathBuf,
    /// Who asks, for a person who reads `status`.
    pub holder: String,
    /// How long the start may take, in milliseconds.
    pub deadline_ms: u64,
}

/// What the supervisor says.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// The plan is made; its parts are about to start.
    Planned(Box<Plan>),
    /// A part's process runs.
    Started {
        /// The part.
        part: String,
    },
    /// A part is ready.
    Ready {
        /// The part.
        part: String,
        /// From its start, in milliseconds.
        took_ms: u64,
    },
    /// The environment is ready and yours.
    Lent {
        /// From the request, in milliseconds.
        took_ms: u64,
    },
    /// Unasked, to the holder of a lease: a part has ended.
    PartEnded {
        /// The part.
        part: String,
        /// How.
        status: String,
    },
    /// Unasked, to the holder of a lease, and the last: somebody else has ended the environment.
    Ended,
    /// The request was carried out.
    Done,
    /// What was asked to be kept lies here.
    Kept {
        /// The directory.
        directory: PathBuf,
    },
    /// It was not carried out.
    Failed(Problem),
    /// All environments.
    Status(Vec<Summary>),
}

/// One environment, as `status` tells of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Its identity.
    pub environment: String,
    /// Name of its description.
    pub name: String,
    /// `starting`, `ready`, `degraded` where a part has ended or stands still, or `ending`.
    pub state: String,
    /// Who holds the lease.
    pub holder: String,
    /// When it was asked for, in seconds since 1970.
    pub since_s: u64,
    /// What clients are told.
    pub variables: BTreeMap<String, String>,
    /// Its parts.
    pub parts: Vec<PartSummary>,
    /// The faults of its links that are in force.
    pub faults: Vec<String>,
}

/// One part, as `status` tells of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartSummary {
    /// Its name.
    pub name: String,
    /// What it is.
    pub version: String,
    /// Where it listens.
    pub addresses: Vec<std::net::SocketAddrV4>,
    /// What it does.
    pub state: PartState,
    /// Its process id, once it was started.
    pub pid: Option<i32>,
    /// From its start until it was ready, in milliseconds.
    pub ready_ms: Option<u64>,
    /// Its log.
    pub log: PathBuf,
}

/// Why a message did not come or go.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// The other side has gone.
    #[error("the connection broke")]
    Broken(#[from] std::io::Error),
    /// What came is nothing that this build knows.
    #[error("the message is not understood")]
    Unknown(#[source] serde_json::Error),
    /// It cannot be put into words.
    #[error("the message cannot be written")]
    Unsayable(#[source] serde_json::Error),
}

/// The reading side of a connection.
#[derive(Debug)]
pub struct Incoming {
    reader: BufReader<OwnedReadHalf>,
    /// What has come of the next message.
    line: Vec<u8>,
}

/// The writing side of a connection.
#[derive(Debug)]
pub struct Outgoing(OwnedWriteHalf);

/// Both sides of a connection.
#[must_use]
pub fn sides(stream: tokio::net::UnixStream) -> (Incoming, Outgoing) {
    let (reader, writer) = stream.into_split();
    (Incoming { reader: BufReader::new(reader), line: Vec::new() }, Outgoing(writer))
}

impl Incoming {
    /// The next message; `None` when the other side has gone. Cancelling it loses nothing.
    ///
    /// # Errors
    /// The connection broke, or what came is no such message; then the next one may be.
    pub async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, MessageError> {
        let had = u64::try_from(self.line.len()).unwrap_or(u64::MAX);
        let rest = MESSAGE_BYTES_MAX.saturating_sub(had);
        if (&mut self.reader).take(rest).read_until(b'\n', &mut self.line).await? == 0 {
            return Ok(None);
        }
        let line = std::mem::take(&mut self.line);
        if !line.ends_with(b"\n") {
            // The other side died in the middle of it, or says more than anyone has to say.
            return Err(MessageError::Broken(std::io::ErrorKind::UnexpectedEof.into()));
        }
        serde_json::from_slice(&line).map(Some).map_err(MessageError::Unknown)
    }
}

impl Outgoing {
    /// Sends one message.
    ///
    /// # Errors
    /// The other side has gone, or it cannot be said, such as a path that is not UTF-8; then nothing was sent.
    pub async fn send<T: Serialize>(&mut self, message: &T) -> Result<(), MessageError> {
        let mut line = serde_json::to_vec(message).map_err(MessageError::Unsayable)?;
        line.push(b'\n');
        Ok(self.0.write_all(&line).await?)
    }
}
