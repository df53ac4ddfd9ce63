//! Why a container engine did not do what was asked, and what a person can do about it.

use bollard::errors::Error;

/// Names another engine than the usual one.
pub(super) const HOST_VARIABLE: &str = "DOCKER_HOST";
/// The oldest API that is known to do: engine 20.10.
pub(super) const API_MIN: (usize, usize) = (1, 41);

/// Why the engine did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// None listens.
    #[error("no container engine answers at {at}")]
    Absent {
        /// Where.
        at: String,
        /// The cause.
        source: Error,
    },
    /// It may not be asked.
    #[error("permission denied to ask the container engine at {at}")]
    Forbidden {
        /// Where.
        at: String,
    },
    /// It is on another machine.
    #[error("{HOST_VARIABLE} is {host}, but containers share directories with the supervisor: the engine must be here")]
    Elsewhere {
        /// Where.
        host: String,
    },
    /// It speaks an API that is too old.
    #[error("the container engine speaks API {found}, and {}.{} is needed (Docker 20.10)", API_MIN.0, API_MIN.1)]
    TooOld {
        /// What it speaks.
        found: String,
    },
    /// An image is missing.
    #[error("there is no image {image}")]
    NoImage {
        /// The image.
        image: String,
    },
    /// Something failed.
    #[error("the container engine failed to {action}")]
    Failed {
        /// What was asked.
        action: String,
        /// The cause.
        source: Error,
    },
}

impl EngineError {
    /// What a person can do about it.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Absent { .. } => {
                "start it (`systemctl start docker`, or `dockerd` by hand), or do without `--runtime docker`"
            }
            Self::Forbidden { .. } => "join the group `docker`, or do without `--runtime docker`",
            Self::Elsewhere { .. } => "name a socket of this machine (unix://PATH), or do without `--runtime docker`",
            Self::TooOld { .. } => "update the engine, or do without `--runtime docker`",
            Self::NoImage { .. } => "`cargo xtask images build` makes ours; get another one with `docker pull`",
            Self::Failed { .. } => "the engine's own log says more",
        }
    }
}

/// Why the engine at this place could not be asked.
pub(super) fn unreachable(at: &str, source: Error) -> EngineError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&source);
    while let Some(error) = cause {
        if error.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == std::io::ErrorKind::PermissionDenied) {
            return EngineError::Forbidden { at: at.to_owned() };
        }
        cause = error.source();
    }
    EngineError::Absent { at: at.to_owned(), source }
}

/// Why no container could be made of an image.
pub(super) fn missing_or_failed(image: &str, source: Error) -> EngineError {
    match source {
        Error::DockerResponseServerError { status_code: 404, .. } => EngineError::NoImage { image: image.to_owned() },
        source => EngineError::Failed { action: "make a container".to_owned(), source },
    }
}

/// Why the engine could not do something.
pub(super) fn failed(action: &str) -> impl FnOnce(Error) -> EngineError + use<> {
    let action = action.to_owned();
    move |source| EngineError::Failed { action, source }
}
