//! Environments whose infrastructure runs in containers of this machine's engine.
//!
//! The plan is the same as for processes: what an image of ours holds lies in it at the same paths as here
//! ([`images`]), so that a part runs the same command, with the environment's directory at the same path. Where a list
//! says so ([`pinned`]), a part runs in an image that others have made. The containers
//! of an environment share the network and the process ids of a first one, which reads its input: when the supervisor
//! ends in any way, that input closes, the first container ends, and the kernel ends all others. Programs of the
//! system stay processes of this machine, unless one of them is an image: then all are in that network. Where links
//! stand between brokers, that network is this machine's, because the links are.
//!
//! Deliberately absent: engines of other machines, which could share neither a directory nor a signal with us; and
//! `docker exec`, which costs more than a question to the part itself.

pub mod brokers;
mod container;
mod engine;
mod error;
mod host;
pub mod images;
pub mod pinned;
mod recipe;

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::try_join_all;
use nix::sys::signal::Signal;
use tokio::io::AsyncWriteExt as _;

pub use engine::Engine;
pub use error::EngineError;
pub use host::host;

use crate::plan::{ImageKind, Kind, Network, Part, Plan, PlannedContainer};
use crate::runtime::{Processes, SUPERVISOR_VARIABLE, SpawnError, drops_privileges};
use crate::toolchain::UNPRIVILEGED_ID;
use container::{Container, FirstProcess, Held, Own, Place, Running};

/// Pause between two looks at a process whose engine has gone.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The containers of one environment.
#[derive(Debug)]
pub struct Containers {
    engine: Engine,
    environment: String,
    /// Directory of the supervisor, which tells a sweep whose containers these are.
    house: PathBuf,
    supervisor: String,
    directory: PathBuf,
    first: Mutex<Option<Held>>,
}

impl Containers {
    /// None yet, for an environment of the supervisor in `house`.
    #[must_use]
    pub fn new(engine: Engine, plan: &Plan, house: &Path) -> Self {
        Self {
            engine,
            environment: plan.site.environment.clone(),
            house: house.to_owned(),
            supervisor: plan.site.supervisor.clone(),
            directory: plan.site.directory.clone(),
            first: Mutex::new(None),
        }
    }

    /// Starts the first container, at whose address the ports of all others are found.
    ///
    /// Goes on when the caller is cancelled: whoever ends the environment waits for what is being prepared.
    ///
    /// # Errors
    /// The engine refuses, or the environment is being taken away.
    pub(crate) async fn open(self: &Arc<Self>, plan: &Plan, processes: &Arc<Processes>) -> Result<(), SpawnError> {
        let under_way = processes.prepare().ok_or(SpawnError::Closed)?;
        let contained = plan.parts.iter().filter(|part| part.container.is_some());
        let ports: Vec<u16> = contained.flat_map(|part| part.addresses.iter().map(|at| at.port())).collect();
        let planned: Vec<_> = plan.parts.iter().filter_map(|part| part.container.clone()).collect();
        let own = planned.iter().find(|container| container.kind != ImageKind::Service);
        let Some(PlannedContainer { image, .. }) = own.cloned() else { return Ok(()) };
        // Ours for brokers and stores are asked for at once, and their names tell what they hold. The others are looked
        // at: those of others may be other ones, and those of programs would be missed only when all the rest is ready.
        let is_looked_at = |part: &&Part| {
            let is_ours = part.container.as_ref().is_some_and(|container| container.kind == ImageKind::Built);
            !is_ours || matches!(part.kind, Kind::Program { .. })
        };
        let looked_at = plan.parts.iter().filter(is_looked_at);
        let looked_at: Vec<_> =
            looked_at.filter_map(|part| Some((part.name.clone(), part.container.clone()?))).collect();
        let (containers, address) = (Arc::clone(self), plan.site.backstage);
        let network = plan.site.network;
        if planned.iter().any(|container| container.kind == ImageKind::Others) {
            self.write_users()?;
        }
        let opening = tokio::spawn(async move {
            let _under_way = under_way;
            let looks = looked_at.iter().map(|(part, PlannedContainer { image, digest, .. })| {
                containers.engine.holds(part, image, digest.as_deref())
            });
            try_join_all(looks).await?;
            let place = match network {
                Network::Machine => Place::Here,
                Network::Containers => Place::First { address, ports: &ports },
            };
            let mut first = containers.container(&image, place);
            // So that whoever sweeps after a dead supervisor finds it, and with it all others.
            first.variables = vec![format!("{SUPERVISOR_VARIABLE}={}", containers.supervisor)];
            let held = containers.engine.hold(&first).await?;
            *containers.lock() = Some(held);
            Ok::<_, EngineError>(())
        });
        let opened = opening.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        opened.map_err(SpawnError::from)
    }

    /// Starts a part in a container, as one of `processes`.
    ///
    /// Goes on when the caller is cancelled, like [`Containers::open`].
    ///
    /// # Errors
    /// The engine refuses, or the environment is being taken away.
    pub(crate) async fn spawn(self: &Arc<Self>, part: &Part, processes: &Arc<Processes>) -> Result<(), SpawnError> {
        let under_way = processes.prepare().ok_or(SpawnError::Closed)?;
        let (containers, part, processes) = (Arc::clone(self), part.clone(), Arc::clone(processes));
        let starting = tokio::spawn(async move {
            let _under_way = under_way;
            containers.start(&part, &processes).await
        });
        starting.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
    }

    async fn start(&self, part: &Part, processes: &Processes) -> Result<(), SpawnError> {
        let Some(first) = self.lock().as_ref().map(|held| held.id.clone()) else { return Err(SpawnError::Closed) };
        let Some(planned) = &part.container else { return Err(SpawnError::Closed) };
        let open = std::fs::OpenOptions::new().create(true).append(true).open(&part.log);
        let log = open.map_err(|source| SpawnError::Log { path: part.log.clone(), source })?;
        let mut container = self.container(&planned.image, Place::With { first: &first });
        container.variables = part.variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
        container.reads = &planned.reads;
        if let Some(image) = &planned.restores_in {
            // Its name may be another's by now, as after `images build` over another base.
            container.image = image;
            container.makes_namespaces = true;
        }
        let users = self.users();
        container.users = (planned.kind == ImageKind::Others).then_some(users.as_path());
        let own = container.own.take().filter(|_| planned.kind != ImageKind::Service);
        container.own = own.map(|own| Own {
            command: part.command.clone(),
            directory: &part.directory,
            writes: own.writes,
            user: if drops_privileges(part) { format!("{UNPRIVILEGED_ID}:{UNPRIVILEGED_ID}") } else { own.user },
        });
        let Running { id, process, input, mut output, exit } = self.engine.run(&container).await?;
        let (mut log, mut input) = (tokio::fs::File::from_std(log), input);
        let lines: String = part.input.iter().map(|line| format!("{line}\n")).collect();
        let ended = async move {
            // One that has ended reads nothing; its end is told below.
            let _ = input.write_all(lines.as_bytes()).await;
            let _ = input.flush().await;
            // Its last words are written before its end is told.
            while let Some(Ok(said)) = output.next().await {
                let _ = log.write_all(&said.into_bytes()).await;
            }
            let _ = log.flush().await;
            match exit.await {
                Some(code) => exit_status(code),
                None => gone(process).await,
            }
        };
        let Some(process) = process else { return Err(SpawnError::Ended(ended.await)) };
        let registered = processes.register(&part.name, process.pid, ended);
        if registered.is_err() {
            self.engine.remove(&id).await;
        }
        registered
    }

    /// Ends all containers and returns when none is left.
    ///
    /// # Errors
    /// The engine does not answer, or some were left.
    pub(crate) async fn end(&self) -> Result<(), EngineError> {
        let first = self.lock().take();
        self.engine.end(first, &self.environment).await
    }

    /// Writes who there is, for images of others: `initdb` wants a name for whom it runs as.
    fn write_users(&self) -> Result<(), SpawnError> {
        let (user, group) = (nix::unistd::geteuid(), nix::unistd::getegid());
        let nobody = UNPRIVILEGED_ID;
        let mut users = format!("root:x:0:0::/:/bin/sh\nnobody:x:{nobody}:{nobody}::/:/bin/sh\n");
        if !user.is_root() {
            users.push_str(&format!("greenroom:x:{user}:{group}::/:/bin/sh\n"));
        }
        let path = self.users();
        std::fs::write(&path, users).map_err(|source| SpawnError::Users { path, source })
    }

    fn users(&self) -> PathBuf {
        self.directory.join("users")
    }

    /// A container of this environment that reads its input until it closes.
    fn container<'a>(&'a self, image: &'a str, place: Place<'a>) -> Container<'a> {
        Container {
            image,
            own: Some(Own {
                command: vec!["cat".to_owned()],
                user: format!("{}:{}", nix::unistd::geteuid(), nix::unistd::getegid()),
                directory: &self.directory,
                writes: &self.directory,
            }),
            variables: Vec::new(),
            reads: &[],
            makes_namespaces: false,
            users: None,
            environment: &self.environment,
            house: &self.house,
            supervisor: &self.supervisor,
            place,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Held>> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for the end of a process whose engine has gone and tells it no more.
async fn gone(process: Option<FirstProcess>) -> ExitStatus {
    let mut looks = tokio::time::interval(LOOK_EVERY);
    while process.is_some_and(FirstProcess::runs) {
        looks.tick().await;
    }
    ExitStatus::from_raw(Signal::SIGKILL as i32)
}

/// What the engine's exit code says: from 129 on it stands for a signal, of which there are 64 (signal(7)).
fn exit_status(code: i64) -> ExitStatus {
    let code = i32::try_from(code).unwrap_or(1);
    ExitStatus::from_raw(if (129..=192).contains(&code) { code - 128 } else { code << 8 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_code_is_told_from_a_signal() {
        let told = |code| (exit_status(code).code(), exit_status(code).signal());
        assert_eq!([0, 3, 137, 255].map(told), [(Some(0), None), (Some(3), None), (None, Some(9)), (Some(255), None)]);
    }
}
