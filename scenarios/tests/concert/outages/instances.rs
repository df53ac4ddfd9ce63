//! Instances come and go while messages flow.

use fixtures::Stage;
use fixtures::concert::{self, Concert};
use greenroom::drive::burst;
use greenroom::scenario::Verdict;
use greenroom::supervisor::protocol::PartSignal;

use super::each_paid_once;
use crate::answers::approve;
use crate::gate::{CHANGE_OF_STATUS, Gate};
use crate::ledger::outbox_is;
use crate::sales::held_seats;

/// The service's consumer group.
const GROUP: &str = "my-kafka-consumer";

/// Goal: while partitions move from one instance to the other and back, each answer is dealt with once.
/// Method: of two instances the second is asked to end while ten answers wait, one of them in somebody's hand; and it is
/// started again while ten seats are paid. The group's coordinator says whose the partitions are: of both, of the one
/// that is left, and of both again.
/// There is no snapshot: which instance deals with what is a matter of timing.
#[test]
fn partitions_move_while_seats_are_paid() -> Verdict {
    concert::adjusted().instances(2).variable("NUMBER_OF_PROCESS", 30).scenario(async |stage| {
        let held = held_seats(stage, 30).await?;
        shared_by(stage, 2).await?;
        let client = stage.concert.clone();
        let pay = async |number: usize| client.pay_for(&held[number]).await;
        stage.payments.silence().await?;
        burst(2, 0..10, pay).await.answers.into_iter().collect::<Result<Vec<_>, _>>()?;
        outbox_is(stage, &["PUBLISHED"; 10]).await?;
        let gate = Gate::at(CHANGE_OF_STATUS, stage.database().await?).await?;
        for held in &held[..10] {
            approve(stage, held).await?;
        }
        gate.held_up().await?;
        stage.environment().signal("concert-2", PartSignal::Stop).await?;
        gate.open().await?;
        let (stopped, others) = (stage.part("concert-2").ended().await?, stage.is_of_somebody_else());
        assert!(stopped == "exit status: 0" || others, "it did not end in good order: {stopped}");
        shared_by(stage, 1).await?;
        stage.payments.clear_rules().await?;
        let (started, paid) = tokio::join!(stage.part("concert-2").restart(), burst(2, 10..20, pay));
        started?;
        paid.answers.into_iter().collect::<Result<Vec<_>, _>>()?;
        shared_by(stage, 2).await?;
        burst(4, 20..30, pay).await.answers.into_iter().collect::<Result<Vec<_>, _>>()?;
        each_paid_once(stage, &held).await
    })
}

/// Waits until so many instances share the partitions. How many members each instance of somebody else's has is its own
/// affair.
async fn shared_by(stage: &mut Stage<'_, Concert>, instances: usize) -> Verdict {
    if !stage.is_of_somebody_else() {
        stage.kafka().shared_by(GROUP, instances..=instances).await?;
    }
    Ok(())
}
