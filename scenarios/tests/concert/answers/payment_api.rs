//! A payment API that is slow, away, or broken on its other side.

use std::time::Duration;

use fixtures::concert::{self, PRICE, UserId};
use fixtures::payment::{Action, Match};
use greenroom::scenario::{Verdict, eventually};
use serde_json::json;

use crate::books;
use crate::ledger::{both_balances, outbox, outbox_is, paid};
use crate::sales::{POINTS, a_held_seat};

/// Goal: a payment whose answer takes its time waits for it, with its points taken and its seat sold.
/// Method: that it has waited is seen in the times of the journal and in the history of the row. A machine that stands
/// still may miss the moment in which it waits.
#[test]
fn a_slow_answer_is_waited_for() -> Verdict {
    concert::scenario(async |stage| {
        let held = a_held_seat(stage).await?;
        stage.payments.delay(Duration::from_secs(5)).await?;
        stage.concert.pay_for(&held).await?;
        eventually(async || match outbox(stage).await {
            Ok(rows) if rows == ["PUBLISHED"] || rows == ["SUCCESS"] => Ok(()),
            other => Err(format!("the payment is not asked for: {other:?}")),
        })
        .await?;
        assert_eq!(both_balances(stage, held.buyer.id).await?, ("90000".to_owned(), "90000".to_owned()));

        stage.settle().await?;
        let call = stage.payments.journal_of(held.reservation.id).await?.remove(0);
        let took_ms = (call.answers[0].at - call.at).num_milliseconds();
        // Clocks are set by a little now and then.
        assert!(took_ms > 4_900, "the answer took {took_ms} ms: nobody had to wait");
        assert_eq!(paid(stage, held.reservation.id).await?, ["10000"]);
        books::balance(stage, &[(held.buyer.id, POINTS)]).await?;
        insta::assert_snapshot!(stage.document().await?);
        Ok(())
    })
}

/// Goal: a service that asks again while the payment API still thinks pays once.
/// Method: the answer takes many times as long as the service's patience. There is no snapshot: how often it asks is a
/// matter of timing.
#[test]
fn asked_again_while_it_thinks() -> Verdict {
    concert::adjusted().impatient().scenario(async |stage| {
        let held = a_held_seat(stage).await?;
        stage.payments.delay(Duration::from_secs(5)).await?;
        stage.concert.pay_for(&held).await?;
        stage.settle().await?;

        let calls = stage.payments.journal_of(held.reservation.id).await?;
        let decisions = calls.iter().filter(|call| !call.duplicate).count();
        assert!(calls.len() > 1 && decisions == 1, "{decisions} decisions: {calls:?}");
        assert_eq!(paid(stage, held.reservation.id).await?, ["10000"]);
        books::balance(stage, &[(held.buyer.id, POINTS)]).await
    })
}

/// Goal: a payment that is asked for while the payment API is away is made when it is back, without another record.
/// It has a name in its group, so that nobody waits for the session of its dead member.
#[test]
fn a_payment_api_that_was_away() -> Verdict {
    concert::scenario(async |stage| {
        let held = a_held_seat(stage).await?;
        stage.part("payment-api").kill().await?;
        stage.concert.pay_for(&held).await?;
        outbox_is(stage, &["PUBLISHED"]).await?;
        stage.part("payment-api").restart().await?;
        stage.settle().await?;

        assert_eq!(stage.records("payment").await?.len(), 1);
        books::balance(stage, &[(held.buyer.id, POINTS)]).await?;
        insta::assert_snapshot!(stage.document().await?);
        Ok(())
    })
}

/// Goal: a payment API that fails over HTTP fails nobody who pays through Kafka.
/// Method: it answers calls with an error, and then closes their connections, while a buyer pays each time. The calls
/// are the story's, because the service makes none: it is shown that the two sides of the payment API do not touch.
#[test]
fn broken_over_http() -> Verdict {
    concert::scenario(async |stage| {
        let show = stage.concert.put_on_show(2, PRICE).await?;
        let (first, second) = (stage.concert.buyer(1, 100_000).await?, stage.concert.buyer(2, 100_000).await?);
        let held = stage.concert.hold(&first, &show, 1).await?;
        stage.payments.fail_with(503).await?;
        let (status, _) = stage.payments.pay(&json!({"reservationId": held.reservation.id})).await?;
        assert_eq!(status, 503);
        stage.concert.pay_for(&held).await?;
        stage.settle().await?;

        let held = stage.concert.hold(&second, &show, 2).await?;
        stage.payments.clear_rules().await?;
        stage.payments.close_connection().await?;
        stage.payments.pay(&json!({"reservationId": held.reservation.id})).await.expect_err("it closes the connection");
        stage.concert.pay_for(&held).await?;
        stage.settle().await?;
        books::balance(stage, &[(first.id, 100_000), (second.id, 100_000)]).await?;
        insta::assert_snapshot!(stage.document().await?);
        Ok(())
    })
}

/// Goal: over HTTP a payment is approved or declined by what its body says, and what is no payment is refused; the
/// journal has all of it.
/// Method: the calls are the story's, in the place of any service that calls it (contract 1.9).
#[test]
fn decided_over_http() -> Verdict {
    concert::scenario(async |stage| {
        let blocked = Match::user(UserId(7)).then(Action::decline("card blocked")).named("blocked");
        let too_dear = Match::price(20_000).then(Action::decline("too dear")).named("too dear");
        stage.payments.set_rules(&[blocked, too_dear]).await?;
        let payment = |user: i64, price: &str| json!({"userId": user, "price": price, "reservationId": user});
        let declined = |message: &str| json!({"message": message, "error": "Payment declined"});
        let no_object = "the body is JSON, but not an object";
        for (number, (body, status, answer, rule)) in [
            (payment(1, "10000"), 200, json!({"isSuccess": true, "message": "Payment approved"}), None),
            (payment(7, "10000"), 500, declined("card blocked"), Some("blocked")),
            (payment(2, "20000.00"), 500, declined("too dear"), Some("too dear")),
            (json!([1]), 400, json!({"message": "Invalid request data.", "error": no_object}), None),
        ]
        .into_iter()
        .enumerate()
        {
            let (found, text) = stage.payments.pay(&body).await?;
            assert_eq!((found, serde_json::from_str(&text).ok()), (status, Some(answer.clone())), "{body}");
            let journal = stage.payments.journal().await?;
            let entry = &journal[number];
            assert_eq!((journal.len(), &entry.value, entry.path.as_deref()), (number + 1, &body, Some("/api/payment")));
            let decided_by = entry.rule.as_ref().and_then(|rule| rule.name.as_deref());
            let malformed = entry.malformed.as_deref();
            assert_eq!((decided_by, malformed), (rule, (status == 400).then_some(no_object)));
            let answers: Vec<_> = entry.answers.iter().map(|answer| (answer.status, &answer.value)).collect();
            assert_eq!((answers, entry.finished), (vec![(Some(status), &answer)], true));
        }
        Ok(())
    })
}
