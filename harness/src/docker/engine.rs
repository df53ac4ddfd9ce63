//! What this project asks of a container engine: is it there, has it an image, build one, run containers, end them.
//!
//! Every container bears two labels, and none without them is ever touched.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::pin::Pin;

use bollard::Docker;
use bollard::container::{AttachContainerResults, LogOutput};
use bollard::errors::Error;
use bollard::models::{ContainerCreateBody, HostConfig, Mount, MountTypeEnum, PortBinding};
use bollard::query_parameters::{
    AttachContainerOptions, BuildImageOptions, CreateContainerOptions, ListContainersOptions, RemoveContainerOptions,
    StartContainerOptions, WaitContainerOptions,
};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt as _, Stream, StreamExt as _};
use tokio::io::AsyncWrite;
use tokio::sync::oneshot;

use super::error::{API_MIN, EngineError, HOST_VARIABLE, failed, missing_or_failed, unreachable};

/// Bears the id of the environment that a container belongs to.
const ENVIRONMENT_LABEL: &str = "greenroom.environment";
/// Bears the directory of the supervisor that made a container.
const HOUSE_LABEL: &str = "greenroom.house";
/// Where an engine usually listens.
const SOCKET: &str = "unix:///var/run/docker.sock";
/// How long the engine may take for one answer, in seconds.
const ANSWER_LIMIT_S: u64 = 120;
/// What the engine says of a process that was killed.
const KILLED: i64 = 137;

/// A connection to the container engine of this machine.
#[derive(Clone, Debug)]
pub struct Engine {
    docker: Docker,
}

/// Where an engine listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listens<'a> {
    /// At a socket of this machine: its path.
    Socket(&'a str),
    /// At a port of a loopback address, as `127.0.0.1:2375`.
    Port(&'a str),
}

impl<'a> Listens<'a> {
    /// What `DOCKER_HOST` names.
    fn at(host: &'a str) -> Result<Self, EngineError> {
        if let Some(path) = host.strip_prefix("unix://") {
            return Ok(Self::Socket(path));
        }
        let port = ["tcp://", "http://"].into_iter().find_map(|scheme| host.strip_prefix(scheme));
        let port = port.map(|port| port.trim_end_matches('/'));
        let is_here = |port: &&str| {
            let Some((name, number)) = port.rsplit_once(':') else { return false };
            let address: Option<IpAddr> = name.trim_matches(['[', ']']).parse().ok();
            number.parse::<u16>().is_ok() && (name == "localhost" || address.is_some_and(|ip| ip.is_loopback()))
        };
        port.filter(is_here).map(Self::Port).ok_or_else(|| EngineError::Elsewhere { host: host.to_owned() })
    }

    fn place(self) -> &'a str {
        match self {
            Self::Socket(place) | Self::Port(place) => place,
        }
    }
}

/// What a container is made of.
pub(super) struct Container<'a> {
    pub(super) image: &'a str,
    /// What runs; absent where the image says it.
    pub(super) own: Option<Own<'a>>,
    /// Variables, as `NAME=value`.
    pub(super) variables: Vec<String>,
    /// Directory of this machine that it sees at the same path.
    pub(super) writes: &'a Path,
    /// More of them, which it may not change.
    pub(super) reads: &'a [PathBuf],
    pub(super) environment: &'a str,
    pub(super) house: &'a Path,
    pub(super) place: Place<'a>,
}

/// What runs in a container, instead of what its image says.
pub(super) struct Own<'a> {
    /// Program and arguments.
    pub(super) command: Vec<String>,
    /// User and group, as `1000:1000`.
    pub(super) user: String,
    /// Working directory.
    pub(super) directory: &'a Path,
}

/// Where a container stands.
pub(super) enum Place<'a> {
    /// Network and process ids are its own, and these ports are found at this address of the machine.
    First { address: Ipv4Addr, ports: &'a [u16] },
    /// It shares network and process ids with the container of this id.
    With { first: &'a str },
}

/// A container that runs.
pub(super) struct Running {
    pub(super) id: String,
    /// Its first process, as this machine counts; absent where it has ended already.
    pub(super) pid: Option<i32>,
    /// The container's input is closed when this is dropped.
    pub(super) input: Pin<Box<dyn AsyncWrite + Send>>,
    /// What it says, from the first byte.
    pub(super) output: BoxStream<'static, Result<LogOutput, Error>>,
    /// Its exit code, when it has ended.
    pub(super) exit: BoxFuture<'static, i64>,
}

/// The first container of an environment. When this is dropped, in whatever way, its input closes, its process ends, and
/// with it every process of the environment.
pub(super) struct Held {
    id: String,
    _input: Pin<Box<dyn AsyncWrite + Send>>,
    exit: BoxFuture<'static, i64>,
}

impl fmt::Debug for Held {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Held").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Held {
    /// Id of the container.
    pub(super) fn id(&self) -> &str {
        &self.id
    }
}

/// Where the container engine listens: what `DOCKER_HOST` says, else where one usually does.
#[must_use]
pub fn host() -> String {
    std::env::var(HOST_VARIABLE).ok().filter(|host| !host.is_empty()).unwrap_or_else(|| SOCKET.to_owned())
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
        let absent = |source| unreachable(at.place(), source);
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

    /// Whether it has an image.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn has(&self, image: &str) -> Result<bool, EngineError> {
        match self.docker.inspect_image(image).await {
            Ok(_) => Ok(true),
            Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(false),
            Err(source) => Err(EngineError::Failed { action: format!("look for the image {image}"), source }),
        }
    }

    /// Builds an image from a context, a tar archive with a `Dockerfile` that reads these arguments; `step` hears what the
    /// engine says.
    ///
    /// # Errors
    /// The context cannot be read, or a step failed.
    pub(super) async fn build(
        &self,
        image: &str,
        arguments: HashMap<String, String>,
        context: impl Stream<Item = std::io::Result<Bytes>> + Send + 'static,
        mut step: impl FnMut(&str),
    ) -> Result<(), EngineError> {
        let options = BuildImageOptions {
            dockerfile: "Dockerfile".to_owned(),
            t: Some(image.to_owned()),
            buildargs: Some(arguments),
            rm: true,
            forcerm: true,
            ..BuildImageOptions::default()
        };
        let mut building =
            std::pin::pin!(self.docker.build_image(options, None, Some(bollard::body_try_stream(context))));
        while let Some(told) = building.next().await {
            let told = told.map_err(failed(&format!("build the image {image}")))?;
            if let Some(line) = told.stream.as_deref().map(str::trim).filter(|line| !line.is_empty()) {
                step(line);
            }
        }
        Ok(())
    }

    /// Starts the first container of an environment.
    ///
    /// # Errors
    /// It could not be made or started; nothing of it is left then.
    pub(super) async fn hold(&self, container: &Container<'_>) -> Result<Held, EngineError> {
        let Running { id, input, exit, .. } = self.run(container).await?;
        Ok(Held { id, _input: input, exit })
    }

    /// Starts a container that is removed when it ends.
    ///
    /// # Errors
    /// It could not be made or started; nothing of it is left then.
    pub(super) async fn run(&self, container: &Container<'_>) -> Result<Running, EngineError> {
        let created = self.docker.create_container(None::<CreateContainerOptions>, body(container)).await;
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
        let inspected = self.docker.inspect_container(id, None).await;
        // One that has ended at once may be gone already; its end is told by `exit`.
        let state = inspected.ok().and_then(|inspected| inspected.state);
        let pid = state.and_then(|state| state.pid).and_then(|pid| i32::try_from(pid).ok()).filter(|pid| *pid > 0);
        Ok(Running { id: id.to_owned(), pid, input, output: output.boxed(), exit })
    }

    /// The exit code of a container's next end.
    fn exit_of(&self, id: &str) -> BoxFuture<'static, i64> {
        let (docker, id) = (self.docker.clone(), id.to_owned());
        let (told, exit) = oneshot::channel();
        tokio::spawn(async move {
            let next = WaitContainerOptions { condition: "next-exit".to_owned() };
            let mut waiting = std::pin::pin!(docker.wait_container(&id, Some(next)));
            let code = match waiting.next().await {
                Some(Ok(answer)) => answer.status_code,
                Some(Err(Error::DockerContainerWaitError { code, .. })) => code,
                // The engine itself has gone, and its containers with it.
                Some(Err(_)) | None => KILLED,
            };
            let _ = told.send(code);
        });
        exit.map(|code| code.unwrap_or(KILLED)).boxed()
    }

    /// Removes a container, whether it runs or not.
    pub(super) async fn remove(&self, id: &str) {
        let options = RemoveContainerOptions { force: true, v: true, ..Default::default() };
        // One that removes itself is gone, or just going.
        let _ = self.docker.remove_container(id, Some(options)).await;
    }

    /// Ends the first container of an environment, and with it all others.
    pub(super) async fn end(&self, first: Held) {
        let Held { id, exit, .. } = first;
        self.remove(&id).await;
        exit.await;
    }

    /// Removes the containers of supervisors that are dead.
    ///
    /// # Errors
    /// The engine does not answer.
    pub(crate) async fn sweep(&self, is_dead: impl Fn(&Path) -> bool) -> Result<(), EngineError> {
        let filters = HashMap::from([("label".to_owned(), vec![HOUSE_LABEL.to_owned()])]);
        let options = ListContainersOptions { all: true, filters: Some(filters), ..Default::default() };
        for found in self.docker.list_containers(Some(options)).await.map_err(failed("list containers"))? {
            let house = found.labels.as_ref().and_then(|labels| labels.get(HOUSE_LABEL)).map(PathBuf::from);
            if let (Some(id), true) = (found.id, house.is_some_and(|house| is_dead(&house))) {
                self.remove(&id).await;
            }
        }
        Ok(())
    }
}

fn body(container: &Container<'_>) -> ContainerCreateBody {
    let mount = |path: &Path, read_only| {
        let path = Some(path.display().to_string());
        let (source, target) = (path.clone(), path);
        Mount { typ: Some(MountTypeEnum::BIND), source, target, read_only: Some(read_only), ..Mount::default() }
    };
    let mut mounts = vec![mount(container.writes, false)];
    mounts.extend(container.reads.iter().map(|path| mount(path, true)));
    let mut host = HostConfig { auto_remove: Some(true), mounts: Some(mounts), ..HostConfig::default() };
    let mut exposed = None;
    match &container.place {
        Place::First { address, ports } => {
            let names: Vec<String> = ports.iter().map(|port| format!("{port}/tcp")).collect();
            let published = ports.iter().map(|port| {
                let at = PortBinding { host_ip: Some(address.to_string()), host_port: Some(port.to_string()) };
                (format!("{port}/tcp"), Some(vec![at]))
            });
            host.port_bindings = Some(published.collect());
            exposed = Some(names);
        }
        Place::With { first } => {
            let shared = format!("container:{first}");
            host.network_mode = Some(shared.clone());
            host.pid_mode = Some(shared);
        }
    }
    let label = |name: &str, value: String| (name.to_owned(), value);
    ContainerCreateBody {
        image: Some(container.image.to_owned()),
        // An empty entry point takes the image's own away.
        entrypoint: container.own.as_ref().map(|_| Vec::new()),
        cmd: container.own.as_ref().map(|own| own.command.clone()),
        user: container.own.as_ref().map(|own| own.user.clone()),
        working_dir: container.own.as_ref().map(|own| own.directory.display().to_string()),
        env: Some(container.variables.clone()),
        exposed_ports: exposed,
        open_stdin: Some(true),
        stdin_once: Some(true),
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        labels: Some(HashMap::from([
            label(ENVIRONMENT_LABEL, container.environment.to_owned()),
            label(HOUSE_LABEL, container.house.display().to_string()),
        ])),
        host_config: Some(host),
        ..ContainerCreateBody::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_is_at_a_socket_or_at_a_port_of_loopback() {
        for (host, expected) in [
            (SOCKET, Listens::Socket("/var/run/docker.sock")),
            ("unix:///run/user/1000/docker.sock", Listens::Socket("/run/user/1000/docker.sock")),
            ("tcp://127.0.0.1:2375", Listens::Port("127.0.0.1:2375")),
            ("tcp://[::1]:2375", Listens::Port("[::1]:2375")),
            ("http://localhost:2375/", Listens::Port("localhost:2375")),
        ] {
            assert_eq!(Listens::at(host).expect(host), expected);
        }
        for host in ["tcp://10.0.0.7:2375", "tcp://build.example:2375", "tcp://127.0.0.1", "ssh://me@build", "nonsense"]
        {
            let error = Listens::at(host).expect_err(host);
            assert!(error.to_string().starts_with(&format!("DOCKER_HOST is {host}, ")), "{error}");
        }
    }
}
