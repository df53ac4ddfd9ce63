//! What goes over the topic, byte for byte, and what is not taken from it.

use fixtures::Stage;
use fixtures::coupon::{self, Coupons, Outcome};
use greenroom::drive::NewRecord;
use greenroom::scenario::{Failure, Verdict};

use crate::ledger::{owners, remembered};

/// Goal: a winner's record has no key and eight bytes, big-endian; a loser has none and is not remembered. Records that
/// name no user are put aside with their cause, and the rest goes on.
/// Method: three coupons, four users, one after the other; then five malformed records in one partition, and behind them a
/// good one, which the service writes down as if it had been its own.
#[test]
fn a_record_is_eight_bytes_without_a_key() -> Verdict {
    coupon::adjusted().variable("COUPON_LIMIT", 3).scenario(async |stage| {
        stage.environment().expect_complaint("coupon", "put aside");
        let users = [1, 0x0102_0304_0506_0708, i64::MAX];
        for user in users {
            assert_eq!(stage.coupons.apply(user).await?, Outcome::Won);
        }
        assert_eq!(stage.coupons.apply(4).await?, Outcome::SoldOut);
        stage.settle().await?;
        assert_eq!(
            sent(stage).await?,
            [
                vec![0, 0, 0, 0, 0, 0, 0, 1],
                vec![1, 2, 3, 4, 5, 6, 7, 8],
                vec![0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            ]
        );
        assert_eq!(owners(stage).await?, users);
        assert_eq!(remembered(stage).await?, (users.to_vec(), "3".to_owned()));

        let producer = stage.producer()?;
        let record = || NewRecord::to("coupon_create").partition(0);
        producer.send(record()).await?;
        producer.send(record().value(b"")).await?;
        producer.send(record().value(b"seventh")).await?;
        producer.send(record().value([0, 0, 0, 0, 0, 0, 0, 0, 7])).await?;
        producer.send(record().value((-7_i64).to_be_bytes())).await?;
        producer.send(record().value(7_i64.to_be_bytes())).await?;
        stage.settle().await?;
        assert_eq!(owners(stage).await?, [users[0], 7, users[1], users[2]]);
        assert_eq!(stage.observe().await?.records("coupon_create.dlq").len(), 5);
        insta::assert_snapshot!(stage.document().await?);
        Ok(())
    })
}

/// The values of the records so far, in their own order; none has a key or a header.
async fn sent(stage: &Stage<'_, Coupons>) -> Result<Vec<Vec<u8>>, Failure> {
    let mut values = Vec::new();
    for record in stage.observe().await?.records("coupon_create") {
        assert_eq!((record.key.as_ref(), record.headers.len()), (None, 0), "{record:?}");
        values.push(record.value.clone().expect("a value").to_vec());
    }
    values.sort();
    Ok(values)
}
