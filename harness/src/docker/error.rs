//! Why a container engine did not do what was asked, and what a person can do about it.

use std::io::ErrorKind;
use std::time::Duration;

use bollard::errors::Error;

/// Names another engine than the usual one.
pub(super) const HOST_VARIABLE: &str = "DOCKER_HOST";
/// The oldest API that is known to do: engine 20.10.
pub(super) const API_MIN: (usize, usize) = (1, 41);

/// What to do where no engine answers.
const ABSENT: &str = "start it (`systemctl start docker`, or `dockerd` by hand), or do without `--runtime docker`";

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
    #[error("there is no image {image}{}", for_part(part.as_deref()))]
    NoImage {
        /// The image.
        image: String,
        /// The part that was to run in it, where that is known.
        part: Option<String>,
    },
    /// An image is another one than it should be.
    #[error("the image {image}{} is not the one of {wanted}: here it is {found}", for_part(Some(part)))]
    OtherImage {
        /// The image.
        image: String,
        /// The part that was to run in it.
        part: String,
        /// Its digest, as it should be.
        wanted: String,
        /// Those that it is known by here.
        found: String,
    },
    /// Its containers could not use the environment's directory.
    #[error(
        "the users of the container engine's containers are not those of this machine: it is rootless, or remaps them"
    )]
    OtherUsers,
    /// The container whose network and process ids the others share has ended.
    #[error("the first container of the environment has ended")]
    NoFirst,
    /// The same, at once: nothing could run beside it.
    #[error(
        "the first container of the environment, of the image {image}, ended as soon as it was started, with exit code \
         {code}{}",
        if said.is_empty() { ", and said nothing".to_owned() } else { format!(": {said}") }
    )]
    Ended {
        /// Its image.
        image: String,
        /// Its exit code.
        code: i64,
        /// What it said.
        said: String,
    },
    /// Their process ids are others than ours.
    #[error("the processes of its containers are not seen from here")]
    Unseen,
    /// Nothing came of a start.
    #[error("the container engine did not start {what} in time")]
    Late {
        /// What was to start.
        what: String,
    },
    /// Containers are left.
    #[error("containers are left after {} s", .0.as_secs())]
    Left(Duration),
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
        self.known_advice().unwrap_or("the engine's own log says more")
    }

    /// What a person can do about it, where more is known than that the engine's own log says more.
    #[must_use]
    pub fn known_advice(&self) -> Option<&'static str> {
        let advice = match self {
            Self::Absent { .. } => ABSENT,
            Self::Forbidden { .. } => "join the group `docker`, or do without `--runtime docker`",
            Self::Elsewhere { .. } => {
                "name a socket (unix://PATH) or a loopback port (tcp://127.0.0.1:PORT) of this machine, or do without \
                 `--runtime docker`"
            }
            Self::TooOld { .. } => "update the engine, or do without `--runtime docker`",
            Self::NoImage { .. } => {
                "`cargo xtask images build` makes those named greenroom/…; get another one by `cargo xtask images pull` or \
                 `docker pull`, or mend its name in the list of images (docker/images.toml, or GREENROOM_IMAGES)"
            }
            Self::OtherImage { .. } => {
                "`cargo xtask images pull` fetches the one that is pinned; if the one that is here is right, pin it in the list \
                 of images (docker/images.toml, or GREENROOM_IMAGES)"
            }
            Self::OtherUsers => {
                "use an engine that root runs, without `userns-remap` (DOCKER_HOST names it), or do without \
                 `--runtime docker`"
            }
            Self::NoFirst => "end the environment and start it again; the engine may have been started anew meanwhile",
            Self::Ended { .. } => {
                "let its image be one that runs on this machine: `cargo xtask images build` makes those named greenroom/…; \
                 another one stands in the list of images (docker/images.toml, or GREENROOM_IMAGES)"
            }
            Self::Unseen => {
                "use an engine that runs on this machine and not in a virtual one; if this runs in a container itself, give that \
                 the machine's process ids (`--pid host`); or do without `--runtime docker`"
            }
            Self::Failed { source: Error::DockerResponseServerError { message: said, .. }, .. }
            | Self::Failed { source: Error::DockerStreamError { error: said }, .. } => return advice_on(said),
            Self::Failed { source, .. } if is_absent(source) => ABSENT,
            Self::Late { .. } | Self::Left(_) | Self::Failed { .. } => return None,
        };
        Some(advice)
    }
}

/// Which part an image is for.
fn for_part(part: Option<&str>) -> String {
    part.map_or_else(String::new, |part| format!(" for {part}"))
}

/// What can be done about a refusal that the engine tells in words only.
fn advice_on(said: &str) -> Option<&'static str> {
    let known = [
        ("no space left on device", "its disk is full: make room (`docker system df` says what takes it)"),
        ("address already in use", "another program listens there: end it, or what is left of a container of yours"),
        (
            "executable file not found",
            "its image does not hold the program of that part: mend the list of images (docker/images.toml, or \
             GREENROOM_IMAGES)",
        ),
        ("port is already allocated", "another container has that port: `docker ps` shows which"),
        (
            "bind source path does not exist",
            "it sees other directories than this machine has: containers share some, so the engine must run here",
        ),
    ];
    known.into_iter().find(|(words, _)| said.to_lowercase().contains(words)).map(|(_, advice)| advice)
}

/// Why the engine at this place could not be asked.
pub(super) fn unreachable(at: &str, source: Error) -> EngineError {
    if kinds(&source).any(|kind| kind == ErrorKind::PermissionDenied) {
        return EngineError::Forbidden { at: at.to_owned() };
    }
    EngineError::Absent { at: at.to_owned(), source }
}

/// Whether nobody has answered at all.
fn is_absent(source: &Error) -> bool {
    kinds(source).any(|kind| matches!(kind, ErrorKind::ConnectionRefused | ErrorKind::NotFound))
}

/// What the operating system has said, among the causes of an error.
fn kinds(source: &Error) -> impl Iterator<Item = ErrorKind> {
    let first: &(dyn std::error::Error + 'static) = source;
    let causes = std::iter::successors(Some(first), |error| error.source());
    causes.filter_map(|error| Some(error.downcast_ref::<std::io::Error>()?.kind()))
}

/// Why no container could be made of an image.
pub(super) fn missing_or_failed(image: &str, source: Error) -> EngineError {
    match source {
        Error::DockerResponseServerError { status_code: 404, message } if message.contains("No such image") => {
            EngineError::NoImage { image: image.to_owned(), part: None }
        }
        // Engines differ in the status that they say it with.
        Error::DockerResponseServerError { message, .. } if message.contains("No such container") => {
            EngineError::NoFirst
        }
        source => EngineError::Failed { action: "make a container".to_owned(), source },
    }
}

/// Why the engine could not do something.
pub(super) fn failed(action: &str) -> impl FnOnce(Error) -> EngineError + use<> {
    let action = action.to_owned();
    move |source| EngineError::Failed { action, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_engine_says_is_followed_by_what_can_be_done() {
        let advice = |message: &str| {
            let source = Error::DockerResponseServerError { status_code: 500, message: message.to_owned() };
            EngineError::Failed { action: "start a container".to_owned(), source }.advice()
        };
        for (said, expected) in [
            ("write /var/lib/docker/tmp/layer: no space left on device", "its disk is full: "),
            ("listen tcp4 127.18.0.1:9092: bind: address already in use", "another program listens there: "),
            ("Bind for 127.18.0.1:9092 failed: port is already allocated", "another container has that port: "),
            ("invalid mount config: bind source path does not exist: /dev/shm/x", "it sees other directories "),
            ("something else", "the engine's own log says more"),
        ] {
            assert!(advice(said).starts_with(expected), "{said}: {}", advice(said));
        }
    }
}
