//! `bench links`: what an idle link costs, on brokers that have links beside brokers that have none.
//!
//! Each round starts brokers with links and brokers without, every second round the other way about, and lets the same
//! client (librdkafka) do the same work on each, one after the other:
//!
//! * *Produce*: records of 1 KiB with `acks=all`, batched, from the first call until the last is acknowledged; after as
//!   much work of the same kind as makes the brokers' compiler come to rest, because what it does in the first second
//!   is more than any link costs.
//! * *Consume*: all of them by `assign`, from the call until the last has come.
//! * *Latency*: one record after the other with `acks=all`, after the same warming; the median of a round.
//!
//! With `--links all --layout separate` replication between the brokers goes through links too, so producing meets them
//! three times.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use greenroom::artifacts::PrepareOptions;
use greenroom::plan::Runtime;
use greenroom::spec::{KafkaSpec, Links as SpecLinks, Spec, TopicSpec};
use greenroom::supervisor::state::Workspace;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, FutureProducer, FutureRecord, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::super::wanted::Wanted;
use super::super::{EndRequests, answer, block_on, say};
use super::figures::{self, Goal, Row, Unit};
use super::ground::Ground;
use super::lent::Brokers;
use super::{infrastructure, lent, machine};

/// Where everything is sent.
const TOPIC: &str = "greenroom.bench";
const PARTITIONS: u16 = 3;
const RECORD_BYTES: usize = 1024;
/// How many records are sent before anything counts: 64 MiB.
const WARMING_RECORDS: usize = 64 * 1024;
/// How many records are sent then: 256 MiB, and thrice that on the brokers.
const RECORDS: usize = 256 * 1024;
/// How many records are under way at most, which is 20 MiB.
const UNDER_WAY_MAX: i32 = 20 * 1024;
/// How many records are sent without a look at how many are under way.
const STEP: usize = 64;
/// How many records are sent one after the other.
const SINGLE_RECORDS: usize = 400;
/// How long each part of the work may take.
const DEADLINE: Duration = Duration::from_secs(120);

/// What an idle link costs.
#[derive(clap::Args)]
pub(crate) struct Links {
    #[command(flatten)]
    wanted: Wanted,
    /// How many rounds; each measures with and without links.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(3..=100))]
    runs: u16,
}

/// What one set of brokers gave, in seconds.
#[derive(Clone, Copy, Debug)]
struct Times {
    produce: f64,
    consume: f64,
    latency: f64,
}

/// One round.
struct Round {
    linked: Times,
    bare: Times,
}

impl Links {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        block_on(async {
            let mut end = EndRequests::listen()?;
            let workspace = Workspace::here()?;
            let spec = brokers(self.wanted.spec(&workspace)?)?;
            let options = PrepareOptions { offline: self.wanted.offline, runtime: self.wanted.runtime()? };
            let ground = Ground::new(&workspace, &spec, options).await?;
            let machine = machine::describe(&ground.toolchain)?;
            say(&machine);
            let measured = tokio::select! {
                measured = Box::pin(measure_all(&ground, &spec, self.runs)) => Some(measured),
                () = end.next() => None,
            };
            ground.end_supervisor().await?;
            let Some(rounds) = measured else {
                return Ok(ExitCode::from(130));
            };
            answer(&format!("{machine}\n\n{}", figures::table(&rows(&rounds?))));
            Ok(ExitCode::SUCCESS)
        })
    }
}

/// The brokers of a description with one topic of our own.
fn brokers(spec: Spec) -> anyhow::Result<Spec> {
    let kafka = spec.kafka.clone().context("this environment has no Kafka, so nothing to send through a link")?;
    let topic = TopicSpec { name: TOPIC.to_owned(), partitions: PARTITIONS, replication: None };
    let kafka = KafkaSpec { topics: vec![topic], ..kafka };
    Ok(Spec { kafka: Some(kafka), postgres: None, redis: None, ..infrastructure(spec) })
}

async fn measure_all(ground: &Ground, spec: &Spec, runs: u16) -> anyhow::Result<Vec<Round>> {
    let mut rounds = Vec::new();
    for number in 1..=runs {
        let measured = |links| measure(ground, Spec { links, ..spec.clone() });
        let with = if spec.links == SpecLinks::None { SpecLinks::Clients } else { spec.links };
        let (linked, bare) = if number % 2 == 0 {
            let bare = measured(SpecLinks::None).await?;
            (measured(with).await?, bare)
        } else {
            let linked = measured(with).await?;
            (linked, measured(SpecLinks::None).await?)
        };
        say(&format!("round {number} of {runs}: with links {linked:?}, without {bare:?}"));
        rounds.push(Round { linked, bare });
    }
    Ok(rounds)
}

async fn measure(ground: &Ground, spec: Spec) -> anyhow::Result<Times> {
    let lent = Box::pin(lent::start(ground, spec, Runtime::Process, Brokers::AsUsual)).await?;
    let brokers = lent.lease.plan.brokers().iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let to = brokers.clone();
    tokio::task::spawn_blocking(move || produce(&to, WARMING_RECORDS)).await??;
    let latency = one_by_one(&brokers).await?;
    let (produce, consume) = tokio::task::spawn_blocking(move || {
        let produce = produce(&brokers, RECORDS)?;
        anyhow::Ok((produce, consume(&brokers, WARMING_RECORDS + RECORDS)?))
    })
    .await??;
    lent.lease.release().await?;
    ground.end_supervisor().await?;
    Ok(Times { produce, consume, latency })
}

fn config(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("acks", "all");
    config
}

/// The median time from a send to its acknowledgement, over warm connections.
async fn one_by_one(brokers: &str) -> anyhow::Result<f64> {
    let producer: FutureProducer = config(brokers).set("linger.ms", "0").create().context("make a producer")?;
    let payload = [7; RECORD_BYTES];
    let mut times = Vec::new();
    for number in 0..SINGLE_RECORDS * 5 / 4 {
        let begun = Instant::now();
        let record = FutureRecord::<(), _>::to(TOPIC).payload(payload.as_slice());
        producer.send(record, DEADLINE).await.map_err(|(error, _)| error).context("send a record")?;
        // The first ones make connections.
        if number >= SINGLE_RECORDS / 4 {
            times.push(begun.elapsed().as_secs_f64());
        }
    }
    times.sort_by(f64::total_cmp);
    Ok(figures::median(&times))
}

/// Sends in steps, and rests while half of [`UNDER_WAY_MAX`] is under way: a client that asks again and again whether it
/// may go on takes the core that brokers and links need, the more, the slower they are.
fn produce(brokers: &str, records: usize) -> anyhow::Result<f64> {
    let mut config = config(brokers);
    config.set("linger.ms", "5").set("batch.size", "262144");
    let producer: BaseProducer = config.create().context("make a producer")?;
    let payload = [7; RECORD_BYTES];
    let begun = Instant::now();
    for number in 0..records {
        if number % STEP == 0 && producer.in_flight_count() >= UNDER_WAY_MAX {
            while producer.in_flight_count() > UNDER_WAY_MAX / 2 {
                ensure!(begun.elapsed() < DEADLINE, "{number} of {records} records were sent by the deadline");
                producer.poll(Duration::from_millis(100));
            }
        }
        let partition = i32::try_from(number % usize::from(PARTITIONS))?;
        let record = BaseRecord::<(), _>::to(TOPIC).partition(partition).payload(payload.as_slice());
        producer.send(record).map_err(|(error, _)| error).context("send a record")?;
    }
    producer.flush(DEADLINE).context("wait for the acknowledgements")?;
    Ok(begun.elapsed().as_secs_f64())
}

fn consume(brokers: &str, records: usize) -> anyhow::Result<f64> {
    let mut config = config(brokers);
    config.set("group.id", "greenroom.bench");
    // Where more has come than it wants to hold, it rests for a second, which is more than any link costs.
    config.set("queued.min.messages", "1000000").set("queued.max.messages.kbytes", "1048576");
    let consumer: BaseConsumer = config.create().context("make a consumer")?;
    let mut assignment = TopicPartitionList::new();
    for partition in 0..i32::from(PARTITIONS) {
        assignment.add_partition_offset(TOPIC, partition, Offset::Beginning)?;
    }
    let begun = Instant::now();
    consumer.assign(&assignment).context("assign the partitions")?;
    let mut left = records;
    while left > 0 {
        ensure!(begun.elapsed() < DEADLINE, "{left} records did not come");
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(_)) => left -= 1,
            Some(Err(error)) => say(&format!("reading goes on after: {error}")),
            None => {}
        }
    }
    Ok(begun.elapsed().as_secs_f64())
}

fn rows(rounds: &[Round]) -> Vec<Row> {
    let row = |what: &str, unit, goal, value: fn(&Round) -> f64| Row {
        what: what.to_owned(),
        unit,
        values: rounds.iter().map(value).collect(),
        goal,
    };
    let (seconds, ms, times) = (Unit::Seconds, Unit::Milliseconds, Unit::Times);
    vec![
        row("produce 256 MiB, with links", seconds, None, |round| round.linked.produce),
        row("produce 256 MiB, without", seconds, None, |round| round.bare.produce),
        row("produce: with / without", times, Some(Goal::Median(1.05)), |round| {
            round.linked.produce / round.bare.produce
        }),
        row("consume 320 MiB, with links", seconds, None, |round| round.linked.consume),
        row("consume 320 MiB, without", seconds, None, |round| round.bare.consume),
        row("consume: with / without", times, Some(Goal::Median(1.05)), |round| {
            round.linked.consume / round.bare.consume
        }),
        row("one record acknowledged, with links", ms, None, |round| round.linked.latency),
        row("one record acknowledged, without", ms, None, |round| round.bare.latency),
        row("one record acknowledged: added by links", ms, Some(Goal::Median(0.0002)), |round| {
            round.linked.latency - round.bare.latency
        }),
    ]
}
