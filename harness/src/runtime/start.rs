//! Starts a plan: Kafka is the cost, everything else starts in its shadow.

mod error;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use tokio::sync::oneshot;

use super::process::Processes;
use super::spawn::{self, Inherited, SpawnError, Spawner};
use super::{evidence, readiness};
use crate::docker::{Containers, EngineError};
use crate::observe::history;
use crate::plan::{Kind, Part, Plan, PlannedFile, PlannedTopic};
use crate::spec::HistorySpec;
use crate::toolchain::UNPRIVILEGED_ID;
use crate::wire::{self, InternalTopics, WireError};

pub use error::StartError;

/// What happens to a part while an environment starts.
pub trait Progress: Send + Sync {
    /// The process runs.
    fn started(&self, part: &str);
    /// The part's first real operation would succeed; `took` is counted from its start.
    fn ready(&self, part: &str, took: Duration);
    /// Brokers and stores are ready, and only programs are waited for: perhaps for a person who starts one.
    fn infrastructure_ready(&self);
}

/// What a start needs beside its plan.
pub struct Starter<'a> {
    /// Starts processes.
    pub spawner: &'a Spawner,
    /// Starts containers, where parts are any.
    pub containers: Option<&'a Arc<Containers>>,
    /// What processes find beside their own variables.
    pub inherited: &'a Inherited,
    /// Takes the processes.
    pub processes: &'a Arc<Processes>,
    /// Is told of every step.
    pub progress: &'a dyn Progress,
    /// When to give up.
    pub deadline: Instant,
    /// What the brokers' internal topics look like.
    pub internal_topics: InternalTopics,
}

/// Starts everything of a plan and returns when all of it is ready.
///
/// After an error, and after a cancellation, what was started still runs: the caller takes it away,
/// as it does with a whole environment.
///
/// # Errors
/// A part ended, was not ready by the deadline or could not be prepared.
pub async fn start(plan: &Plan, history: &[HistorySpec], starter: &Starter<'_>) -> Result<(), StartError> {
    for part in plan.parts.iter().filter(|part| matches!(part.kind, Kind::Program { .. })) {
        // What is looked for on the PATH is for the operating system to find.
        if let Some(path) = part.command.first().map(Path::new).filter(|path| path.is_absolute() && !path.exists()) {
            return Err(StartError::NoProgram { part: part.name.clone(), path: path.to_owned() });
        }
    }
    make_directory(&plan.site.directory.join("logs"))?;
    tokio::select! {
        started = starter.start_all(plan, history) => started,
        (part, status) = starter.processes.first_exit() => {
            let log = plan.part(&part).map(|part| part.log.clone()).unwrap_or_default();
            Err(StartError::Exited { tail: evidence::last_lines(&log), part, status, log })
        }
    }
}

/// Starts one part again that has ended, with the files that it left.
///
/// A broker is ready when it lists the brokers that go on, so together they must be more than half of all.
///
/// # Errors
/// There is no such part, it still runs, or it did not become ready.
pub async fn restart(plan: &Plan, part: &str, starter: &Starter<'_>) -> Result<(), StartError> {
    let Some(planned) = plan.part(part) else {
        let known = plan.parts.iter().map(|part| part.name.as_str()).collect::<Vec<_>>().join(", ");
        return Err(StartError::Unknown { part: part.to_owned(), known });
    };
    let again = Part { copies: Vec::new(), files: Vec::new(), ..planned.clone() };
    // Others may be dead on purpose; only this one's death ends its start.
    let mut dead: BTreeSet<i32> = plan.parts.iter().filter_map(|part| starter.processes.pid_of(&part.name)).collect();
    let started = async {
        if planned.kind != Kind::Kafka {
            return starter.start_part(&again).await;
        }
        let begun = Instant::now();
        starter.spawn(&again).await?;
        let going_on =
            plan.parts.iter().filter(|part| part.kind == Kind::Kafka && starter.processes.goes_on(&part.name));
        let brokers: Vec<_> = going_on.flat_map(|part| part.addresses.iter().copied()).collect();
        let listed = wire::cluster_listed_by(&planned.addresses, &brokers, starter.deadline.into()).await;
        listed.map_err(|source| kafka_error(&[planned], source))?;
        starter.progress.ready(part, begun.elapsed());
        Ok(())
    };
    tokio::select! {
        started = started => started,
        status = starter.exit_of(part, &mut dead) => {
            let log = planned.log.clone();
            Err(StartError::Exited { tail: evidence::last_lines(&log), part: part.to_owned(), status, log })
        }
    }
}

impl Starter<'_> {
    /// Waits until a process of this part ends that is not among the `dead`.
    async fn exit_of(&self, part: &str, dead: &mut BTreeSet<i32>) -> ExitStatus {
        loop {
            let (ended, status) = self.processes.next_exit(dead).await;
            if ended == part {
                return status;
            }
        }
    }

    async fn start_all(&self, plan: &Plan, history: &[HistorySpec]) -> Result<(), StartError> {
        let parts = |wanted: fn(&Kind) -> bool| plan.parts.iter().filter(move |part| wanted(&part.kind));
        let brokers: Vec<_> = parts(|kind| *kind == Kind::Kafka).collect();
        let stores: Vec<_> = parts(|kind| matches!(kind, Kind::Postgres { .. } | Kind::Redis)).collect();
        let programs: Vec<_> = parts(|kind| matches!(kind, Kind::Program { .. })).collect();
        let (warmed, kafka_warmed) = oneshot::channel();
        let rest = async {
            try_join_all(stores.into_iter().map(|part| self.start_part(part))).await?;
            if kafka_warmed.await.is_err() {
                // The brokers failed, and their error is the one to tell.
                std::future::pending::<()>().await;
            }
            self.progress.infrastructure_ready();
            try_join_all(programs.into_iter().map(|part| self.start_part(part))).await
        };
        tokio::try_join!(self.start_kafka(plan, &brokers, warmed), rest)?;
        self.record_transitions(plan, history).await
    }

    /// Starts the brokers, makes the topics and does once what a test would meet first:
    /// an acknowledged record, the internal topics, their coordinators.
    async fn start_kafka(&self, plan: &Plan, parts: &[&Part], warmed: oneshot::Sender<()>) -> Result<(), StartError> {
        if parts.is_empty() {
            let _ = warmed.send(());
            return Ok(());
        }
        let begun = Instant::now();
        try_join_all(parts.iter().map(|part| self.spawn(part))).await?;
        let (brokers, deadline): (_, tokio::time::Instant) = (plan.brokers(), self.deadline.into());
        let topics: Vec<_> = plan.topics.iter().map(wire::Topic::from).collect();
        let programs_follow = plan.parts.iter().any(|part| matches!(part.kind, Kind::Program { .. }));
        let prepared = async {
            wire::cluster_listed(&brokers, deadline).await?;
            let making = wire::make_topics(&brokers, &topics, &self.internal_topics, deadline);
            if !programs_follow {
                // The record goes on its way as soon as its topic has a leader, while others still get their replicas.
                let acknowledged = wire::acknowledge(&brokers, wire::READY_TOPIC, deadline);
                tokio::try_join!(Box::pin(making), Box::pin(acknowledged))?;
                return Ok(None);
            }
            making.await?;
            // Programs that ask for a coordinator which is still being loaded ask again a second later.
            Box::pin(wire::warm(&brokers, deadline)).await.map(Some)
        };
        let cluster = prepared.await.map_err(|source| kafka_error(parts, source))?;
        // Nobody waits for the rest. It ends with the environment, whose brokers would be asked in vain.
        let processes = Arc::clone(self.processes);
        tokio::spawn(async move {
            let rest = async {
                let cluster = match cluster {
                    Some(cluster) => cluster,
                    None => Box::pin(wire::warm(&brokers, deadline)).await?,
                };
                cluster.complete(deadline).await
            };
            processes.while_open(rest).await
        });
        // Nobody listens when the programs' branch has failed meanwhile.
        let _ = warmed.send(());
        for part in parts {
            self.progress.ready(&part.name, begun.elapsed());
        }
        Ok(())
    }

    /// Starts one part that is no broker, and waits until it is ready.
    async fn start_part(&self, part: &Part) -> Result<(), StartError> {
        let begun = Instant::now();
        self.spawn(part).await?;
        let address = part.addresses[0];
        let ready = match &part.kind {
            Kind::Postgres { database, user } => readiness::postgres(address, user, database, self.deadline).await,
            Kind::Redis => readiness::redis(address, self.deadline).await,
            Kind::Program { ready, .. } => readiness::program(ready, self.deadline).await,
            Kind::Kafka => Ok(()),
        };
        ready.map_err(|source| StartError::NotReady {
            part: part.name.clone(),
            source,
            tail: evidence::last_lines(&part.log),
            log: part.log.clone(),
        })?;
        self.progress.ready(&part.name, begun.elapsed());
        Ok(())
    }

    async fn spawn(&self, part: &Part) -> Result<(), StartError> {
        let closed = || StartError::Spawn { part: part.name.clone(), source: SpawnError::Closed };
        let under_way = self.processes.prepare().ok_or_else(closed)?;
        let prepared = part.clone();
        let preparing = tokio::task::spawn_blocking(move || {
            let done = prepare(&prepared);
            drop(under_way);
            done
        });
        let preparing = preparing.await;
        preparing.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
        let spawned = match self.containers.filter(|_| part.container.is_some()) {
            Some(containers) => {
                let spawning = tokio::time::timeout_at(self.deadline.into(), containers.spawn(part, self.processes));
                spawning.await.unwrap_or_else(|_| Err(EngineError::Late { what: part.name.clone() }.into()))
            }
            None => self.spawner.spawn(part, self.inherited, self.processes).await,
        };
        spawned.map_err(|source| match source {
            SpawnError::Ended(status) => StartError::Exited {
                part: part.name.clone(),
                status,
                tail: evidence::last_lines(&part.log),
                log: part.log.clone(),
            },
            source => StartError::Spawn { part: part.name.clone(), source },
        })?;
        self.progress.started(&part.name);
        Ok(())
    }

    async fn record_transitions(&self, plan: &Plan, history: &[HistorySpec]) -> Result<(), StartError> {
        // Without the system under test its tables need not exist yet.
        let complete = plan.parts.iter().any(|part| matches!(part.kind, Kind::Program { under_test: true, .. }));
        match plan.database_url().filter(|_| complete && !history.is_empty()) {
            Some(url) => {
                let failed = |source| StartError::History { source };
                let database = |source| failed(history::HistoryError::Database { action: "connect", source });
                let installing = async {
                    let pool = sqlx::PgPool::connect(&url).await.map_err(database)?;
                    history::install(&pool, history).await.map_err(failed)
                };
                // A trigger waits for whoever holds a lock on its table, and PostgreSQL sets no limit to that.
                let installed = tokio::time::timeout_at(self.deadline.into(), installing).await;
                installed.unwrap_or_else(|_| {
                    let tables: BTreeSet<_> = history.iter().map(|described| described.table.as_str()).collect();
                    Err(StartError::HistoryLate { tables: tables.into_iter().collect::<Vec<_>>().join(" or ") })
                })
            }
            None => Ok(()),
        }
    }
}

impl From<&PlannedTopic> for wire::Topic {
    fn from(topic: &PlannedTopic) -> Self {
        let PlannedTopic { name, partitions, replication } = topic;
        Self::new(name.clone(), *partitions, *replication)
    }
}

fn kafka_error(parts: &[&Part], source: WireError) -> StartError {
    let (part, log) = parts.first().map(|part| (part.name.clone(), part.log.clone())).unwrap_or_default();
    StartError::Kafka { part, source: Box::new(source), tail: evidence::last_lines(&log), log }
}

/// Makes what a part needs on disk.
fn prepare(part: &Part) -> Result<(), StartError> {
    let owner = spawn::drops_privileges(part).then_some(UNPRIVILEGED_ID);
    for path in &part.directories {
        make_directory(path)?;
        if owner.is_some() {
            std::os::unix::fs::chown(path, owner, owner)
                .map_err(|source| StartError::Prepare { path: path.clone(), source })?;
        }
    }
    for copy in &part.copies {
        copy_tree(&copy.from, &copy.to, owner)?;
    }
    for PlannedFile { path, content } in &part.files {
        std::fs::write(path, content).map_err(|source| StartError::Prepare { path: path.clone(), source })?;
    }
    Ok(())
}

/// Makes a directory of an environment.
pub(crate) fn make_directory(path: &Path) -> Result<(), StartError> {
    std::fs::create_dir_all(path).map_err(|source| StartError::Prepare { path: path.to_owned(), source })
}

/// Copies a directory tree with its permissions, and gives it to `owner` where there is one.
fn copy_tree(from: &Path, to: &Path, owner: Option<u32>) -> Result<(), StartError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| StartError::Prepare { path, source }
    };
    let metadata = std::fs::metadata(from).map_err(failed(from))?;
    if metadata.is_dir() {
        std::fs::create_dir(to).map_err(failed(to))?;
        for entry in std::fs::read_dir(from).map_err(failed(from))? {
            let entry = entry.map_err(failed(from))?;
            copy_tree(&entry.path(), &to.join(entry.file_name()), owner)?;
        }
        std::fs::set_permissions(to, metadata.permissions()).map_err(failed(to))?;
    } else {
        std::fs::copy(from, to).map_err(failed(to))?;
    }
    match owner {
        Some(id) => std::os::unix::fs::chown(to, Some(id), Some(id)).map_err(failed(to)),
        None => Ok(()),
    }
}
