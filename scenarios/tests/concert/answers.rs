//! Answers as they should not come: twice, late, in another order, to nobody, unreadable, or after what they are about has
//! run out. Whatever comes, money is taken once, a seat is sold once, and what comes later is dealt with.
//!
//! Every record that comes once more, whoever sends it, is in `defects/money.rs`; payments that nobody answers are in
//! `defects/retries.rs`.

mod expiry;
mod late;
mod malformed;
mod payment_api;

use fixtures::Stage;
use fixtures::concert::{Concert, Held};
use greenroom::drive::NewRecord;
use greenroom::scenario::{Verdict, eventually};

use crate::ledger::outbox;

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

/// Waits until the outbox rows are in these states, in order of their ids.
pub(crate) async fn outbox_is(stage: &Stage<'_, Concert>, states: &[&str]) -> Verdict {
    eventually(async || match outbox(stage).await {
        Ok(rows) if rows == states => Ok(()),
        other => Err(format!("the outbox should be {states:?}: {other:?}")),
    })
    .await?;
    Ok(())
}
