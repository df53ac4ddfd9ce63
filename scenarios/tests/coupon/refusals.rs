//! What the service refuses or puts aside, and what goes over the topic, byte for byte.

use fixtures::Stage;
use fixtures::coupon::{self, Coupons, Outcome};
use greenroom::drive::NewRecord;
use greenroom::scenario::{Failure, Verdict};

use crate::ledger::{owners, remembered};

/// Goal: what is wrong is refused by name or put aside with its cause, and nothing comes of it; a winner's record has
/// no key and eight bytes, big-endian; a loser has none and is not remembered.
/// Method: everything wrong; then three coupons, four users, one after the other.
#[test]
fn what_is_wrong_is_refused_or_put_aside() -> Verdict {
    coupon::adjusted().variable("COUPON_LIMIT", 3).scenario(async |stage| {
        stage.environment().expect_complaint("coupon", "put aside");
        malformed_records_are_put_aside(stage).await?;
        wrong_users_are_refused(stage).await?;
        wrong_bodies_are_refused(stage).await?;
        a_winner_is_eight_bytes_without_a_key(stage).await?;
        insta::assert_snapshot!(stage.document().await?);
        Ok(())
    })
}

/// Five malformed records in one partition, and behind them a good one, which the service takes as its own.
async fn malformed_records_are_put_aside(stage: &Stage<'_, Coupons>) -> Verdict {
    let producer = stage.producer()?;
    let record = || NewRecord::to("coupon_create").partition(0);
    producer.send(record()).await?;
    producer.send(record().value(b"")).await?;
    producer.send(record().value(b"seventh")).await?;
    producer.send(record().value([0, 0, 0, 0, 0, 0, 0, 0, 7])).await?;
    producer.send(record().value((-7_i64).to_be_bytes())).await?;
    producer.send(record().value(7_i64.to_be_bytes())).await?;
    stage.settle().await?;
    assert_eq!(owners(stage).await?, [7]);
    assert_eq!(stage.observe().await?.records("coupon_create.dlq").len(), 5);
    Ok(())
}

/// The field absent, of every wrong type, out of range on either side, and too long.
async fn wrong_users_are_refused(stage: &Stage<'_, Coupons>) -> Verdict {
    let beyond = ["9223372036854775808", "-1", "18446744073709551616", "1e30", "1.5", "-9223372036854775809"];
    let other = ["null", "true", "[1]", "{}", r#""""#, r#""seven""#, r#""-1""#, r#"" 7""#, r#""9223372036854775808""#];
    let long = "9".repeat(1000);
    let wrong = beyond.into_iter().chain(other).chain([long.as_str()]);
    let bodies = wrong.map(|user| format!(r#"{{"userId":{user}}}"#)).chain(["{}".to_owned()]);
    for body in bodies {
        let refused = stage.coupons.refused(body.clone()).await?;
        assert_eq!((refused.status, refused.field.as_deref()), (400, Some("userId")), "{body}: {refused:?}");
    }
    Ok(())
}

/// Bodies that are no object, no JSON, no UTF-8, too long, or have a field too many.
async fn wrong_bodies_are_refused(stage: &Stage<'_, Coupons>) -> Verdict {
    let too_long = format!(r#"{{"userId":1,"note":"{}"}}"#, "x".repeat(10_000));
    let bodies = [b"".to_vec(), b"[]".to_vec(), b"7".to_vec(), b"{".to_vec(), b"\xff\xfe".to_vec()];
    for body in bodies.into_iter().chain([too_long.into_bytes()]) {
        let refused = stage.coupons.refused(body).await?;
        assert_eq!((refused.status, refused.field.as_deref()), (400, Some("body")), "{refused:?}");
    }
    let garbled = stage.coupons.refused(b"{\"userId\":\"\xff\"}").await?;
    assert_eq!((garbled.status, garbled.field.as_deref()), (400, Some("userId")));
    let unknown = stage.coupons.refused(r#"{"userId":1,"coupons":9}"#).await?;
    assert_eq!((unknown.status, unknown.field.as_deref()), (400, Some("coupons")));
    Ok(())
}

/// The smallest user, the largest, and one with eight different bytes.
async fn a_winner_is_eight_bytes_without_a_key(stage: &Stage<'_, Coupons>) -> Verdict {
    let before = values(stage).await?;
    let users = [0, 0x0102_0304_0506_0708, i64::MAX];
    for user in users {
        assert_eq!(stage.coupons.apply(user).await?, Outcome::Won);
    }
    assert_eq!(stage.coupons.apply(4).await?, Outcome::SoldOut);
    stage.settle().await?;

    let mut sent = values(stage).await?;
    sent.retain(|value| !before.contains(value));
    let bytes = [[0; 8], [1, 2, 3, 4, 5, 6, 7, 8], [0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]];
    assert_eq!(sent, bytes.map(|value| Some(value.to_vec())));
    assert_eq!(owners(stage).await?, [users[0], 7, users[1], users[2]]);
    assert_eq!(remembered(stage).await?, (users.to_vec(), "3".to_owned()));
    Ok(())
}

/// The values of all records so far, in their own order; none of them has a key or a header.
async fn values(stage: &Stage<'_, Coupons>) -> Result<Vec<Option<Vec<u8>>>, Failure> {
    let mut values = Vec::new();
    for record in stage.observe().await?.records("coupon_create") {
        assert_eq!((record.key.as_ref(), record.headers.len()), (None, 0), "{record:?}");
        values.push(record.value.as_ref().map(|value| value.to_vec()));
    }
    values.sort();
    Ok(values)
}
