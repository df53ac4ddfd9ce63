//! Order numbers: yyyyMMdd and a sequence, without gap or duplicate, whoever asks at once and whatever the time.

use std::time::{Duration, SystemTime};

use fixtures::cafe::{self, Cafe, NewOrder, PaymentResult, Status};
use fixtures::{Refusal, Stage};
use greenroom::drive::burst;
use greenroom::scenario::{Failure, Verdict, eventually};

use crate::ledger::{of_its_business_date, rows, stored, two_wait_for_a_lock, without_gap_or_duplicate};

/// Fifty orders at once, at both instances in turn, answered with their numbers. Nobody stores one before somebody else
/// wants to: what each of them knew of the others' orders is then no matter of luck.
async fn fifty_at_once(stage: &Stage<'_, Cafe>) -> Result<Vec<cafe::Answered>, Failure> {
    let instances = [stage.instance(1)?, stage.instance(2)?];
    let mut door = stage.database().await?.begin().await?;
    sqlx::query("LOCK TABLE cafe_order IN SHARE ROW EXCLUSIVE MODE").execute(&mut *door).await?;
    let opened = async {
        two_wait_for_a_lock(stage).await?;
        door.rollback().await?;
        Ok::<_, Failure>(())
    };
    let orders = burst(50, 0..50, async |index: usize| instances[index % 2].order(&NewOrder::of("홍차", 1)).await);
    let (opened, orders) = tokio::join!(opened, orders);
    opened?;
    Ok(orders.answers.into_iter().collect::<Result<_, _>>()?)
}

/// The story of fifty orders, for a sound service and for a broken one.
async fn fifty_orders(stage: &Stage<'_, Cafe>) -> Verdict {
    let answers = fifty_at_once(stage).await?;
    let numbers: Vec<_> = answers.iter().map(|answer| answer.order_number).collect();
    without_gap_or_duplicate(&numbers)?;
    assert_eq!(numbers.len(), 50);

    stage.settle().await?;
    let mut approved = 0;
    for answer in &answers {
        // Whoever asked got the answer to its own order, and the order became what was answered.
        let order = stage.order.find(answer.order_number).await?;
        assert_eq!(order.order, answer.order);
        match answer.payment_result {
            PaymentResult::Approved => {
                approved += 1;
                assert_eq!((order.status, order.cancelled_at), (Status::Paid, None));
            }
            PaymentResult::Declined => {
                assert!(order.status == Status::Cancelled && order.cancelled_at.is_some(), "{order:?}");
            }
        }
    }
    assert_eq!(approved, 40, "eight of ten");
    assert_eq!(rows(stage, "announcement").await?, 40);
    Ok(())
}

/// Goal: numbers have no gap and no duplicate, however many orders come at once and whichever of them fail.
/// Method: fifty concurrent orders at two instances get the numbers 1 to 50, each one its own answer; then
/// [`a_rolled_back_order_leaves_no_gap`].
#[test]
fn fifty_at_once_at_two_instances() -> Verdict {
    cafe::adjusted().instances(2).scenario(async |stage| {
        fifty_orders(stage).await?;
        a_rolled_back_order_leaves_no_gap(stage).await
    })
}

/// Goal: the story of fifty orders finds the defect of the original, which counted the day's orders and added one.
#[test]
fn counting_orders_gives_a_number_twice() -> Verdict {
    let counting = cafe::adjusted().count_plus_one().instances(2);
    let failure = counting.scenario(async |stage| fifty_orders(stage).await).expect_err("the defect was not found");
    assert!(format!("{failure:?}").contains("was given twice"), "it failed for another reason: {failure:?}");
    Ok(())
}

/// Goal: an order that is rolled back leaves no gap, also while others are being placed.
/// Method: the database refuses one drink after the number was given out; every other order is for that drink.
/// At last the day is wound on to its last number: the order after that is refused, and not numbered 10000 or 0.
async fn a_rolled_back_order_leaves_no_gap(stage: &mut Stage<'_, Cafe>) -> Verdict {
    stage.environment().expect_complaint("postgres", "out_of_mocha");
    stage.environment().expect_complaint("order", "out_of_mocha");
    sqlx::raw_sql("ALTER TABLE order_item ADD CONSTRAINT out_of_mocha CHECK (name <> '모카')")
        .execute(&stage.database().await?)
        .await?;
    let before = stored(stage).await?;
    let drinks = ["라떼", "모카"];
    let order = async |index: usize| stage.order.order(&NewOrder::of(drinks[index % 2], 1)).await;
    let mut numbers = Vec::new();
    for (index, answer) in burst(10, 0..20, order).await.answers.into_iter().enumerate() {
        match index % 2 {
            0 => numbers.push(answer?.order_number),
            _ => assert_eq!(answer.refused()?.status, 500),
        }
    }
    assert_eq!(numbers.len(), 10);
    numbers.extend(before);
    without_gap_or_duplicate(&numbers)?;
    numbers.sort_unstable();
    assert_eq!(stored(stage).await?, numbers);

    sqlx::query("UPDATE order_day SET last_sequence = 9998").execute(&stage.database().await?).await?;
    assert_eq!(stage.order.order(&NewOrder::of("홍차", 1)).await?.order_number.sequence, 9999);
    let full = stage.order.order(&NewOrder::of("홍차", 1)).await.refused()?;
    assert_eq!((full.status, full.error_code.as_str()), (503, "CAFE_NUMBERS_EXHAUSTED"));
    Ok(())
}

/// Goal: across midnight each date has its own numbers from 1, without gap or duplicate, while orders keep coming.
/// Method: the business date changes a few seconds after the start; both instances are kept busy from the last second
/// before it until it has. An environment that became ready only after its midnight shows nothing, and makes way for
/// one with more time.
#[test]
fn across_midnight() -> Verdict {
    for ahead in [8, 20, 45] {
        let midnight = SystemTime::now() + Duration::from_secs(ahead);
        let mut crossed = false;
        cafe::adjusted().instances(2).midnight(midnight).scenario(async |stage| {
            let mut numbers = busy(stage).await?;
            if SystemTime::now() >= midnight {
                return Ok(());
            }
            eventually(async || match midnight.duration_since(SystemTime::now()) {
                Ok(left) if left > Duration::from_secs(1) => Err(format!("midnight is {left:?} away")),
                _ => Ok(()),
            })
            .await?;
            while SystemTime::now() < midnight + Duration::from_millis(300) {
                numbers.extend(busy(stage).await?);
            }
            numbers.extend(busy(stage).await?);
            without_gap_or_duplicate(&numbers)?;
            let (first, last) = (numbers.iter().min().expect("some"), numbers.iter().max().expect("some"));
            assert_eq!(last.date.pred_opt(), Some(first.date), "{first} to {last}");
            // Those are far enough from midnight to be stored on the date on which they were numbered.
            let (first, last) = (*first, *last);
            of_its_business_date(stage, first).await?;
            of_its_business_date(stage, last).await?;
            numbers.sort_unstable();
            assert_eq!(stored(stage).await?, numbers);
            crossed = true;
            Ok(())
        })?;
        if crossed {
            return Ok(());
        }
    }
    Err(Failure::new("no environment was ready before its midnight"))
}

/// Ten orders at once, five at each instance.
async fn busy(stage: &Stage<'_, Cafe>) -> Result<Vec<cafe::OrderNumber>, Failure> {
    let instances = [stage.instance(1)?, stage.instance(2)?];
    let burst = burst(10, 0..10, async |index: usize| instances[index % 2].order(&NewOrder::of("홍차", 1)).await).await;
    let answers: Result<Vec<_>, _> = burst.answers.into_iter().collect();
    Ok(answers?.into_iter().map(|answer| answer.order_number).collect())
}
