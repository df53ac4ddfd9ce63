//! Brokers alone, spawned by hand as a person would who has prepared everything: what all ratios refer to.

use std::net::Ipv4Addr;
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context, bail};
use futures_util::future::select_all;
use greenroom::node::LAUNCHER_CLASS;
use greenroom::plan::{Network, Part, Plan, Runtime, Scope, Site};
use greenroom::runtime;
use greenroom::spec::{KafkaSpec, Layout, Links, Spec, Timings};
use greenroom::toolchain::Start;
use greenroom::wire;
use tokio::process::{Child, ChildStdin, Command};

use super::ground::{Ground, START_DEADLINE};
use super::rows::Measure;
use super::{Readings, cost};

/// The JVM settings of `kafka-server-start.sh` and `kafka-run-class.sh` of Kafka 4.3, without the log of collections.
pub(super) const AS_SHIPPED: [&str; 8] = [
    "-Xmx1G",
    "-Xms1G",
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    "-Djava.awt.headless=true",
];
/// The class that those scripts run.
pub(super) const SHIPPED_CLASS: &str = "kafka.Kafka";
/// The first of the launcher's arguments that are not about the JVM itself: logging, class path, main class.
const FIRST_OF_LOGGING: &str = "-Dorg.slf4j.";

/// How the brokers are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Jvms {
    /// All in one JVM, with our flags and class archive.
    One,
    /// Each in a JVM, with our flags and class archive.
    Three,
    /// Each in a JVM with the settings that Kafka is shipped with, Kafka's default timings, and no archive.
    ThreeAsShipped,
}

/// Starts the brokers of a description and nothing else, and ends them.
pub(super) async fn measure(ground: &Ground, spec: &Spec, jvms: Jvms) -> anyhow::Result<Readings> {
    let plan = planned(ground, spec, jvms)?;
    for part in &plan.parts {
        make_files(part).context("make the brokers' files")?;
    }
    let begun = Instant::now();
    let mut processes = Vec::new();
    let mut inputs: Vec<Option<ChildStdin>> = Vec::new();
    for part in &plan.parts {
        let mut process = spawn(part, jvms)?;
        // Waiting for a process closes its input, and the launcher ends when that happens.
        inputs.push(process.stdin.take());
        processes.push(process);
    }
    let brokers = plan.brokers();
    let listed = tokio::select! {
        listed = wire::cluster_listed(&brokers, (begun + START_DEADLINE).into()) => {
            listed.map(|_| begun.elapsed()).context("start brokers by hand")
        }
        log = first_exit(&mut processes, &plan) => Err(anyhow::anyhow!("a broker started by hand ended:\n{log}")),
    };
    let pids: Vec<i32> = processes.iter().filter_map(|process| i32::try_from(process.id()?).ok()).collect();
    let cpu_s = cost::cpu_seconds(&pids)?;
    for process in &mut processes {
        process.kill().await.context("end a broker started by hand")?;
    }
    drop(inputs);
    std::fs::remove_dir_all(&plan.site.directory).context("remove the brokers' files")?;
    Ok(vec![(Measure::Start, listed?.as_secs_f64()), (Measure::BrokersCpu, cpu_s)])
}

fn planned(ground: &Ground, spec: &Spec, jvms: Jvms) -> anyhow::Result<Plan> {
    let kafka = spec.kafka.as_ref().context("this environment has no Kafka")?;
    let (layout, timings) = match jvms {
        Jvms::One => (Layout::Colocated, kafka.timings),
        Jvms::Three => (Layout::Separate, kafka.timings),
        Jvms::ThreeAsShipped => (Layout::Separate, Timings::ProductionLike),
    };
    let alone = Spec {
        name: "alone".to_owned(),
        links: Links::None,
        kafka: Some(KafkaSpec { layout, timings, topics: Vec::new(), ..kafka.clone() }),
        postgres: None,
        redis: None,
        programs: Vec::new(),
        variables: Default::default(),
        settle: Default::default(),
        observe: Default::default(),
        audit: Default::default(),
    };
    let site = Site {
        environment: format!("alone-{}", std::process::id()),
        supervisor: "none".to_owned(),
        address: own_address(),
        // By hand there are no links.
        backstage: own_address(),
        network: Network::default(),
        runtime: Runtime::Process,
        directory: ground.path().join("alone"),
        binaries: ground.binaries.clone(),
    };
    let mut toolchain = ground.toolchain.clone();
    toolchain.kafka.start = Start::Cold { because: "it is started by hand".to_owned() };
    Ok(Plan::new(&alone, Scope::Everything, &toolchain, site)?)
}

/// A loopback address that no other measurement takes: it is made of the process id, which has at most 22 bits
/// (proc_sys_kernel(5)). Of the supervisors' addresses only some of those behind links lie in the same range, and none
/// is taken while this measures.
pub(super) fn own_address() -> Ipv4Addr {
    Ipv4Addr::from(0x7f80_0000 | (std::process::id() & 0x003f_ffff))
}

fn make_files(part: &Part) -> std::io::Result<()> {
    for directory in part.directories.iter().map(AsRef::as_ref).chain(part.log.parent()) {
        std::fs::create_dir_all(directory)?;
    }
    part.files.iter().try_for_each(|file| std::fs::write(&file.path, &file.content))
}

fn spawn(part: &Part, jvms: Jvms) -> anyhow::Result<Child> {
    let arguments = match jvms {
        Jvms::One | Jvms::Three => part.command.clone(),
        Jvms::ThreeAsShipped => as_shipped(&part.command)?,
    };
    let [java, arguments @ ..] = arguments.as_slice() else { bail!("{} has no command", part.name) };
    let log = std::fs::File::create(&part.log).context("make a broker's log")?;
    let mut command = std::process::Command::new(java);
    command.args(arguments).envs(&part.variables).current_dir(&part.directory);
    command.stdin(Stdio::piped()).stdout(log.try_clone()?).stderr(log);
    greenroom::parent_death::end_with_parent(&mut command);
    Command::from(command).kill_on_drop(true).spawn().with_context(|| format!("run {java}"))
}

/// The planned command with the JVM settings and the main class that Kafka is shipped with.
fn as_shipped(planned: &[String]) -> anyhow::Result<Vec<String>> {
    let logging = planned.iter().position(|argument| argument.starts_with(FIRST_OF_LOGGING));
    let (java, rest) = planned.first().zip(logging).context("the planned command has another form")?;
    let rest = planned[rest..].iter().map(|argument| if argument == LAUNCHER_CLASS { SHIPPED_CLASS } else { argument });
    Ok([java.as_str()].into_iter().chain(AS_SHIPPED).chain(rest).map(str::to_owned).collect())
}

/// The end of the log of the first process that ends.
async fn first_exit(processes: &mut [Child], plan: &Plan) -> String {
    let (_, ended, _) = select_all(processes.iter_mut().map(|process| Box::pin(process.wait()))).await;
    plan.parts.get(ended).map(|part| runtime::last_lines(&part.log)).unwrap_or_default()
}
