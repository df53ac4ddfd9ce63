//! Parts and ways go away and come back: the service recovers by itself, and nothing that was promised is lost.
//!
//! An outage often makes a payment go out a second time, so that most of these stories have laws and no snapshot.

mod brokers;
mod instances;
mod load;
mod stores;

use fixtures::concert::{Concert, Held, PRICE};
use fixtures::{CallError, Stage};
use greenroom::scenario::Verdict;

use crate::books;
use crate::ledger::paid;

/// What every buyer begins with.
const POINTS: i64 = 100_000;

/// What the relay says of a payment that the brokers have not taken.
const NOT_ACKNOWLEDGED: &str = "payment not acknowledged by Kafka";

/// As many buyers, each of whom holds a seat of its own.
async fn held_seats(stage: &Stage<'_, Concert>, count: u32) -> Result<Vec<Held>, CallError> {
    let show = stage.concert.put_on_show(count, PRICE).await?;
    let mut held = Vec::new();
    for number in 1..=count {
        let buyer = stage.concert.buyer(number.into(), POINTS).await?;
        held.push(stage.concert.hold(&buyer, &show, number).await?);
    }
    Ok(held)
}

/// Settles. The law: each of them has paid once for its seat.
async fn each_paid_once(stage: &Stage<'_, Concert>, held: &[Held]) -> Verdict {
    stage.settle().await?;
    for held in held {
        assert_eq!(paid(stage, held.reservation.id).await?, ["10000"]);
    }
    let given: Vec<_> = held.iter().map(|held| (held.buyer.id, POINTS)).collect();
    books::balance(stage, &given).await
}

/// What a client of the brokers may say when they are lost: librdkafka's words, which the payment API hands on.
fn brokers_are_missed(stage: &mut Stage<'_, Concert>) {
    stage.environment().expect_complaint("payment-api", "librdkafka");
    stage.environment().expect_complaint("payment-api", "a record was not acknowledged and is sent again");
    stage.environment().expect_complaint("concert", NOT_ACKNOWLEDGED);
}
