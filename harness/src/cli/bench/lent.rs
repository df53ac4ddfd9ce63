//! Environments as a test has them: lent by a supervisor, used for the first time, given back.

use std::time::Instant;

use anyhow::Context;
use greenroom::plan::{Kind, Plan, Runtime};
use greenroom::spec::Spec;
use greenroom::supervisor::client::{Connection, Lease};
use greenroom::toolchain::Start;

use super::ground::{Ground, gone, left_of, processes_of};
use super::rows::Measure;
use super::{Readings, clients, cost};

/// Which clients are the first ones.
#[derive(Clone, Copy, Debug)]
pub(super) enum Clients {
    /// The harness's own over the wire: what the brokers need.
    Wire,
    /// librdkafka's with its default settings: what a test waits for.
    Librdkafka,
}

/// How brokers begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Brokers {
    /// As in every environment here.
    AsUsual,
    /// As where no checkpoint can be made.
    Cold,
}

/// An environment that was lent in this moment, and how long each step towards it took.
pub(super) struct Lent {
    pub(super) lease: Lease,
    pub(super) readings: Readings,
}

/// Starts an environment cold: nothing runs before, not even the supervisor.
pub(super) async fn start(ground: &Ground, spec: Spec, runtime: Runtime, begin: Brokers) -> anyhow::Result<Lent> {
    let begun = Instant::now();
    let mut toolchain = ground.look_up(runtime).await?;
    if begin == Brokers::Cold {
        toolchain.kafka.start = Start::Cold { because: "that is measured".to_owned() };
    }
    let looked_up = begun.elapsed();
    let connection = Connection::open(&ground.workspace, &ground.binary()).await?;
    let connected = begun.elapsed();
    let lease = connection.lease(ground.order(spec, runtime, toolchain), |_| {}).await?;
    let readings = vec![
        (Measure::Start, begun.elapsed().as_secs_f64()),
        (Measure::LookUp, looked_up.as_secs_f64()),
        (Measure::Supervisor, (connected - looked_up).as_secs_f64()),
    ];
    Ok(Lent { lease, readings })
}

/// Starts an environment, uses it for the first time, gives it back.
pub(super) async fn measure(
    ground: &Ground,
    spec: Spec,
    (runtime, begin): (Runtime, Brokers),
    kind: Clients,
) -> anyhow::Result<Readings> {
    let topic = unread_topic(&spec)?;
    let Lent { mut lease, mut readings } = start(ground, spec, runtime, begin).await?;
    let plan = lease.plan.clone();
    let brokers = brokers_of(&mut lease, &plan).await?;
    readings.push((Measure::BrokersCpu, cost::cpu_seconds(&brokers)?));
    readings.push((Measure::TotalCpu, cost::cpu_seconds(&processes_of(&plan))?));

    let first = match kind {
        Clients::Wire => clients::over_the_wire(&plan.brokers(), &topic).await?,
        Clients::Librdkafka => clients::with_librdkafka(&plan.brokers(), &topic).await?,
    };
    readings.push((Measure::Acknowledged, first.acknowledged.as_secs_f64()));
    readings.push((Measure::Consumed, first.consumed.as_secs_f64()));
    readings.push((Measure::BrokersMemory, cost::memory_mb(&brokers)?));
    let all = processes_of(&plan);
    readings.push((Measure::TotalMemory, cost::memory_mb(&all)?));

    let begun = Instant::now();
    lease.release().await?;
    let given_back = begun.elapsed();
    let rest = gone("the environment", || left_of(&plan, &all)).await?;
    readings.push((Measure::GivenBack, given_back.as_secs_f64()));
    readings.push((Measure::Gone, (given_back + rest).as_secs_f64()));
    Ok(readings)
}

async fn brokers_of(lease: &mut Lease, plan: &Plan) -> anyhow::Result<Vec<i32>> {
    let is_broker = |name: &str| plan.part(name).is_some_and(|part| part.kind == Kind::Kafka);
    let summary = lease.summary().await?;
    Ok(summary.parts.iter().filter(|part| is_broker(&part.name)).filter_map(|part| part.pid).collect())
}

/// A topic that no program reads, so that a record in it disturbs nobody.
pub(super) fn unread_topic(spec: &Spec) -> anyhow::Result<String> {
    let read = |name: &String| spec.settle.consumers.iter().any(|consumer| consumer.topics.contains(name));
    let mut topics = spec.kafka.iter().flat_map(|kafka| &kafka.topics).map(|topic| &topic.name);
    Ok(topics.find(|name| !read(name)).context("every topic has a reader: none is left to measure with")?.clone())
}
