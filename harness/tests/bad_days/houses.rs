//! Houses of supervisors: one that cannot live there, one that has died, one whose house was taken away, one of another
//! build; and what is said and not understood.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use greenroom::supervisor::client::{self, ClientError, News};
use greenroom::supervisor::protocol::{Action, PartSignal};
use greenroom::supervisor::state::House;
use nix::sys::signal::{Signal, kill};
use procfs::process::Process;

use crate::stand::{GONE, REDIS_ONLY, Stand, becomes_empty, complaint, processes_of_supervisor};

fn greenroom(state: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_greenroom"));
    command.args(arguments).env("GREENROOM_STATE", state).output().expect("the command runs")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Goal: a state directory where something could not live is refused, with what to set.
#[test]
fn a_state_directory_where_nobody_could_live_is_refused() {
    let stand = Stand::new();
    let not_text = stand.path().join(OsString::from_vec(b"\xff".to_vec()));
    let long = stand.path().join("x".repeat(90));
    for (state, why) in [
        (stand.path().join("a,b"), "has a comma in its path"),
        (not_text, "has a character that is not UTF-8 in its path"),
        (long, "and a socket's leaves room for 82"),
    ] {
        let told = greenroom(&state, &["test-env", "status"]);
        assert!(!told.status.success(), "{state:?}");
        assert!(said(&told).contains(why), "{}", said(&told));
        assert!(said(&told).contains("set GREENROOM_STATE to another one"), "{}", said(&told));
    }
}

/// What stands in the place of the harness's binary: a shell's script.
fn binary(stand: &Stand, script: &str) -> PathBuf {
    let path = stand.path().join("greenroom");
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("there is room");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("it may run");
    path
}

/// Goal: a supervisor that can never begin is started once, and what it said is told, though its house has gone.
#[tokio::test]
async fn a_supervisor_that_cannot_begin_is_started_once() {
    let stand = Stand::new();
    let tries = stand.path().join("tries");
    let script = format!("echo one more >>{}; echo there is no ground here >&2; rm -r \"$2\"; exit 1", tries.display());
    let binary = binary(&stand, &script);
    let said = complaint(client::lease(&stand.workspace, &binary, stand.order(REDIS_ONLY), |_| {}).await);
    assert!(said.contains("it ended at once") && said.contains("there is no ground here"), "{said}");
    assert_eq!(std::fs::read_to_string(tries).expect("it was tried"), "one more\n");
}

/// Goal: whose house is still another's is tried again.
#[tokio::test]
async fn a_house_that_is_just_being_left_is_waited_for() {
    let stand = Stand::new();
    let greenroom = env!("CARGO_BIN_EXE_greenroom");
    let once = stand.path().join("once");
    let binary = binary(&stand, &format!("mkdir {} && exec echo taken; exec {greenroom} \"$@\"", once.display()));
    let lease = client::lease(&stand.workspace, &binary, stand.order(REDIS_ONLY), |_| {}).await.expect("it starts");
    let house = stand.workspace.house(&binary).expect("a house");
    let identity = std::fs::read_to_string(house.identity()).expect("a supervisor's identity");
    lease.release().await.expect("it ends");
    let pid = identity.split('-').next().and_then(|pid| pid.parse().ok()).expect("a process id");
    kill(nix::unistd::Pid::from_raw(pid), Signal::SIGTERM).expect("it lives");
    becomes_empty(GONE, "its house", || house.path().exists().then(|| house.clone()).into_iter().collect()).await;
}

/// Goal: a supervisor's death leaves its log, and whoever loses it is told where.
#[tokio::test]
async fn a_supervisor_that_died_leaves_its_log() {
    let stand = Stand::new();
    let mut lease = stand.lease(stand.order(REDIS_ONLY)).await.expect("it starts");
    let (house, last) = (stand.house(), stand.house().last_log());
    let mut log = std::fs::OpenOptions::new().append(true).open(house.log()).expect("it has one");
    writeln!(log, "thread 'main' panicked").expect("there is room");
    kill(stand.supervisor_pid(), Signal::SIGKILL).expect("the supervisor is killed");
    let lost = lease.news().await.expect_err("it is dead").to_string();
    assert!(lost.contains(&format!("if it has died, its log is {}", last.display())), "{lost}");
    becomes_empty(GONE, "its house", || house.path().exists().then(|| house.clone()).into_iter().collect()).await;
    let kept = std::fs::read_to_string(&last).expect("its log is kept");
    assert!(kept.starts_with("thread 'main' panicked\nsupervisor "), "{kept}");
    assert!(kept.ends_with(" has died; what it left was swept\n"), "{kept}");
}

/// Goal: the log is kept too where the next supervisor takes the house before the watcher sweeps it.
#[tokio::test]
async fn the_log_of_the_dead_is_kept_by_whoever_follows() {
    let stand = Stand::new();
    let lease = stand.lease(stand.order(REDIS_ONLY)).await.expect("it starts");
    let (identity, house) = (stand.identity(), stand.house());
    // The watcher first, so that nobody sweeps.
    let watches = ["watch".to_owned(), house.path().display().to_string()];
    let is_watcher =
        |process: &Process| process.cmdline().is_ok_and(|line| line.windows(2).any(|words| words == watches));
    let watcher = procfs::process::all_processes().expect("processes").flatten().find(is_watcher).expect("it has one");
    kill(nix::unistd::Pid::from_raw(watcher.pid()), Signal::SIGKILL).expect("it lives");
    kill(stand.supervisor_pid(), Signal::SIGKILL).expect("the supervisor is killed");
    drop(lease);
    let next = stand.lease(stand.order(REDIS_ONLY)).await.expect("the next one starts");
    let kept = std::fs::read_to_string(house.last_log()).expect("the log is kept");
    assert!(kept.contains(&format!("supervisor {identity} has died")), "{kept}");
    next.release().await.expect("it ends");
}

/// Goal: a supervisor that nobody can reach any more, because its files were taken away, ends with everything that
/// runs, and leaves alone what another one has put in their place.
#[tokio::test]
async fn a_supervisor_whose_house_is_taken_away_ends() {
    let stand = Stand::new();
    let mut lease = stand.lease(stand.order(REDIS_ONLY)).await.expect("it starts");
    let (identity, house, pid) = (stand.identity(), stand.house(), stand.supervisor_pid().as_raw());
    std::fs::remove_dir_all(house.path()).expect("it goes");
    let next = stand.lease(stand.order(REDIS_ONLY)).await.expect("the next one starts in its place");
    // A container is ended by the next one already, which is told first.
    while lease.news().await.expect("it is told") != News::Ended {}
    let of_it = || {
        let runs = Process::new(pid).and_then(|process| process.stat()).is_ok_and(|stat| stat.state != 'Z');
        runs.then_some(pid).into_iter().chain(greenroom::runtime::carriers("GREENROOM_SUPERVISOR", &identity)).collect()
    };
    becomes_empty(GONE, "processes", of_it).await;
    assert_eq!(stand.connection().await.status().await.expect("it answers").len(), 1, "the next one knows its own");
    assert!(next.plan.site.directory.is_dir(), "its directory was removed");
    next.release().await.expect("it ends");
    assert!(!processes_of_supervisor(&stand.identity(), &house).contains(&pid));
}

/// Goal: whose environment is ended by somebody else is told so, whatever it asks for, and not that it was done.
#[tokio::test]
async fn whose_environment_was_ended_is_told_so() {
    let stand = Stand::new();
    let mut lease = stand.lease(stand.order(REDIS_ONLY)).await.expect("it starts");
    let environment = lease.plan.site.environment.clone();
    stand.connection().await.end(Some(environment)).await.expect("it is ended");
    let kill = Action::Signal { part: "redis".to_owned(), signal: PartSignal::Kill };
    for _ in 0..2 {
        assert!(matches!(lease.act(kill.clone()).await, Err(ClientError::Ended)));
        assert!(matches!(lease.summary().await, Err(ClientError::Ended)));
        assert!(matches!(lease.news().await, Ok(News::Ended)));
    }
    assert!(matches!(lease.release().await, Err(ClientError::Ended)));
}

/// Goal: what a supervisor does not understand is answered, and what is said then is heard.
#[tokio::test]
async fn what_is_not_understood_is_answered() {
    let stand = Stand::new();
    stand.connection().await;
    let mut stream = UnixStream::connect(stand.house().socket()).expect("a supervisor listens");
    stream.write_all(b"{\"dance\":{}}\n\"status\"\n").expect("it takes it");
    let mut answers = BufReader::new(stream).lines();
    let mut next = || answers.next().expect("an answer").expect("text");
    let answer = next();
    assert!(answer.contains("failed") && answer.contains("the message is not understood"), "{answer}");
    assert_eq!(next(), "{\"status\":[]}");
}

/// Goal: what cannot be said is told, and not taken for a supervisor that has gone.
#[tokio::test]
async fn what_cannot_be_said_is_told() {
    let stand = Stand::new();
    let mut order = stand.order(REDIS_ONLY);
    order.evidence = OsString::from_vec(b"/\xff".to_vec()).into();
    let said = complaint(stand.lease(order).await);
    assert!(said.contains("the message cannot be written: path contains invalid UTF-8 characters"), "{said}");
}

/// A supervisor of another build in a house of its own: its list is not understood, and it ends everything when it is
/// asked.
fn of_another_build(stand: &Stand) -> (House, std::sync::mpsc::Receiver<String>) {
    let house = House::at(stand.workspace.directory.join("0ther000"));
    house.make().expect("there is room");
    let lock = house.lock().expect("nobody lives there");
    let listener = UnixListener::bind(house.socket()).expect("a socket");
    let (told, asked) = std::sync::mpsc::channel();
    // It ends with the test's process.
    std::thread::spawn(move || {
        let _lock = lock;
        for client in listener.incoming().map_while(Result::ok) {
            let mut client = BufReader::new(client);
            let mut line = String::new();
            let _ = client.read_line(&mut line);
            let answer = if line.contains("status") { "{\"status\":[{\"name\":\"old\"}]}\n" } else { "\"done\"\n" };
            let _ = told.send(line);
            let _ = client.get_mut().write_all(answer.as_bytes());
            let _ = client.read_to_end(&mut Vec::new());
        }
    });
    (house, asked)
}

/// Goal: environments of another build, whose list is not understood, are told of, and `down --all` ends them.
#[test]
fn a_supervisor_of_another_build_is_told_of_and_ended() {
    let stand = Stand::new();
    let (house, asked) = of_another_build(&stand);
    let place = house.path().display();
    for command in ["status", "down"] {
        let told = greenroom(stand.path(), &["test-env", command]);
        assert_eq!(told.status.code(), Some(1), "what runs there is not known: {}", said(&told));
        let told = said(&told);
        assert!(told.contains(&format!("the supervisor in {place} is of another build")), "{told}");
        assert!(!told.contains("no environment runs"), "{told}");
    }
    let down = greenroom(stand.path(), &["test-env", "down", "--all"]);
    assert!(down.status.success(), "{}", said(&down));
    assert!(said(&down).contains(&format!("whatever ran of the supervisor in {place} is gone")), "{}", said(&down));
    assert!(asked.try_iter().any(|line| line == "{\"end\":{\"environment\":null}}\n"), "it was not asked to end");
}
