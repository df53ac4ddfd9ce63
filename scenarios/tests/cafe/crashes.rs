//! The order service dies between storing an order and answering it.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use fixtures::cafe::{self, Cafe, NewOrder, ORDER, OrderNumber, PAYMENT, Status};
use fixtures::{CallError, Stage};
use greenroom::observe::topics::Record;
use greenroom::scenario::{Failure, Verdict, eventually};

use crate::ledger::{rows, stored, without_gap_or_duplicate};

/// Asks for an order that will get no answer, and waits until it is stored: the `count`-th.
async fn ask(stage: &Stage<'_, Cafe>, drink: &str, count: usize) -> Result<Asked, Failure> {
    let (service, order) = (stage.order.clone(), NewOrder::of(drink, 1));
    let asked = tokio::spawn(async move { service.order(&order).await });
    eventually(async || match stored(stage).await {
        Ok(stored) if stored.len() == count => Ok(()),
        other => Err(format!("{count} orders should be stored: {other:?}")),
    })
    .await?;
    Ok(asked)
}

type Asked = tokio::task::JoinHandle<Result<cafe::Answered, CallError>>;

/// How often each payment was asked for after an instant.
fn asked_for(orders: &[Record], after_ms: i64) -> BTreeMap<String, usize> {
    let mut times = BTreeMap::new();
    for order in orders.iter().filter(|order| order.timestamp_ms.is_some_and(|sent_ms| sent_ms > after_ms)) {
        let number = String::from_utf8_lossy(order.key.as_deref().unwrap_or_default()).into_owned();
        *times.entry(number).or_default() += 1;
    }
    times
}

/// The law after a crash: numbers 1 to `count`, each order paid or cancelled, what was paid made and announced once.
async fn all_ended_once(stage: &Stage<'_, Cafe>, count: usize) -> Result<(), Failure> {
    let numbers: Vec<OrderNumber> = stored(stage).await?;
    without_gap_or_duplicate(&numbers)?;
    assert_eq!(numbers.len(), count);
    let mut paid = 0;
    for number in numbers {
        match stage.order.find(number).await?.status {
            Status::Paid => paid += 1,
            Status::Cancelled => {}
            Status::Pending => return Err(Failure::new(format!("order {number} is pending"))),
        }
    }
    assert_eq!((rows(stage, "barista_queue").await?, rows(stage, "announcement").await?), (paid, paid));
    Ok(())
}

/// Goal: an order whose answer never came, because the service died, is paid or cancelled all the same, once.
/// Method: the payment service stands still while two orders are asked for, the second of which it will decline; the
/// order service is killed and comes back; a third order goes on where they ended.
#[test]
fn an_order_that_was_never_answered_is_settled() -> Verdict {
    // Nobody is answered before the service dies, and nothing is asked for again, however long it is away.
    let patient = cafe::adjusted().variable("ORDER_REPLY_TIMEOUT", "10m").variable("ORDER_RETRY_AFTER", "10m");
    patient.scenario(async |stage| {
        stage.part(PAYMENT).pause().await?;
        let asked = [ask(stage, "라떼", 1).await?, ask(stage, "모카", 2).await?];
        eventually(async || match stage.records("order").await {
            Ok(records) if records.len() == 2 => Ok(()),
            other => Err(format!("two payments should be asked for: {other:?}")),
        })
        .await?;
        stage.part(ORDER).kill().await?;
        for asked in asked {
            assert!(matches!(asked.await?, Err(CallError::Unanswered(_))), "it was answered");
        }
        stage.part(PAYMENT).resume().await?;
        stage.part(ORDER).restart().await?;
        stage.settle().await?;
        let third = stage.order.order(&NewOrder::of("홍차", 1)).await?;
        assert_eq!(third.order_number.sequence, 3);
        stage.settle().await?;
        all_ended_once(stage, 3).await?;
        insta::assert_snapshot!(stage.document().await?);
        Ok(())
    })
}

/// Goal: an order that was stored when the service died, and whose payment nobody may have asked for, is asked for
/// again: as often as it takes, and made once.
/// Method: the brokers stand still while orders are stored, so that nothing is acknowledged; the service is killed, and
/// its successor asks again every 200 ms while the payment service stands still, until each was asked for twice at
/// least. There is no snapshot: how often it asks is a matter of timing.
#[test]
fn an_order_whose_payment_was_not_asked_for_is_asked_for_again() -> Verdict {
    cafe::adjusted().variable("ORDER_RETRY_AFTER", "200ms").scenario(async |stage| {
        stage.pause_brokers().await?;
        let asked = [ask(stage, "라떼", 1).await?, ask(stage, "모카", 2).await?, ask(stage, "홍차", 3).await?];
        stage.part(ORDER).kill().await?;
        for asked in asked {
            assert!(asked.await?.is_err(), "it was answered as if it were paid");
        }
        let killed_ms = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
        stage.part(PAYMENT).pause().await?;
        stage.resume_brokers().await?;
        stage.part(ORDER).restart().await?;
        eventually(async || {
            let orders = stage.records("order").await.map_err(|error| error.to_string())?;
            let times = asked_for(&orders, killed_ms);
            if times.len() == 3 && times.values().all(|times| *times >= 2) {
                Ok(())
            } else {
                Err(format!("each of three payments should be asked for more than once: {times:?}"))
            }
        })
        .await?;
        stage.part(PAYMENT).resume().await?;
        stage.settle().await?;
        all_ended_once(stage, 3).await
    })
}
