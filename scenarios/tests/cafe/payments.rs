//! From an order to its payment and back.

use fixtures::Refusal;
use fixtures::cafe::{self, NewOrder, ORDER, PAYMENT, PaymentResult, Status};
use greenroom::scenario::{Verdict, eventually};

use crate::ledger::{of_its_business_date, rows, stored};

/// Goal: a paid order goes all the way to the counter, a declined one is cancelled with a time, and both are answered,
/// with numbers of their business date.
/// Method: of the first two orders of a day, the environment's seed approves the first and declines the second. Where
/// the café is, fourteen hours ahead, it is two hours past its midnight: a number that left that out had another date.
#[test]
fn approved_and_declined() -> Verdict {
    cafe::adjusted().variable("CAFE_UTC_OFFSET", "+14:00").scenario(async |stage| {
        let approved = stage.order.order(&NewOrder::of("라떼", 2).and("플랫 화이트", 1)).await?;
        stage.settle().await?;
        let declined = stage.order.order(&NewOrder::of("에스프레소", 1)).await?;
        stage.settle().await?;
        assert_eq!(approved.payment_result, PaymentResult::Approved);
        assert_eq!((approved.order.total, approved.order_number.sequence), (12_500, 1));
        assert_eq!(declined.payment_result, PaymentResult::Declined);
        of_its_business_date(stage, approved.order_number).await?;
        of_its_business_date(stage, declined.order_number).await?;

        let order = stage.order.find(approved.order_number).await?;
        assert!(order.status == Status::Paid && order.paid_at.is_some() && order.cancelled_at.is_none());
        let order = stage.order.find(declined.order_number).await?;
        assert!(order.status == Status::Cancelled && order.paid_at.is_none() && order.cancelled_at.is_some());
        insta::assert_snapshot!(stage.document().await?);
        Ok(())
    })
}

/// Goal: an order that nobody answers for in time is told to be pending, keeps its number, and is paid once the payment
/// service is there again: once, although it was asked for several times.
#[test]
fn a_payment_service_that_was_away() -> Verdict {
    let impatient = cafe::adjusted().variable("ORDER_REPLY_TIMEOUT", "300ms").variable("ORDER_RETRY_AFTER", "200ms");
    impatient.scenario(async |stage| {
        stage.environment().expect_complaint("order", "payment pending");
        stage.part(PAYMENT).stop().await?;
        let refusal = stage.order.order(&NewOrder::of("모카", 1)).await.refused()?;
        assert_eq!((refusal.status, refusal.error_code.as_str()), (504, "CAFE_PAYMENT_PENDING"));
        let number = stored(stage).await?[0];
        assert!(refusal.message.contains(&number.to_string()), "{refusal}");
        assert_eq!(stage.order.find(number).await?.status, Status::Pending);

        stage.part(PAYMENT).restart().await?;
        eventually(async || match stage.order.find(number).await {
            Ok(order) if order.status == Status::Paid => Ok(()),
            Ok(order) => Err(format!("order {number} is {:?}", order.status)),
            Err(error) => Err(error.to_string()),
        })
        .await?;
        stage.settle().await?;
        assert!(stage.records("order").await?.len() > 1, "it was asked for once only");
        assert_eq!((rows(stage, "barista_queue").await?, rows(stage, "announcement").await?), (1, 1));
        Ok(())
    })
}

/// Goal: an order service that is asked to end while a payment is waited for tells its client, ends in good order, and
/// its successor learns what became of the payment.
/// Method: the payment service stands still meanwhile.
#[test]
fn an_order_service_that_ends_while_it_waits() -> Verdict {
    cafe::scenario(async |stage| {
        stage.environment().expect_complaint("order", "payment pending");
        stage.part(PAYMENT).pause().await?;
        let client = stage.order.clone();
        let asked = tokio::spawn(async move { client.order(&NewOrder::of("모카", 1)).await });
        eventually(async || match stored(stage).await {
            Ok(orders) if orders.len() == 1 => Ok(()),
            other => Err(format!("there is no order: {other:?}")),
        })
        .await?;
        assert_eq!(stage.part(ORDER).stop().await?, "exit status: 0");
        let refusal = asked.await?.refused()?;
        assert_eq!((refusal.status, refusal.error_code.as_str()), (504, "CAFE_PAYMENT_PENDING"));

        stage.part(PAYMENT).resume().await?;
        stage.part(ORDER).restart().await?;
        stage.settle().await?;
        let number = stored(stage).await?[0];
        assert_eq!(stage.order.find(number).await?.status, Status::Paid);
        Ok(())
    })
}
