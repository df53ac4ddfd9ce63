//! Checkpoints of brokers that are made in a container: where that cannot be, and what is left when their maker dies.

use std::process::Command;

use greenroom::artifacts::{self, Within};
use greenroom::docker::{self, images};
use greenroom::environment::chosen_runtime;
use greenroom::plan::Runtime;
use greenroom::toolchain::{HeldImage, Start};

use super::engine_says;
use super::others::Made;
use crate::stand::{REDIS_ONLY, Stand};

/// Goal: brokers whose image has no CRIU begin cold, and that is the reason which is told.
#[test]
fn an_image_without_criu_is_done_without() {
    if chosen_runtime().expect("a runtime") == Runtime::Process {
        return;
    }
    let stand = Stand::new();
    let bare =
        Made::over(&images::kafka(&stand.toolchain).name, "kafka-without-criu", "ENV PATH=/nowhere:/usr/bin:/bin");
    let id = engine_says(&["image", "inspect", "--format", "{{.Id}}", bare.name()]).trim().to_owned();
    let image = HeldImage { name: bare.name().to_owned(), id };
    let within = Within { image, host: docker::host(), label: "greenroom.maker=a test".to_owned() };
    let start = artifacts::prepare_within(&within, &stand.toolchain, &mut |_| {}).expect("it is no error");
    let Start::Cold { because } = start else { panic!("{start:?}") };
    let expected = format!("there is no `criu` (4.0 or later) in {}, because its base has none", bare.name());
    assert!(because.contains(&expected), "{because}");
}

/// A container that waits as one does in which a checkpoint is made. Removed when dropped.
struct Waiting(String);

impl Waiting {
    /// Made by the process that a label names by its id and the time of its start.
    fn made_by(maker: &str, image: &str) -> Self {
        let label = format!("greenroom.maker={maker}");
        let run = ["run", "--detach", "--interactive", "--label", &label, "--entrypoint", "cat", image];
        Self(engine_says(&run).trim().to_owned())
    }

    fn is_there(&self) -> bool {
        !engine_says(&["ps", "--all", "--quiet", "--filter", &format!("id={}", self.0)]).trim().is_empty()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = Command::new("docker").args(["rm", "--force", &self.0]).output();
    }
}

/// Goal: a container whose maker is dead is removed before others are made, and one whose maker lives is not.
#[tokio::test]
async fn what_a_dead_maker_has_left_is_swept() {
    if chosen_runtime().expect("a runtime") == Runtime::Process {
        return;
    }
    let stand = Stand::new();
    let image = images::redis(&stand.toolchain).name;
    let own = std::fs::read_to_string("/proc/self/stat").expect("it is there");
    // The 22nd field of all (proc_pid_stat(5)); the name before them may hold blanks.
    let started = own.rsplit(") ").next().and_then(|fields| fields.split(' ').nth(19)).expect("a time");
    let pid = std::process::id();
    let (of_the_dead, of_another, of_the_living) = (
        Waiting::made_by(&format!("{} 1", i32::MAX), &image),
        Waiting::made_by(&format!("{pid} 1"), &image),
        Waiting::made_by(&format!("{pid} {started}"), &image),
    );
    let lease = stand.lease(stand.order(REDIS_ONLY)).await.expect("it starts");
    assert!(!of_the_dead.is_there() && !of_another.is_there() && of_the_living.is_there());
    lease.release().await.expect("it is given back");
}
