//! `bench start`: how fast an environment comes and goes and what it costs, beside brokers started by hand.
//!
//! All rows are measured in each round, one after the other, every second round in reverse order, so that whatever
//! else happens on the machine meets all rows alike; ratios are those of one round. From where to where:
//!
//! * *Brokers alone*: from the call that spawns the first JVM until every broker's own metadata lists all of them.
//!   Their directories and files are made before; nothing else runs.
//! * *Infrastructure* and *whole environment*: from where a test asks until it holds the lease. That is looking up the
//!   artifacts, starting a supervisor of its own, topics, stores, programs that answer 200, and warming.
//! * *First record*: on an environment that was lent in this moment and that nobody has used, from the first call of a
//!   client that did not exist before. Acknowledged is `acks=all`; consumed is through a group that did not exist.
//! * *Given back*: the call that gives back. *Gone*: from that call, or from SIGKILL, until no process carries the
//!   environment's mark and its directory is removed; after the supervisor's death, until the supervisor's is.
//! * *Memory*: the proportional set size (`smaps_rollup`, proc_pid_smaps(5)) of the environment's processes after the
//!   first record was consumed. What brokers map from the class archive is shared, so other environments on the
//!   machine make it look smaller.
//! * *CPU*: user and system time of the same processes, and of children that they have waited for, when it was lent.
//!
//! With `--runtime docker` others are measured, all in the same images: infrastructure in containers and as processes,
//! the shell scripts that this project replaces, and plain testcontainers code. Of those two, *ready* is when their
//! topics have all replicas in sync; *gone*, when their commands that remove everything have returned.
//!
//! Deliberately absent: numbers that a test or a compiler gives (equal snapshots, build times), and a verdict by exit
//! code: that is 0 if everything could be measured.

mod alone;
mod clients;
mod cost;
mod deaths;
mod figures;
mod ground;
mod lent;
mod links;
mod machine;
mod rows;
mod scripts;
#[cfg(feature = "comparison")]
mod testcontainers;
mod usual;

use std::collections::HashMap;
use std::process::ExitCode;

use anyhow::{Context, ensure};
use greenroom::artifacts::PrepareOptions;
use greenroom::docker::Engine;
use greenroom::plan::Runtime;
use greenroom::spec::{Layout, Spec};
use greenroom::supervisor::state::Workspace;

use super::wanted::Wanted;
use super::{EndRequests, answer, block_on, chain, say};
use alone::Jvms;
use ground::Ground;
use lent::Brokers;
use machine::Noise;
use rows::Measure;

/// Measurements.
#[derive(clap::Subcommand)]
#[command(after_help = "\
Examples:
  cargo xtask bench start --runs 5
  cargo xtask bench start --runs 5 --runtime docker
  cargo xtask bench links --links all --layout separate")]
pub(crate) enum Bench {
    /// How fast environments start and end, and what they cost, as a Markdown table.
    ///
    /// Both layouts and both scopes are measured whatever `--layout` and `--only` say. With `--runtime docker`,
    /// containers beside processes, shell scripts and plain testcontainers code.
    Start(Start),
    /// What an idle link costs in throughput and latency, as a Markdown table.
    Links(links::Links),
}

/// How fast environments start and end.
#[derive(clap::Args)]
pub(crate) struct Start {
    #[command(flatten)]
    wanted: Wanted,
    /// How many rounds; each measures everything once.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(3..=100))]
    runs: u16,
}

/// What is measured once in every round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Subject {
    /// Brokers started by hand.
    Alone(Jvms),
    /// Brokers with topics, PostgreSQL and Redis, without any program.
    Infrastructure(Layout),
    /// All of the description.
    Whole(Layout),
    /// A whole environment whose client is killed.
    ClientKilled,
    /// A whole environment whose supervisor is killed.
    SupervisorKilled,
    /// The same with brokers that begin cold.
    Cold(Layout),
    /// Brokers with topics, PostgreSQL and Redis in containers.
    Contained(Layout),
    /// The shell scripts that this project replaces.
    Scripts,
    /// Plain testcontainers code.
    Testcontainers,
}

impl Subject {
    const OF_PROCESSES: [Self; 9] = [
        Self::Alone(Jvms::One),
        Self::Infrastructure(Layout::Colocated),
        Self::Whole(Layout::Colocated),
        Self::Alone(Jvms::Three),
        Self::Infrastructure(Layout::Separate),
        Self::Whole(Layout::Separate),
        Self::Alone(Jvms::ThreeAsShipped),
        Self::ClientKilled,
        Self::SupervisorKilled,
    ];
    const OF_CONTAINERS: [Self; 8] = [
        Self::Infrastructure(Layout::Colocated),
        Self::Cold(Layout::Colocated),
        Self::Contained(Layout::Colocated),
        Self::Scripts,
        Self::Infrastructure(Layout::Separate),
        Self::Cold(Layout::Separate),
        Self::Contained(Layout::Separate),
        Self::Testcontainers,
    ];

    /// What is measured where this is asked for.
    fn all(runtime: Runtime) -> &'static [Self] {
        match runtime {
            Runtime::Process => &Self::OF_PROCESSES,
            Runtime::Docker => &Self::OF_CONTAINERS,
        }
    }
}

/// What one round gave; a measurement that failed is missing.
type Round = HashMap<(Subject, Measure), f64>;
/// What one measurement of a subject gave.
type Readings = Vec<(Measure, f64)>;

pub(super) fn run(command: Bench) -> anyhow::Result<ExitCode> {
    let start = match command {
        Bench::Start(start) => start,
        Bench::Links(links) => return links.run(),
    };
    block_on(async {
        let mut end = EndRequests::listen()?;
        let workspace = Workspace::here()?;
        let spec = start.wanted.spec(&workspace)?;
        // Before anything is started: both are needed in every round.
        in_layout(&spec, Layout::Colocated).and_then(|spec| lent::unread_topic(&spec))?;
        let runtime = start.wanted.runtime()?;
        let ground = Ground::new(&workspace, &spec, PrepareOptions { offline: start.wanted.offline, runtime }).await?;
        let mut machine = machine::describe(&ground.toolchain)?;
        if runtime == Runtime::Docker {
            ensure!(
                cfg!(feature = "comparison"),
                "built without testcontainers: use `cargo xtask bench start --runtime docker`"
            );
            machine = format!("engine {}; {machine}", Engine::here().await?.version().await?);
            usual::remove().await?;
        }
        say(&machine);
        let measured = tokio::select! {
            measured = Box::pin(measure_all(&ground, &spec, runtime, start.runs)) => Some(measured),
            () = end.next() => None,
        };
        let ended = end_all(&ground, runtime).await;
        let Some(measured) = measured else {
            return ended.map(|()| ExitCode::from(130));
        };
        ended?;
        let Measured { rounds, failures, noise } = measured?;
        let table = match runtime {
            Runtime::Process => rows::of_processes,
            Runtime::Docker => rows::of_containers,
        };
        answer(&format!("{machine}; {}\n\n{}", noise.describe(), table(&rounds)));
        for failure in &failures {
            answer(&format!("\nnot measured: {failure}"));
        }
        Ok(if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })
}

/// Ends whatever a measurement has left.
async fn end_all(ground: &Ground, runtime: Runtime) -> anyhow::Result<()> {
    ground.end_supervisor().await?;
    match runtime {
        Runtime::Process => Ok(()),
        Runtime::Docker => usual::remove().await.map(drop),
    }
}

/// What all rounds gave.
#[derive(Debug, Default)]
struct Measured {
    rounds: Vec<Round>,
    /// What could not be measured, and why.
    failures: Vec<String>,
    noise: Noise,
}

/// Measures everything `runs` times; a measurement that fails is left out and told of.
async fn measure_all(ground: &Ground, spec: &Spec, runtime: Runtime, runs: u16) -> anyhow::Result<Measured> {
    let mut all = Measured::default();
    for number in 1..=runs {
        let mut subjects = Subject::all(runtime).to_vec();
        if number % 2 == 0 {
            subjects.reverse();
        }
        let mut round = Round::new();
        for subject in subjects {
            all.noise.look().await?;
            let mut measured = Box::pin(measure(ground, spec, subject)).await;
            if let Err(error) = end_all(ground, runtime).await {
                measured = measured.and(Err(error));
            }
            match measured {
                Ok(readings) => {
                    say(&format!("round {number} of {runs}: {}", rows::brief(subject, &readings)));
                    round.extend(readings.into_iter().map(|(measure, value)| ((subject, measure), value)));
                }
                Err(error) => {
                    let failure = format!("{subject:?} in round {number}: {}", chain(&error));
                    say(&failure);
                    all.failures.push(failure);
                }
            }
        }
        all.rounds.push(round);
    }
    Ok(all)
}

async fn measure(ground: &Ground, spec: &Spec, subject: Subject) -> anyhow::Result<Readings> {
    match subject {
        Subject::Alone(jvms) => alone::measure(ground, spec, jvms).await,
        Subject::Infrastructure(layout) => {
            let spec = infrastructure(in_layout(spec, layout)?);
            lent::measure(ground, spec, (Runtime::Process, Brokers::AsUsual), lent::Clients::Wire).await
        }
        Subject::Whole(layout) => {
            let how = (Runtime::Process, Brokers::AsUsual);
            lent::measure(ground, in_layout(spec, layout)?, how, lent::Clients::Librdkafka).await
        }
        Subject::Cold(layout) => {
            let spec = infrastructure(in_layout(spec, layout)?);
            lent::measure(ground, spec, (Runtime::Process, Brokers::Cold), lent::Clients::Wire).await
        }
        Subject::ClientKilled => deaths::of_client(ground).await,
        Subject::SupervisorKilled => deaths::of_supervisor(ground, spec).await,
        Subject::Contained(layout) => {
            let spec = infrastructure(in_layout(spec, layout)?);
            lent::measure(ground, spec, (Runtime::Docker, Brokers::AsUsual), lent::Clients::Wire).await
        }
        Subject::Scripts => scripts::measure(ground, spec).await,
        #[cfg(feature = "comparison")]
        Subject::Testcontainers => testcontainers::measure(ground, spec).await,
        #[cfg(not(feature = "comparison"))]
        Subject::Testcontainers => anyhow::bail!("built without testcontainers"),
    }
}

fn in_layout(spec: &Spec, layout: Layout) -> anyhow::Result<Spec> {
    let mut spec = spec.clone();
    spec.kafka.as_mut().context("this environment has no Kafka, beside which it could be measured")?.layout = layout;
    Ok(spec)
}

/// Brokers with their topics and the stores: no program, and nothing that names one.
fn infrastructure(spec: Spec) -> Spec {
    Spec {
        programs: Vec::new(),
        variables: Default::default(),
        settle: Default::default(),
        observe: Default::default(),
        audit: Default::default(),
        ..spec
    }
}
