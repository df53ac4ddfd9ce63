//! The ways between the service and brokers are cut.

use fixtures::Stage;
use fixtures::concert::{self, Concert};
use greenroom::scenario::{Verdict, eventually};
use greenroom::spec::{Layout, Links};

use super::{brokers_are_missed, each_paid_once, held_seats};

/// Waits until a payment was sent and not acknowledged.
async fn an_attempt_has_failed(stage: &Stage<'_, Concert>) -> Verdict {
    let database = stage.database().await?;
    let failed = "SELECT count(*) FROM payment_outbox WHERE attempts > 0 AND status = 'INIT'";
    eventually(async || match sqlx::query_scalar::<_, i64>(failed).fetch_one(&database).await {
        Ok(0) => Err("no attempt has failed".to_owned()),
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    })
    .await?;
    Ok(())
}

/// Goal: a service that cannot reach the leader of a partition of `payment` pays when it can, without help.
/// Method: each broker leads a partition, and the five payments lie in all of them. The way to one of the brokers lets
/// nothing through until an attempt has failed.
#[test]
fn parted_from_a_leader() -> Verdict {
    concert::adjusted().layout(Layout::Separate).links(Links::Clients).scenario(async |stage| {
        brokers_are_missed(stage);
        let held = held_seats(stage, 5).await?;
        stage.kafka().link("concert", 1).blackhole().await?;
        for held in &held {
            stage.concert.pay_for(held).await?;
        }
        an_attempt_has_failed(stage).await?;
        stage.kafka().link("concert", 1).heal().await?;
        each_paid_once(stage, &held).await
    })
}

/// Goal: the same where connections break instead of falling silent.
#[test]
fn cut_off_from_a_leader() -> Verdict {
    concert::adjusted().layout(Layout::Separate).links(Links::Clients).scenario(async |stage| {
        brokers_are_missed(stage);
        let held = held_seats(stage, 5).await?;
        stage.kafka().link("concert", 1).cut().await?;
        for held in &held {
            stage.concert.pay_for(held).await?;
        }
        an_attempt_has_failed(stage).await?;
        stage.kafka().link("concert", 1).heal().await?;
        each_paid_once(stage, &held).await
    })
}
