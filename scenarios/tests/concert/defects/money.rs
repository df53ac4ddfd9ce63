//! Points are numbers, and are given and taken once (defects 3, 4 and 5).

use fixtures::concert::{self, Concert, Defect, PRICE};
use fixtures::{Adjustments, Refusal};
use greenroom::drive::NewRecord;
use greenroom::scenario::Verdict;

use super::{catches, has_points, law};
use crate::books;
use crate::ledger::paid;

/// A payment of 10 000 of 100 000 points is declined: a refund of 10 000 to 90 000.
fn a_refund(adjustments: Adjustments<Concert>) -> Verdict {
    adjustments.scenario(async |stage| {
        let show = stage.concert.put_on_show(1, PRICE).await?;
        let buyer = stage.concert.buyer(1, 100_000).await?;
        let held = stage.concert.hold(&buyer, &show, 1).await?;
        stage.payments.decline(held.reservation.id, "card expired").await?;
        stage.concert.pay_for(&held).await?;
        stage.settle().await?;

        has_points(stage, buyer.id, 100_000).await?;
        books::balance(stage, &[(buyer.id, 100_000)]).await?;
        insta::assert_snapshot!(stage.document().await?);
        Ok(())
    })
}

/// Goal: a refund adds numbers, in both tables. Method: [`a_refund`].
#[test]
fn a_refund_adds_numbers() -> Verdict {
    a_refund(concert::adjusted())
}

/// Goal: the story above finds a refund that appends text, in one table.
#[test]
fn a_refund_that_appends_text_is_caught() -> Verdict {
    catches(Defect::RefundAsText, a_refund, &["user 1 has 9000010000 and 90000 points, not 100000"])
}

/// Points and prices whose order as text is the other one.
const PAIRS: [(i64, i64); 6] =
    [(5_000, 10_000), (10_000, 5_000), (90_000, 100_000), (100_000, 90_000), (20_000, 100_000), (100_000, 20_000)];

/// Six buyers whose points and prices lie in another order as texts than as numbers.
fn six_purses(adjustments: Adjustments<Concert>) -> Verdict {
    adjustments.variable("NUMBER_OF_PROCESS", PAIRS.len()).scenario(async |stage| {
        let (mut given, mut wrong) = (Vec::new(), Vec::new());
        for (id, (points, price)) in (1..).zip(PAIRS) {
            let show = stage.concert.put_on_show(1, price).await?;
            let buyer = stage.concert.buyer(id, points).await?;
            let held = stage.concert.hold(&buyer, &show, 1).await?;
            let asked = stage.concert.pay_for(&held).await;
            if asked.is_ok() != (points >= price) {
                wrong.push(format!("{points} points for a price of {price}: {asked:?}"));
            } else if asked.is_err() {
                assert_eq!(asked.refused()?.code(), (400, "USER_002"));
            }
            given.push((buyer.id, points));
        }
        stage.settle().await?;
        law(wrong.is_empty(), || format!("funds are not compared as numbers: {}", wrong.join("; ")))?;
        books::balance(stage, &given).await?;
        insta::assert_snapshot!(stage.document().await?);
        Ok(())
    })
}

/// Goal: whoever has enough points pays, and nobody else. Method: [`six_purses`].
#[test]
fn funds_are_compared_as_numbers() -> Verdict {
    six_purses(concert::adjusted())
}

/// Goal: the story above finds funds that are compared as text, the overdraft as well as the wrong refusal.
#[test]
fn funds_compared_as_text_are_caught() -> Verdict {
    let overdraft = ["5000 points for a price of 10000: Ok", "90000 points for a price of 100000: Ok"];
    let refusal = ["20000 points for a price of 100000: Ok", "100000 points for a price of 20000: Err", "USER_002"];
    catches(Defect::FundsComparedAsText, six_purses, &[&overdraft[..], &refusal[..]].concat())
}

/// One payment is approved and one declined; then every record that flowed comes once more, topic by topic.
fn everything_twice(adjustments: Adjustments<Concert>) -> Verdict {
    adjustments.scenario(async |stage| {
        let show = stage.concert.put_on_show(2, PRICE).await?;
        let (happy, poor) = (stage.concert.buyer(1, 100_000).await?, stage.concert.buyer(2, 100_000).await?);
        let (approved, declined) =
            (stage.concert.hold(&happy, &show, 1).await?, stage.concert.hold(&poor, &show, 2).await?);
        stage.payments.decline(declined.reservation.id, "card expired").await?;
        stage.concert.pay_for(&approved).await?;
        stage.concert.pay_for(&declined).await?;
        stage.settle().await?;

        let producer = stage.producer()?;
        let seen = Box::pin(stage.observe()).await?;
        let mut wrong = Vec::new();
        for topic in ["payment", "payment.success", "payment.fail"] {
            for record in seen.records(topic) {
                let (key, value) = (record.key.clone().unwrap_or_default(), record.value.clone().unwrap_or_default());
                producer.send(NewRecord::to(topic).key(key).value(value)).await?;
            }
            stage.settle().await?;
            let books = books::balance(stage, &[(happy.id, 100_000), (poor.id, 100_000)]).await;
            wrong.extend(books.err().map(|wrong| format!("after {topic} came twice {}", wrong.message())));
        }
        law(wrong.is_empty(), || wrong.join("\n"))?;
        assert_eq!(paid(stage, approved.reservation.id).await?, ["10000"]);
        for held in [approved, declined] {
            let calls = stage.payments.journal_of(held.reservation.id).await?;
            let decisions = calls.iter().filter(|call| !call.duplicate).count();
            assert_eq!((calls.len(), decisions), (2, 1), "the payment API decided again: {calls:?}");
        }
        insta::assert_snapshot!(stage.document().await?);
        Ok(())
    })
}

/// Goal: a duplicate refunds nothing and pays nothing. Method: [`everything_twice`].
#[test]
fn duplicates_change_nothing() -> Verdict {
    everything_twice(concert::adjusted())
}

/// Goal: the story above finds a second payment and a second refund after a duplicate of each kind: of the request,
/// which the payment API answers once more, of the approval and of the refusal.
#[test]
fn duplicates_that_are_handled_again_are_caught() -> Verdict {
    let wrong = |topic: &str, payments: u8, points: &str| {
        format!(
            "after {topic} came twice the books do not balance: outbox row 1 is SUCCESS and has {payments} payments of its \
             price; user 2 was given 100000 points and has {points}"
        )
    };
    let wrong =
        [wrong("payment", 2, "110000"), wrong("payment.success", 3, "110000"), wrong("payment.fail", 3, "120000")];
    catches(Defect::DuplicateHandledAgain, everything_twice, &wrong.each_ref().map(String::as_str))
}
