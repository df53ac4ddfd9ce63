//! Answers as they should not come: twice, late, in another order, to nobody, unreadable, or after what they are about
//! has run out. Whatever comes, money is taken once, a seat is sold once, and what comes later is dealt with.
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
use serde_json::json;

use crate::sales::POINTS;

/// What the service says of a record that it puts aside.
const PUT_ASIDE: &str = "record put aside as a dead letter";

/// The approval of the payment API, which the story gives in its place.
pub(crate) async fn approve(stage: &Stage<'_, Concert>, held: &Held) -> Verdict {
    answer(stage, held, "payment.success", json!({"isSuccess": true, "message": "Payment approved"})).await
}

/// Its refusal.
pub(crate) async fn decline(stage: &Stage<'_, Concert>, held: &Held) -> Verdict {
    answer(stage, held, "payment.fail", json!({"isSuccess": false, "message": "card expired"})).await
}

/// What was received, and what it comes to (contract 1.7).
async fn answer(stage: &Stage<'_, Concert>, held: &Held, topic: &str, decision: serde_json::Value) -> Verdict {
    let key = format!("payment_reservation_{}", held.reservation.id);
    let asked = eventually(async || match stage.records("payment").await {
        Ok(records) => {
            let asked = records.into_iter().find(|record| record.key.as_deref() == Some(key.as_bytes()));
            asked.ok_or_else(|| format!("topic payment has no record of {key}"))
        }
        Err(error) => Err(error.to_string()),
    });
    let mut value: serde_json::Map<_, _> = serde_json::from_slice(asked.await?.value.as_deref().unwrap_or_default())?;
    value.extend(decision.as_object().cloned().unwrap_or_default());
    let value = serde_json::to_vec(&value)?;
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
