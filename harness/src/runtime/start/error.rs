//! Why a start failed, and what a person can do about it.

use std::io::ErrorKind;
use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::process::ExitStatus;

use crate::docker::EngineError;
use crate::observe::history;
use crate::runtime::{SpawnError, Waited};
use crate::wire::WireError;

/// Why an environment did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A part ended while it was starting.
    #[error("{part} ended while starting ({status})\nits last lines, from {}:\n{tail}", log.display())]
    Exited {
        /// The part.
        part: String,
        /// How it ended.
        status: ExitStatus,
        /// Its log.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },
    /// A part was not ready by the deadline.
    #[error("{part} was not ready in time\nits last lines, from {}:\n{tail}", log.display())]
    NotReady {
        /// The part.
        part: String,
        /// What was missing.
        source: Waited,
        /// Its log.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },
    /// The brokers were not ready by the deadline.
    #[error("Kafka was not ready in time\nthe last lines of {part}, from {}:\n{tail}", log.display())]
    Kafka {
        /// One of its parts.
        part: String,
        /// What was missing.
        source: Box<WireError>,
        /// Its log.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },
    /// A part could not be run at all.
    #[error("failed to start {part}")]
    Spawn {
        /// The part.
        part: String,
        /// The cause.
        source: SpawnError,
    },
    /// The container that all others stand in could not be started.
    #[error("failed to start the first container")]
    Container {
        /// The cause.
        source: SpawnError,
    },
    /// A program of the plan does not exist.
    #[error("the program of {part} does not exist: {}", path.display())]
    NoProgram {
        /// The part.
        part: String,
        /// Where it should lie.
        path: PathBuf,
    },
    /// There is nothing to start again.
    #[error("there is no part {part}; the parts are {known}")]
    Unknown {
        /// What was named.
        part: String,
        /// What could be.
        known: String,
    },
    /// A part that was killed for a restart has not ended.
    #[error("{part} still runs, {waited_ms} ms after it was killed")]
    Lingers {
        /// The part.
        part: String,
        /// How long that was waited for, in milliseconds.
        waited_ms: u128,
    },
    /// A directory or file of the plan could not be made.
    #[error("failed to prepare {}", path.display())]
    Prepare {
        /// The directory or file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A link could not listen.
    #[error("failed to listen at {address} for a link")]
    Link {
        /// Where.
        address: SocketAddrV4,
        /// The cause.
        source: std::io::Error,
    },
    /// The recording of transitions was not installed by the deadline.
    #[error(
        "the recording of transitions was not installed in PostgreSQL in time, as where something holds a lock on {tables}"
    )]
    HistoryLate {
        /// The tables whose transitions are to be recorded.
        tables: String,
    },
    /// The recording of transitions could not be installed.
    #[error("failed to install the recording of transitions in PostgreSQL")]
    History {
        /// The cause.
        source: history::HistoryError,
    },
}

impl StartError {
    /// Whether it asks for what does not exist, so that nothing was started of which anything could be kept.
    #[must_use]
    pub fn is_of_the_description(&self) -> bool {
        match self {
            Self::NoProgram { .. } => true,
            Self::Container { source: SpawnError::Engine(source) } => {
                matches!(source, EngineError::NoImage { .. } | EngineError::OtherImage { .. })
            }
            _ => false,
        }
    }

    /// What a person can do about it, where that is known.
    #[must_use]
    pub fn advice(&self) -> Option<&'static str> {
        let full = [ErrorKind::StorageFull, ErrorKind::QuotaExceeded];
        match self {
            Self::Prepare { source, .. } if full.contains(&source.kind()) => Some(
                "the disk or the memory behind it is full: make room, or set GREENROOM_STATE to a directory with 500 MB",
            ),
            Self::Exited { tail, .. } | Self::NotReady { tail, .. } | Self::Kafka { tail, .. }
                if tail.contains("No space left on device") =>
            {
                Some("the disk is full: make room, or set GREENROOM_STATE to a directory with 500 MB")
            }
            Self::NoProgram { .. } => {
                Some("name in the description a `binary` that this workspace builds, or a `command` that is there")
            }
            Self::Spawn { source: SpawnError::Engine(source), .. }
            | Self::Container { source: SpawnError::Engine(source) } => Some(source.advice()),
            _ => None,
        }
    }
}
