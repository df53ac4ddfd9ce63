//! What the café refuses, and that it says why.

use fixtures::Refusal;
use fixtures::cafe;
use greenroom::drive::OpenError;
use greenroom::scenario::Verdict;

use crate::ledger::rows;

const ORDER: &str = r#"{"order":[{"name":"모카","size":"small","amount":2,"price":4500}],"payment":{"vendor":"card","approvalValue":"1234"},"takeout":false}"#;

/// Goal: every wrong field is refused with 400 and named; nothing is stored and no number is used up.
/// Method: one good order, spoilt in one place at a time; then the good one, which gets number 1.
#[test]
fn wrong_fields_are_named() -> Verdict {
    cafe::scenario(async |stage| {
        let long = format!("\"{}\"", "x".repeat(256));
        let spoilt = [
            ("\"amount\":2", "\"amount\":0", "order[0].amount"),
            ("\"amount\":2", "\"amount\":100", "order[0].amount"),
            ("\"amount\":2", "\"amount\":-1", "order[0].amount"),
            ("\"amount\":2", "\"amount\":1.5", "order[0].amount"),
            ("\"amount\":2,", "", "order[0].amount"),
            ("\"price\":4500", "\"price\":0", "order[0].price"),
            ("\"price\":4500", "\"price\":99999999999999999999", "order[0].price"),
            ("모카", "맥주", "order[0].name"),
            ("\"name\":\"모카\",", "", "order[0].name"),
            ("\"small\"", "\"huge\"", "order[0].size"),
            ("\"size\"", "\"sise\"", "order[0].sise"),
            ("\"card\"", "\"\"", "payment.vendor"),
            ("\"card\"", &long, "payment.vendor"),
            ("\"1234\"", "1234", "payment.approvalValue"),
            ("\"1234\"", "\"\\u0000\"", "payment.approvalValue"),
            (",\"approvalValue\":\"1234\"", "", "payment.approvalValue"),
            ("{\"vendor\":\"card\",\"approvalValue\":\"1234\"}", "[]", "payment"),
            ("false", "\"no\"", "takeout"),
            (",\"takeout\":false", "", "takeout"),
            ("\"takeout\"", "\"takeaway\":true,\"takeout\"", "takeaway"),
        ];
        for (from, to, field) in spoilt {
            let refusal = stage.order.order_bytes(ORDER.replacen(from, to, 1)).await.refused()?;
            assert_eq!((refusal.status, refusal.field.as_deref()), (400, Some(field)), "{from} → {to}");
        }
        for (body, field) in [
            (&b"\xff\xfe"[..], "body"),
            (b"", "body"),
            (b"[]", "body"),
            (b"{\"order\":", "body"),
            (b"{}", "order"),
            (br#"{"order":[],"payment":{},"takeout":true}"#, "order"),
        ] {
            let refusal = stage.order.order_bytes(body).await.refused()?;
            assert_eq!((refusal.status, refusal.field.as_deref()), (400, Some(field)), "{body:?}");
        }
        // Whoever comes back to the barista with something that is no event's id is told so too.
        for wrong in ["yesterday", "-1", "1.5", "99999999999999999999"] {
            match stage.announcements(Some(wrong)).await {
                Err(OpenError::Refused { status, .. }) => assert_eq!(status, 400, "{wrong}"),
                other => panic!("{wrong}: {:?}", other.err()),
            }
        }
        assert_eq!(rows(stage, "cafe_order").await?, 0);
        assert_eq!(stage.order.order_bytes(ORDER).await?.order_number.sequence, 1);
        Ok(())
    })
}

/// Goal: the menu is the contract's, in its language and order.
#[test]
fn the_menu_has_eight_drinks() -> Verdict {
    cafe::scenario(async |stage| {
        let menu = stage.order.menu().await?;
        let menu: Vec<_> = menu.iter().map(|drink| (drink.name.as_str(), drink.price, drink.seconds)).collect();
        let expected = [
            ("에스프레소", 3000, 3.0),
            ("아메리카노", 3500, 3.5),
            ("카푸치노", 4000, 5.0),
            ("라떼", 4000, 5.0),
            ("플랫 화이트", 4500, 5.0),
            ("마키아토", 4500, 6.0),
            ("모카", 4500, 6.0),
            ("홍차", 3500, 2.0),
        ];
        assert_eq!(menu, expected);
        Ok(())
    })
}
