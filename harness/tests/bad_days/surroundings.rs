//! From where and by whom a supervisor is started makes no difference to what it does for others.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};

use greenroom::runtime::{self, PartState};
use greenroom::supervisor::client::Connection;
use greenroom::supervisor::protocol::{Action, PartSignal};
use procfs::process::Process;

use crate::stand::{POSTGRES_ONLY, REDIS_ONLY, Stand, complaint};

/// Runs a shell's script with the command line as `$0` and a description of such a text as `$1`.
fn shell(stand: &Stand, script: &str, text: &str, state: &std::path::Path) -> Output {
    let description = stand.path().join("stand.toml");
    std::fs::write(&description, text).expect("there is room");
    let mut shell = Command::new("sh");
    shell.args(["-c", script, env!("CARGO_BIN_EXE_greenroom")]).arg(&description);
    shell.env("GREENROOM_STATE", state).output().expect("a shell")
}

/// Goal: a supervisor that is started by a command of an environment does not end with that environment.
#[tokio::test]
async fn a_supervisor_that_is_started_in_an_environment_outlives_it() {
    let stand = Stand::new();
    let inner = stand.with_state(&stand.path().join("inner"));
    let script = format!(
        "\"$0\" test-env run --description \"$1\" -- env GREENROOM_STATE='{}' \"$0\" test-env run --description \"$1\" -- true",
        inner.workspace.base().display()
    );
    let ran = shell(&stand, &script, REDIS_ONLY, stand.path());
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let mut supervisor = Connection::to(&inner.house()).await.expect("the inner supervisor lives");
    assert_eq!(supervisor.status().await.expect("it answers"), []);
}

/// Goal: what a part finds of the environment of people is that of whoever asked for it, byte for byte.
#[tokio::test]
async fn parts_inherit_from_whoever_asks() {
    let stand = Stand::new();
    stand.connection().await.status().await.expect("a supervisor runs, and has variables of its own");
    let script = "printf '%s %s' \"$TMPDIR\" \"$LANG\"; exit 3";
    let program = format!("[[programs]]\nname = \"shop\"\ncommand = [\"sh\", \"-c\", '''{script}''']\nport = 3000\n");
    let mut order = stand.order(&format!("{REDIS_ONLY}{program}"));
    order.inherited.insert("TMPDIR".to_owned(), "/of/whoever/asks".into());
    order.inherited.insert("LANG".to_owned(), OsString::from_vec(b"\xff".to_vec()));
    let said = complaint(stand.lease(order).await);
    let kept =
        std::fs::read_dir(stand.evidence()).expect("evidence").next().expect("one environment").expect("readable");
    let log = std::fs::read(kept.path().join("logs/shop.log")).expect("its log is kept");
    assert_eq!(log, b"/of/whoever/asks \xff", "{said}");
}

/// Goal: whoever keeps others out of what they make can start an environment all the same; under root, PostgreSQL is
/// another.
#[tokio::test]
async fn a_umask_that_keeps_others_out_is_no_matter() {
    let stand = Stand::new();
    let state = stand.path().join("below/state");
    let ran = shell(&stand, "umask 077; \"$0\" test-env run --description \"$1\" -- true", POSTGRES_ONLY, &state);
    // From here on its supervisor ends with this test.
    let _inner = stand.with_state(&state);
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    for made in [stand.path().join("below"), state] {
        let mode = std::fs::metadata(&made).expect("it was made").permissions().mode() & 0o777;
        assert_eq!(mode, 0o711, "nobody else may pass through {}", made.display());
    }
}

/// Goal: all of a database stands still when it is paused, also where its state lies behind a link.
#[tokio::test]
async fn a_state_directory_behind_a_link_is_no_matter() {
    let stand = Stand::new();
    let (real, link) = (stand.path().join("real"), stand.path().join("link"));
    std::fs::create_dir(&real).and_then(|()| std::os::unix::fs::symlink(&real, &link)).expect("there is room");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o711);
    std::fs::set_permissions(&real, open).expect("PostgreSQL may pass through");
    let stand = stand.with_state(&link);
    let mut lease = stand.lease(stand.order(POSTGRES_ONLY)).await.expect("it starts");
    let pause = Action::Signal { part: "postgres".to_owned(), signal: PartSignal::Pause };
    lease.act(pause).await.expect("it stands still");
    let servers = runtime::servers_in(&real.canonicalize().expect("it is there"));
    let states =
        servers.iter().map(|pid| Process::new(*pid).and_then(|process| process.stat()).expect("it runs").state);
    let states: Vec<_> = states.collect();
    assert!(states.len() > 1 && states.iter().all(|state| *state == 'T'), "{states:?}");
    assert_eq!(lease.summary().await.expect("it answers").parts[0].state, PartState::Paused);
    lease.release().await.expect("it ends");
}
