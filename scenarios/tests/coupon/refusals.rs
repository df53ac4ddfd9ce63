//! What the service refuses, and which field it names.

use fixtures::Stage;
use fixtures::coupon::{self, Coupons, Outcome};
use greenroom::scenario::Verdict;

use crate::ledger::owners;

/// Goal: what is wrong is refused by name, and nothing comes of it; the smallest and the largest right user are taken.
#[test]
fn what_is_wrong_is_refused_by_name() -> Verdict {
    coupon::scenario(async |stage| {
        wrong_users_are_refused(stage).await?;
        wrong_bodies_are_refused(stage).await?;
        for user in [0, i64::MAX] {
            assert_eq!(stage.coupons.apply(user).await?, Outcome::Won);
        }
        stage.settle().await?;
        assert_eq!(owners(stage).await?, [0, i64::MAX]);
        Ok(())
    })
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
    let bodies = [b"".to_vec(), b"[]".to_vec(), b"7".to_vec(), b"{".to_vec(), b"{\"userId\":\"\xff\"}".to_vec()];
    for body in bodies.into_iter().chain([too_long.into_bytes()]) {
        let refused = stage.coupons.refused(body).await?;
        assert_eq!((refused.status, refused.field.as_deref()), (400, Some("body")), "{refused:?}");
    }
    let unknown = stage.coupons.refused(r#"{"userId":1,"coupons":9}"#).await?;
    assert_eq!((unknown.status, unknown.field.as_deref()), (400, Some("coupons")));
    Ok(())
}
