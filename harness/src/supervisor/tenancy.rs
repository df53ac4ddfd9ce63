//! One environment from its admission to its end.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use tokio::sync::{OnceCell, SemaphorePermit, mpsc, watch};

use super::addresses::Claim;
use super::protocol::{Event, Order, PartSignal, PartSummary, Summary};
use crate::docker::{Containers, EngineError};
use crate::link::{Change, LinkError, Links, Route, SUPERVISOR, Sources};
use crate::plan::{Kind, Plan};
use crate::report::chain;
use crate::runtime::start::Starter;
use crate::runtime::{self, ENVIRONMENT_VARIABLE, PartState, Processes, Progress, Spawner, StartError};
use crate::wire::InternalTopics;

/// How long a part may take to end when it is killed, and to stand still when it is paused: on a machine that is busy
/// with others', far longer than it needs.
pub(super) const SIGNAL_LIMIT: Duration = Duration::from_secs(30);

/// Processes of a part in sessions of their own.
enum Followers {
    None,
    /// Those of PostgreSQL, which work in this directory.
    In(PathBuf),
    /// The JVM that this process has restored, which leads one.
    RestoredBy(i32),
}

impl Followers {
    fn now(&self) -> Vec<i32> {
        match self {
            Self::None => Vec::new(),
            Self::In(directory) => runtime::servers_in(directory),
            Self::RestoredBy(pid) => runtime::restored(*pid).into_iter().collect(),
        }
    }
}

/// One environment: what runs, who holds it, how far it is.
#[derive(Debug)]
pub(super) struct Tenancy {
    pub(super) plan: Plan,
    pub(super) order: Order,
    pub(super) processes: Arc<Processes>,
    /// Absent where all parts are processes.
    containers: Option<Arc<Containers>>,
    links: OnceLock<Links>,
    since: SystemTime,
    parts: Mutex<BTreeMap<String, (PartState, Option<u64>)>>,
    ready: AtomicBool,
    /// Dropped last, when nothing of the environment listens any more.
    claim: Mutex<Option<Claim>>,
    /// Becomes true when the end has begun, whoever asked for it.
    ending: watch::Sender<bool>,
    /// Set when nothing is left.
    ended: OnceCell<()>,
}

/// Keeps the state of the parts and tells the client of every step.
struct Steps<'a> {
    tenancy: &'a Tenancy,
    events: mpsc::UnboundedSender<Event>,
    /// Lets it start beside so many others; given back when only programs are waited for.
    permit: Mutex<Option<SemaphorePermit<'a>>>,
}

impl Tenancy {
    pub(super) fn new(plan: Plan, order: Order, claim: Claim, containers: Option<Containers>) -> Self {
        let planned = plan.parts.iter().map(|part| (part.name.clone(), (PartState::Planned, None)));
        Self {
            parts: Mutex::new(planned.collect()),
            plan,
            order,
            processes: Arc::default(),
            containers: containers.map(Arc::new),
            links: OnceLock::new(),
            since: SystemTime::now(),
            ready: AtomicBool::new(false),
            claim: Mutex::new(Some(claim)),
            ending: watch::Sender::new(false),
            ended: OnceCell::new(),
        }
    }

    /// Starts all parts; `events` hears of every step, and `permit` is given back as soon as others may start.
    pub(super) async fn start(
        &self,
        spawner: &Spawner,
        events: mpsc::UnboundedSender<Event>,
        permit: Option<SemaphorePermit<'_>>,
    ) -> Result<(), StartError> {
        if let Some(containers) = &self.containers {
            runtime::start::make_directory(&self.plan.site.directory)?;
            let limit = Duration::from_millis(self.order.deadline_ms);
            let opened = tokio::time::timeout(limit, containers.open(&self.plan, &self.processes)).await;
            let late = || EngineError::Late { what: "the first container".to_owned() };
            let opened = opened.unwrap_or_else(|_| Err(late().into()));
            opened.map_err(|source| StartError::Container { source })?;
        }
        let processes = Arc::clone(&self.processes);
        let own = nix::unistd::getsid(None).map_or(0, Pid::as_raw);
        let restored = self.plan.parts.iter().filter(|part| part.is_restored()).map(|part| part.name.clone());
        let restored: BTreeSet<String> = restored.collect();
        let sessions = move || {
            let mut sessions = processes.sessions();
            let restorers = sessions.iter().filter(|(_, part)| restored.contains(*part));
            let copies: Vec<_> =
                restorers.filter_map(|(pid, part)| Some((runtime::restored(*pid)?, part.clone()))).collect();
            sessions.extend(copies);
            sessions.insert(own, SUPERVISOR.to_owned());
            sessions
        };
        let links = Links::open(&self.plan.links, Sources::new(sessions)).await;
        let links = links.map_err(|(address, source)| StartError::Link { address, source })?;
        let _ = self.links.set(links);
        let steps = Steps { tenancy: self, events, permit: Mutex::new(permit) };
        runtime::start(&self.plan, &self.order.spec.observe.history, &self.starter(spawner, &steps)).await?;
        self.ready.store(true, Ordering::Release);
        Ok(())
    }

    /// Starts one part again; kills it first where it runs.
    pub(super) async fn restart(&self, part: &str, spawner: &Spawner) -> Result<(), StartError> {
        if self.signal(part, PartSignal::Kill).await && !self.processes.ended(part, SIGNAL_LIMIT).await {
            return Err(StartError::Lingers { part: part.to_owned(), waited_ms: SIGNAL_LIMIT.as_millis() });
        }
        let (events, _unheard) = mpsc::unbounded_channel();
        let steps = Steps { tenancy: self, events, permit: Mutex::default() };
        runtime::start::restart(&self.plan, part, &self.starter(spawner, &steps)).await
    }

    /// Does something to a running part by a signal; `false` if it does not run.
    pub(super) async fn signal(&self, part: &str, signal: PartSignal) -> bool {
        let send = |signal| self.processes.signal(part, signal);
        match signal {
            // The server first, so that it begins no more processes.
            PartSignal::Pause => {
                let sent = send(Signal::SIGSTOP);
                self.signal_followers(part, Signal::SIGSTOP).await;
                sent
            }
            PartSignal::Resume => {
                self.signal_followers(part, Signal::SIGCONT).await;
                send(Signal::SIGCONT)
            }
            PartSignal::Stop | PartSignal::Kill => {
                let ending = if signal == PartSignal::Stop { runtime::stop_signal } else { runtime::death_signal };
                let paused = self.processes.is_paused(part);
                let sent = send(ending(self.kind(part)));
                // Who restores it does not hand on what asks it to end.
                if let followers @ Followers::RestoredBy(_) = self.followers(part) {
                    runtime::signal_each(&followers.now(), ending(self.kind(part)));
                }
                if sent && paused {
                    // What stands still does not see it before it goes on.
                    self.signal_followers(part, Signal::SIGCONT).await;
                    send(Signal::SIGCONT);
                }
                sent
            }
        }
    }

    /// Waits until a part that was paused stands still; `false` if `limit` passed before.
    pub(super) async fn stands_still(&self, part: &str, limit: Duration) -> bool {
        let Some(leader) = self.processes.pid_of(part) else { return true };
        let followers = self.followers(part);
        let standing = move || runtime::stand_still(Pid::from_raw(leader), &followers.now(), limit);
        tokio::task::spawn_blocking(standing).await.unwrap_or(false)
    }

    /// Signals the processes that a part has put into sessions of their own.
    async fn signal_followers(&self, part: &str, signal: Signal) {
        let followers = self.followers(part);
        let signalled = move || runtime::signal_each(&followers.now(), signal);
        // It may panic only where the supervisor ends.
        let _ = tokio::task::spawn_blocking(signalled).await;
    }

    /// Where the processes of a part are that it has put into sessions of their own.
    fn followers(&self, part: &str) -> Followers {
        let pid = self.processes.pid_of(part);
        match (self.plan.part(part), pid) {
            (Some(part), _) if matches!(part.kind, Kind::Postgres { .. }) => Followers::In(part.directory.clone()),
            (Some(part), Some(pid)) if part.is_restored() => Followers::RestoredBy(pid),
            _ => Followers::None,
        }
    }

    /// Breaks or heals links.
    pub(super) async fn change_links(&self, routes: &[Route], change: Change) -> Result<(), LinkError> {
        let parts = self.plan.parts.iter().map(|part| part.name.clone()).collect();
        let Some(links) = self.links.get() else { return Err(LinkError::NoLinks) };
        links.change(routes, change, &parts).await
    }

    /// What starts parts of this environment, with a deadline that begins now.
    fn starter<'a>(&'a self, spawner: &'a Spawner, progress: &'a Steps<'_>) -> Starter<'a> {
        Starter {
            spawner,
            containers: self.containers.as_ref(),
            inherited: &self.order.inherited,
            processes: &self.processes,
            progress,
            deadline: Instant::now() + Duration::from_millis(self.order.deadline_ms),
            internal_topics: self.internal_topics(),
        }
    }

    fn internal_topics(&self) -> InternalTopics {
        let kafka = self.order.spec.kafka.as_ref();
        let internal = kafka.map_or(1, |kafka| kafka.replication);
        InternalTopics {
            replication: internal,
            min_insync_replicas: kafka.map_or(1, |kafka| kafka.min_insync_replicas),
            offsets_partitions: 1,
            transaction_partitions: 1,
        }
    }

    /// Begins the end: nothing more starts, every process is signalled. The first call answers `true`.
    pub(super) fn begin_end(&self) -> bool {
        let first = !self.ending.send_replace(true);
        if first {
            self.processes.close();
            self.processes.signal_all(|part| runtime::death_signal(self.kind(part)));
            for part in self.plan.parts.iter().filter(|part| self.processes.is_paused(&part.name)) {
                runtime::signal_each(&runtime::servers_in(&part.directory), Signal::SIGCONT);
            }
        }
        first
    }

    /// Completes the end after [`Tenancy::begin_end`]: waits, removes the directory, gives the address back. Whoever
    /// else asks for it at the same time returns when it is done.
    pub(super) async fn complete_end(&self) {
        self.ended.get_or_init(|| self.take_away()).await;
    }

    async fn take_away(&self) {
        if let Some(containers) = &self.containers {
            // With the first one all of them end, also those whose users this supervisor may send no signal to.
            self.processes.none_prepared(SIGNAL_LIMIT).await;
            if let Err(error) = containers.end().await {
                log_line(&format!("{}: {}", self.plan.site.environment, chain(&error)));
            }
        }
        // All but the database were killed. That one may only have had no processor until now, and SIGKILL would leave
        // its memory segment behind.
        if !self.processes.all_ended(SIGNAL_LIMIT).await {
            self.processes.signal_all(|_| Signal::SIGKILL);
            for part in &self.plan.parts {
                self.signal_followers(&part.name, Signal::SIGKILL).await;
            }
            if !self.processes.all_ended(SIGNAL_LIMIT).await {
                log_line(&format!("{}: parts were killed and have not ended", self.plan.site.environment));
            }
        }
        if let Some(links) = self.links.get() {
            links.close().await;
        }
        let (environment, directory) = (self.plan.site.environment.clone(), self.plan.site.directory.clone());
        let removed = tokio::task::spawn_blocking(move || {
            // What a part has started and detached into a session of its own.
            super::watch::end_carriers(ENVIRONMENT_VARIABLE, &environment) && super::watch::remove(&directory)
        });
        if !removed.await.unwrap_or(false) {
            log_line(&format!("failed to end or remove all of {}", self.plan.site.directory.display()));
        }
        self.claim.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Whether the end has begun.
    pub(super) fn is_ending(&self) -> bool {
        *self.ending.borrow()
    }

    /// Whether nothing is left.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.initialized()
    }

    /// Returns when the end has begun.
    pub(super) async fn ending(&self) {
        // The sender lives as long as `self`.
        let _ = self.ending.subscribe().wait_for(|ending| *ending).await;
    }

    /// Copies logs, plan and description to a directory that stays, and says which.
    pub(super) fn keep(&self) -> std::io::Result<PathBuf> {
        let kept = own_directory(&self.order.evidence, &self.plan.site.environment)?;
        let logs = kept.join("logs");
        std::fs::create_dir(&logs)?;
        for part in &self.plan.parts {
            if let Some(name) = part.log.file_name().filter(|_| part.log.exists()) {
                std::fs::copy(&part.log, logs.join(name))?;
            }
        }
        std::fs::write(kept.join("plan.txt"), self.plan.to_string())?;
        let description = toml::to_string(&self.order.spec).map_err(std::io::Error::other)?;
        std::fs::write(kept.join("environment.toml"), description)?;
        Ok(kept)
    }

    /// Where the logs lie while the environment lives.
    pub(super) fn directory(&self) -> &Path {
        &self.plan.site.directory
    }

    pub(super) fn summary(&self) -> Summary {
        let states = self.lock_parts().clone();
        let part = |part: &crate::plan::Part| {
            let (state, ready_ms) = states.get(&part.name).cloned().unwrap_or((PartState::Planned, None));
            let exit = self.processes.exit_of(&part.name);
            let state = if self.processes.is_paused(&part.name) { PartState::Paused } else { state };
            PartSummary {
                name: part.name.clone(),
                version: part.version.clone(),
                addresses: part.addresses.clone(),
                state: exit.map_or(state, |status| PartState::Exited(status.to_string())),
                pid: match self.followers(&part.name) {
                    followers @ Followers::RestoredBy(restorer) => followers.now().first().copied().or(Some(restorer)),
                    Followers::In(_) | Followers::None => self.processes.pid_of(&part.name),
                },
                ready_ms,
                log: part.log.clone(),
            }
        };
        let parts: Vec<_> = self.plan.parts.iter().map(part).collect();
        let state = match (self.is_ending(), self.ready.load(Ordering::Acquire)) {
            (true, _) => "ending",
            (false, false) => "starting",
            (false, true) if parts.iter().all(|part| part.state == PartState::Ready) => "ready",
            (false, true) => "degraded",
        };
        Summary {
            environment: self.plan.site.environment.clone(),
            name: self.plan.name.clone(),
            state: state.to_owned(),
            holder: self.order.holder.clone(),
            since_s: self.since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs(),
            variables: self.plan.variables.clone(),
            parts,
            faults: self.links.get().map(Links::faults).unwrap_or_default(),
        }
    }

    fn kind(&self, part: &str) -> &Kind {
        self.plan.part(part).map_or(&Kind::Redis, |part| &part.kind)
    }

    fn lock_parts(&self) -> MutexGuard<'_, BTreeMap<String, (PartState, Option<u64>)>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress for Steps<'_> {
    fn started(&self, part: &str) {
        self.tenancy.lock_parts().insert(part.to_owned(), (PartState::Starting, None));
        let _ = self.events.send(Event::Started { part: part.to_owned() });
    }

    fn ready(&self, part: &str, took: Duration) {
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        self.tenancy.lock_parts().insert(part.to_owned(), (PartState::Ready, Some(took_ms)));
        let _ = self.events.send(Event::Ready { part: part.to_owned(), took_ms });
    }

    fn infrastructure_ready(&self) {
        self.permit.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// Makes a directory of this name that is nobody else's: an id may come again, where process ids begin anew.
fn own_directory(parent: &Path, name: &str) -> std::io::Result<PathBuf> {
    std::fs::create_dir_all(parent)?;
    let numbered = (2..).map(|number| parent.join(format!("{name}-{number}")));
    for path in std::iter::once(parent.join(name)).chain(numbered) {
        match std::fs::create_dir(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            made => return made.map(|()| path),
        }
    }
    Err(std::io::ErrorKind::AlreadyExists.into())
}

/// Writes a line to the supervisor's log, which is its standard error.
pub(super) fn log_line(line: &str) {
    use std::io::Write as _;
    // A disk that is full is no reason to end environments.
    let _ = writeln!(std::io::stderr(), "{line}");
}
