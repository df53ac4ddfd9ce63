//! What `test-env up` starts of each small system among the fixtures: just what it needs.

use std::process::Command;

/// The systems, and the parts of each: brokers, stores and programs.
const PARTS: [(&str, &[&str]); 4] = [
    ("subtasks", &["kafka", "postgres", "subtask-api", "subtask-worker"]),
    ("cafe", &["kafka", "postgres", "payment", "barista", "order"]),
    ("coupon", &["kafka", "postgres", "redis", "coupon"]),
    ("metrics", &["kafka", "postgres", "store", "sender"]),
];

/// Goal: a system starts with what it needs and nothing else, so there is no Redis where none is used.
/// Method: what `test-env plan` prints is what `test-env up` starts.
#[test]
fn a_system_starts_with_just_what_it_needs() {
    let state = tempfile::tempdir().expect("a state directory");
    for (system, parts) in PARTS {
        let mut greenroom = Command::new(env!("CARGO_BIN_EXE_greenroom"));
        let greenroom = greenroom.args(["test-env", "plan", system]).env("GREENROOM_STATE", state.path());
        let output = greenroom.output().expect("the command runs");
        assert!(output.status.success(), "{system}: {}", String::from_utf8_lossy(&output.stderr));
        let told = String::from_utf8(output.stdout).expect("a plan is a text");
        let planned = told.lines().filter_map(|line| line.strip_prefix("part ")?.split_once(" ("));
        assert_eq!(planned.map(|(name, _version)| name).collect::<Vec<_>>(), parts, "{system}");
    }
}
