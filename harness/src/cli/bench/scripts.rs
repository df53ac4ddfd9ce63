//! The shell scripts that this project replaces, re-enacted as the contract tells of them: three default brokers, then
//! the stores, one `docker run` after the other; `sleep 5`; the topics by `docker exec`, each with a JVM of its own.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context, ensure};
use greenroom::artifacts;
use greenroom::docker::host;
use greenroom::spec::Spec;
use greenroom::toolchain::Toolchain;
use tokio::process::Command;

use super::Readings;
use super::ground::{Ground, START_DEADLINE};
use super::rows::Measure;
use super::usual::{self, Contained, Usual, classpath, quoted};

/// The program that makes a topic.
const CREATE_TOPIC: &str = include_str!("CreateTopic.java");
/// Where the first broker finds it.
const CLASSES: &str = "/topics";
/// How many topics the original's scripts made.
const TOPICS: usize = 2;

/// Runs the scripts, waits until what they started can be used, and ends it.
pub(super) async fn measure(ground: &Ground, spec: &Spec) -> anyhow::Result<Readings> {
    let usual = Usual::new(spec, &ground.toolchain)?;
    let classes = compiled(&ground.toolchain, ground.path()).await?;
    let script = script(&usual, &ground.toolchain, &classes);
    let begun = Instant::now();
    tokio::time::timeout(START_DEADLINE, run(&script)).await.context("wait for the scripts")??;
    usual.in_sync(usual.topics.iter().take(TOPICS), begun).await?;
    let took = begun.elapsed();
    let gone = usual::remove().await?;
    Ok(vec![(Measure::Start, took.as_secs_f64()), (Measure::Gone, gone.as_secs_f64())])
}

/// Compiles what makes a topic, which is not measured.
async fn compiled(toolchain: &Toolchain, directory: &Path) -> anyhow::Result<PathBuf> {
    let (source, classes) = (directory.join("CreateTopic.java"), directory.join("topics"));
    std::fs::write(&source, CREATE_TOPIC).context("write CreateTopic.java")?;
    let mut javac = Command::new(artifacts::java_compiler().context("find a Java compiler")?);
    javac.arg("-d").arg(&classes).args(["-cp", &classpath(toolchain)]).arg(&source).stdin(Stdio::null());
    let output = javac.kill_on_drop(true).output().await.context("run javac")?;
    ensure!(output.status.success(), "javac failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(classes)
}

fn script(usual: &Usual, toolchain: &Toolchain, classes: &Path) -> String {
    let network = usual.network_arguments().map(|argument| quoted(&argument)).join(" ");
    let mut lines = vec![format!("docker {network}")];
    let classes = format!("--volume {}:{CLASSES}:ro ", classes.display());
    let stores = [&usual.postgres, &usual.redis];
    lines.extend(usual.brokers.iter().map(|broker| run_line(usual, broker, &classes)));
    lines.extend(stores.map(|store| run_line(usual, store, "")));
    lines.push("sleep 5".to_owned());
    if let Some(first) = usual.brokers.first() {
        let (java, classpath) = (toolchain.jdk.home.join("bin/java"), classpath(toolchain));
        lines.extend(usual.topics.iter().take(TOPICS).map(|topic| {
            format!(
                "docker exec {first} {java} -cp {CLASSES}:{classpath} CreateTopic {first}:19092 {} {} {}",
                topic.name,
                topic.partitions,
                topic.replication,
                first = first.name,
                java = java.display(),
            )
        }));
    }
    lines.join("\n")
}

fn run_line(usual: &Usual, container: &Contained, more: &str) -> String {
    let Contained { name, image, user, command, inside, outside } = container;
    format!(
        "docker run --detach --label {} --name {name} --network {} --publish {}:{outside}:{inside} --user {user} {more}{image} \
         sh -c {}",
        usual::label(),
        usual.network,
        usual.address,
        quoted(command),
    )
}

/// Runs a script and stops at its first command that fails.
async fn run(script: &str) -> anyhow::Result<()> {
    let ran = Command::new("sh")
        .env("DOCKER_HOST", host())
        .args(["-e", "-c", script])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await;
    let output = ran.context("run a shell")?;
    ensure!(output.status.success(), "the scripts failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
