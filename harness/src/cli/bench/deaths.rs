//! Whole environments that lose their client or their supervisor to SIGKILL.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use greenroom::binaries::BINARIES_VARIABLE;
use greenroom::plan::Runtime;
use greenroom::spec::Spec;
use greenroom::supervisor::state::STATE_VARIABLE;
use nix::sys::signal::{Signal, kill};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::ground::{Ground, START_DEADLINE, gone, left_of_supervisor, processes_of_supervisor, there};
use super::lent::Brokers;
use super::rows::Measure;
use super::{Readings, lent};

/// Kills a client, the real command line, that has an environment; the supervisor lives on.
pub(super) async fn of_client(ground: &Ground) -> anyhow::Result<Readings> {
    let mut client = Command::new(ground.binary())
        .args(["test-env", "up", "--runtime", "process", "--description"])
        .arg(&ground.description)
        .env(STATE_VARIABLE, ground.path())
        .env(BINARIES_VARIABLE, &ground.binaries)
        .current_dir(&ground.workspace.root)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("start a client")?;
    let ready = tokio::time::timeout(START_DEADLINE, says_ready(&mut client)).await;
    ready.context("wait for the client's environment")??;
    let (identity, _) = ground.supervisor()?;
    let house = ground.house()?;
    let known = processes_of_supervisor(&identity, &house);
    client.start_kill().context("kill the client")?;
    let took = gone("the environment of a killed client", || left_of_supervisor(&identity, &house, &known)).await?;
    client.wait().await.context("wait for the killed client")?;
    readings(took, &known)
}

/// Kills the supervisor of a lent environment.
pub(super) async fn of_supervisor(ground: &Ground, spec: &Spec) -> anyhow::Result<Readings> {
    let lent = lent::start(ground, spec.clone(), Runtime::Process, Brokers::AsUsual).await?;
    let (identity, pid) = ground.supervisor()?;
    let house = ground.house()?;
    let known = processes_of_supervisor(&identity, &house);
    kill(pid, Signal::SIGKILL).context("kill the supervisor")?;
    let left = || {
        let mut left = left_of_supervisor(&identity, &house, &known);
        left.extend(there(house.path()));
        left
    };
    let took = gone("what a killed supervisor ran", left).await?;
    drop(lent);
    readings(took, &known)
}

/// Reads what the client says until it says that its environment is ready.
async fn says_ready(client: &mut Child) -> anyhow::Result<()> {
    let output = client.stderr.take().context("read what the client says")?;
    let mut lines = BufReader::new(output).lines();
    let mut said = Vec::new();
    while let Some(line) = lines.next_line().await.context("read what the client says")? {
        if line.starts_with("ready in ") {
            return Ok(());
        }
        said.push(line);
    }
    bail!("the client ended before its environment was ready; it said:\n{}", said.join("\n"))
}

fn readings(took: Duration, known: &[i32]) -> anyhow::Result<Readings> {
    if known.is_empty() {
        bail!("nothing ran before the kill, so nothing was measured");
    }
    Ok(vec![(Measure::Gone, took.as_secs_f64())])
}
