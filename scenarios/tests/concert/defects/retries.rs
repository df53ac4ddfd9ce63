//! A payment that nobody answers is asked for again, not for ever, and without its secret (defects 9 and 10).

use std::time::Duration;

use fixtures::concert::{self, Buyer, Concert, Defect, PRICE};
use fixtures::payment::{Action, Match};
use fixtures::{Adjustments, Stage};
use greenroom::environment::SETTLE_DEADLINE;
use greenroom::scenario::{Failure, Verdict, eventually};

use super::{catches, event, law};
use crate::answers::approve;
use crate::books;
use crate::gate::{COUNT_OF_ATTEMPTS, Gate};
use crate::ledger::{outbox, outbox_is};
use crate::sales::{POINTS, a_held_seat, held_seats};

/// How long is waited for a payment that is asked for again after 300 ms, where it never is.
const STUCK_AFTER: Duration = Duration::from_secs(10);

/// Nobody answers a payment when it is asked for the first time; then the JWT is looked for everywhere.
fn asked_for_again(adjustments: Adjustments<Concert>, deadline: Duration) -> Verdict {
    adjustments.impatient().scenario(async |stage| {
        let show = stage.concert.put_on_show(1, PRICE).await?;
        let buyer = stage.concert.buyer(1, PRICE).await?;
        let held = stage.concert.hold(&buyer, &show, 1).await?;
        stage.payments.add_rule(Match::any().attempt(1).then(Action::NoAnswer)).await?;
        stage.concert.pay_for(&held).await?;
        if let Err(stuck) = stage.environment().settle(deadline).await {
            let (states, records) = (outbox(stage).await?, stage.records("payment").await?.len());
            let stuck = greenroom::report::chain(&stuck);
            let told = format!("the payment is {states:?} and was asked for {records} times: {stuck}");
            return Err(Failure::new(told));
        }

        assert!(stage.records("payment").await?.len() > 1, "it was not asked for again");
        keeps_no_jwt(stage, &buyer).await?;
        books::balance(stage, &[(buyer.id, PRICE)]).await
    })
}

/// The JWT of a buyer who has paid is kept and published nowhere. Where somebody else's service keeps tokens in Redis,
/// and for how long, is its own affair.
async fn keeps_no_jwt(stage: &Stage<'_, Concert>, buyer: &Buyer) -> Verdict {
    let seen = Box::pin(stage.observe()).await?;
    let mut places = Vec::new();
    if !stage.is_of_somebody_else() {
        places.push(("Redis".to_owned(), format!("{:?}", seen.keys)));
    }
    places.extend(seen.tables.iter().map(|table| (format!("table {}", table.name), format!("{:?}", table.rows))));
    places.extend(seen.topics.iter().map(|topic| (format!("topic {}", topic.name), format!("{:?}", topic.records))));
    places.retain(|(_, content)| content.contains(buyer.token.jwt()));
    let places: Vec<_> = places.into_iter().map(|(place, _)| place).collect();
    law(places.is_empty(), || format!("the JWT is in {}", places.join(", ")))
}

/// A payment that is answered at once. It asks for no duration, so that anybody's service can be asked for its secret.
fn paid_at_once(adjustments: Adjustments<Concert>) -> Verdict {
    adjustments.scenario(async |stage| {
        let held = a_held_seat(stage).await?;
        stage.concert.pay_for(&held).await?;
        stage.settle().await?;
        keeps_no_jwt(stage, &held.buyer).await?;
        books::balance(stage, &[(held.buyer.id, POINTS)]).await
    })
}

/// Goal: a payment leaves no JWT behind. Method: [`paid_at_once`].
#[test]
fn a_payment_keeps_no_jwt() -> Verdict {
    paid_at_once(concert::adjusted())
}

/// Goal: the story above finds the JWT in the outbox.
#[test]
fn a_jwt_that_is_kept_is_caught() -> Verdict {
    catches(Defect::JwtInOutbox, paid_at_once, &["the JWT is in table payment_outbox"])
}

/// Goal: a payment that was published and not answered is recovered; its JWT is kept and published nowhere.
/// Method: [`asked_for_again`]. There is no snapshot: how often it is asked for is a matter of timing.
#[test]
fn an_unanswered_payment_is_asked_for_again() -> Verdict {
    asked_for_again(concert::adjusted(), SETTLE_DEADLINE)
}

/// Goal: that story finds a row that is stuck in PUBLISHED.
#[test]
fn a_row_stuck_in_published_is_caught() -> Verdict {
    let stuck = ["the payment is [\"PUBLISHED\"] and was asked for 1 times", "not at rest after 10s"];
    catches(Defect::PublishedNeverRecovered, |adjustments| asked_for_again(adjustments, STUCK_AFTER), &stuck)
}

/// Goal: that story finds the JWT in the outbox and in what is published.
#[test]
fn a_jwt_in_the_outbox_is_caught() -> Verdict {
    let places = "the JWT is in table payment_outbox, topic payment, topic payment.success";
    catches(Defect::JwtInOutbox, |adjustments| asked_for_again(adjustments, SETTLE_DEADLINE), &[places])
}

/// One of two instances is held up when it has sent a row again and not counted that; the other stood still until then,
/// and has a row of its own to send. One row at a time, in order: when that is marked, the other instance is done with
/// the first.
fn sent_again(adjustments: Adjustments<Concert>) -> Verdict {
    adjustments.impatient().instances(2).variable("OUTBOX_BATCH_SIZE", 1).scenario(async |stage| {
        let held = held_seats(stage, 2).await?;
        stage.payments.add_rule(Match::reservation(held[0].reservation.id).then(Action::NoAnswer)).await?;
        stage.part("concert-2").pause().await?;
        stage.concert.pay_for(&held[0]).await?;
        outbox_is(stage, &["PUBLISHED"]).await?;
        let gate = Gate::at(COUNT_OF_ATTEMPTS, stage.database().await?).await?;
        gate.held_up().await?;
        let before = times_sent(stage).await?;
        assert!(before > 1, "it was sent {before} times, and not again");

        stage.part("concert-2").resume().await?;
        stage.concert.pay_for(&held[1]).await?;
        eventually(async || match outbox(stage).await {
            Ok(rows) if rows.get(1).is_some_and(|row| row != "INIT") => Ok(()),
            other => Err(format!("the second row is not sent: {other:?}")),
        })
        .await?;
        let after = times_sent(stage).await?;
        law(after == before, || {
            format!("the row was sent {before} times, and {after} times while another instance had it in hand")
        })?;
        gate.open().await?;
        approve(stage, &held[0]).await?;
        stage.settle().await?;
        books::balance(stage, &[(held[0].buyer.id, POINTS), (held[1].buyer.id, POINTS)]).await
    })
}

/// How often the first payment was asked for.
async fn times_sent(stage: &Stage<'_, Concert>) -> Result<usize, Failure> {
    Ok(stage.records("payment").await?.iter().filter(|record| event(record) == Some(1)).count())
}

/// Goal: a row that one instance sends again is left alone by the other. Method: [`sent_again`].
#[test]
fn a_row_is_sent_again_by_one_instance() -> Verdict {
    sent_again(concert::adjusted())
}

/// Goal: the story above finds instances that both send a row again.
#[test]
fn a_row_sent_again_by_every_instance_is_caught() -> Verdict {
    catches(Defect::EveryInstanceSends, sent_again, &["while another instance had it in hand"])
}

/// Nobody ever answers a payment. When it was asked for three times, its answer comes after all.
fn never_answered(adjustments: Adjustments<Concert>) -> Verdict {
    adjustments.impatient().variable("OUTBOX_ATTEMPTS_MAX", 3).scenario(async |stage| {
        let show = stage.concert.put_on_show(1, PRICE).await?;
        let buyer = stage.concert.buyer(1, PRICE).await?;
        let held = stage.concert.hold(&buyer, &show, 1).await?;
        stage.payments.add_rule(Match::any().then(Action::NoAnswer)).await?;
        stage.environment().expect_complaint("concert", "payment given up");
        stage.concert.pay_for(&held).await?;

        let database = stage.database().await?;
        let given_up = "SELECT count(*) FROM payment_outbox WHERE given_up_at IS NOT NULL";
        let asked = eventually(async || {
            // First this: what was sent before it was given up is in the topic when that is read.
            let given_up = sqlx::query_scalar::<_, i64>(given_up).fetch_one(&database).await;
            let given_up = given_up.map_err(|error| error.to_string())? > 0;
            let asked = stage.records("payment").await.map_err(|error| error.to_string())?.len();
            let ended = given_up || asked > 3;
            ended.then_some(asked).ok_or_else(|| format!("asked for {asked} times, and not given up"))
        });
        let asked = asked.await?;
        law(asked <= 3, || format!("the payment was asked for {asked} times, more often than the limit of 3"))?;
        law(asked == 3, || {
            format!("the payment was given up after it was asked for {asked} times, and 3 is the limit")
        })?;

        approve(stage, &held).await?;
        stage.settle().await?;
        assert_eq!(outbox(stage).await?, ["SUCCESS"]);
        books::balance(stage, &[(buyer.id, PRICE)]).await?;
        insta::assert_snapshot!(stage.document().await?);
        Ok(())
    })
}

/// Goal: a payment is asked for as often as the limit says, and an answer that comes later still counts.
/// Method: [`never_answered`].
#[test]
fn attempts_have_a_limit() -> Verdict {
    never_answered(concert::adjusted())
}

/// Goal: the limit is that of all instances together. Method: [`never_answered`], with two.
#[test]
fn two_instances_have_one_limit() -> Verdict {
    never_answered(concert::adjusted().instances(2))
}

/// Goal: the story above finds a service that asks for ever.
#[test]
fn attempts_without_a_limit_are_caught() -> Verdict {
    catches(Defect::NoAttemptLimit, never_answered, &["more often than the limit of 3"])
}
