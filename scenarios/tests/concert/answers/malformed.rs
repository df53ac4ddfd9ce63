//! Records that nobody can read are put aside, and the rest goes on.

use fixtures::concert;
use fixtures::payment::{Action, Match};
use greenroom::drive::NewRecord;
use greenroom::scenario::Verdict;

use super::{PUT_ASIDE, an_approval_and_a_refusal};
use crate::books;
use crate::ledger::paid;
use crate::sales::{POINTS, a_held_seat};

/// What is no answer, on either topic.
const NO_ANSWERS: [Option<&[u8]>; 6] = [
    None,
    Some(b"\xff\xfe"),
    Some(b"[1]"),
    Some(br#"{"isSuccess": true}"#),
    Some(br#"{"eventId": 1.5, "isSuccess": true}"#),
    Some(br#"{"eventId": 1, "isSuccess": "perhaps"}"#),
];

/// Goal: each malformed record is in the dead-letter topic of its own with the cause, and those behind it are dealt
/// with. Method: every partition of every topic begins with malformed records, those of topic `payment` for the payment
/// API; then a payment is approved and one declined. What the causes say is in the snapshot: the words are a service's
/// own.
#[test]
fn malformed_records_are_put_aside() -> Verdict {
    concert::scenario(async |stage| {
        stage.environment().expect_complaint("concert", PUT_ASIDE);
        let producer = stage.producer()?;
        for (partition, value) in [0, 1, 2].into_iter().cycle().zip(NO_ANSWERS) {
            for topic in ["payment.success", "payment.fail"] {
                let record = NewRecord::to(topic).partition(partition);
                producer.send(if let Some(value) = value { record.value(value) } else { record }).await?;
            }
        }
        for partition in 0..3 {
            producer.send(NewRecord::to("payment").partition(partition).value(books::NO_PAYMENT)).await?;
        }
        let [approved, declined] = an_approval_and_a_refusal(stage).await?;

        for topic in ["payment.success.dlq", "payment.fail.dlq"] {
            let letters = stage.records(topic).await?;
            let mut values: Vec<_> = letters.iter().map(|letter| letter.value.as_deref()).collect();
            let mut wrong = NO_ANSWERS;
            values.sort();
            wrong.sort();
            assert_eq!(values, wrong, "{topic}");
            let silent: Vec<_> = letters.iter().filter(|letter| letter.headers.is_empty()).collect();
            assert!(silent.is_empty(), "{topic} has letters without a cause in a header: {silent:?}");
        }
        // The service may read its own topic too (contract 1.7), and put them aside once more.
        let unread = stage.records("payment.dlq").await?.len();
        assert!(unread == 3 || (unread > 3 && stage.is_of_somebody_else()), "{unread} letters of topic payment");
        books::balance(stage, &[(approved.buyer.id, POINTS), (declined.buyer.id, POINTS)]).await?;
        insta::assert_snapshot!(stage.document().await?);
        Ok(())
    })
}

/// Goal: a payment that the payment API answers with nonsense is asked for again, and made once.
/// There is no snapshot: how often it is asked for is a matter of timing.
#[test]
fn a_malformed_answer_is_no_answer() -> Verdict {
    concert::adjusted().impatient().scenario(async |stage| {
        let held = a_held_seat(stage).await?;
        stage.environment().expect_complaint("concert", PUT_ASIDE);
        stage.payments.add_rule(Match::any().attempt(1).then(Action::MalformedAnswer)).await?;
        stage.concert.pay_for(&held).await?;
        stage.settle().await?;

        assert_eq!(stage.records("payment.success.dlq").await?.len(), 1);
        assert_eq!(paid(stage, held.reservation.id).await?, ["10000"]);
        books::balance(stage, &[(held.buyer.id, POINTS)]).await
    })
}
