//! Answers as they should not come: twice, late, in another order, to nobody, unreadable, or after what they are about has
//! run out. Whatever comes, money is taken once, a seat is sold once, and what comes later is dealt with.
//!
//! Every record that comes once more, whoever sends it, is in `defects/money.rs`; payments that nobody answers are in
//! `defects/retries.rs`.

mod expiry;
mod late;
mod malformed;
mod payment_api;

use fixtures::concert::{Concert, Held, PRICE};
use fixtures::{Refusal, Stage};
use greenroom::drive::NewRecord;
use greenroom::scenario::{Failure, Verdict, eventually};

use crate::sales::POINTS;

/// What the service says of a record that it puts aside.
const PUT_ASIDE: &str = "record put aside as a dead letter";

/// The approval of the payment API, which the story gives in its place.
pub(crate) async fn approve(stage: &Stage<'_, Concert>, held: &Held, event: i64) -> Verdict {
    let value = serde_json::json!({"eventId": event, "isSuccess": true, "message": "Payment approved"});
    answer(stage, held, "payment.success", &value.to_string()).await
}

/// Its refusal.
pub(crate) async fn decline(stage: &Stage<'_, Concert>, held: &Held, event: i64) -> Verdict {
    let value = serde_json::json!({"eventId": event, "isSuccess": false, "message": "card expired"});
    answer(stage, held, "payment.fail", &value.to_string()).await
}

async fn answer(stage: &Stage<'_, Concert>, held: &Held, topic: &str, value: &str) -> Verdict {
    let key = format!("payment_reservation_{}", held.reservation.id);
    stage.producer()?.send(NewRecord::to(topic).key(key).value(value)).await?;
    Ok(())
}

/// Waits until the service knows the buyer's token no more.
pub(crate) async fn token_is_gone(stage: &Stage<'_, Concert>, held: &Held) -> Verdict {
    eventually(async || match stage.concert.check_queue(&held.buyer.token).await.refused() {
        Ok(refused) if refused.code() == (404, "WAITING_QUEUE_004") => Ok(()),
        other => Err(format!("the token is not gone: {other:?}")),
    })
    .await?;
    Ok(())
}

/// A payment that is approved and one that is declined, each of a buyer of its own, through to the end.
async fn an_approval_and_a_refusal(stage: &Stage<'_, Concert>) -> Result<[Held; 2], Failure> {
    let show = stage.concert.put_on_show(2, PRICE).await?;
    let (happy, poor) = (stage.concert.buyer(1, POINTS).await?, stage.concert.buyer(2, POINTS).await?);
    let approved = stage.concert.hold(&happy, &show, 1).await?;
    let declined = stage.concert.hold(&poor, &show, 2).await?;
    stage.payments.decline(declined.reservation.id, "card expired").await?;
    stage.concert.pay_for(&approved).await?;
    stage.concert.pay_for(&declined).await?;
    stage.settle().await?;
    Ok([approved, declined])
}
