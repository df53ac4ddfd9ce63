//! How the use of an environment can fail.

use super::RUNTIME_VARIABLE;
use crate::artifacts::PrepareError;
use crate::binaries::BinariesError;
use crate::docker::pinned::PinnedError;
use crate::observe::{ObserveError, SettleError};
use crate::runtime::Waited;
use crate::supervisor::client::ClientError;
use crate::supervisor::state::StateError;
use crate::wire::WireError;

/// Why there is no environment, or why it could not be used.
#[derive(Debug, thiserror::Error)]
pub enum EnvironmentError {
    /// Something that it is made from is missing.
    #[error("failed to prepare what an environment is made from")]
    Prepare(#[from] PrepareError),
    /// The list of images cannot be used.
    #[error("failed to choose the images of containers")]
    Images(#[from] PinnedError),
    /// The workspace's binaries are missing.
    #[error("failed to build the programs of the environment")]
    Binaries(#[from] BinariesError),
    /// The state directory cannot be used.
    #[error("failed to find the workspace")]
    State(#[from] StateError),
    /// The supervisor could not do it.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A fault was not done, or not taken back.
    #[error(transparent)]
    Fault(ClientError),
    /// The system did not come to rest.
    #[error("failed to settle")]
    Settle(#[from] SettleError),
    /// What happened could not be read.
    #[error("failed to observe")]
    Collect(#[from] ObserveError),
    /// A part did not come to the state that was waited for.
    #[error("failed to wait for a part")]
    Part(#[from] Waited),
    /// The brokers did not come to the state that was waited for.
    #[error("failed to wait for the brokers")]
    Brokers(#[from] WireError),
    /// A part that does not exist was asked for.
    #[error("there is no part {part}; the parts of this environment: {known}")]
    NoPart {
        /// What was asked for.
        part: String,
        /// The parts that there are.
        known: String,
    },
    /// A broker that does not exist was asked for its view.
    #[error("there is no broker {0}")]
    NoBroker(String),
    /// Nobody was asked.
    #[error("no broker was named whose view counts")]
    NoViewer,
    /// The description names no such group.
    #[error("the description names no consumer group {group}; those that it names: {known}")]
    NoGroup {
        /// What was asked for.
        group: String,
        /// The groups that it names.
        known: String,
    },
    /// Something was to be done to a service that runs elsewhere.
    #[error("{0} runs elsewhere: it can be neither ended nor started")]
    Elsewhere(String),
    /// `GREENROOM_RUNTIME` says something that nothing runs as.
    #[error("{RUNTIME_VARIABLE} is {0:?}; expected `process` or `docker`")]
    Runtime(String),
    /// A part ended that nobody wanted to end.
    #[error("{part} has ended ({status}), and the story has neither ended it nor waited for its end")]
    Ended {
        /// The part.
        part: String,
        /// How.
        status: String,
        /// Whether it is the system under test.
        is_under_test: bool,
    },
    /// A background task failed.
    #[error("failed to run a background task")]
    Task(#[from] tokio::task::JoinError),
}

impl EnvironmentError {
    /// Whether it tells of the environment, and nothing of the system in it.
    pub(crate) fn is_of_the_environment(&self) -> bool {
        match self {
            Self::Client(error) => !matches!(error, ClientError::Refused(_)),
            // Who shares a group is the system's affair.
            Self::Brokers(error) => !error.is_of_a_group(),
            Self::Collect(error) => error.is_of_the_environment(),
            Self::Settle(error) => matches!(error, SettleError::Client { .. }),
            Self::Prepare(_)
            | Self::Images(_)
            | Self::Binaries(_)
            | Self::State(_)
            | Self::Runtime(_)
            | Self::Fault(_)
            | Self::Task(_) => true,
            Self::Part(_)
            | Self::NoPart { .. }
            | Self::NoBroker(_)
            | Self::NoViewer
            | Self::NoGroup { .. }
            | Self::Elsewhere(_) => false,
            Self::Ended { is_under_test, .. } => !is_under_test,
        }
    }
}
