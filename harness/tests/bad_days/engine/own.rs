//! A real engine that is killed, and one whose disk is full.
//!
//! Method: a second `dockerd` with everything of its own: directory, socket, bridge, and its mounts in a namespace that
//! goes with it. It is root's and needs a `dockerd` here: where either is missing, nothing is seen of this.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use greenroom::docker::images;
use greenroom::environment::chosen_runtime;
use greenroom::parent_death::end_with_parent;
use greenroom::plan::Runtime;
use greenroom::runtime;
use greenroom::supervisor::protocol::{Action, Order};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::stand::{GONE, REDIS_ONLY, Stand, becomes_empty, complaint, processes_of};

/// How long an engine may take until it answers, and until it has ended.
const ENGINE_LIMIT: Duration = Duration::from_secs(60);
/// Begins the name of a test's bridge, which ends with its process id.
const BRIDGE: &str = "gr-test";
/// Size of a disk that holds what the tests need and is soon full, for mount(8).
const SMALL: &str = "size=700m";

/// Starts with its directory, its bridge and what its disk is mounted with, if it has one, as arguments.
const DOCKERD: &str = r#"
mkdir -p "$1/data"
if [ -n "$3" ]; then mount -t tmpfs -o "$3" greenroom-test "$1/data"; fi
echo '{}' >"$1/config"
exec dockerd --config-file "$1/config" --data-root "$1/data" --exec-root "$1/run" --pidfile "$1/pid" \
  --host "unix://$1/socket" --bridge "$2" --iptables=false --ip6tables=false --ip-forward=false --ip-masq=false >>"$1/log" 2>&1
"#;

/// An engine of the test's own. Everything of it goes when it is dropped.
struct Own {
    directory: PathBuf,
    bridge: String,
    process: Child,
}

impl Own {
    /// Starts one that holds the image of Redis, where environments are containers and the test may do so. `number`
    /// tells those apart that run side by side.
    async fn starts(stand: &Stand, number: u8, disk: &'static str) -> Option<Self> {
        let is_here = Command::new("dockerd").arg("--version").stdout(Stdio::null()).status().is_ok();
        let is_root = nix::unistd::geteuid().is_root();
        if chosen_runtime().expect("a runtime") == Runtime::Process || !is_root || !is_here {
            return None;
        }
        remove_bridges_of_the_dead();
        let directory = stand.path().join("engine");
        std::fs::create_dir(&directory).expect("there is room");
        let id = std::process::id();
        let bridge = format!("{BRIDGE}{id}");
        ip(&["link", "add", &bridge, "type", "bridge"]);
        ip(&["address", "add", &format!("10.{}.{}.1/24", 213 + number, id % 250), "dev", &bridge]);
        ip(&["link", "set", &bridge, "up"]);
        let process = dockerd(&directory, &bridge, disk);
        let own = Self { directory, bridge, process };
        own.answers().await;
        let image = images::redis(&stand.toolchain).name;
        let mut saving = Command::new("docker").args(["save", &image]).stdout(Stdio::piped()).spawn().expect("it runs");
        let saved = saving.stdout.take().expect("its output");
        let loaded = own.docker(&["load", "--quiet"]).stdin(saved).stdout(Stdio::null()).status();
        assert!(loaded.expect("it runs").success() && saving.wait().expect("it ends").success(), "{image} is loaded");
        Some(own)
    }

    async fn answers(&self) {
        let answered = runtime::until(Instant::now() + ENGINE_LIMIT, Duration::from_millis(50), async || {
            let version = self.docker(&["version"]).output().expect("the engine's command line runs");
            let said = || String::from_utf8_lossy(&version.stderr).into_owned();
            if version.status.success() { Ok(()) } else { Err(format!("the engine of this test: {}", said())) }
        });
        answered.await.unwrap_or_else(|error| panic!("{error}"));
    }

    fn socket(&self) -> String {
        format!("unix://{}", self.directory.join("socket").display())
    }

    fn docker(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.args(["--host", &self.socket()]).args(arguments);
        command
    }

    fn order(&self, stand: &Stand) -> Order {
        Order { engine: self.socket(), ..stand.order(REDIS_ONLY) }
    }

    fn containers(&self) -> Vec<String> {
        let listed = self.docker(&["ps", "--all", "--quiet"]).output().expect("the engine's command line runs");
        assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
        String::from_utf8_lossy(&listed.stdout).lines().map(str::to_owned).collect()
    }

    /// Kills it, and with it what it runs containers by, but not the containers.
    fn kill(&mut self) {
        self.process.kill().expect("it runs");
        self.process.wait().expect("it has ended");
    }

    async fn starts_again(&mut self) {
        // It would wait for the old one where nobody has fetched its exit code.
        std::fs::remove_file(self.directory.join("run/containerd/containerd.pid")).expect("it has run");
        self.process = dockerd(&self.directory, &self.bridge, "");
        self.answers().await;
    }

    /// A file on its disk, as it sees it.
    fn ballast(&self) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.process.id()));
        root.join(self.directory.strip_prefix("/").expect("it is absolute")).join("data/ballast")
    }

    fn fill(&self) {
        let mut ballast = File::create(self.ballast()).expect("there is room yet");
        let bytes = vec![0; 1 << 20];
        let full = (0..4_096).find_map(|_| ballast.write_all(&bytes).err()).expect("its disk is small");
        assert_eq!(full.kind(), ErrorKind::StorageFull);
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // Once it has been waited for, its id is somebody else's.
        if matches!(self.process.try_wait(), Ok(None)) {
            let _ = kill(Pid::from_raw(self.process.id().cast_signed()), Signal::SIGTERM);
        }
        let deadline = Instant::now() + ENGINE_LIMIT;
        while matches!(self.process.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::park_timeout(Duration::from_millis(20));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
        // After a failure those that hold its containers may be left: they are told its directory.
        let place = self.directory.display().to_string();
        for left in procfs::process::all_processes().into_iter().flatten().flatten() {
            if left.cmdline().is_ok_and(|words| words.iter().any(|word| word.starts_with(&place))) {
                let _ = kill(Pid::from_raw(left.pid), Signal::SIGKILL);
            }
        }
        let _ = Command::new("ip").args(["link", "delete", &self.bridge]).status();
    }
}

fn dockerd(directory: &Path, bridge: &str, disk: &str) -> Child {
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-ec", DOCKERD, "dockerd"]);
    command.arg(directory).arg(bridge).arg(disk);
    // A test that is killed leaves no engine.
    end_with_parent(&mut command);
    command.spawn().expect("`unshare` of util-linux runs")
}

/// What a test that was killed has left.
fn remove_bridges_of_the_dead() {
    for link in std::fs::read_dir("/sys/class/net").into_iter().flatten().flatten() {
        let name = link.file_name().to_string_lossy().into_owned();
        let of = name.strip_prefix(BRIDGE).and_then(|id| id.parse::<u32>().ok());
        if of.is_some_and(|id| !Path::new("/proc").join(id.to_string()).exists()) {
            let _ = Command::new("ip").args(["link", "delete", &name]).status();
        }
    }
}

fn ip(arguments: &[&str]) {
    let done = Command::new("ip").args(arguments).status().expect("`ip` of iproute2 runs");
    assert!(done.success(), "ip {arguments:?}");
}

/// Goal: an engine that is killed in the middle takes nothing with it. Started again it ends what it has not started
/// itself, as engines do, which is told; nothing is left, and the next environment starts.
#[tokio::test]
async fn an_engine_is_killed_and_comes_back() {
    let stand = Stand::on_disk();
    let Some(mut own) = Own::starts(&stand, 1, "").await else { return };
    let mut lease = stand.lease(own.order(&stand)).await.expect("it starts");
    let plan = lease.plan.clone();
    assert_eq!((processes_of(&plan).len(), own.containers().len()), (1, 2), "Redis, and the first one beside it");
    own.kill();
    assert_eq!(processes_of(&plan).len(), 1, "Redis goes on, though the engine's way to it has gone");
    own.starts_again().await;
    becomes_empty(GONE, "processes", || processes_of(&plan)).await;
    let again = Action::Restart { part: "redis".to_owned() };
    let said = greenroom::report::chain(&lease.act(again).await.expect_err("there is nothing to start it in"));
    assert!(said.contains("the first container of the environment has ended"), "{said}");
    lease.release().await.expect("it is given back");
    becomes_empty(GONE, "containers", || own.containers()).await;
    let next = stand.lease(own.order(&stand)).await.expect("the next one starts");
    next.release().await.expect("it is given back");
    becomes_empty(GONE, "containers", || own.containers()).await;
}

/// Goal: nothing outlives a supervisor that is killed after its engine was.
#[tokio::test]
async fn nothing_outlives_an_engine_and_a_supervisor() {
    let stand = Stand::on_disk();
    let Some(mut own) = Own::starts(&stand, 2, "").await else { return };
    let lease = stand.lease(own.order(&stand)).await.expect("it starts");
    let plan = lease.plan.clone();
    let supervisor = stand.supervisor_pid();
    own.kill();
    assert_eq!(processes_of(&plan).len(), 1, "Redis goes on");
    kill(supervisor, Signal::SIGKILL).expect("the supervisor is killed");
    becomes_empty(GONE, "processes", || processes_of(&plan)).await;
    own.starts_again().await;
    becomes_empty(GONE, "containers", || own.containers()).await;
    drop(lease);
}

/// Goal: an engine whose disk is full is told of, with what to do, and leaves nothing; when there is room again the
/// next environment starts.
#[tokio::test]
async fn an_engine_has_a_full_disk() {
    let stand = Stand::new();
    let Some(own) = Own::starts(&stand, 3, SMALL).await else { return };
    own.fill();
    let said = complaint(stand.lease(own.order(&stand)).await);
    assert!(said.contains("no space left on device"), "{said}");
    assert!(said.contains("its disk is full: make room"), "{said}");
    std::fs::remove_file(own.ballast()).expect("it is there");
    becomes_empty(GONE, "containers", || own.containers()).await;
    let next = stand.lease(own.order(&stand)).await.expect("the next one starts");
    next.release().await.expect("it is given back");
    becomes_empty(GONE, "containers", || own.containers()).await;
}
