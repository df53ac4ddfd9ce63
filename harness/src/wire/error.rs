//! Why a question to the brokers got no usable answer.

use std::fmt;
use std::io;
use std::net::SocketAddrV4;

use kafka_protocol::error::ResponseError;

/// A request to a broker that failed, or a state that was not reached by its deadline.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// An empty list of brokers was given.
    #[error("no broker to ask")]
    NoBrokers,
    /// Nothing accepts connections at the broker's address.
    #[error("broker {broker} does not accept connections")]
    Unreachable {
        /// The address that was tried.
        broker: SocketAddrV4,
        /// What the operating system said.
        source: io::Error,
    },
    /// The connection broke, or was closed, between a request and its answer.
    #[error("{request} to broker {broker} was cut off")]
    CutOff {
        /// The broker asked.
        broker: SocketAddrV4,
        /// The request's name in the Kafka protocol.
        request: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
    /// The broker accepted the request and did not answer in time.
    #[error("{request} to broker {broker} was not answered within {waited_ms} ms")]
    Unanswered {
        /// The broker asked.
        broker: SocketAddrV4,
        /// The request's name in the Kafka protocol.
        request: &'static str,
        /// How long the answer was awaited.
        waited_ms: u128,
    },
    /// What came back is not an answer of the pinned version.
    #[error("the answer of broker {broker} to {request} cannot be read")]
    Unreadable {
        /// The broker asked.
        broker: SocketAddrV4,
        /// The request's name in the Kafka protocol.
        request: &'static str,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// The broker answered with a Kafka error code.
    #[error("broker {broker} answered {request} of {subject} with {}", screaming(*code))]
    Refused {
        /// The broker asked.
        broker: SocketAddrV4,
        /// The request's name in the Kafka protocol.
        request: &'static str,
        /// The topic, group or transactional id that it was about.
        subject: String,
        /// The error code.
        code: ResponseError,
    },
    /// A broker's metadata does not list every broker yet.
    #[error("{}", list(.0))]
    Unlisted(Vec<Missing>),
    /// A topic is not as asked for on a broker's metadata yet.
    #[error("broker {broker} sees topic {topic} {state}")]
    TopicNotReady {
        /// The broker asked.
        broker: SocketAddrV4,
        /// The topic's name.
        topic: String,
        /// What it sees of it.
        state: String,
    },
    /// A group's members do not share its topics as asked for yet.
    #[error("broker {broker} sees group {group} {why}")]
    GroupNotShared {
        /// The group's coordinator.
        broker: SocketAddrV4,
        /// The group.
        group: String,
        /// What it sees of it.
        why: String,
    },
    /// A topic exists with another shape than the one asked for.
    #[error("topic {topic} exists with {found} instead of {asked}")]
    TopicDiffers {
        /// The topic's name.
        topic: String,
        /// Its partitions and replicas.
        found: String,
        /// What was asked for.
        asked: String,
    },
    /// The deadline passed first. The source is the last failure seen, if any attempt was completed.
    #[error("{awaited} not reached after {waited_ms} ms")]
    Deadline {
        /// What was waited for.
        awaited: String,
        /// How long it was awaited.
        waited_ms: u128,
        /// The last attempt's failure.
        source: Option<Box<WireError>>,
    },
}

/// One broker's view at the moment when the deadline passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The broker asked.
    pub viewer: SocketAddrV4,
    /// Brokers that its metadata did not list.
    pub unlisted: Vec<SocketAddrV4>,
    /// Whether its metadata named a controller.
    pub controller: bool,
    /// Why it gave no metadata at all, if it gave none.
    pub silent: Option<String>,
}

/// An answer that breaks the protocol.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// A length field that is negative or beyond what any answer here needs.
    #[error("frame of {0} bytes")]
    FrameLength(i32),
    /// An answer to some other request.
    #[error("correlation id {found} instead of {expected}")]
    Correlation {
        /// The id of the request.
        expected: i32,
        /// The id of the answer.
        found: i32,
    },
    /// The answer leaves out what was asked about.
    #[error("no entry for {0}")]
    Absent(String),
    /// Bytes that are no such message.
    #[error("malformed message")]
    Malformed(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl WireError {
    /// Whether it tells, in the end, of who shares a group.
    pub(crate) fn is_of_a_group(&self) -> bool {
        match self {
            Self::GroupNotShared { .. } => true,
            Self::Deadline { source: Some(last), .. } => last.is_of_a_group(),
            _ => false,
        }
    }

    /// Whether the same question may get another answer a moment later, while a cluster is starting.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::CutOff { .. }
            | Self::Unanswered { .. }
            | Self::Unlisted(_)
            | Self::TopicNotReady { .. }
            | Self::GroupNotShared { .. } => true,
            // Two that Kafka calls final are passing states of a cluster that is still starting; after the other two a
            // member, in whose place a late request of its own has put another, joins again.
            Self::Refused { code, .. } => {
                code.is_retriable()
                    || matches!(
                        code,
                        ResponseError::BrokerNotAvailable
                            | ResponseError::ConcurrentTransactions
                            | ResponseError::UnknownMemberId
                            | ResponseError::FencedInstanceId
                    )
            }
            Self::NoBrokers | Self::Unreadable { .. } | Self::TopicDiffers { .. } | Self::Deadline { .. } => false,
        }
    }
}

fn list(missing: &[Missing]) -> String {
    let mut views: Vec<String> = missing.iter().map(Missing::to_string).collect();
    views.sort();
    views.join("; ")
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "broker {}", self.viewer)?;
        if let Some(reason) = &self.silent {
            return write!(f, " gave no metadata ({reason})");
        }
        if !self.unlisted.is_empty() {
            let unlisted: Vec<String> = self.unlisted.iter().map(SocketAddrV4::to_string).collect();
            write!(f, " does not list {}", unlisted.join(", "))?;
        }
        if !self.controller {
            let and = if self.unlisted.is_empty() { "" } else { " and" };
            write!(f, "{and} names no controller")?;
        }
        Ok(())
    }
}

/// The name that Kafka's documents and logs use: `COORDINATOR_NOT_AVAILABLE`, not `CoordinatorNotAvailable`.
fn screaming(code: ResponseError) -> String {
    if let ResponseError::Unknown(code) = code {
        return format!("unknown error code {code}");
    }
    let mut name = String::new();
    for letter in code.to_string().chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}
