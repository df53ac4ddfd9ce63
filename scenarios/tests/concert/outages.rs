//! Parts and ways go away and come back: the service recovers by itself, and nothing that was promised is lost.
//!
//! An outage often makes a payment go out a second time, so that most of these stories have laws and no snapshot.

mod brokers;
mod instances;
mod load;
mod network;
mod stores;

use fixtures::Stage;
use fixtures::concert::{Concert, Held};
use greenroom::scenario::Verdict;

use crate::books;
use crate::ledger::paid;
use crate::sales::POINTS;

/// What the relay says of a payment that the brokers have not taken.
const NOT_ACKNOWLEDGED: &str = "payment not acknowledged by Kafka";

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
