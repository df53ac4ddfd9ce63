//! The service dies in each window between two steps that belong together, and its successor makes good what it left:
//! money is taken once, a seat is sold once, nothing is lost.
//!
//! It is a static member of its group (KIP-345) and has its partitions back at once. A dead member without a name keeps
//! them until its session has timed out, after six seconds: so it is in [`after_the_charge`], where its record comes
//! again, in [`another_instance_takes_over`], and [by hand](crate::by_hand).

use std::process::Command;

use fixtures::concert::{self, Concert, Failpoint, Held, PRICE};
use fixtures::payment::{Action, Match};
use fixtures::{CallError, Refusal, Stage};
use greenroom::binaries;
use greenroom::scenario::{Failure, Verdict, eventually};

use crate::books;
use crate::gate::{CHANGE_OF_STATUS, Gate};
use crate::judged::is_about_others;
use crate::ledger::{both_balances, holders, outbox, paid};
use crate::sales::{a_held_seat, held_seats};

/// Waits until the service has died at its failpoint.
async fn dead(stage: &mut Stage<'_, Concert>) -> Verdict {
    let how = stage.part("concert").ended().await?;
    if how.contains("SIGKILL") { Ok(()) } else { Err(Failure::new(format!("it did not die, it ended: {how}"))) }
}

/// The successor starts, and comes to rest.
async fn restarted(stage: &mut Stage<'_, Concert>) -> Verdict {
    stage.part("concert").restart().await?;
    Ok(stage.settle().await?)
}

/// The law where the payment was approved: paid once, for one seat, of both tables of points, with one token.
async fn bought_once(stage: &Stage<'_, Concert>, held: &Held) -> Verdict {
    assert_eq!(both_balances(stage, held.buyer.id).await?, ("90000".to_owned(), "90000".to_owned()));
    assert_eq!(paid(stage, held.reservation.id).await?, ["10000"]);
    assert_eq!(holders(stage, held.reservation.seat_id).await?, [held.buyer.id]);
    let token = stage.concert.check_queue(&held.buyer.token).await.refused()?;
    assert_eq!(token.code(), (404, "WAITING_QUEUE_004"), "the token was not used up");
    books::balance(stage, &[(held.buyer.id, 100_000)]).await
}

/// The law where it was declined: points, seat and reservation are given back, once.
async fn all_given_back(stage: &Stage<'_, Concert>, held: &Held) -> Verdict {
    assert_eq!(both_balances(stage, held.buyer.id).await?, ("100000".to_owned(), "100000".to_owned()));
    assert_eq!(holders(stage, held.reservation.seat_id).await?, []);
    books::balance(stage, &[(held.buyer.id, 100_000)]).await
}

/// Goal: a failpoint that does not exist is no failpoint that is never reached.
#[test]
fn an_unknown_failpoint_is_told() -> Verdict {
    if is_about_others()? {
        return Ok(());
    }
    binaries::build_variant("concert-service/failpoints", "concert-service-failpoints", false)?;
    let mut service = Command::new(binaries::built()?.join("concert-service-failpoints"));
    let ended = service.env("FAILPOINTS", "after-commit=return;after-sent=return").output()?;
    let said = String::from_utf8_lossy(&[ended.stdout, ended.stderr].concat()).into_owned();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("after-sent=return") && said.contains("after-commit, before-row, after-send"), "{said}");
    Ok(())
}

/// Goal: the program that everybody runs has no failpoints, and no defects to plant: it has no word of their variables.
#[test]
fn our_own_program_has_no_weak_points() -> Verdict {
    if is_about_others()? {
        return Ok(());
    }
    binaries::build_variant("concert-service/failpoints", "concert-service-failpoints", false)?;
    binaries::build_variant("concert-service/broken", "concert-service-broken", false)?;
    let built = binaries::built()?;
    let knows = |program: &str, variable: &str| {
        Command::new("grep").args(["--quiet", "--text", variable]).arg(built.join(program)).status().map(|it| it.code())
    };
    for (variant, variable) in
        [("concert-service-failpoints", "FAILPOINTS"), ("concert-service-broken", "PLANTED_DEFECT")]
    {
        assert_eq!(knows(variant, variable)?, Some(0), "{variant} does not read {variable}");
        assert_eq!(knows("concert-service", variable)?, Some(1), "concert-service reads {variable}");
    }
    Ok(())
}

/// Goal: a payment that was committed is sent, though nobody was told to; and who got no answer does not pay twice.
/// Method: the service dies after the commit, before it answers the buyer and wakes the relay; nothing was sent then.
/// The buyer asks again.
#[test]
fn after_the_commit() -> Verdict {
    concert::adjusted().crash_at(Failpoint::AfterCommit).scenario(async |stage| {
        let held = a_held_seat(stage).await?;
        let asked = stage.concert.pay_for(&held).await;
        assert!(matches!(asked, Err(CallError::Unanswered(_))), "{asked:?}");
        dead(stage).await?;
        assert_eq!(outbox(stage).await?, ["INIT"]);
        assert_eq!(stage.records("payment").await?, []);

        restarted(stage).await?;
        let token = stage.concert.issue_token().await?;
        let again = stage.concert.pay(&token, held.buyer.id, held.reservation.seat_id).await.refused()?;
        assert_eq!(again.code(), (400, "CONCERT_007"));
        bought_once(stage, &held).await?;
        insta::assert_snapshot!(stage.document().await?);
        Ok(())
    })
}

/// Goal: a payment that was sent, and of which nobody knows that it was, is sent again and made once.
/// Method: the service dies between Kafka's acknowledgement and the mark. The payment API is silent at first, so that
/// what settles the payment is the second record.
#[test]
fn after_the_acknowledgement() -> Verdict {
    concert::adjusted().crash_at(Failpoint::AfterSend).scenario(async |stage| {
        let held = a_held_seat(stage).await?;
        stage.payments.add_rule(Match::any().attempt(1).then(Action::NoAnswer)).await?;
        stage.concert.pay_for(&held).await?;
        dead(stage).await?;
        assert_eq!(outbox(stage).await?, ["INIT"]);
        assert_eq!(stage.records("payment").await?.len(), 1);

        restarted(stage).await?;
        assert_eq!(stage.records("payment").await?.len(), 2);
        bought_once(stage, &held).await?;
        insta::assert_snapshot!(stage.document().await?);
        Ok(())
    })
}

/// Goal: an answer that came while the service was dead settles the payment, whether or not it was sent a second time.
/// Method: as before, but the payment API answers at once. The successor's relay and the answer race for the row, so
/// there is no snapshot: either of them may come first.
#[test]
fn an_answer_to_a_dead_service() -> Verdict {
    concert::adjusted().crash_at(Failpoint::AfterSend).scenario(async |stage| {
        let held = a_held_seat(stage).await?;
        stage.concert.pay_for(&held).await?;
        dead(stage).await?;
        eventually(async || match stage.records("payment.success").await {
            Ok(answers) if answers.len() == 1 => Ok(()),
            other => Err(format!("the payment API has not answered: {other:?}")),
        })
        .await?;
        assert_eq!(outbox(stage).await?, ["INIT"]);

        restarted(stage).await?;
        bought_once(stage, &held).await
    })
}

/// Goal: of two payments that wait for the relay, each is sent and made once when the relay dies between them.
/// Method: the relay, which takes one row at a time, is held up before it marks the first, until the second is
/// committed; it dies with the second in its hands.
#[test]
fn between_two_rows() -> Verdict {
    let one_by_one = concert::adjusted().variable("OUTBOX_BATCH_SIZE", 1);
    one_by_one.crash_at(Failpoint::BetweenRows).scenario(async |stage| {
        let held = held_seats(stage, 2).await?;
        let gate = Gate::at(CHANGE_OF_STATUS, stage.database().await?).await?;
        stage.concert.pay_for(&held[0]).await?;
        gate.held_up().await?;
        stage.concert.pay_for(&held[1]).await?;
        gate.open().await?;
        dead(stage).await?;
        let rows = outbox(stage).await?;
        assert!(["PUBLISHED", "SUCCESS"].contains(&rows[0].as_str()) && rows[1] == "INIT", "{rows:?}");
        assert_eq!(stage.records("payment").await?.len(), 1);

        restarted(stage).await?;
        for held in &held {
            assert_eq!(paid(stage, held.reservation.id).await?, ["10000"]);
            assert_eq!(stage.payments.journal_of(held.reservation.id).await?.len(), 1, "sent more than once");
        }
        books::balance(stage, &[(held[0].buyer.id, 100_000), (held[1].buyer.id, 100_000)]).await?;
        insta::assert_snapshot!(stage.document().await?);
        Ok(())
    })
}

/// Goal: an answer that was applied and comes again changes nothing, and what it did not get to is done.
/// Method: the service dies after it has settled the payment, before the token is used up and the offset committed.
#[test]
fn after_the_charge() -> Verdict {
    let nameless = concert::adjusted().crash_at(Failpoint::AfterCharge).variable("KAFKA_GROUP_INSTANCE_ID", "");
    nameless.scenario(async |stage| {
        let held = a_held_seat(stage).await?;
        stage.concert.pay_for(&held).await?;
        dead(stage).await?;
        assert_eq!(outbox(stage).await?, ["SUCCESS"]);
        assert_eq!(paid(stage, held.reservation.id).await?, ["10000"]);

        restarted(stage).await?;
        bought_once(stage, &held).await?;
        insta::assert_snapshot!(stage.document().await?);
        Ok(())
    })
}

/// Goal: a refund that was made is not made again when its answer is.
/// Method: as before, with a payment that is declined.
#[test]
fn after_the_refund() -> Verdict {
    concert::adjusted().crash_at(Failpoint::AfterCharge).scenario(async |stage| {
        let held = a_held_seat(stage).await?;
        stage.payments.decline(held.reservation.id, "card expired").await?;
        stage.concert.pay_for(&held).await?;
        dead(stage).await?;
        assert_eq!(outbox(stage).await?, ["FAIL"]);

        restarted(stage).await?;
        all_given_back(stage, &held).await?;
        insta::assert_snapshot!(stage.document().await?);
        Ok(())
    })
}

/// Goal: a compensation happens as a whole and once.
/// Method: the service dies when it has given back the seat and not the points. Nothing of it is seen then.
#[test]
fn in_the_middle_of_compensation() -> Verdict {
    concert::adjusted().crash_at(Failpoint::DuringCompensation).scenario(async |stage| {
        let held = a_held_seat(stage).await?;
        stage.payments.decline(held.reservation.id, "card expired").await?;
        stage.concert.pay_for(&held).await?;
        dead(stage).await?;
        assert_eq!(outbox(stage).await?, ["PUBLISHED"]);
        assert_eq!(holders(stage, held.reservation.seat_id).await?, [held.buyer.id]);
        assert_eq!(both_balances(stage, held.buyer.id).await?, ("90000".to_owned(), "90000".to_owned()));

        restarted(stage).await?;
        all_given_back(stage, &held).await?;
        insta::assert_snapshot!(stage.document().await?);
        Ok(())
    })
}

/// Goal: a row whose instance dies is taken over by the other one, though nobody restarts the first.
/// Method: the first instance is killed while it is held up between Kafka's acknowledgement and its mark; then the
/// second one has a row of its own to send. The payment API is silent at first, so that what settles the first payment
/// is the record of the second instance.
#[test]
fn another_instance_takes_over() -> Verdict {
    concert::adjusted().resending_soon().instances(2).scenario(async |stage| {
        let (one, other) = (stage.instance(1)?, stage.instance(2)?);
        let show = one.put_on_show(2, PRICE).await?;
        let (first, second) = (one.buyer(1, 100_000).await?, one.buyer(2, 100_000).await?);
        let (held, later) = (one.hold(&first, &show, 1).await?, one.hold(&second, &show, 2).await?);
        stage.payments.add_rule(Match::reservation(held.reservation.id).attempt(1).then(Action::NoAnswer)).await?;
        let gate = Gate::at(CHANGE_OF_STATUS, stage.database().await?).await?;
        one.pay_for(&held).await?;
        gate.held_up().await?;
        stage.part("concert").kill().await?;
        gate.open().await?;
        other.pay_for(&later).await?;
        stage.settle().await?;

        assert_eq!(stage.records("payment").await?.len(), 3);
        books::balance(stage, &[(first.id, 100_000), (second.id, 100_000)]).await?;
        insta::assert_snapshot!(stage.document().await?);
        Ok(())
    })
}
