//! A container: what it is made of, as the engine is told it, and as it runs.
//!
//! Deliberately absent: asking for anything; see [`engine`](super::engine).

use std::collections::HashMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::pin::Pin;

use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::models::{ContainerCreateBody, HostConfig, Mount, MountTypeEnum, PortBinding};
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::AsyncWrite;

use crate::node::UNCONFINED;
use crate::runtime::{self, SUPERVISOR_VARIABLE};

/// Bears the id of the environment that a container belongs to.
pub(super) const ENVIRONMENT_LABEL: &str = "greenroom.environment";
/// Bears the directory of the supervisor that made a container.
pub(super) const HOUSE_LABEL: &str = "greenroom.house";
/// Bears the identity of that supervisor: others live in the same directory after it.
pub(super) const SUPERVISOR_LABEL: &str = "greenroom.supervisor";

/// Bears the process that made a container, as [`FirstProcess::told`], where no supervisor did.
pub(super) const MAKER_LABEL: &str = "greenroom.maker";

/// Where a container looks for who there is.
const USERS: &str = "/etc/passwd";

/// What a container is made of.
pub(super) struct Container<'a> {
    pub(super) image: &'a str,
    /// What runs; absent where the image says it.
    pub(super) own: Option<Own<'a>>,
    /// Variables, as `NAME=value`.
    pub(super) variables: Vec<String>,
    /// Directories and files of this machine that it sees at the same path and may not change.
    pub(super) reads: &'a [PathBuf],
    /// Whether what runs in it makes namespaces of its own.
    pub(super) makes_namespaces: bool,
    /// File of this machine that tells it who there is, instead of its image's.
    pub(super) users: Option<&'a Path>,
    pub(super) environment: &'a str,
    pub(super) house: &'a Path,
    pub(super) supervisor: &'a str,
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
    /// Directory of this machine that it sees at the same path, and may change.
    pub(super) writes: &'a Path,
}

/// Where a container stands.
pub(super) enum Place<'a> {
    /// Network and process ids are its own, and these ports are found at this address of the machine.
    First { address: Ipv4Addr, ports: &'a [u16] },
    /// Process ids are its own, the network is this machine's.
    Here,
    /// It shares network and process ids with the container of this id.
    With { first: &'a str },
}

/// A container that runs.
pub(super) struct Running {
    pub(super) id: String,
    /// Its first process; absent where it has ended already.
    pub(super) process: Option<FirstProcess>,
    /// The container's input is closed when this is dropped.
    pub(super) input: Pin<Box<dyn AsyncWrite + Send>>,
    /// What it says, from the first byte.
    pub(super) output: BoxStream<'static, Result<LogOutput, Error>>,
    /// Its exit code, when it has ended; `None` when the engine cannot tell any more.
    pub(super) exit: BoxFuture<'static, Option<i64>>,
}

/// The first container of an environment. When this is dropped, in whatever way, its input closes, its process ends,
/// and with it every process of the environment.
pub(super) struct Held {
    pub(super) id: String,
    /// Its first process, with which all of them end.
    pub(super) process: FirstProcess,
    pub(super) input: Pin<Box<dyn AsyncWrite + Send>>,
}

impl fmt::Debug for Held {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Held").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The first process of a container, as this machine sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct FirstProcess {
    pub(super) pid: i32,
    /// In clock ticks since the machine was started (proc_pid_stat(5)): its id may be somebody else's later.
    started: u64,
}

impl FirstProcess {
    /// The process of this id, if it has not ended.
    pub(super) fn of(pid: i32) -> Option<Self> {
        let stat = procfs::process::Process::new(pid).and_then(|process| process.stat()).ok()?;
        (stat.state != 'Z').then_some(Self { pid, started: stat.starttime })
    }

    /// Whether it bears the mark of this supervisor. Where the engine counts processes otherwise, as in a virtual
    /// machine, the process of this id is somebody else's.
    pub(super) fn is_of(self, supervisor: &str) -> bool {
        self.runs() && runtime::carries(self.pid, SUPERVISOR_VARIABLE, supervisor)
    }

    /// How a label names it.
    fn told(self) -> String {
        format!("{} {}", self.pid, self.started)
    }

    /// The process that a label names, whether it runs or not.
    pub(super) fn from_label(label: &str) -> Option<Self> {
        let (pid, started) = label.split_once(' ')?;
        Some(Self { pid: pid.parse().ok()?, started: started.parse().ok()? })
    }

    /// Whether it has not ended.
    pub(super) fn runs(self) -> bool {
        Self::of(self.pid).is_some_and(|found| found.started == self.started)
    }

    /// Ends it, without asking its engine.
    pub(super) fn kill(self) {
        if self.runs() {
            let _ = kill(Pid::from_raw(self.pid), Signal::SIGKILL);
        }
    }
}

/// The label of a container that this process makes by the engine's command.
pub(super) fn made_by_this() -> String {
    let own = i32::try_from(std::process::id()).ok().and_then(FirstProcess::of);
    format!("{MAKER_LABEL}={}", own.map(FirstProcess::told).unwrap_or_default())
}

/// What the engine is told to make.
pub(super) fn body(container: &Container<'_>) -> ContainerCreateBody {
    let mount = |path: &Path, at: &Path, read_only| {
        let (source, target) = (Some(path.display().to_string()), Some(at.display().to_string()));
        Mount { typ: Some(MountTypeEnum::BIND), source, target, read_only: Some(read_only), ..Mount::default() }
    };
    let mut mounts: Vec<_> = container.own.iter().map(|own| mount(own.writes, own.writes, false)).collect();
    mounts.extend(container.reads.iter().map(|path| mount(path, path, true)));
    mounts.extend(container.users.map(|path| mount(path, Path::new(USERS), true)));
    let mut host = HostConfig { auto_remove: Some(true), mounts: Some(mounts), ..HostConfig::default() };
    if container.makes_namespaces {
        host.security_opt = Some(UNCONFINED.map(str::to_owned).to_vec());
        // A `/proc` of its own shall not show what the engine has hidden here, so nothing may be hidden.
        (host.masked_paths, host.readonly_paths) = (Some(Vec::new()), Some(Vec::new()));
    }
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
        Place::Here => host.network_mode = Some("host".to_owned()),
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
            label(SUPERVISOR_LABEL, container.supervisor.to_owned()),
        ])),
        host_config: Some(host),
        ..ContainerCreateBody::default()
    }
}
