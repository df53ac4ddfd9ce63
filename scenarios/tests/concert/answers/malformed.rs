//! Records that nobody can read are put aside, and the rest goes on.

use fixtures::concert;
use fixtures::payment::{Action, Match};
use greenroom::drive::NewRecord;
use greenroom::scenario::Verdict;

use super::{PUT_ASIDE, an_approval_and_a_refusal};
use crate::books;
use crate::ledger::paid;
use crate::sales::{POINTS, a_held_seat};

/// What is no answer, on either topic; the text is the cause that the dead letter names.
const NO_ANSWERS: [(Option<&[u8]>, &str); 6] = [
    (None, "value is missing"),
    (Some(b"\xff\xfe"), "value is not a JSON object"),
    (Some(b"[1]"), "value is not a JSON object"),
    (Some(br#"{"isSuccess": true}"#), "eventId is not a whole number"),
    (Some(br#"{"eventId": 1.5, "isSuccess": true}"#), "eventId is not a whole number"),
    (Some(br#"{"eventId": 1, "isSuccess": "perhaps"}"#), "isSuccess does not fit the topic"),
];

/// Goal: each malformed record is in the dead-letter topic of its own with the cause, and those behind it are dealt with.
/// Method: every partition of every topic begins with malformed records, those of topic `payment` for the payment API;
/// then a payment is approved and one declined.
#[test]
fn malformed_records_are_put_aside() -> Verdict {
    concert::scenario(async |stage| {
        stage.environment().expect_complaint("concert", PUT_ASIDE);
        let producer = stage.producer()?;
        for (partition, (value, _)) in [0, 1, 2].into_iter().cycle().zip(NO_ANSWERS) {
            for topic in ["payment.success", "payment.fail"] {
                let record = NewRecord::to(topic).partition(partition);
                producer.send(if let Some(value) = value { record.value(value) } else { record }).await?;
            }
        }
        for partition in 0..3 {
            producer.send(NewRecord::to("payment").partition(partition).value("pay me")).await?;
        }
        let [approved, declined] = an_approval_and_a_refusal(stage).await?;

        for topic in ["payment.success.dlq", "payment.fail.dlq"] {
            let letters = stage.records(topic).await?;
            let mut causes: Vec<_> = letters.iter().filter_map(|letter| letter.headers.first()?.1.clone()).collect();
            causes.sort();
            let mut expected = NO_ANSWERS.map(|(_, cause)| cause);
            expected.sort_unstable();
            assert_eq!(causes, expected, "{topic}");
        }
        assert_eq!(stage.records("payment.dlq").await?.len(), 3);
        books::balance(stage, &[(approved.buyer.id, POINTS), (declined.buyer.id, POINTS)]).await?;
        insta::assert_snapshot!(stage.document().await?);
        Ok(())
    })
}

/// Goal: a payment that the payment API answers with nonsense is asked for again, and made once.
/// There is no snapshot: how often it is asked for is a matter of timing.
#[test]
fn a_malformed_answer_is_no_answer() -> Verdict {
    let impatient =
        concert::adjusted().variable("OUTBOX_RETRY_AFTER", "300ms").variable("OUTBOX_RETRY_PERIOD", "100ms");
    impatient.scenario(async |stage| {
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
