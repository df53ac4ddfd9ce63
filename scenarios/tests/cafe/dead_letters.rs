//! Records that nobody can make sense of are put aside, and the rest goes on.

use fixtures::cafe::{self, NewOrder, PaymentResult};
use greenroom::drive::NewRecord;
use greenroom::scenario::Verdict;

/// Goal: malformed records end in their dead-letter topics with the cause, and the order behind them is served.
/// Method: each topic gets nonsense first; the barista and the order service judge topic `payment` each for itself.
/// Without keys, because which of the two is first is a matter of timing.
#[test]
fn malformed_records_are_put_aside() -> Verdict {
    cafe::scenario(async |stage| {
        stage.environment().expect_complaint("payment", "put aside");
        stage.environment().expect_complaint("order", "put aside");
        stage.environment().expect_complaint("barista", "put aside");
        let producer = stage.producer()?;
        for partition in 0..3 {
            producer.send(NewRecord::to("order").partition(partition).value(b"\xff\xfe")).await?;
            producer.send(NewRecord::to("order").partition(partition).value("{\"orderId\": 1")).await?;
        }
        let unknown = r#"{"orderId":77,"orderNumber":"209901010001","paymentResult":"DECLINED","takeout":false,
            "items":[{"name":"라떼","size":"small","amount":1}]}"#;
        let no_drink = unknown.replace("라떼", "맥주");
        for value in [unknown, &no_drink, &unknown.replace("DECLINED", "PERHAPS"), ""] {
            producer.send(NewRecord::to("payment").value(value)).await?;
        }
        producer.send(NewRecord::to("order.reply").partition(0).value("{}")).await?;

        let answer = stage.order.order(&NewOrder::of("홍차", 1)).await?;
        assert_eq!(answer.payment_result, PaymentResult::Approved);
        insta::assert_snapshot!(stage.document().await?);
        Ok(())
    })
}
