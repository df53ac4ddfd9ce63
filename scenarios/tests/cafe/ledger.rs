//! What stories claim of numbers, and what the database says.

use std::collections::BTreeSet;
use std::time::Duration;

use fixtures::Stage;
use fixtures::cafe::{Cafe, ORDER, OrderNumber};
use greenroom::drive::{Event, EventError, EventStream};
use greenroom::scenario::{Failure, eventually};
use serde_json::Value;

/// How long an announcement may take to come.
const ANNOUNCEMENT: Duration = Duration::from_secs(90);

/// The law of order numbers: within each date they are 1, 2, 3 and so on, each given once.
pub(crate) fn without_gap_or_duplicate(numbers: &[OrderNumber]) -> Result<(), Failure> {
    let mut sorted = numbers.to_vec();
    sorted.sort_unstable();
    if let Some(twice) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(Failure::new(format!("number {} was given twice", twice[0])));
    }
    let dates: BTreeSet<_> = sorted.iter().map(|number| number.date).collect();
    for date in dates {
        let of_date = sorted.iter().filter(|number| number.date == date);
        if let Some((expected, _)) = (1..).zip(of_date).find(|(expected, number)| number.sequence != *expected) {
            return Err(Failure::new(format!("number {expected} of {date} was not given, but a later one was")));
        }
    }
    Ok(())
}

/// The law of a number's date: it is the business date on which the order was stored, by the variables of the service.
pub(crate) async fn of_its_business_date(stage: &mut Stage<'_, Cafe>, number: OrderNumber) -> Result<(), Failure> {
    let variables = stage.environment().plan().part(ORDER).map(|part| part.variables.clone()).unwrap_or_default();
    let variable = |name: &str| variables.get(name).ok_or_else(|| Failure::new(format!("the service has no {name}")));
    let date = "SELECT to_char(created_at AT TIME ZONE 'UTC' + CAST($2::text AS interval) - CAST($3::text AS interval),
        'YYYYMMDD') FROM cafe_order WHERE number = $1";
    let date = sqlx::query_scalar::<_, String>(date).bind(number.to_string()).bind(variable("CAFE_UTC_OFFSET")?);
    let date = date.bind(variable("CAFE_DAY_STARTS_AT")?).fetch_one(&stage.database().await?).await?;
    if number.to_string().starts_with(&date) {
        return Ok(());
    }
    Err(Failure::new(format!("order {number} was stored on the business date {date}")))
}

/// Waits until two sessions of the database, at least, wait for others.
pub(crate) async fn two_wait_for_a_lock(stage: &Stage<'_, Cafe>) -> Result<(), Failure> {
    let database = stage.database().await?;
    let waiting =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    eventually(async || match sqlx::query_scalar::<_, i64>(waiting).fetch_one(&database).await {
        Ok(count) if count >= 2 => Ok(()),
        other => Err(format!("two orders do not wait to be stored: {other:?}")),
    })
    .await?;
    Ok(())
}

/// The numbers that are stored, in their own order.
pub(crate) async fn stored(stage: &Stage<'_, Cafe>) -> Result<Vec<OrderNumber>, Failure> {
    let numbers: Vec<String> =
        sqlx::query_scalar("SELECT number FROM cafe_order ORDER BY number").fetch_all(&stage.database().await?).await?;
    numbers
        .iter()
        .map(|number| OrderNumber::parse(number).ok_or_else(|| Failure::new(format!("{number} is no order number"))))
        .collect()
}

/// How many rows a table has.
pub(crate) async fn rows(stage: &Stage<'_, Cafe>, table: &'static str) -> Result<i64, Failure> {
    let count = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
    Ok(sqlx::query_scalar(count).fetch_one(&stage.database().await?).await?)
}

/// The next `count` orders that a client hears of.
pub(crate) async fn hear(stream: &mut EventStream, count: usize) -> Result<Vec<OrderNumber>, Failure> {
    let mut heard = Vec::new();
    while heard.len() < count {
        heard.push(announced(&stream.next(ANNOUNCEMENT).await?)?);
    }
    Ok(heard)
}

/// What a client still hears of from a barista that has ended.
pub(crate) async fn hear_to_the_end(stream: &mut EventStream) -> Result<Vec<OrderNumber>, Failure> {
    let mut heard = Vec::new();
    loop {
        match stream.next(ANNOUNCEMENT).await {
            Ok(event) => heard.push(announced(&event)?),
            Err(EventError::Ended | EventError::Broken(_)) => return Ok(heard),
            Err(silent @ EventError::Silent(_)) => return Err(silent.into()),
        }
    }
}

fn announced(event: &Event) -> Result<OrderNumber, Failure> {
    let data: Value = serde_json::from_str(&event.data)?;
    let number = data["orderNumber"].as_str().and_then(OrderNumber::parse).filter(|_| event.event == "finished");
    number.ok_or_else(|| Failure::new(format!("not an announcement: {event:?}")))
}
