//! What the service refuses, and which field it names.

use fixtures::coupon::{self, Outcome};
use greenroom::scenario::Verdict;

use crate::ledger::owners;

/// Goal: a wrong user id is refused by name, and nothing comes of it; the largest right one is taken.
/// Method: the field absent, of every wrong type, out of range on either side, and too long; then the limits.
#[test]
fn a_wrong_user_is_refused_by_name() -> Verdict {
    coupon::scenario(async |stage| {
        let beyond = ["9223372036854775808", "-1", "18446744073709551616", "1e30", "1.5", "-9223372036854775809"];
        let other =
            ["null", "true", "[1]", "{}", r#""""#, r#""seven""#, r#""-1""#, r#"" 7""#, r#""9223372036854775808""#];
        let long = "9".repeat(1000);
        let wrong = beyond.into_iter().chain(other).chain([long.as_str()]);
        let bodies = wrong.map(|user| format!(r#"{{"userId":{user}}}"#)).chain(["{}".to_owned()]);
        for body in bodies {
            let refused = stage.coupons.refused(body.clone()).await?;
            assert_eq!((refused.status, refused.field.as_deref()), (400, Some("userId")), "{body}: {refused:?}");
        }
        for user in [0, i64::MAX] {
            assert_eq!(stage.coupons.apply(user).await?, Outcome::Won);
        }
        stage.settle().await?;
        assert_eq!(owners(stage).await?, [0, i64::MAX]);
        Ok(())
    })
}

/// Goal: what is no application is refused, with the name of what is wrong.
/// Method: bodies that are no object, no JSON, no UTF-8, too long, or have a field too many.
#[test]
fn a_wrong_body_is_refused_by_name() -> Verdict {
    coupon::scenario(async |stage| {
        let too_long = format!(r#"{{"userId":1,"note":"{}"}}"#, "x".repeat(10_000));
        let bodies = [b"".to_vec(), b"[]".to_vec(), b"7".to_vec(), b"{".to_vec(), b"{\"userId\":\"\xff\"}".to_vec()];
        for body in bodies.into_iter().chain([too_long.into_bytes()]) {
            let refused = stage.coupons.refused(body).await?;
            assert_eq!((refused.status, refused.field.as_deref()), (400, Some("body")), "{refused:?}");
        }
        let unknown = stage.coupons.refused(r#"{"userId":1,"coupons":9}"#).await?;
        assert_eq!((unknown.status, unknown.field.as_deref()), (400, Some("coupons")));
        stage.settle().await?;
        assert_eq!(owners(stage).await?, [0; 0]);
        Ok(())
    })
}
