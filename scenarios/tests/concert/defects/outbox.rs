//! Who writes an outbox row, and who sends it (defects 2 and 10).

use fixtures::Adjustments;
use fixtures::concert::{self, Concert, Defect, PRICE};
use fixtures::payment::{Action, Match};
use greenroom::scenario::{Verdict, eventually};

use super::{catches, event, law};
use crate::answers::{approve, decline};
use crate::books;
use crate::gate::{CHANGE_OF_STATUS, Gate};
use crate::ledger::{ON_ITS_WAY, met, outbox, waiting_for_a_lock};

/// How a payment ends.
#[derive(Clone, Copy)]
enum End {
    Approved,
    Declined,
}

/// The relay is held up between the acknowledgement and its mark, and the answer comes meanwhile.
fn an_early_answer(adjustments: Adjustments<Concert>, end: End) -> Verdict {
    let (state, document) = match end {
        End::Approved => ("SUCCESS", "an_early_answer"),
        End::Declined => ("FAIL", "an_early_refusal"),
    };
    adjustments.scenario(async |stage| {
        let show = stage.concert.put_on_show(1, PRICE).await?;
        let buyer = stage.concert.buyer(1, PRICE).await?;
        let held = stage.concert.hold(&buyer, &show, 1).await?;
        stage.payments.add_rule(Match::any().then(Action::NoAnswer)).await?;
        let database = stage.database().await?;
        let gate = Gate::at(CHANGE_OF_STATUS, database.clone()).await?;
        stage.concert.pay_for(&held).await?;
        gate.held_up().await?;

        match end {
            End::Approved => approve(stage, &held).await?,
            End::Declined => decline(stage, &held).await?,
        }
        // The relay waits at the gate, and the answer for the relay, unless it has overtaken it.
        met(stage, ON_ITS_WAY, async || match (waiting_for_a_lock(&database).await, outbox(stage).await) {
            (Ok(2..), Ok(_)) => Ok(()),
            (Ok(_), Ok(rows)) if rows == [state] => Ok(()),
            other => Err(format!("the answer has not come: {other:?}")),
        })
        .await?;
        gate.open().await?;
        books::no_forbidden_transition(stage).await?;
        stage.settle().await?;
        assert_eq!(outbox(stage).await?, [state]);
        books::balance(stage, &[(buyer.id, PRICE)]).await?;
        insta::assert_snapshot!(document, stage.document().await?);
        Ok(())
    })
}

/// Goal: an approval that overtakes the PUBLISHED mark is not overwritten by it. Method: [`an_early_answer`].
#[test]
fn a_late_mark_overwrites_no_success() -> Verdict {
    an_early_answer(concert::adjusted(), End::Approved)
}

/// Goal: the same of a refusal. Method: [`an_early_answer`].
#[test]
fn a_late_mark_overwrites_no_fail() -> Verdict {
    an_early_answer(concert::adjusted(), End::Declined)
}

/// Goal: the stories above find a mark that overwrites, and name both writers.
#[test]
fn a_late_mark_that_overwrites_is_caught() -> Verdict {
    let success = ["outbox row 1 went from SUCCESS, written by concert-service/", "to PUBLISHED, written by concert"];
    catches(Defect::LatePublished, |adjustments| an_early_answer(adjustments, End::Approved), &success)?;
    let fail = ["outbox row 1 went from FAIL, written by concert-service/", "to PUBLISHED, written by concert"];
    catches(Defect::LatePublished, |adjustments| an_early_answer(adjustments, End::Declined), &fail)
}

/// One of two instances is held up with a row that it has sent and not marked; the other has a row of its own to send.
fn two_relays(adjustments: Adjustments<Concert>) -> Verdict {
    // One row at a time, in order: when the second row is marked, the other instance is done with the first.
    adjustments.instances(2).variable("OUTBOX_BATCH_SIZE", 1).scenario(async |stage| {
        let (one, other) = (stage.instance(1)?, stage.instance(2)?);
        let show = one.put_on_show(2, PRICE).await?;
        let (first, second) = (one.buyer(1, PRICE).await?, other.buyer(2, PRICE).await?);
        let (held, later) = (one.hold(&first, &show, 1).await?, other.hold(&second, &show, 2).await?);
        stage.payments.add_rule(Match::reservation(held.reservation.id).attempt(1).then(Action::NoAnswer)).await?;
        let gate = Gate::at(CHANGE_OF_STATUS, stage.database().await?).await?;
        one.pay_for(&held).await?;
        gate.held_up().await?;
        other.pay_for(&later).await?;
        eventually(async || match outbox(stage).await {
            Ok(rows) if rows.get(1).is_some_and(|row| row != "INIT") => Ok(()),
            other => Err(format!("the second row is not sent: {other:?}")),
        })
        .await?;
        gate.open().await?;
        approve(stage, &held).await?;
        stage.settle().await?;

        let sent: Vec<_> = stage.records("payment").await?.iter().filter_map(event).collect();
        let times = |id: i64| sent.iter().filter(|event| **event == id).count();
        law((times(1), times(2)) == (1, 1), || format!("events were sent more than once: {sent:?}"))?;
        books::balance(stage, &[(first.id, PRICE), (second.id, PRICE)]).await?;
        insta::assert_snapshot!(stage.document().await?);
        Ok(())
    })
}

/// Goal: a row that one instance has in hand is left alone by the other. Method: [`two_relays`].
#[test]
fn a_row_is_sent_by_one_instance() -> Verdict {
    two_relays(concert::adjusted())
}

/// Goal: the story above finds instances that both send the same row.
#[test]
fn a_row_sent_by_every_instance_is_caught() -> Verdict {
    catches(Defect::EveryInstanceSends, two_relays, &["events were sent more than once: [1, 1"])
}
