//! Stories that fail: the line is named, the evidence is kept, and the message says how to start the same again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use greenroom::environment::Environment;
use greenroom::plan::Plan;
use greenroom::runtime::PartState;
use greenroom::scenario::{self, Concern, Failure};
use greenroom::spec;

use crate::stand::{GONE, REDIS_ONLY, Stand, becomes_empty, processes_of};

/// The directory that a failure's message names.
fn kept(said: &str) -> PathBuf {
    let (_, after) = said.split_once("are in ").unwrap_or_else(|| panic!("no directory is named: {said}"));
    PathBuf::from(after.lines().next().expect("a line"))
}

/// Giving back returns when the end is certain; it is complete a moment later.
fn nothing_runs(plan: &Plan) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(becomes_empty(GONE, "processes", || processes_of(plan)));
}

/// Goal: an error of a `?` names the line of the story, and everything that explains it is kept.
#[test]
fn a_failed_story_names_its_line_and_keeps_the_evidence() {
    let mut line = 0;
    let mut plan = None;
    let verdict = scenario::run(Stand::spec(REDIS_ONLY), async |environment: &mut Environment| {
        plan = Some(environment.plan().clone());
        line = line!() + 1;
        std::fs::read("/nowhere/at/all")?;
        Ok(())
    });
    let said = format!("{:?}", verdict.expect_err("the story fails"));
    assert!(said.starts_with(&format!("{}:{line}: No such file or directory", file!())), "{said}");
    let kept = kept(&said);
    for file in ["error.txt", "document.txt", "plan.txt", "environment.toml", "logs/redis.log"] {
        assert!(kept.join(file).is_file(), "{file} is not kept in {}", kept.display());
    }
    let again = format!("cargo xtask test-env up --description {}/environment.toml", kept.display());
    assert!(said.contains(&again), "{said}");
    let same = spec::read(&kept.join("environment.toml")).expect("the kept description is right");
    assert_eq!(same, Stand::spec(REDIS_ONLY), "another environment would be started");
    nothing_runs(&plan.expect("it had begun"));
    std::fs::remove_dir_all(kept).expect("the evidence goes");
}

/// Goal: a complaint that the story has not named is told at the line where the story begins.
#[test]
fn a_story_that_passes_over_a_complaint_is_told_at_its_beginning() {
    let line = line!() + 1;
    let verdict = scenario::run(Stand::spec(REDIS_ONLY), async |environment: &mut Environment| {
        let log = environment.plan().part("redis").expect("it has Redis").log.clone();
        let mut log = std::fs::OpenOptions::new().append(true).open(log)?;
        std::io::Write::write_all(&mut log, b"1:M 26 Nov 2026 12:00:00.000 # Out of memory\n")?;
        Ok(())
    });
    let said = format!("{:?}", verdict.expect_err("the story has not passed"));
    assert!(said.starts_with(&format!("{}:{line}: ", file!())), "{said}");
    assert!(said.contains("Out of memory"), "{said}");
    std::fs::remove_dir_all(kept(&said)).expect("the evidence goes");
}

/// Goal: a part that dies without a word, as by the machine's want of memory, has not passed; one that the story ends
/// has.
#[test]
fn a_story_that_passes_over_the_end_of_a_part_has_not_passed() {
    let play = |by_the_story: bool| {
        scenario::run(Stand::spec(REDIS_ONLY), async |environment: &mut Environment| {
            if by_the_story {
                return Ok(environment.redis().kill().await?);
            }
            let pid = environment.summary().await?.parts[0].pid.expect("it runs");
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL)?;
            let ended = scenario::eventually(async || match environment.summary().await {
                Ok(summary) if matches!(summary.parts[0].state, PartState::Exited(_)) => Ok(()),
                other => Err(format!("it has not ended: {other:?}")),
            });
            Ok(ended.await?)
        })
    };
    play(true).expect("the story has ended it");
    let failure = play(false).expect_err("the story has not passed");
    assert_eq!(failure.concern(), Concern::Environment, "Redis is not under test");
    let said = format!("{failure:?}");
    assert!(said.contains("redis has ended (signal: 9 (SIGKILL))"), "{said}");
    assert!(said.contains("neither ended it nor waited for its end"), "{said}");
    std::fs::remove_dir_all(kept(&said)).expect("the evidence goes");
}

/// Goal: an assertion that fails ends the environment too, and goes on as a panic.
#[test]
fn a_panicking_story_ends_its_environment() {
    let mut plan = None;
    let caught = catch_unwind(AssertUnwindSafe(|| {
        scenario::run(Stand::spec(REDIS_ONLY), async |environment: &mut Environment| {
            plan = Some(environment.plan().clone());
            Err(if environment.variables().is_empty() { panic!("an assertion failed") } else { Failure::new("no") })
        })
    }));
    let panic = caught.expect_err("the panic goes on");
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"an assertion failed"));
    let plan = plan.expect("it had begun");
    nothing_runs(&plan);
    let failures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/greenroom/failures");
    let kept = failures.join(&plan.site.environment);
    assert!(kept.join("error.txt").is_file(), "nothing is kept in {}", kept.display());
    std::fs::remove_dir_all(kept).expect("the evidence goes");
}

/// Goal: what is kept of one environment is not mixed with what was kept of another, though their ids are the same.
/// Method: a directory of the next environment's id stands there already.
#[tokio::test]
async fn what_is_kept_is_not_mixed_with_what_was_kept_before() {
    let stand = Stand::new();
    let mut lease = stand.lease(stand.order(REDIS_ONLY)).await.expect("it starts");
    let id = lease.plan.site.environment.clone();
    let before = stand.evidence().join(&id).join("logs");
    std::fs::create_dir_all(&before).expect("there is room");
    std::fs::write(before.join("redis.log"), "of another one").expect("there is room");
    let kept = lease.keep().await.expect("it is kept");
    assert_eq!(kept, stand.evidence().join(format!("{id}-2")));
    assert!(kept.join("logs/redis.log").is_file() && kept.join("plan.txt").is_file());
    assert_eq!(std::fs::read_to_string(before.join("redis.log")).expect("it stays"), "of another one");
    lease.release().await.expect("it ends");
}
