//! What greenroom itself asks a Kafka cluster while it makes it ready: are all brokers listed,
//! make these topics, is a record acknowledged, load the coordinators; and what a story waits for while it runs:
//! leaders, replicas in sync, members of a group. `observe::lag` asks how far groups are through the same connections.
//!
//! It speaks the wire protocol over plain TCP because librdkafka's own timers cost 0.1 to 1 s on each
//! of these steps, several times what the brokers need. Start reading at [`prepare`], which runs all of it;
//! `connection` sends one request and reads its answer, `call` pins the protocol versions.
//!
//! Deliberately absent: a general client. There is no TLS or SASL, no version negotiation (each request
//! has one version that Kafka 4 accepts, KIP-896), no batching, no compression, no offset or group
//! management beyond a single throw-away member, and no retry beyond the caller's deadline.
//! Scenarios read and write records with a real client library.

mod call;
mod cluster;
mod connection;
mod consume;
mod error;
mod group;
mod leader;
mod members;
mod produce;
mod topics;
mod until;
mod warm;

#[cfg(test)]
mod tests;

use std::net::SocketAddrV4;
use std::time::Duration;

use tokio::time::Instant;

pub(crate) use cluster::{brokers_of, topic_name};
pub(crate) use connection::Peer;
pub(crate) use group::{Coordinates, coordinator};

pub use cluster::{Broker, ClusterView, cluster_listed, cluster_listed_by};
pub use consume::{FirstRecord, first_record_through_new_group};
pub use error::{DecodeError, Missing, WireError};
pub use leader::{partition_leader, quorum_leader};
pub use members::group_shared;
pub use produce::acknowledge;
pub use topics::{Topic, create_topics, replicas_in_sync};
pub use warm::{InternalTopics, READY_TOPIC, Warmed, Warmth, make_topics, warm};

/// How long each step of [`prepare`] took.
#[derive(Clone, Copy, Debug)]
pub struct Preparation {
    /// Until every broker listed every broker.
    pub listed: Duration,
    /// From then until every topic had its leaders and replicas on every broker.
    pub topics: Duration,
    /// What came after it.
    pub warmth: Warmth,
}

/// Takes a cluster from "processes spawned" to "the first real operation of a client succeeds at once":
/// waits until every broker lists all of them, makes `topics`, and warms what clients meet first.
///
/// Who has clients to start makes the calls itself and starts them before the last, [`Warmed::complete`].
///
/// # Errors
/// The first step that fails for good, or that was still failing at `deadline`.
pub async fn prepare(
    brokers: &[SocketAddrV4],
    topics: &[Topic],
    internal: &InternalTopics,
    deadline: Instant,
) -> Result<Preparation, WireError> {
    let began = Instant::now();
    cluster_listed(brokers, deadline).await?;
    let listed = began.elapsed();
    Box::pin(make_topics(brokers, topics, internal, deadline)).await?;
    let made = began.elapsed();
    let warmed = Box::pin(warm(brokers, deadline)).await?;
    let warmth = Box::pin(warmed.complete(deadline)).await?;
    Ok(Preparation { listed, topics: made.saturating_sub(listed), warmth })
}
