//! Who consumes: waiting for the members of consumer groups that the description names.
//!
//! Deliberately absent: how far they are, which is part of [settling](crate::observe).

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::RangeBounds;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use super::{Environment, EnvironmentError, KafkaHandle, SETTLE_DEADLINE};
use crate::audit::Complaint;
use crate::report;
use crate::spec::ConsumerSpec;
use crate::wire;

/// How long the consumers of somebody else's service are waited for.
const JOIN_LIMIT: Duration = Duration::from_secs(30);

impl Environment {
    /// Gives the consumers of somebody else's service time to join their groups: one that begins at the end of a topic
    /// would never see what is sent before. That one has not joined by then is told and no failure, since it may join
    /// when there is something to consume.
    pub(super) async fn groups_without_members(&self) -> Vec<Complaint> {
        let (brokers, deadline) = (self.plan().brokers(), Instant::now() + JOIN_LIMIT);
        let joined = join_all(self.spec.settle.consumers.iter().map(async |consumer| {
            let topics = self.topics_of(consumer);
            let joined = wire::group_shared(&brokers, &consumer.group, &topics, &(1..), deadline).await;
            let absent = |error| Complaint { part: "kafka".to_owned(), line: report::chain(&error) };
            joined.err().map(absent)
        }));
        joined.await.into_iter().flatten().collect()
    }

    /// The topics of a consumer with their partitions.
    fn topics_of(&self, consumer: &ConsumerSpec) -> BTreeMap<String, u16> {
        let topics = self.plan().topics.iter().filter(|topic| consumer.topics.contains(&topic.name));
        topics.map(|topic| (topic.name.clone(), topic.partitions)).collect()
    }
}

impl KafkaHandle<'_> {
    /// Waits until so many members of a group that the description names (`settle.consumers`) share all partitions of
    /// its topics: they have joined, or the others' partitions have moved to them.
    ///
    /// # Errors
    /// The description has no such group, or it was otherwise for as long as settling may take; the error says how.
    pub async fn shared_by(
        self,
        group: &str,
        members: impl RangeBounds<usize> + Debug,
    ) -> Result<(), EnvironmentError> {
        let consumers = &self.0.spec().settle.consumers;
        let Some(found) = consumers.iter().find(|consumer| consumer.group == group) else {
            let known = consumers.iter().map(|consumer| consumer.group.clone()).collect::<Vec<_>>().join(", ");
            return Err(EnvironmentError::NoGroup { group: group.to_owned(), known });
        };
        let deadline = Instant::now() + SETTLE_DEADLINE;
        Ok(wire::group_shared(&self.0.plan().brokers(), group, &self.0.topics_of(found), &members, deadline).await?)
    }
}
