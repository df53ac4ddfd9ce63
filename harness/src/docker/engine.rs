//! What this project asks of a container engine: is it there, run containers, end them; and, in `images`, has it an image,
//! fetch one, build one.
//!
//! Every container bears labels that say whose it is, and none without them is ever touched.

mod images;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bollard::Docker;
use bollard::container::{AttachContainerResults, LogOutput};
use bollard::errors::Error;
use bollard::models::ContainerSummary;
use bollard::query_parameters::{
    AttachContainerOptions, CreateContainerOptions, ListContainersOptions, RemoveContainerOptions,
    StartContainerOptions, WaitContainerOptions,
};
use futures_util::future::{BoxFuture, join_all};
use futures_util::stream::BoxStream;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::oneshot;

use crate::attempts::Attempts;

use super::container::{
    self, Container, ENVIRONMENT_LABEL, FirstProcess, HOUSE_LABEL, Held, MAKER_LABEL, Running, SUPERVISOR_LABEL,
};
use super::error::{API_MIN, EngineError, failed, missing_or_failed, unreachable};
use super::host::{Listens, host, told};

/// How long the engine may take for one answer, in seconds.
const ANSWER_LIMIT_S: u64 = 120;
/// How long the containers of an environment may take to go.
const END_LIMIT: Duration = Duration::from_secs(60);
/// How long the process of a first container may take to be seen: the engine tells its id before it is the program.
const SEEN_LIMIT: Duration = Duration::from_secs(10);
/// How long the last words of a container that has ended may take to come, and how many bytes of them are told.
const WORDS_LIMIT: Duration = Duration::from_secs(1);
const WORDS_BYTES_MAX: usize = 1_000;
/// Pause between two looks, at what is left of them and at a process that is not seen yet.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A connection to the container engine of this machine.
#[derive(Clone, Debug)]
pub struct Engine {
    docker: Docker,
}

impl Engine {
    /// Connects to the engine that [`host`] names.
    ///
    /// # Errors
    /// As [`Engine::at`].
    pub async fn here() -> Result<Self, EngineError> {
        Self::at(&host()).await
    }

    /// Connects to the engine of this machine that listens at `host`, as `DOCKER_HOST` has it.
    ///
    /// # Errors
    /// There is none, it may not be asked, is on another machine, or too old.
    pub async fn at(host: &str) -> Result<Self, EngineError> {
        let at = Listens::at(host)?;
        let absent = |source| unreachable(&told(host, at), source);
        let version = bollard::API_DEFAULT_VERSION;
        let docker = match at {
            Listens::Socket(path) => Docker::connect_with_unix(path, ANSWER_LIMIT_S, version),
            Listens::Port(port) => Docker::connect_with_http(port, ANSWER_LIMIT_S, version),
        };
        let docker = docker.map_err(absent)?;
        let docker = docker.negotiate_version().await.map_err(absent)?;
        let version = docker.client_version();
        if (version.major_version, version.minor_version) < API_MIN {
            return Err(EngineError::TooOld { found: version.to_string() });
        }
        Ok(Self { docker })
    }

    /// What a person is told of it, such as `20.10.24, API 1.41`.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn version(&self) -> Result<String, EngineError> {
        let version = self.docker.version().await.map_err(failed("tell its version"))?;
        Ok(format!("{}, API {}", version.version.unwrap_or_default(), self.docker.client_version()))
    }

    /// Makes sure that users of its containers are those of this machine: they work in the environment's directory.
    ///
    /// # Errors
    /// It is rootless or remaps users, or does not answer.
    pub async fn shares_users(&self) -> Result<(), EngineError> {
        let info = self.docker.info().await.map_err(failed("tell of itself"))?;
        let options = info.security_options.unwrap_or_default();
        let has_own =
            options.iter().any(|option| ["name=rootless", "name=userns"].iter().any(|it| option.contains(it)));
        if has_own { Err(EngineError::OtherUsers) } else { Ok(()) }
    }

    /// Starts the first container of an environment, which bears the mark of its supervisor. With its process others
    /// are seen too, and their ids are what they seem.
    ///
    /// # Errors
    /// It could not be made or started, or its process is not seen from here; nothing of it is left then.
    pub(super) async fn hold(&self, container: &Container<'_>) -> Result<Held, EngineError> {
        let Running { id, process, input, output, exit } = self.run(container).await?;
        let mut attempts = Attempts::new(LOOK_EVERY, Instant::now() + SEEN_LIMIT);
        let seen = async {
            while let Some(found) = attempts.make(async { process.filter(|it| it.is_of(container.supervisor)) }).await {
                if found.is_some() {
                    return found;
                }
            }
            None
        };
        let error = tokio::select! {
            seen = seen => match seen {
                Some(process) => return Ok(Held { id, process, input }),
                None => EngineError::Unseen,
            },
            code = exit => match code {
                Some(code) => {
                    EngineError::Ended { image: container.image.to_owned(), code, said: last_words(output).await }
                }
                None => EngineError::NoFirst,
            },
        };
        self.remove(&id).await;
        Err(error)
    }

    /// Starts a container that is removed when it ends.
    ///
    /// # Errors
    /// It could not be made or started; nothing of it is left then.
    pub(super) async fn run(&self, container: &Container<'_>) -> Result<Running, EngineError> {
        let created = self.docker.create_container(None::<CreateContainerOptions>, container::body(container)).await;
        let id = created.map_err(|source| missing_or_failed(container.image, source))?.id;
        let started = self.start(&id).await;
        if started.is_err() {
            self.remove(&id).await;
        }
        started
    }

    async fn start(&self, id: &str) -> Result<Running, EngineError> {
        // Before it starts, so that its first words are heard, and its end is not missed however soon it comes.
        let all =
            AttachContainerOptions { stream: true, stdin: true, stdout: true, stderr: true, ..Default::default() };
        let attached = self.docker.attach_container(id, Some(all)).await.map_err(failed("attach to a container"))?;
        let AttachContainerResults { input, output } = attached;
        let exit = self.exit_of(id);
        self.docker.start_container(id, None::<StartContainerOptions>).await.map_err(failed("start a container"))?;
        let state = match self.docker.inspect_container(id, None).await {
            Ok(inspected) => inspected.state,
            // One that has ended at once may be gone already; its end is told by `exit`.
            Err(Error::DockerResponseServerError { status_code: 404, .. }) => None,
            Err(source) => return Err(failed("look at a container")(source)),
        };
        let pid = state.and_then(|state| state.pid).and_then(|pid| i32::try_from(pid).ok()).filter(|pid| *pid > 0);
        let process = pid.and_then(FirstProcess::of);
        Ok(Running { id: id.to_owned(), process, input, output: output.boxed(), exit })
    }

    /// The exit code of a container's next end; `None` when the engine can no longer be asked.
    fn exit_of(&self, id: &str) -> BoxFuture<'static, Option<i64>> {
        let (docker, id) = (self.docker.clone(), id.to_owned());
        let (told, exit) = oneshot::channel();
        tokio::spawn(async move {
            let next = WaitContainerOptions { condition: "next-exit".to_owned() };
            let mut waiting = std::pin::pin!(docker.wait_container(&id, Some(next)));
            let code = match waiting.next().await {
                Some(Ok(answer)) => Some(answer.status_code),
                Some(Err(Error::DockerContainerWaitError { code, .. })) => Some(code),
                Some(Err(_)) | None => None,
            };
            let _ = told.send(code);
        });
        exit.map(|code| code.ok().flatten()).boxed()
    }

    /// Removes a container, whether it runs or not.
    pub(super) async fn remove(&self, id: &str) {
        let options = RemoveContainerOptions { force: true, v: true, ..Default::default() };
        // One that removes itself is gone, or just going.
        let _ = self.docker.remove_container(id, Some(options)).await;
    }

    /// Ends the first container of an environment, and with it all others; returns when the engine has none of them
    /// left.
    ///
    /// The kernel ends them, also where the engine does not answer.
    ///
    /// # Errors
    /// Some were left after a minute, or the engine does not answer.
    pub(super) async fn end(&self, first: Option<Held>, environment: &str) -> Result<(), EngineError> {
        if let Some(Held { process, input, .. }) = first {
            drop(input);
            process.kill();
        }
        let mut attempts = Attempts::new(LOOK_EVERY, Instant::now() + END_LIMIT);
        while let Some(found) = attempts.make(self.remove_all_of(environment)).await {
            if found? == 0 {
                return Ok(());
            }
        }
        Err(EngineError::Left(END_LIMIT))
    }

    /// Removes the containers of an environment and says how many it has found.
    async fn remove_all_of(&self, environment: &str) -> Result<usize, EngineError> {
        let found = self.labelled(&format!("{ENVIRONMENT_LABEL}={environment}")).await?;
        join_all(found.iter().filter_map(|found| found.id.as_deref()).map(|id| self.remove(id))).await;
        Ok(found.len())
    }

    /// All containers with this label, whether they run or not.
    async fn labelled(&self, label: &str) -> Result<Vec<ContainerSummary>, EngineError> {
        let filters = HashMap::from([("label".to_owned(), vec![label.to_owned()])]);
        let options = ListContainersOptions { all: true, filters: Some(filters), ..Default::default() };
        self.docker.list_containers(Some(options)).await.map_err(failed("list containers"))
    }

    /// Removes the containers of supervisors that are dead, as told by the house they lived in and their identity, and
    /// those in which somebody who is dead was making a checkpoint.
    ///
    /// # Errors
    /// The engine does not answer.
    pub(crate) async fn sweep(&self, is_dead: impl Fn(&Path, &str) -> bool) -> Result<(), EngineError> {
        for found in self.labelled(HOUSE_LABEL).await? {
            let label = |name: &str| found.labels.as_ref().and_then(|labels| labels.get(name)).cloned();
            let house = label(HOUSE_LABEL).map(PathBuf::from);
            let supervisor = label(SUPERVISOR_LABEL).unwrap_or_default();
            if let (Some(id), true) = (&found.id, house.is_some_and(|house| is_dead(&house, &supervisor))) {
                self.remove(id).await;
            }
        }
        for found in self.labelled(MAKER_LABEL).await? {
            let label = found.labels.as_ref().and_then(|labels| labels.get(MAKER_LABEL));
            let runs = label.and_then(|label| FirstProcess::from_label(label)).is_some_and(FirstProcess::runs);
            if let (Some(id), false) = (&found.id, runs) {
                self.remove(id).await;
            }
        }
        Ok(())
    }
}

/// What a container that has ended has said.
async fn last_words(mut output: BoxStream<'static, Result<LogOutput, Error>>) -> String {
    let mut said = Vec::new();
    let hear = async {
        while let Some(Ok(words)) = output.next().await {
            said.extend_from_slice(&words.into_bytes());
        }
    };
    // Its end was told; the engine has the rest already.
    let _ = tokio::time::timeout(WORDS_LIMIT, hear).await;
    let last = said.len().saturating_sub(WORDS_BYTES_MAX);
    String::from_utf8_lossy(&said[last..]).trim().to_owned()
}
