//! Links: what stands between clients and parts, so that the way between them can be broken on purpose.
//!
//! Where a description asks for them, a TCP proxy of the supervisor's stands in front of brokers, stores and those
//! programs that say `link = true`. Clients know only its address: a broker advertises it, and every variable names it.
//! So a fault meets connections that are open and connections that are made while it lasts, and no client goes round
//! it. It is in force when [`Links::change`] returns. Whose a connection is, is asked of the kernel ([`source`]), and
//! only while there is a fault: an idle link copies bytes and knows nothing.
//!
//! Start reading at [`Links`]; [`conditions`] says what a fault does, [`line`] does it to bytes, [`carry`] to
//! connections.
//!
//! Deliberately absent: any protocol. A link sees bytes; it cannot lose one record of a batch or one message of a
//! dialogue. Lost packets are absent too: TCP would send them again, so all that a client could see of them is a delay.

mod carry;
mod conditions;
mod executor;
mod line;
mod source;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddrV4;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use conditions::{Fault, Flow, Impossible};
pub(crate) use source::{Sources, socket_inodes};

use carry::Link;
use conditions::Conditions;
use executor::Executor;

use crate::plan::BROKERS;

/// How clients are called that are no part of the environment: tests, a person's shell.
pub const OUTSIDE: &str = "outside";
/// How all clients are called at once.
pub const EVERYONE: &str = "everyone";
/// The supervisor itself, which meets no faults: a part that is restarted is ready when it is, whoever reaches it.
pub(crate) const SUPERVISOR: &str = "supervisor";

/// The way from a client to a part.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Route {
    /// The client: a part, or [`OUTSIDE`]; everyone where absent, apart from the part itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The part that the link stands in front of; a broker is `kafka-1`, `kafka-2`, … in both layouts.
    pub to: String,
}

/// What becomes of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// A fault more, until it is healed.
    Break(Fault, Flow),
    /// All faults of the route are over.
    Heal,
}

/// One proxy: where clients connect, and where the part listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedLink {
    /// The part behind it.
    pub to: String,
    /// Whose connections it carries.
    pub carries: Carries,
    /// Where clients connect.
    pub front: SocketAddrV4,
    /// Where the part listens.
    pub back: SocketAddrV4,
}

/// Whose connections a link carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Carries {
    /// Clients' only.
    Clients,
    /// Clients' and those of the other brokers.
    ClientsAndBrokers,
    /// Those of the controllers' quorum.
    Quorum,
}

/// Why a link was not changed.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The environment has no links.
    #[error("this environment has no links, so no way can be broken")]
    NoLinks,
    /// No link stands between brokers.
    #[error("no link stands between {from} and {to}")]
    NotBetweenBrokers {
        /// One broker.
        from: String,
        /// The other.
        to: String,
    },
    /// No link stands in front of such a part.
    #[error("there is no link to {to}; links stand in front of {known} (a way is named from its client to its part)")]
    UnknownTarget {
        /// What was named.
        to: String,
        /// What could be.
        known: String,
    },
    /// There is no such client.
    #[error("there is no client {from}; clients are {known}")]
    UnknownSource {
        /// What was named.
        from: String,
        /// What could be.
        known: String,
    },
    /// Client and part are one process.
    #[error("{from} and {to} share one process, so nothing between them can be broken")]
    SharedProcess {
        /// The client.
        from: String,
        /// The part.
        to: String,
    },
    /// There is nothing to heal.
    #[error("the link from {from} to {to} has no fault to take back; faults on the way to {to}: {known}")]
    Whole {
        /// The client.
        from: String,
        /// The part.
        to: String,
        /// Whose ways to it have one.
        known: String,
    },
    /// The fault makes no sense.
    #[error(transparent)]
    Impossible(#[from] Impossible),
}

/// The links of one environment. Dropping them closes every connection and every listener.
#[derive(Debug)]
pub(crate) struct Links {
    shared: Arc<Shared>,
    acceptors: Mutex<JoinSet<()>>,
    /// On which all of them run; absent where there are none.
    _executor: Option<Executor>,
}

/// What all proxies of an environment look at.
#[derive(Debug)]
pub(crate) struct Shared {
    faults: Mutex<BTreeMap<Route, Conditions>>,
    /// Counts the changes, so that open connections hear of each.
    changes: watch::Sender<u64>,
    /// The open connections by the part that they lead to, and which change each has heeded.
    open: Mutex<Vec<(String, watch::Receiver<u64>)>>,
    sources: Sources,
    targets: BTreeSet<String>,
    /// Brokers meet one another without links.
    brokers_apart: bool,
}

impl Links {
    /// Listens at the front of every link.
    ///
    /// # Errors
    /// A front is taken; nothing listens then.
    pub(crate) async fn open(
        planned: &[PlannedLink],
        sources: Sources,
    ) -> Result<Self, (SocketAddrV4, std::io::Error)> {
        let shared = Arc::new(Shared {
            faults: Mutex::default(),
            changes: watch::Sender::new(0),
            open: Mutex::default(),
            sources,
            targets: planned.iter().map(|link| link.to.clone()).collect(),
            brokers_apart: planned.iter().all(|link| link.carries == Carries::Clients),
        });
        let mut acceptors = JoinSet::new();
        let Some(first) = planned.first() else {
            return Ok(Self { shared, acceptors: Mutex::new(acceptors), _executor: None });
        };
        let executor = Executor::start().map_err(|error| (first.front, error))?;
        for PlannedLink { to, front, back, .. } in planned {
            let listener = bind(*front, &executor).await.map_err(|error| (*front, error))?;
            let link = Link { to: to.clone(), front: *front, back: *back, shared: Arc::clone(&shared) };
            acceptors.spawn_on(Arc::new(link).accept(listener), &executor.handle);
        }
        Ok(Self { shared, acceptors: Mutex::new(acceptors), _executor: Some(executor) })
    }

    /// Breaks or heals ways from clients to parts; `parts` are the names of all parts. Of several that are healed, some
    /// may be whole already.
    ///
    /// Returns when every open connection to those parts heeds it: what is sent from then on meets the fault.
    ///
    /// # Errors
    /// There is no such link or client, or nothing to heal; nothing was changed then.
    pub(crate) async fn change(
        &self,
        routes: &[Route],
        change: Change,
        parts: &BTreeSet<String>,
    ) -> Result<(), LinkError> {
        routes.iter().try_for_each(|route| self.check(route, parts))?;
        self.register(routes, change)?;
        let mut count = 0;
        self.shared.changes.send_modify(|changes| {
            *changes += 1;
            count = *changes;
        });
        let targets: BTreeSet<_> = routes.iter().map(|route| route.to.as_str()).collect();
        for mut heeded in targets.into_iter().flat_map(|to| self.shared.open_now(to)) {
            // A connection that has ended heeds everything.
            let _ = heeded.wait_for(|heeded| *heeded >= count).await;
        }
        Ok(())
    }

    fn register(&self, routes: &[Route], change: Change) -> Result<(), LinkError> {
        let mut faults = self.shared.lock();
        match change {
            Change::Break(fault, flow) => {
                let with = |route| faults.get(route).copied().unwrap_or_default().with(fault, flow);
                let broken = routes.iter().map(|route| Ok((route.clone(), with(route)?)));
                let broken = broken.collect::<Result<Vec<_>, Impossible>>()?;
                faults.extend(broken);
                Ok(())
            }
            Change::Heal => {
                let whole: Vec<_> = routes.iter().filter(|route| faults.remove(*route).is_none()).collect();
                match whole.last() {
                    Some(route) if whole.len() == routes.len() => {
                        let broken = faults.keys().filter(|broken| broken.to == route.to);
                        let known: Vec<_> = broken.map(|broken| format!("that of {}", broken.client())).collect();
                        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                        Err(LinkError::Whole { from: route.client().to_owned(), to: route.to.clone(), known })
                    }
                    Some(_) | None => Ok(()),
                }
            }
        }
    }

    /// The faults in force, for a person.
    pub(crate) fn faults(&self) -> Vec<String> {
        let faults = self.shared.lock();
        faults.iter().map(|(route, is)| format!("{} to {}: {is}", route.client(), route.to)).collect()
    }

    /// Ends every proxy and waits until nothing listens any more.
    pub(crate) async fn close(&self) {
        let mut acceptors = std::mem::take(&mut *self.acceptors.lock().unwrap_or_else(PoisonError::into_inner));
        acceptors.shutdown().await;
    }

    fn check(&self, route: &Route, parts: &BTreeSet<String>) -> Result<(), LinkError> {
        let Route { from, to } = route;
        let listed = |names: Vec<&str>| names.join(", ");
        if self.shared.targets.is_empty() {
            return Err(LinkError::NoLinks);
        }
        if !self.shared.targets.contains(to) {
            let known = listed(self.shared.targets.iter().map(String::as_str).collect());
            return Err(LinkError::UnknownTarget { to: to.clone(), known });
        }
        let Some(from) = from else { return Ok(()) };
        // Brokers that share a process are what links stand in front of, but no parts; the part is that process.
        let of_many = |name: &String| self.shared.targets.contains(name) && !parts.contains(name);
        if from == to || (of_many(to) && (of_many(from) || from == BROKERS)) {
            return Err(LinkError::SharedProcess { from: from.clone(), to: to.clone() });
        }
        if from != OUTSIDE && !parts.contains(from) {
            let known = parts.iter().map(String::as_str).chain([OUTSIDE, EVERYONE]).collect();
            return Err(LinkError::UnknownSource { from: from.clone(), known: listed(known) });
        }
        if self.shared.brokers_apart && is_broker(from) && is_broker(to) {
            return Err(LinkError::NotBetweenBrokers { from: from.clone(), to: to.clone() });
        }
        Ok(())
    }
}

/// Listens where this executor, and no other one, hears of connections.
async fn bind(front: SocketAddrV4, executor: &Executor) -> std::io::Result<TcpListener> {
    let listening = executor.handle.spawn(TcpListener::bind(front));
    listening.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

/// Whether a name is that of one broker.
pub(crate) fn is_broker(name: &str) -> bool {
    broker_id(name).is_some()
}

/// The id of the broker of this name.
pub(crate) fn broker_id(name: &str) -> Option<u16> {
    name.strip_prefix("kafka-")?.parse().ok()
}

impl Route {
    /// The client, for a person.
    #[must_use]
    pub fn client(&self) -> &str {
        self.from.as_deref().unwrap_or(EVERYONE)
    }

    fn is_of(&self, from: &str) -> bool {
        self.from.as_deref().map_or(from != self.to, |wanted| wanted == from)
    }
}

impl Shared {
    /// Registers a connection to a part, which says by the answer what it has heeded.
    fn open_to(&self, part: &str) -> watch::Sender<u64> {
        let heeded = watch::Sender::new(0);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|(_, heeded)| heeded.has_changed().is_ok());
        open.push((part.to_owned(), heeded.subscribe()));
        heeded
    }

    fn open_now(&self, part: &str) -> Vec<watch::Receiver<u64>> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.iter().filter(|(to, _)| to == part).map(|(_, heeded)| heeded.clone()).collect()
    }

    /// Whether any client's way to this part is broken.
    fn breaks(&self, to: &str) -> bool {
        self.lock().keys().any(|route| route.to == to)
    }

    /// What a client's way to this part is like.
    fn conditions(&self, from: &str, to: &str) -> Conditions {
        let faults = self.lock();
        let meant = faults.iter().filter(|(route, _)| route.to == to && route.is_of(from));
        meant.fold(Conditions::default(), |all, (_, one)| all.and(*one))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Route, Conditions>> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
