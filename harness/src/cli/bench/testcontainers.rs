//! The same by plain `testcontainers`, as its documentation shows it: requests that wait for a line of the log, started
//! one after the other, only the brokers at once, since none of them is ready before the others are there.

use std::time::Instant;

use anyhow::Context;
use greenroom::spec::Spec;
use greenroom::wire;
use testcontainers_modules::postgres::Postgres;
use testcontainers_modules::redis::Redis;
use testcontainers_modules::testcontainers::core::{IntoContainerPort as _, WaitFor};
use testcontainers_modules::testcontainers::runners::AsyncRunner as _;
use testcontainers_modules::testcontainers::{ContainerAsync, ContainerRequest, GenericImage, Image, ImageExt as _};

use super::Readings;
use super::ground::{Ground, START_DEADLINE};
use super::rows::Measure;
use super::usual::{self, Contained, LABEL, Usual};

/// What a broker's log says when it is ready.
const BROKER_READY: &str = "Kafka Server started";
/// What PostgreSQL's log says. The module also waits for the same line of the official image's temporary server, which
/// there is none of here.
const POSTGRES_READY: &str = "database system is ready to accept connections";

/// Starts all of it, waits until it can be used, and ends it.
pub(super) async fn measure(ground: &Ground, spec: &Spec) -> anyhow::Result<Readings> {
    let usual = Usual::new(spec, &ground.toolchain)?;
    let begun = Instant::now();
    usual::docker(&usual.network_arguments()).await?;
    let brokers = futures_util::future::try_join_all(usual.brokers.iter().map(|broker| start_broker(&usual, broker)));
    let brokers = brokers.await.context("start the brokers")?;
    let postgres = request(&usual, &usual.postgres, Postgres::default())?;
    // As the module has it.
    let command = format!("{} -c fsync=off", usual.postgres.command);
    let postgres = postgres.with_cmd(["sh", "-c", &command]);
    let postgres = postgres.with_ready_conditions(vec![WaitFor::message_on_stderr(POSTGRES_READY)]);
    let postgres = postgres.start().await.context("start PostgreSQL")?;
    let redis = request(&usual, &usual.redis, Redis::default())?.start().await.context("start Redis")?;
    let deadline = (begun + START_DEADLINE).into();
    wire::create_topics(&usual.addresses(), &usual.topics, deadline).await.context("make the topics")?;
    usual.in_sync(usual.topics.iter(), begun).await?;
    let took = begun.elapsed();

    let ended = Instant::now();
    redis.rm().await.context("remove Redis")?;
    postgres.rm().await.context("remove PostgreSQL")?;
    for broker in brokers {
        broker.rm().await.context("remove a broker")?;
    }
    usual::remove().await?;
    Ok(vec![(Measure::Start, took.as_secs_f64()), (Measure::Gone, ended.elapsed().as_secs_f64())])
}

async fn start_broker(usual: &Usual, broker: &Contained) -> anyhow::Result<ContainerAsync<GenericImage>> {
    let (name, tag) = name_and_tag(broker)?;
    let image = GenericImage::new(name, tag).with_wait_for(WaitFor::message_on_stderr(BROKER_READY));
    Ok(request(usual, broker, image)?.start().await?)
}

/// A request for a container that runs what is described, in the place of what the image would.
fn request<I: Image>(
    usual: &Usual,
    container: &Contained,
    image: impl Into<ContainerRequest<I>>,
) -> anyhow::Result<ContainerRequest<I>> {
    let (name, tag) = name_and_tag(container)?;
    Ok(image
        .into()
        .with_name(name)
        .with_tag(tag)
        .with_cmd(["sh", "-c", &container.command])
        .with_user(&container.user)
        .with_container_name(&container.name)
        .with_network(&usual.network)
        .with_label(LABEL, std::process::id().to_string())
        .with_mapped_port(container.outside, container.inside.tcp())
        .with_startup_timeout(START_DEADLINE))
}

fn name_and_tag(container: &Contained) -> anyhow::Result<(&str, &str)> {
    container.image.rsplit_once(':').with_context(|| format!("the image {} has no tag", container.image))
}
