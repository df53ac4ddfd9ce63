//! A supervisor of a test's own, in a state directory of its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use greenroom::artifacts::{self, PrepareOptions};
use greenroom::docker;
use greenroom::environment::chosen_runtime;
use greenroom::plan::{Plan, Runtime, Scope};
use greenroom::runtime::{self, ENVIRONMENT_VARIABLE, SUPERVISOR_VARIABLE};
use greenroom::spec::{self, Spec};
use greenroom::supervisor::client::{self, ClientError, Connection, Lease};
use greenroom::supervisor::protocol::Order;
use greenroom::supervisor::state::{House, Workspace};
use greenroom::toolchain::{Start, Toolchain};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Real brokers, a real database, a real cache: what every environment has.
pub(crate) const INFRASTRUCTURE: &str = r#"
name = "stand"
[kafka]
topics = [{ name = "orders", partitions = 3 }]
[postgres]
database = "shop"
[redis]
"#;
/// What starts in a few milliseconds.
pub(crate) const REDIS_ONLY: &str = "name = \"stand\"\n[redis]\n";

/// A database alone.
pub(crate) const POSTGRES_ONLY: &str = "name = \"stand\"\n[postgres]\ndatabase = \"shop\"\n";

/// A supervisor's state directory and how to reach it. Its supervisor ends with it.
pub(crate) struct Stand {
    base: Arc<tempfile::TempDir>,
    pub(crate) workspace: Workspace,
    pub(crate) toolchain: Toolchain,
}

/// In containers. On a thread of its own: whoever asks may be in the middle of an executor, which allows no other one.
fn how_brokers_begin(toolchain: &Toolchain) -> Start {
    let begin = || {
        let executor = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("an executor");
        executor.block_on(docker::brokers::begin(&docker::host(), toolchain, |_| {})).expect("it can be told")
    };
    std::thread::scope(|scope| scope.spawn(begin).join().expect("it does not panic"))
}

impl Stand {
    pub(crate) fn new() -> Self {
        Self::named("greenroom-test-")
    }

    /// A stand whose state is on a disk and not in memory.
    pub(crate) fn on_disk() -> Self {
        Self::below(Path::new("/var/tmp"), "greenroom-test-")
    }

    /// A stand whose path begins like this.
    pub(crate) fn named(prefix: &str) -> Self {
        let memory = Path::new("/dev/shm");
        Self::below(if memory.is_dir() { memory } else { Path::new("/tmp") }, prefix)
    }

    fn below(parent: &Path, prefix: &str) -> Self {
        let base = tempfile::Builder::new().prefix(prefix).tempdir_in(parent).expect("a state directory");
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o711);
        std::fs::set_permissions(base.path(), open).expect("PostgreSQL may pass through");
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the workspace");
        let workspace = Workspace::with_base(root, base.path()).expect("a workspace");
        let runtime = chosen_runtime().expect("a runtime");
        let options = PrepareOptions { runtime, ..PrepareOptions::default() };
        let mut toolchain = artifacts::prepare(&options, &mut |_| {}).expect("the artifacts");
        if runtime == Runtime::Docker {
            toolchain.kafka.start = how_brokers_begin(&toolchain);
        }
        Self { base: Arc::new(base), workspace, toolchain }
    }

    /// Another clone of the project, of the same user on the same machine.
    pub(crate) fn another_clone(&self) -> Self {
        let root = self.path().join("clone");
        std::fs::create_dir(&root).expect("a clone's directory");
        // It is what tells where a workspace begins.
        std::fs::write(root.join("Cargo.lock"), "").expect("a lock file");
        let workspace = Workspace::with_base(root, self.path()).expect("a workspace");
        Self { base: Arc::clone(&self.base), workspace, toolchain: self.toolchain.clone() }
    }

    /// The same project with its state in another directory.
    pub(crate) fn with_state(&self, directory: &Path) -> Self {
        let workspace = Workspace::with_base(self.workspace.root.clone(), directory).expect("a workspace");
        Self { base: Arc::clone(&self.base), workspace, toolchain: self.toolchain.clone() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.base.path()
    }

    pub(crate) fn evidence(&self) -> PathBuf {
        self.path().join("evidence")
    }

    pub(crate) fn house(&self) -> House {
        self.workspace.house(Path::new(env!("CARGO_BIN_EXE_greenroom"))).expect("a house")
    }

    pub(crate) fn spec(text: &str) -> Spec {
        spec::read_str(Path::new("stand.toml"), text).expect("a right description")
    }

    pub(crate) fn order(&self, text: &str) -> Order {
        Order {
            spec: Self::spec(text),
            of_somebody_else: false,
            scope: Scope::Everything,
            runtime: chosen_runtime().expect("a runtime"),
            engine: docker::host(),
            toolchain: self.toolchain.clone(),
            binaries: PathBuf::from(env!("CARGO_BIN_EXE_greenroom")).parent().expect("a directory").to_owned(),
            inherited: runtime::inherited(),
            evidence: self.evidence(),
            holder: "a test".to_owned(),
            deadline_ms: u64::try_from(DEADLINE.as_millis()).expect("a minute"),
        }
    }

    pub(crate) async fn connection(&self) -> Connection {
        let binary = Path::new(env!("CARGO_BIN_EXE_greenroom"));
        Connection::open(&self.workspace, binary).await.expect("a supervisor")
    }

    pub(crate) async fn lease(&self, order: Order) -> Result<Lease, ClientError> {
        let binary = Path::new(env!("CARGO_BIN_EXE_greenroom"));
        client::lease(&self.workspace, binary, order, |_| {}).await
    }

    /// What the supervisor's processes carry.
    pub(crate) fn identity(&self) -> String {
        std::fs::read_to_string(self.house().identity()).expect("a supervisor's identity")
    }

    pub(crate) fn supervisor_pid(&self) -> Pid {
        let identity = self.identity();
        let pid = identity.split('-').next().and_then(|pid| pid.parse().ok());
        Pid::from_raw(pid.expect("the identity begins with the process id"))
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        if let Ok(identity) = std::fs::read_to_string(self.house().identity())
            && let Some(pid) = identity.split('-').next().and_then(|pid| pid.parse().ok())
        {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            // It takes its house with it, and then the state directory can go.
            let deadline = Instant::now() + Duration::from_secs(5);
            while self.house().path().exists() && Instant::now() < deadline {
                std::thread::park_timeout(Duration::from_millis(5));
            }
        }
    }
}

/// Process ids of everything that runs of an environment.
pub(crate) fn processes_of(plan: &Plan) -> Vec<i32> {
    let mut pids = runtime::carriers(ENVIRONMENT_VARIABLE, &plan.site.environment);
    pids.extend(runtime::servers_in(&plan.site.directory));
    pids
}

/// Process ids of everything that runs of a supervisor.
pub(crate) fn processes_of_supervisor(identity: &str, house: &House) -> Vec<i32> {
    let mut pids = runtime::carriers(SUPERVISOR_VARIABLE, identity);
    pids.extend(runtime::servers_in(house.path()));
    pids
}

/// How long an environment may take to start, unless a test says otherwise.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// How long what has to go may take to go, where how quickly it goes is no matter.
pub(crate) const GONE: Duration = Duration::from_secs(60);

/// Waits until a list is empty, at most `limit`; says what was left.
pub(crate) async fn becomes_empty<T: std::fmt::Debug>(
    limit: Duration,
    what: &str,
    list: impl Fn() -> Vec<T>,
) -> Duration {
    let begun = Instant::now();
    let empty = runtime::until(begun + limit, Duration::from_millis(2), async || {
        let left = list();
        if left.is_empty() { Ok(()) } else { Err(format!("{what}: {left:?} left")) }
    });
    empty.await.unwrap_or_else(|error| panic!("{error}"));
    begun.elapsed()
}

/// The text of the error that a start ends with.
pub(crate) fn complaint(outcome: Result<Lease, ClientError>) -> String {
    match outcome {
        Ok(lease) => panic!("{} started", lease.plan.site.environment),
        Err(error) => greenroom::report::chain(&error),
    }
}
