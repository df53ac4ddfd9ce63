//! What the café offers, and what it refuses or puts aside and why.

use fixtures::cafe::{self, Cafe, NewOrder, OrderNumber, PaymentResult, Status};
use fixtures::{Refusal, Stage};
use greenroom::drive::{NewRecord, OpenError};
use greenroom::scenario::Verdict;

use crate::ledger::rows;

const ORDER: &str = r#"{"order":[{"name":"모카","size":"small","amount":2,"price":4500}],"payment":{"vendor":"card","approvalValue":"1234"},"takeout":false}"#;

/// What is spoilt in the order above, by what, and the field that is wrong then.
const SPOILT: [(&str, &str, &str); 39] = [
    ("\"amount\":2", "\"amount\":0", "order[0].amount"),
    ("\"amount\":2", "\"amount\":100", "order[0].amount"),
    ("\"amount\":2", "\"amount\":-1", "order[0].amount"),
    ("\"amount\":2", "\"amount\":99999999999999999999", "order[0].amount"),
    ("\"amount\":2", "\"amount\":1.5", "order[0].amount"),
    ("\"amount\":2", "\"amount\":\"2\"", "order[0].amount"),
    ("\"amount\":2,", "", "order[0].amount"),
    ("\"price\":4500", "\"price\":0", "order[0].price"),
    ("\"price\":4500", "\"price\":-4500", "order[0].price"),
    ("\"price\":4500", "\"price\":null", "order[0].price"),
    ("\"price\":4500", "\"price\":99999999999999999999", "order[0].price"),
    (",\"price\":4500", "", "order[0].price"),
    ("모카", "맥주", "order[0].name"),
    ("\"모카\"", "7", "order[0].name"),
    ("\"모카\"", LONG, "order[0].name"),
    ("\"name\":\"모카\",", "", "order[0].name"),
    ("\"small\"", "\"huge\"", "order[0].size"),
    ("\"small\"", "1", "order[0].size"),
    ("\"small\"", LONG, "order[0].size"),
    ("\"size\":\"small\",", "", "order[0].size"),
    ("\"size\"", "\"sise\"", "order[0].sise"),
    ("[{", "[[],{", "order[0]"),
    ("\"card\"", "\"\"", "payment.vendor"),
    ("\"card\"", "true", "payment.vendor"),
    ("\"card\"", LONG, "payment.vendor"),
    ("\"vendor\":\"card\",", "", "payment.vendor"),
    ("\"vendor\"", "\"bank\":\"x\",\"vendor\"", "payment.bank"),
    ("\"1234\"", "1234", "payment.approvalValue"),
    ("\"1234\"", "\"\"", "payment.approvalValue"),
    ("\"1234\"", "\"\\u0000\"", "payment.approvalValue"),
    ("\"1234\"", LONG, "payment.approvalValue"),
    (",\"approvalValue\":\"1234\"", "", "payment.approvalValue"),
    ("{\"vendor\":\"card\",\"approvalValue\":\"1234\"}", "[]", "payment"),
    ("\"payment\":{\"vendor\":\"card\",\"approvalValue\":\"1234\"},", "", "payment"),
    ("false", "\"no\"", "takeout"),
    ("false", "0", "takeout"),
    ("false", "null", "takeout"),
    (",\"takeout\":false", "", "takeout"),
    ("\"takeout\"", "\"takeaway\":true,\"takeout\"", "takeaway"),
];

/// An id that nobody asked for.
const NOBODY: &str = "7f2c1a1e-53c8-4a8e-9b57-0a4f0b6d6f11";
/// Stands for a text of one character more than may be.
const LONG: &str = "LONG";

/// Goal: what is wrong is refused with its name, and a malformed record is put aside with its cause; nothing of it is
/// stored, no number is used up, and the rest goes on.
/// Method: everything wrong; then a good order, which gets number 1, the opposite of its payment, and the largest
/// order. What is sent by hand has no key, because which of the two that read topic `payment` is first is a matter of
/// timing.
#[test]
fn what_is_wrong_is_refused_or_put_aside() -> Verdict {
    cafe::scenario(async |stage| {
        for program in ["payment", "order", "barista"] {
            stage.environment().expect_complaint(program, "put aside");
        }
        the_menu_has_eight_drinks(stage).await?;
        wrong_fields_are_named(stage).await?;
        what_is_no_order_is_refused(stage).await?;
        what_is_no_number_is_refused(stage).await?;
        malformed_records_are_sent(stage).await?;
        assert_eq!(rows(stage, "cafe_order").await?, 0);
        let answer = stage.order.order(&NewOrder::of("홍차", 1)).await?;
        assert_eq!((answer.payment_result, answer.order_number.sequence), (PaymentResult::Approved, 1));
        a_contradiction_is_put_aside(stage, answer.order_number).await?;
        let largest = stage.order.order_bytes(ORDER.replacen("\"amount\":2", "\"amount\":99", 1)).await?;
        assert_eq!((largest.order_number.sequence, largest.order.total), (2, 99 * 4500));
        insta::assert_snapshot!(stage.document().await?);
        Ok(())
    })
}

/// One good order, spoilt in one place at a time.
async fn wrong_fields_are_named(stage: &Stage<'_, Cafe>) -> Verdict {
    let long = format!("\"{}\"", "x".repeat(256));
    for (from, to, field) in SPOILT {
        assert!(ORDER.contains(from), "nothing is spoilt by {from}");
        let to = if to == LONG { &long } else { to };
        let refusal = stage.order.order_bytes(ORDER.replacen(from, to, 1)).await.refused()?;
        assert_eq!((refusal.status, refusal.field.as_deref()), (400, Some(field)), "{from} → {to}");
    }
    Ok(())
}

/// Bodies that are empty, no JSON, no UTF-8, no object, too long, or without or with too many lines.
async fn what_is_no_order_is_refused(stage: &Stage<'_, Cafe>) -> Verdict {
    let lines = "{},".repeat(101);
    let too_many = format!(r#"{{"order":[{}],"payment":{{}},"takeout":true}}"#, lines.trim_end_matches(','));
    let too_long = ORDER.replacen("1234", &"1".repeat(70_000), 1);
    for (body, field) in [
        (&b"\xff\xfe"[..], "body"),
        (b"{\"order\":[{\"name\":\"\xff\"}]}", "order[0].name"),
        (b"{\"order\":[{},{\"size\":\"\xff\"}]}", "order[1].size"),
        (b"{\"order\":[{\"amount\":\"\xff\"}]}", "order[0].amount"),
        (b"{\"order\":[{\"amount\":2,\"price\":\"\xff\"}]}", "order[0].price"),
        (b"{\"order\":[],\"takeout\":\"\xff\"}", "takeout"),
        (b"{\"payment\":{\"vendor\":\"\xff\"}}", "payment.vendor"),
        (b"{\"payment\":{\"approvalValue\":\"\xff\"}}", "payment.approvalValue"),
        (b"", "body"),
        (b"[]", "body"),
        (b"{\"order\":", "body"),
        (too_long.as_bytes(), "body"),
        (b"{}", "order"),
        (br#"{"order":[],"payment":{},"takeout":true}"#, "order"),
        (br#"{"order":{},"payment":{},"takeout":true}"#, "order"),
        (too_many.as_bytes(), "order"),
    ] {
        let refusal = stage.order.order_bytes(body).await.refused()?;
        assert_eq!((refusal.status, refusal.field.as_deref()), (400, Some(field)), "{refusal}");
    }
    Ok(())
}

/// Numbers and event ids that are none, or nobody's.
async fn what_is_no_number_is_refused(stage: &Stage<'_, Cafe>) -> Verdict {
    for wrong in ["yesterday", "20261120001", "2026112000001", "20261120000x", "%FF"] {
        let refusal = stage.order.get(format!("/order/{wrong}")).refused().await?;
        assert_eq!((refusal.status, refusal.field.as_deref()), (400, Some("number")), "{wrong}");
    }
    assert_eq!(stage.order.get("/order/202611200001").refused().await?.code(), (404, "COMMON_404"));
    // Whoever comes back to the barista with something that is no event's id is told so too.
    for wrong in ["yesterday", "-1", "1.5", "99999999999999999999"] {
        match stage.announcements(Some(wrong)).await {
            Err(OpenError::Refused { status, body, .. }) => {
                assert_eq!(status, 400, "{wrong}");
                assert!(body.contains(r#""field":"Last-Event-ID""#), "{wrong}: {body}");
            }
            other => panic!("{wrong}: {:?}", other.err()),
        }
    }
    Ok(())
}

/// Each topic gets nonsense; the barista and the order service judge topic `payment` each for itself.
async fn malformed_records_are_sent(stage: &Stage<'_, Cafe>) -> Verdict {
    let producer = stage.producer()?;
    let asked = r#"{"orderId":77,"orderNumber":"209901010001","payment":{"vendor":"card","approvalValue":"1"},"total":1,
        "takeout":false,"items":[{"name":"라떼","size":"small","amount":1}]}"#;
    for partition in 0..3 {
        let order = || NewRecord::to("order").partition(partition);
        producer.send(order()).await?;
        producer.send(order().value(b"\xff\xfe")).await?;
        producer.send(order().value("{\"orderId\": 1")).await?;
        producer.send(order().value(asked.replace("\"amount\":1", "\"amount\":100"))).await?;
        for (topic, place) in [("order.reply", "-1"), ("order.reply", "99"), ("elsewhere", "0")] {
            let nowhere = order().value(asked).header("kafka_correlationId", NOBODY).header("kafka_replyTopic", topic);
            producer.send(nowhere.header("kafka_replyPartition", place)).await?;
        }
    }
    let unknown = r#"{"orderId":77,"orderNumber":"209901010001","paymentResult":"DECLINED","takeout":false,
        "items":[{"name":"라떼","size":"small","amount":1}]}"#;
    let no_drink = unknown.replace("라떼", "맥주");
    for value in [unknown, &no_drink, &unknown.replace("DECLINED", "PERHAPS"), ""] {
        producer.send(NewRecord::to("payment").value(value)).await?;
    }
    let reply = || NewRecord::to("order.reply").partition(0);
    producer.send(reply().value("{}")).await?;
    producer.send(reply().value("{}").header("kafka_correlationId", "7")).await?;
    producer.send(reply().value("paid").header("kafka_correlationId", NOBODY)).await?;
    Ok(())
}

/// What says of a paid order that it was declined is put aside, and the order stays as it is.
async fn a_contradiction_is_put_aside(stage: &Stage<'_, Cafe>, number: OrderNumber) -> Verdict {
    stage.settle().await?;
    let told = stage.records("payment").await?.pop().and_then(|record| record.value).expect("the payment of the order");
    let opposite = String::from_utf8(told.to_vec())?.replace("APPROVED", "DECLINED");
    stage.producer()?.send(NewRecord::to("payment").value(opposite)).await?;
    stage.settle().await?;
    assert_eq!(stage.order.find(number).await?.status, Status::Paid);
    Ok(())
}

/// The menu is the contract's, in its language and order.
async fn the_menu_has_eight_drinks(stage: &Stage<'_, Cafe>) -> Verdict {
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
}
