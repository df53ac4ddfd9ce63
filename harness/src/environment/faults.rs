//! What a story can do to the parts of its environment and to the ways between them, in one line each.
//!
//! Everything ends with the environment: the next one is as new.
//!
//! Deliberately absent: faults inside a part. What a system under test can be asked to do to itself is its own affair.

use std::time::Duration;

use super::{Environment, EnvironmentError};
use crate::link::{Change, Fault, Flow, Route};
use crate::runtime::PartState;
use crate::scenario::eventually;
use crate::supervisor::protocol::{Action, PartSignal};
use crate::wire;

/// How long brokers may take to miss one of them, to have it back, or to elect.
const BROKERS_DEADLINE: Duration = Duration::from_secs(90);

/// A part of a running environment.
#[derive(Debug)]
#[must_use = "nothing happens to a part before one of its verbs is called"]
pub struct PartHandle<'a> {
    environment: &'a mut Environment,
    name: String,
}

/// The brokers of a running environment.
#[derive(Debug)]
#[must_use = "nothing happens to a broker before one of its verbs is called"]
pub struct KafkaHandle<'a>(pub(super) &'a mut Environment);

/// The way from a client to a part.
#[derive(Debug)]
#[must_use = "nothing happens to a link before one of its verbs is called"]
pub struct LinkHandle<'a> {
    environment: &'a mut Environment,
    route: Route,
    flow: Flow,
}

impl Environment {
    /// A part by its name, such as `shop` or `shop-2`.
    pub fn part(&mut self, name: &str) -> PartHandle<'_> {
        PartHandle { environment: self, name: name.to_owned() }
    }

    /// The database.
    pub fn postgres(&mut self) -> PartHandle<'_> {
        self.part("postgres")
    }

    /// The cache.
    pub fn redis(&mut self) -> PartHandle<'_> {
        self.part("redis")
    }

    /// The brokers.
    pub fn kafka(&mut self) -> KafkaHandle<'_> {
        KafkaHandle(self)
    }

    /// The way from one client, a part or [`OUTSIDE`](crate::link::OUTSIDE), to a part.
    pub fn link(&mut self, from: &str, to: &str) -> LinkHandle<'_> {
        let route = Route { from: Some(from.to_owned()), to: to.to_owned() };
        LinkHandle { environment: self, route, flow: Flow::Both }
    }

    /// The ways of all clients to a part.
    pub fn links_to(&mut self, to: &str) -> LinkHandle<'_> {
        LinkHandle { environment: self, route: Route { from: None, to: to.to_owned() }, flow: Flow::Both }
    }
}

/// A broker's name as a part, and as what a link stands in front of.
#[must_use]
pub fn broker_name(id: u16) -> String {
    format!("kafka-{id}")
}

impl<'a> KafkaHandle<'a> {
    /// One broker, from 1. What ends or stops it needs the layout `separate`.
    pub fn broker(self, id: u16) -> PartHandle<'a> {
        PartHandle { environment: self.0, name: broker_name(id) }
    }

    /// The way from a client to a broker; the client may be another broker (`kafka-2`) in the layout `separate`.
    pub fn link(self, from: &str, broker: u16) -> LinkHandle<'a> {
        LinkHandle {
            environment: self.0,
            route: Route { from: Some(from.to_owned()), to: broker_name(broker) },
            flow: Flow::Both,
        }
    }

    /// Parts a broker from all others, which is a partition of the quorum; clients still reach it. Needs the layout
    /// `separate`.
    ///
    /// # Errors
    /// There is no such broker, or the brokers share a process.
    pub async fn isolate(self, broker: u16) -> Result<(), EnvironmentError> {
        self.between(broker, Change::Break(Fault::Blackhole, Flow::Both)).await
    }

    /// Ends what [`KafkaHandle::isolate`] began; what was healed before stays so.
    ///
    /// # Errors
    /// The broker was not isolated.
    pub async fn rejoin(self, broker: u16) -> Result<(), EnvironmentError> {
        self.between(broker, Change::Heal).await
    }

    /// Waits until these brokers, each by its own metadata, see a leader and just `replicas` replicas in sync for every
    /// partition of every described topic: so many brokers are missed, or none any more.
    ///
    /// # Errors
    /// There is no such broker, none was named, or it was otherwise for a minute and a half; the error says where.
    pub async fn in_sync(self, replicas: u16, seen_by: &[u16]) -> Result<(), EnvironmentError> {
        let all = self.0.plan().brokers();
        let address = |id: &u16| all.get(usize::from(*id).checked_sub(1)?).copied();
        let known = seen_by.iter().map(|id| address(id).ok_or_else(|| EnvironmentError::NoBroker(broker_name(*id))));
        let seen_by = known.collect::<Result<Vec<_>, _>>()?;
        if seen_by.is_empty() {
            return Err(EnvironmentError::NoViewer);
        }
        let topics: Vec<_> = self.0.plan().topics.iter().map(|topic| topic.name.clone()).collect();
        Ok(wire::replicas_in_sync(&seen_by, &topics, usize::from(replicas), brokers_deadline()).await?)
    }

    /// The broker that leads a partition, as the first that answers sees it; one that has died leads until it is
    /// missed.
    ///
    /// # Errors
    /// No broker knew a leader within a minute and a half, or there is no such partition.
    pub async fn leader_of(self, topic: &str, partition: u16) -> Result<u16, EnvironmentError> {
        let brokers = self.0.plan().brokers();
        broker_id(wire::partition_leader(&brokers, topic, partition.into(), brokers_deadline()).await?)
    }

    /// The broker whose controller leads the quorum.
    ///
    /// # Errors
    /// The quorum had no leader within a minute and a half.
    pub async fn quorum_leader(self) -> Result<u16, EnvironmentError> {
        broker_id(wire::quorum_leader(&self.0.plan().brokers(), brokers_deadline()).await?)
    }

    async fn between(self, broker: u16, change: Change) -> Result<(), EnvironmentError> {
        let brokers = self.0.spec().kafka.as_ref().map_or(0, |kafka| kafka.brokers);
        let others = (1..=brokers).filter(|other| *other != broker);
        let both_ways = others.flat_map(|other| [(broker, other), (other, broker)]);
        let route = |(from, to)| Route { from: Some(broker_name(from)), to: broker_name(to) };
        self.0.act(Action::Link { routes: both_ways.map(route).collect(), change }).await
    }
}

fn brokers_deadline() -> tokio::time::Instant {
    tokio::time::Instant::now() + BROKERS_DEADLINE
}

/// A node id as this handle counts brokers.
fn broker_id(node: i32) -> Result<u16, EnvironmentError> {
    u16::try_from(node).map_err(|_negative| EnvironmentError::NoBroker(format!("kafka-{node}")))
}

impl PartHandle<'_> {
    /// Ends it at once, without warning, and returns when it has ended.
    ///
    /// # Errors
    /// There is no such part, it does not run, it shares its process with other brokers (layout `colocated`), or it
    /// runs elsewhere.
    pub async fn kill(self) -> Result<(), EnvironmentError> {
        self.end(PartSignal::Kill).await.map(drop)
    }

    /// Asks it to end in good order and returns how it has ended.
    ///
    /// # Errors
    /// There is no such part, it does not run, it shares its process with other brokers (layout `colocated`), or it
    /// runs elsewhere; or it had not ended after a minute and a half.
    pub async fn stop(self) -> Result<String, EnvironmentError> {
        self.end(PartSignal::Stop).await
    }

    /// Lets it stand still: its connections stay open and nobody answers.
    ///
    /// # Errors
    /// There is no such part, it does not run, it shares its process with other brokers (layout `colocated`), or it
    /// runs elsewhere.
    pub async fn pause(self) -> Result<(), EnvironmentError> {
        self.environment.signal(&self.name, PartSignal::Pause).await
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// There is no such part, it does not run, it shares its process with other brokers (layout `colocated`), or it
    /// runs elsewhere.
    pub async fn resume(self) -> Result<(), EnvironmentError> {
        self.environment.signal(&self.name, PartSignal::Resume).await
    }

    /// Starts it again, at the same address and with what it had stored, and returns when it is ready. If it still
    /// runs, it is killed first. A broker is ready when it lists the other running ones, so together they must be more
    /// than half of all.
    ///
    /// # Errors
    /// There is no such part, or it did not become ready.
    pub async fn restart(self) -> Result<(), EnvironmentError> {
        self.environment.restart(&self.name).await
    }

    /// Waits until it has ended, by itself or because it was asked to, and returns how.
    ///
    /// # Errors
    /// There is no such part, or it did not within a minute and a half.
    pub async fn ended(&mut self) -> Result<String, EnvironmentError> {
        let ended = eventually(async || match self.state().await {
            Ok(PartState::Exited(status)) => Ok(Ok(status)),
            Ok(state) => Err(format!("{} has not ended, it is {state}", self.name)),
            // Asking again gives no other answer.
            Err(error) => Ok(Err(error)),
        });
        let status = ended.await??;
        self.environment.ended.insert(self.name.clone());
        Ok(status)
    }

    async fn end(mut self, signal: PartSignal) -> Result<String, EnvironmentError> {
        self.environment.signal(&self.name, signal).await?;
        self.ended().await
    }

    async fn state(&mut self) -> Result<PartState, EnvironmentError> {
        let parts = self.environment.summary().await?.parts;
        let known = || parts.iter().map(|part| part.name.as_str()).collect::<Vec<_>>().join(", ");
        match parts.iter().find(|part| part.name == self.name) {
            Some(part) => Ok(part.state.clone()),
            None => Err(EnvironmentError::NoPart { part: self.name.clone(), known: known() }),
        }
    }
}

impl LinkHandle<'_> {
    /// The faults that follow concern what the client sends, and not the answers.
    pub fn requests(self) -> Self {
        Self { flow: Flow::Requests, ..self }
    }

    /// The faults that follow concern the answers, and not what the client sends.
    pub fn answers(self) -> Self {
        Self { flow: Flow::Answers, ..self }
    }

    /// Resets open connections and every new one.
    ///
    /// # Errors
    /// There is no such link, because the description asks for none there, there is no such client, or both share a
    /// process; or a direction was chosen.
    pub async fn cut(self) -> Result<(), EnvironmentError> {
        self.change_by(Fault::Cut).await
    }

    /// Lets nothing through and tells nobody.
    ///
    /// # Errors
    /// There is no such link, as for [`LinkHandle::cut`].
    pub async fn blackhole(self) -> Result<(), EnvironmentError> {
        self.change_by(Fault::Blackhole).await
    }

    /// Lets every byte arrive this much later, in whole milliseconds; what is less is dropped.
    ///
    /// # Errors
    /// There is no such link, as for [`LinkHandle::cut`], or it is less than a millisecond.
    pub async fn delay(self, by: Duration) -> Result<(), EnvironmentError> {
        self.change_by(Fault::Delay { ms: u64::try_from(by.as_millis()).unwrap_or(u64::MAX) }).await
    }

    /// Lets this many bytes through in a second, on each connection.
    ///
    /// # Errors
    /// There is no such link, as for [`LinkHandle::cut`], or nothing would come through.
    pub async fn throttle(self, bytes_per_s: u64) -> Result<(), EnvironmentError> {
        self.change_by(Fault::Throttle { bytes_per_s }).await
    }

    /// Takes all faults of this way back.
    ///
    /// # Errors
    /// There is no such link, or it has no fault.
    pub async fn heal(self) -> Result<(), EnvironmentError> {
        self.environment.act(Action::Link { routes: vec![self.route], change: Change::Heal }).await
    }

    async fn change_by(self, fault: Fault) -> Result<(), EnvironmentError> {
        let change = Change::Break(fault, self.flow);
        self.environment.act(Action::Link { routes: vec![self.route], change }).await
    }
}
