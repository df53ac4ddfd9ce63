//! Answers that come twice, in another order, after the final state, or to nobody.

use fixtures::concert::{self, PRICE};
use fixtures::payment::{Action, Match};
use greenroom::drive::NewRecord;
use greenroom::scenario::Verdict;

use super::{PUT_ASIDE, an_approval_and_a_refusal, approve, decline};
use crate::books;
use crate::ledger::{holders, outbox, outbox_is, paid};
use crate::sales::POINTS;

/// Goal: an answer that the payment API gives twice is applied once, the approval as well as the refusal.
#[test]
fn answered_twice() -> Verdict {
    concert::scenario(async |stage| {
        let show = stage.concert.put_on_show(2, PRICE).await?;
        let (happy, poor) = (stage.concert.buyer(1, 100_000).await?, stage.concert.buyer(2, 100_000).await?);
        let approved = stage.concert.hold(&happy, &show, 1).await?;
        let declined = stage.concert.hold(&poor, &show, 2).await?;
        let refusal = Action::decline("card expired").twice();
        stage.payments.add_rule(Match::reservation(declined.reservation.id).then(refusal)).await?;
        stage.payments.answer_twice().await?;
        stage.concert.pay_for(&approved).await?;
        stage.concert.pay_for(&declined).await?;
        stage.settle().await?;

        assert_eq!(stage.records("payment.success").await?.len(), 2);
        assert_eq!(stage.records("payment.fail").await?.len(), 2);
        assert_eq!(paid(stage, approved.reservation.id).await?, ["10000"]);
        books::balance(stage, &[(happy.id, 100_000), (poor.id, 100_000)]).await?;
        insta::assert_snapshot!(stage.document().await?);
        Ok(())
    })
}

/// Goal: answers that come in another order than their payments settle each its own.
/// Method: the payment API is silent, and the story answers in its place, the last payment first.
#[test]
fn the_last_payment_is_answered_first() -> Verdict {
    concert::scenario(async |stage| {
        let show = stage.concert.put_on_show(3, PRICE).await?;
        stage.payments.silence().await?;
        let (mut held, mut given) = (Vec::new(), Vec::new());
        for number in 1..=3 {
            let buyer = stage.concert.buyer(number.into(), 100_000).await?;
            held.push(stage.concert.hold(&buyer, &show, number).await?);
            stage.concert.pay_for(&held[held.len() - 1]).await?;
            given.push((buyer.id, 100_000));
        }
        outbox_is(stage, &["PUBLISHED"; 3]).await?;

        approve(stage, &held[2]).await?;
        outbox_is(stage, &["PUBLISHED", "PUBLISHED", "SUCCESS"]).await?;
        decline(stage, &held[1]).await?;
        outbox_is(stage, &["PUBLISHED", "FAIL", "SUCCESS"]).await?;
        approve(stage, &held[0]).await?;
        stage.settle().await?;
        assert_eq!(outbox(stage).await?, ["SUCCESS", "FAIL", "SUCCESS"]);
        books::balance(stage, &given).await?;
        insta::assert_snapshot!(stage.document().await?);
        Ok(())
    })
}

/// Goal: what comes after the final state changes nothing: a repetition is passed over, a contradiction put aside.
/// Method: a payment is declined, and the next buyer pays for the same seat. Then the first one's refusal comes once
/// more, and an approval after it; and the next one's refusal. None of them may free the seat, or sell it again. Where
/// a contradiction is put aside is our service's own affair, so just the snapshot tells.
#[test]
fn after_the_final_state() -> Verdict {
    concert::scenario(async |stage| {
        let show = stage.concert.put_on_show(1, PRICE).await?;
        let (poor, rich) = (stage.concert.buyer(1, 100_000).await?, stage.concert.buyer(2, 100_000).await?);
        let lost = stage.concert.hold(&poor, &show, 1).await?;
        stage.payments.decline(lost.reservation.id, "card expired").await?;
        stage.concert.pay_for(&lost).await?;
        stage.settle().await?;
        let won = stage.concert.hold(&rich, &show, 1).await?;
        stage.concert.pay_for(&won).await?;
        stage.settle().await?;

        stage.environment().expect_complaint("concert", PUT_ASIDE);
        decline(stage, &lost).await?;
        approve(stage, &lost).await?;
        decline(stage, &won).await?;
        stage.settle().await?;
        assert_eq!(outbox(stage).await?, ["FAIL", "SUCCESS"]);
        assert_eq!(holders(stage, show.seats[0].id).await?, [rich.id]);
        books::balance(stage, &[(poor.id, 100_000), (rich.id, 100_000)]).await?;
        insta::assert_snapshot!(stage.document().await?);
        Ok(())
    })
}

/// Goal: an answer to a payment that nobody asked for is put aside, and those behind it are dealt with.
/// Method: every partition of both topics begins with one; then a payment is approved and one declined.
#[test]
fn answers_to_nobody() -> Verdict {
    concert::scenario(async |stage| {
        stage.environment().expect_complaint("concert", PUT_ASIDE);
        let producer = stage.producer()?;
        for partition in 0..3 {
            for (topic, is_success) in [("payment.success", true), ("payment.fail", false)] {
                // A reservation of its own, because dead letters of one key would be in order and partitions are not.
                let (event, key) = (4711 + partition, format!("payment_reservation_{}", 4711 + partition));
                let value = serde_json::json!({"eventId": event, "isSuccess": is_success, "message": "to nobody"});
                let record = NewRecord::to(topic).partition(partition).key(key);
                producer.send(record.value(value.to_string())).await?;
            }
        }
        let [approved, declined] = an_approval_and_a_refusal(stage).await?;

        for topic in ["payment.success.dlq", "payment.fail.dlq"] {
            let letters = stage.records(topic).await?;
            assert_eq!(letters.len(), 3, "{topic}");
            assert!(letters.iter().all(|letter| !letter.headers.is_empty()), "{topic} names no cause: {letters:?}");
        }
        books::balance(stage, &[(approved.buyer.id, POINTS), (declined.buyer.id, POINTS)]).await?;
        insta::assert_snapshot!(stage.document().await?);
        Ok(())
    })
}
