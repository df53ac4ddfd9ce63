//! Ways break: between the service and brokers, and between brokers. Nobody dies.

use std::time::Duration;

use fixtures::Stage;
use fixtures::concert::{self, Concert};
use greenroom::environment::{EnvironmentError, LinkHandle};
use greenroom::scenario::{Verdict, eventually};
use greenroom::spec::{Layout, Links};

use super::{brokers_are_missed, each_paid_once};
use crate::answers::token_is_gone;
use crate::gate::{CHANGE_OF_STATUS, Gate};
use crate::ledger::{an_attempt_has_failed, outbox_is, waiting_for_a_lock};
use crate::sales::held_seats;

/// The five payments lie in all three partitions of `payment`, each of which another broker leads. The way to one of
/// them is broken until an attempt has failed.
fn without_a_leader(broken: impl AsyncFnOnce(LinkHandle<'_>) -> Result<(), EnvironmentError>) -> Verdict {
    concert::adjusted().missing_brokers().layout(Layout::Separate).links(Links::Clients).scenario(async |stage| {
        brokers_are_missed(stage);
        let held = held_seats(stage, 5).await?;
        let leader = stage.kafka().leader_of("payment", 0).await?;
        broken(stage.kafka().link("concert", leader)).await?;
        for held in &held {
            stage.concert.pay_for(held).await?;
        }
        an_attempt_has_failed(stage).await?;
        stage.kafka().link("concert", leader).heal().await?;
        each_paid_once(stage, &held).await
    })
}

/// Goal: a service to which the leader of a partition of `payment` has fallen silent pays when it speaks again, without
/// help.
#[test]
fn parted_from_a_leader() -> Verdict {
    without_a_leader(async |way| way.blackhole().await)
}

/// Goal: the same where connections break instead of falling silent.
#[test]
fn cut_off_from_a_leader() -> Verdict {
    without_a_leader(async |way| way.cut().await)
}

/// Goal: a broker that is parted from the others, and which the service still reaches, takes no payment with it.
/// Method: it leads a partition of `payment`. Payments are asked for while it still believes that it leads, when the
/// others have missed it, and when it is back. What it took alone it could not acknowledge, so that is sent again.
#[test]
fn a_broker_parted_from_the_others() -> Verdict {
    concert::adjusted().missing_brokers().layout(Layout::Separate).links(Links::All).scenario(async |stage| {
        brokers_are_missed(stage);
        let held = held_seats(stage, 5).await?;
        // On a busy machine brokers miss one another for a moment; one that is left alone then has what nobody else
        // has.
        stage.kafka().in_sync(3, &[1, 2, 3]).await?;
        let parted = stage.kafka().leader_of("payment", 0).await?;
        let others: Vec<u16> = (1..=3).filter(|id| *id != parted).collect();
        stage.kafka().isolate(parted).await?;
        stage.concert.pay_for(&held[0]).await?;
        stage.concert.pay_for(&held[1]).await?;
        stage.kafka().in_sync(2, &others).await?;
        stage.concert.pay_for(&held[2]).await?;
        stage.concert.pay_for(&held[3]).await?;
        stage.kafka().rejoin(parted).await?;
        stage.kafka().in_sync(3, &[1, 2, 3]).await?;
        stage.concert.pay_for(&held[4]).await?;
        each_paid_once(stage, &held).await?;
        // One of those that were asked for while it was alone was its to take.
        let mut alone = stage.payments.journal_of(held[0].reservation.id).await?;
        alone.extend(stage.payments.journal_of(held[1].reservation.id).await?);
        let its = alone.iter().any(|entry| entry.partition == Some(0));
        assert!(its, "no payment met the broker that was parted: {alone:?}");
        Ok(())
    })
}

/// Goal: payments that the payment API has in hand when its connections to all brokers close are answered, and made
/// once.
/// Method: it thinks for ten seconds, of one payment of each partition at a time. When it has begun in all of them, its
/// ways to the brokers are cut, and what it had not begun by then it answers at once.
#[test]
fn the_payment_api_loses_its_connections() -> Verdict {
    concert::adjusted().links(Links::Clients).scenario(async |stage| {
        brokers_are_missed(stage);
        let held = held_seats(stage, 5).await?;
        stage.payments.delay(Duration::from_secs(10)).await?;
        for held in &held {
            stage.concert.pay_for(held).await?;
        }
        eventually(async || match stage.payments.journal().await {
            Ok(journal) if (0..3).all(|number| journal.iter().any(|entry| entry.partition == Some(number))) => Ok(()),
            other => Err(format!("the payment API has not begun in every partition: {other:?}")),
        })
        .await?;
        for broker in 1..=3 {
            stage.kafka().link("payment-api", broker).cut().await?;
        }
        let journal = stage.payments.journal().await?;
        let in_hand = journal.iter().filter(|entry| entry.answers.is_empty()).count();
        assert!(in_hand > 0, "all were answered before the ways were cut: {journal:?}");
        stage.payments.clear_rules().await?;
        for broker in 1..=3 {
            stage.kafka().link("payment-api", broker).heal().await?;
        }
        each_paid_once(stage, &held).await
    })
}

/// Goal: an offset whose commit is lost with its connection is committed all the same, and nobody has to restart.
/// Method: the answer is in the service's hands, held up by the gate, when nothing reaches the coordinator of its group
/// any more. The answer is dealt with, its commit goes nowhere, and then the connection breaks. Settling demands that
/// the group is not behind.
#[test]
fn a_commit_lost_with_its_connection() -> Verdict {
    concert::adjusted().resending_soon().links(Links::Clients).scenario(async |stage| {
        let held = held_seats(stage, 1).await?;
        let gate = Gate::at(CHANGE_OF_STATUS, stage.database().await?).await?;
        stage.concert.pay_for(&held[0]).await?;
        gate.held_up().await?;
        the_answer_has_come(stage).await?;
        let coordinator = stage.kafka().leader_of("__consumer_offsets", 0).await?;
        stage.kafka().link("concert", coordinator).requests().blackhole().await?;
        gate.open().await?;
        // When the token is used up the answer is dealt with, and only its commit is left.
        token_is_gone(stage, &held[0]).await?;
        outbox_is(stage, &["SUCCESS"]).await?;
        stage.kafka().link("concert", coordinator).cut().await?;
        stage.kafka().link("concert", coordinator).heal().await?;
        each_paid_once(stage, &held).await
    })
}

/// Waits until the service has the answer of a payment that the relay still holds.
async fn the_answer_has_come(stage: &Stage<'_, Concert>) -> Verdict {
    let database = stage.database().await?;
    eventually(async || match waiting_for_a_lock(&database).await {
        // One is the relay at the gate.
        Ok(0 | 1) => Err("the answer does not wait for the row of its payment".to_owned()),
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    })
    .await?;
    Ok(())
}
