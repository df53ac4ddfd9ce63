//! A state directory of the measurement's own, whose supervisor is nobody else's.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use greenroom::artifacts::{self, PrepareOptions};
use greenroom::binaries;
use greenroom::docker;
use greenroom::plan::{Plan, Runtime, Scope};
use greenroom::runtime::{self, ENVIRONMENT_VARIABLE, SUPERVISOR_VARIABLE};
use greenroom::spec::Spec;
use greenroom::supervisor::protocol::Order;
use greenroom::supervisor::state::{House, Workspace};
use greenroom::toolchain::Toolchain;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::cost;

/// How long anything may take to start before the measurement counts as failed.
pub(super) const START_DEADLINE: Duration = Duration::from_secs(120);
/// How long anything may take to go before the measurement counts as failed.
const GONE_DEADLINE: Duration = Duration::from_secs(15);
/// Pause between two looks at what is left.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Where everything that is measured runs. Removed when dropped.
pub(super) struct Ground {
    base: tempfile::TempDir,
    /// The workspace, its state in this directory.
    pub(super) workspace: Workspace,
    /// What environments are made of.
    pub(super) toolchain: Toolchain,
    /// Where the workspace's binaries lie.
    pub(super) binaries: PathBuf,
    /// A description that a client can be told to start.
    pub(super) description: PathBuf,
    offline: bool,
}

impl Ground {
    /// Prepares the artifacts and makes the directory where environments of `workspace` would be too.
    pub(super) async fn new(workspace: &Workspace, spec: &Spec, options: PrepareOptions) -> anyhow::Result<Self> {
        let PrepareOptions { offline, runtime } = options;
        let toolchain = look_up(offline, runtime).await?;
        let base =
            tempfile::Builder::new().prefix("bench-").tempdir_in(workspace.base()).context("make a directory")?;
        // PostgreSQL, which does not run as root, passes through.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o711);
        std::fs::set_permissions(base.path(), open).context("open the directory")?;
        let workspace = Workspace::with_base(workspace.root.clone(), base.path())?;
        let description = base.path().join("environment.toml");
        let text = toml::to_string(spec).context("write the description")?;
        std::fs::write(&description, text).context("write the description")?;
        Ok(Self { base, workspace, toolchain, binaries: binaries::built()?, description, offline })
    }

    /// Its directory.
    pub(super) fn path(&self) -> &Path {
        self.base.path()
    }

    /// The harness's binary.
    pub(super) fn binary(&self) -> PathBuf {
        self.binaries.join(binaries::GREENROOM)
    }

    /// Looks up the artifacts, as every client does before it asks.
    pub(super) async fn look_up(&self, runtime: Runtime) -> anyhow::Result<Toolchain> {
        look_up(self.offline, runtime).await
    }

    /// An order for all of a description.
    pub(super) fn order(&self, spec: Spec, runtime: Runtime, toolchain: Toolchain) -> Order {
        Order {
            spec,
            of_somebody_else: false,
            scope: Scope::Everything,
            runtime,
            engine: docker::host(),
            toolchain,
            binaries: self.binaries.clone(),
            inherited: runtime::inherited(),
            evidence: self.path().join("evidence"),
            holder: format!("bench start, process {}", std::process::id()),
            deadline_ms: u64::try_from(START_DEADLINE.as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// Where the supervisor lives.
    pub(super) fn house(&self) -> anyhow::Result<House> {
        Ok(self.workspace.house(&self.binary())?)
    }

    /// What the supervisor's processes carry, and its own process id.
    pub(super) fn supervisor(&self) -> anyhow::Result<(String, Pid)> {
        let identity = std::fs::read_to_string(self.house()?.identity()).context("read the supervisor's identity")?;
        let pid = identity.split('-').next().and_then(|pid| pid.parse().ok());
        let pid = Pid::from_raw(pid.context("the supervisor's identity begins with no process id")?);
        Ok((identity, pid))
    }

    /// Ends the supervisor, if one runs, and waits until its directory is removed.
    pub(super) async fn end_supervisor(&self) -> anyhow::Result<()> {
        let house = self.house()?;
        if let Ok((_, pid)) = self.supervisor() {
            let _ = kill(pid, Signal::SIGTERM);
        }
        gone("the supervisor", || there(house.path())).await.map(drop)
    }
}

async fn look_up(offline: bool, runtime: Runtime) -> anyhow::Result<Toolchain> {
    let mut toolchain = artifacts::prepare(&PrepareOptions { offline, runtime }, &mut |_| {})?;
    if runtime == Runtime::Docker {
        toolchain.kafka.start = docker::brokers::begin(&docker::host(), &toolchain, |_| {}).await?;
    }
    Ok(toolchain)
}

/// Process ids of everything that runs of an environment.
pub(super) fn processes_of(plan: &Plan) -> Vec<i32> {
    each_once(
        runtime::carriers(ENVIRONMENT_VARIABLE, &plan.site.environment),
        runtime::servers_in(&plan.site.directory),
    )
}

/// Process ids of everything that runs of a supervisor's environments.
pub(super) fn processes_of_supervisor(identity: &str, house: &House) -> Vec<i32> {
    each_once(runtime::carriers(SUPERVISOR_VARIABLE, identity), runtime::servers_in(house.path()))
}

/// What is left of an environment: of the processes `known` those that have not ended, any others, its directory.
pub(super) fn left_of(plan: &Plan, known: &[i32]) -> Vec<String> {
    let mut left = named(known, processes_of(plan));
    left.extend(there(&plan.site.directory));
    left
}

/// What is left of all environments of a supervisor: processes as above, and directories in its own.
pub(super) fn left_of_supervisor(identity: &str, house: &House, known: &[i32]) -> Vec<String> {
    let entries = std::fs::read_dir(house.path()).into_iter().flatten().flatten();
    let directories = entries.map(|entry| entry.path()).filter(|path| path.is_dir());
    let mut left = named(known, processes_of_supervisor(identity, house));
    left.extend(directories.map(|path| path.display().to_string()));
    left
}

/// A path, if it exists.
pub(super) fn there(path: &Path) -> Vec<String> {
    path.exists().then(|| path.display().to_string()).into_iter().collect()
}

/// Waits until nothing is left and says how long that took.
pub(super) async fn gone(what: &str, left: impl Fn() -> Vec<String>) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    let waited = runtime::until(begun + GONE_DEADLINE, LOOK_EVERY, async || {
        let left = left();
        if left.is_empty() { Ok(()) } else { Err(format!("{} left", left.join(", "))) }
    });
    waited.await.with_context(|| format!("wait until {what} is gone"))?;
    Ok(begun.elapsed())
}

/// Some processes are found both ways.
fn each_once(carriers: Vec<i32>, servers: Vec<i32>) -> Vec<i32> {
    let pids: BTreeSet<i32> = carriers.into_iter().chain(servers).collect();
    pids.into_iter().collect()
}

fn named(known: &[i32], found: Vec<i32>) -> Vec<String> {
    let known = known.iter().copied().filter(|pid| cost::runs(*pid)).collect();
    each_once(known, found).into_iter().map(|pid| format!("process {pid}")).collect()
}
