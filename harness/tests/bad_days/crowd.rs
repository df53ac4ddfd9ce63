//! Many environments one after another and beside one another, many of which end badly.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use greenroom::environment::chosen_runtime;
use greenroom::plan::Runtime;
use greenroom::supervisor::client;
use greenroom::supervisor::protocol::Event;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::stand::{GONE, REDIS_ONLY, Stand, becomes_empty, processes_of_supervisor};

/// Goal: fifty environments, ten of whose clients and five of whose supervisors are killed, leave nothing behind and
/// touch nothing that is not theirs.
/// Method: five rounds. In each, seven are given back, two clients are killed (the real command line), one in the
/// middle of its start, and then the supervisor with one environment. What the engine holds is compared as a whole: a
/// container, a network and a volume of somebody else are among it.
#[tokio::test]
async fn fifty_environments_leave_nothing() {
    let stand = Stand::new();
    let bystander = Bystander::stands_by(&stand);
    let before = bystander.as_ref().map(|_| EngineHolds::now(&stand));
    let description = stand.path().join("stand.toml");
    std::fs::write(&description, REDIS_ONLY).expect("a description");
    for _ in 0..5 {
        for _ in 0..3 {
            let (one, other) = tokio::join!(stand.lease(stand.order(REDIS_ONLY)), stand.lease(stand.order(REDIS_ONLY)));
            one.expect("one starts").release().await.expect("it is given back");
            other.expect("another starts").release().await.expect("it is given back");
        }
        stand.lease(stand.order(REDIS_ONLY)).await.expect("it starts").release().await.expect("it is given back");
        for said in ["starting ", "ready in "] {
            kill_a_client_that_says(said, &stand, &description);
        }
        let last = stand.lease(stand.order(REDIS_ONLY)).await.expect("it starts");
        let (identity, house) = (stand.identity(), stand.house());
        assert!(!processes_of_supervisor(&identity, &house).is_empty(), "the last one runs");
        kill(stand.supervisor_pid(), Signal::SIGKILL).expect("the supervisor is killed");
        becomes_empty(GONE, "processes", || processes_of_supervisor(&identity, &house)).await;
        let directory = || house.path().exists().then(|| house.path().to_owned()).into_iter().collect();
        becomes_empty(GONE, "the supervisor's directory", directory).await;
        drop(last);
    }
    if let Some(before) = before {
        becomes_empty(GONE, "what was not in the engine before", || EngineHolds::now(&stand).without(&before)).await;
        assert_eq!(
            before.without(&EngineHolds::now(&stand)),
            Vec::<String>::new(),
            "what was in the engine before is gone"
        );
    }
}

/// Goal: environments that only wait for their programs, which may take a person minutes, keep no other from starting.
/// Method: as many as may start at once have a program that never becomes ready; then one more starts.
#[tokio::test]
async fn who_waits_for_a_program_keeps_nobody_from_starting() {
    let stand = Stand::new();
    let text = format!("{REDIS_ONLY}[[programs]]\nname = \"shop\"\ncommand = [\"sleep\", \"600\"]\nport = 3000\n");
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let (told, mut events) = mpsc::unbounded_channel();
    let mut waiting = JoinSet::new();
    for _ in 0..cores {
        let (workspace, order, told) = (stand.workspace.clone(), stand.order(&text), told.clone());
        let step = move |event: &Event| drop(told.send(event.clone()));
        waiting.spawn(async move {
            client::lease(&workspace, Path::new(env!("CARGO_BIN_EXE_greenroom")), order, step).await.map(drop)
        });
    }
    let mut programs = 0;
    while programs < cores {
        let event = events.recv().await.expect("they start");
        programs += usize::from(matches!(event, Event::Started { part } if part == "shop"));
    }
    stand.lease(stand.order(REDIS_ONLY)).await.expect("it starts").release().await.expect("it ends");
    assert!(waiting.try_join_next().is_none(), "it had to wait for the end of another");
}

/// Starts an environment by the command line and kills that when it has said these words.
fn kill_a_client_that_says(words: &str, stand: &Stand, description: &Path) {
    let mut client = Command::new(env!("CARGO_BIN_EXE_greenroom"))
        .args(["test-env", "up", "--description"])
        .arg(description)
        .env("GREENROOM_STATE", stand.path())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the client starts");
    let output = BufReader::new(client.stderr.take().expect("its output"));
    let said: Vec<_> = output.lines().map_while(Result::ok).take_while(|line| !line.starts_with(words)).collect();
    let pid = Pid::from_raw(i32::try_from(client.id()).expect("a process id"));
    kill(pid, Signal::SIGKILL).expect("the client is killed");
    let ended = client.wait().expect("the client is dead");
    assert!(ended.code().is_none(), "the client ended by itself; it said {said:?}");
}

/// What the container engine holds, without what other tests have there at the moment.
#[derive(Debug)]
struct EngineHolds(BTreeSet<String>);

impl EngineHolds {
    fn now(stand: &Stand) -> Self {
        let label = "{{.Label \"greenroom.house\"}}{{.Label \"greenroom.maker\"}}";
        let containers =
            docker(&["ps", "--all", "--format", &format!("{label} container {{{{.Names}}}} {{{{.State}}}}")]);
        let own = stand.path().display().to_string();
        // Without a label of ours, the line begins with a space.
        let containers = containers.lines().filter(|line| line.starts_with(' ') || line.starts_with(&own));
        let mut holds: BTreeSet<String> = containers.map(str::to_owned).collect();
        for question in [
            &["network", "ls", "--format", "network {{.Name}}"][..],
            &["volume", "ls", "--format", "volume {{.Name}}"],
            &["images", "--all", "--format", "image {{.ID}} {{.Repository}}:{{.Tag}}"],
        ] {
            holds.extend(docker(question).lines().map(str::to_owned));
        }
        Self(holds)
    }

    /// What of it is not in the other.
    fn without(&self, other: &Self) -> Vec<String> {
        self.0.difference(&other.0).cloned().collect()
    }
}

/// Somebody else's container, network and volume. Removed when dropped.
struct Bystander(String);

impl Bystander {
    /// Makes them where environments are containers.
    fn stands_by(stand: &Stand) -> Option<Self> {
        if chosen_runtime().expect("a runtime") == Runtime::Process {
            return None;
        }
        let name = format!("bystander-{}", std::process::id());
        let image = greenroom::docker::images::redis(&stand.toolchain).name;
        docker(&["network", "create", &name]);
        let bystander = Self(name.clone());
        docker(&["volume", "create", &name]);
        let volume = format!("{name}:/kept");
        docker(&[
            "run",
            "--detach",
            "--name",
            &name,
            "--network",
            &name,
            "--volume",
            &volume,
            &image,
            "sleep",
            "infinity",
        ]);
        Some(bystander)
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        for words in [&["rm", "--force"][..], &["volume", "rm"], &["network", "rm"]] {
            let _ =
                Command::new("docker").args(words).arg(&self.0).stdout(Stdio::null()).stderr(Stdio::null()).status();
        }
    }
}

/// What the engine's command line says.
pub(crate) fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).output().expect("the engine's command line runs");
    assert!(output.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}
