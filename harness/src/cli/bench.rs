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

use std::collections::HashMap;
use std::process::ExitCode;

use anyhow::Context;
use greenroom::spec::{Layout, Spec};
use greenroom::supervisor::state::Workspace;

use super::wanted::Wanted;
use super::{EndRequests, answer, block_on, chain, say};
use alone::Jvms;
use ground::Ground;
use machine::Noise;
use rows::Measure;

/// Measurements.
#[derive(clap::Subcommand)]
pub(crate) enum Bench {
    /// How fast environments start and end, and what they cost, as a Markdown table.
    ///
    /// Both layouts and both scopes are measured whatever `--layout` and `--only` say.
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
}

impl Subject {
    const ALL: [Self; 9] = [
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
        let ground = Ground::new(&workspace, &spec, start.wanted.offline)?;
        let machine = machine::describe(&ground.toolchain)?;
        say(&machine);
        let measured = tokio::select! {
            measured = Box::pin(measure_all(&ground, &spec, start.runs)) => Some(measured),
            () = end.next() => None,
        };
        ground.end_supervisor().await?;
        let Some(measured) = measured else {
            return Ok(ExitCode::from(130));
        };
        let Measured { rounds, failures, noise } = measured?;
        answer(&format!("{machine}; {}\n\n{}", noise.describe(), rows::table(&rounds)));
        for failure in &failures {
            answer(&format!("\nnot measured: {failure}"));
        }
        Ok(if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })
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
async fn measure_all(ground: &Ground, spec: &Spec, runs: u16) -> anyhow::Result<Measured> {
    let mut all = Measured::default();
    for number in 1..=runs {
        let mut subjects = Subject::ALL;
        if number % 2 == 0 {
            subjects.reverse();
        }
        let mut round = Round::new();
        for subject in subjects {
            all.noise.look().await?;
            let mut measured = Box::pin(measure(ground, spec, subject)).await;
            if let Err(error) = ground.end_supervisor().await {
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
            lent::measure(ground, infrastructure(in_layout(spec, layout)?), lent::Clients::Wire).await
        }
        Subject::Whole(layout) => lent::measure(ground, in_layout(spec, layout)?, lent::Clients::Librdkafka).await,
        Subject::ClientKilled => deaths::of_client(ground).await,
        Subject::SupervisorKilled => deaths::of_supervisor(ground, spec).await,
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
        ..spec
    }
}
