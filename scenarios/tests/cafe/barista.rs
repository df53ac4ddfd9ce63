//! The barista's line: first in, first out, whatever happens to the barista, and everybody hears of it.

use fixtures::Stage;
use fixtures::cafe::{self, BARISTA, Cafe, NewOrder, OrderNumber, PaymentResult};
use greenroom::drive::EventStream;
use greenroom::scenario::{Failure, Verdict, eventually};

use crate::ledger::{hear, hear_to_the_end, rows};

/// What the times of the menu are multiplied by: an espresso takes 180 ms.
const TIME_SCALE: f64 = 0.06;

/// Places orders one after another, so many of a drink each; the numbers of those that were paid.
async fn place(stage: &Stage<'_, Cafe>, orders: &[(&str, u32)]) -> Result<Vec<OrderNumber>, Failure> {
    let mut paid = Vec::new();
    for (drink, amount) in orders {
        let answer = stage.order.order(&NewOrder::of(drink, *amount)).await?;
        if answer.payment_result == PaymentResult::Approved {
            paid.push(answer.order_number);
        }
    }
    Ok(paid)
}

/// The law of the machine: what is begun is finished before the next is begun, as the database has recorded it of all
/// orders `made`.
async fn one_at_a_time(stage: &Stage<'_, Cafe>, made: usize) -> Verdict {
    let history = "SELECT key, to_value FROM greenroom.transition
        WHERE table_name = 'barista_queue' AND column_name = 'status' AND to_value <> 'QUEUED' ORDER BY seq";
    let history: Vec<(String, String)> = sqlx::query_as(history).fetch_all(&stage.database().await?).await?;
    assert_eq!(history.len(), 2 * made, "{history:?}");
    for pair in history.chunks(2) {
        assert!(matches!(pair, [(one, begun), (same, done)] if one == same && begun == "MAKING" && done == "DONE"));
    }
    Ok(())
}

/// The law of the menu: an order takes as long as its drinks do, from when both it and the machine are there.
async fn none_too_quick(stage: &Stage<'_, Cafe>) -> Verdict {
    let too_quick = "SELECT order_number, making_ms, took_ms FROM (
            SELECT order_number, making_ms, 1000 * extract(epoch FROM finished_at
                - greatest(queued_at, lag(finished_at) OVER (ORDER BY position)))::double precision AS took_ms
            FROM barista_queue
        ) AS made WHERE took_ms < making_ms * $1";
    let too_quick: Vec<(String, i64, f64)> =
        sqlx::query_as(too_quick).bind(TIME_SCALE).fetch_all(&stage.database().await?).await?;
    assert_eq!(too_quick, [], "made in less than {TIME_SCALE} of the time on the menu");
    Ok(())
}

/// Waits until so many orders are announced, whoever listens.
async fn announced(stage: &Stage<'_, Cafe>, count: usize) -> Verdict {
    eventually(async || match rows(stage, "announcement").await {
        Ok(announced) if usize::try_from(announced) == Ok(count) => Ok(()),
        other => Err(format!("{count} orders should be announced: {other:?}")),
    })
    .await?;
    Ok(())
}

/// Goal: what was paid first is made first and announced first, once and to everybody, whatever happens to the barista.
/// Method: [`first_in_first_out_across_a_restart`], then [`every_client_hears_of_every_order`], then
/// [`what_was_read_and_not_queued_is_made`].
#[test]
fn the_baristas_line() -> Verdict {
    cafe::adjusted().variable_of(BARISTA, "BARISTA_TIME_SCALE", TIME_SCALE).scenario(async |stage| {
        let clients = first_in_first_out_across_a_restart(stage).await?;
        insta::assert_snapshot!(stage.document().await?);
        every_client_hears_of_every_order(stage, clients).await?;
        what_was_read_and_not_queued_is_made(stage).await?;
        none_too_quick(stage).await
    })
}

/// Goal: a barista that is killed loses nothing that was paid, before or meanwhile, and keeps the order; a client that
/// comes back with `Last-Event-ID` misses nothing and hears nothing twice.
/// Method: killed after two of five orders, the last of which takes seven seconds; two more are paid while it is away.
/// The clients go on listening.
async fn first_in_first_out_across_a_restart(stage: &mut Stage<'_, Cafe>) -> Result<Vec<EventStream>, Failure> {
    let mut client = stage.announcements(None).await?;
    let first = [("에스프레소", 1), ("모카", 1), ("라떼", 1), ("아메리카노", 1), ("카푸치노", 1), ("마키아토", 20)];
    let mut paid = place(stage, &first).await?;
    assert_eq!(paid.len(), 5, "the second is declined");
    let mut heard = hear(&mut client, 2).await?;
    stage.part(BARISTA).kill().await?;
    heard.extend(hear_to_the_end(&mut client).await?);
    assert!(heard.len() < paid.len(), "nothing was left to lose: {heard:?}");
    paid.extend(place(stage, &[("홍차", 1), ("에스프레소", 1)]).await?);

    stage.part(BARISTA).restart().await?;
    let mut client = stage.announcements(Some(client.last_event_id())).await?;
    heard.extend(hear(&mut client, paid.len() - heard.len()).await?);
    assert_eq!(heard, paid);
    // One that was never there before may ask for everything.
    let mut from_the_first = stage.announcements(Some("0")).await?;
    assert_eq!(hear(&mut from_the_first, 7).await?, paid);
    one_at_a_time(stage, paid.len()).await?;
    Ok(vec![client, from_the_first])
}

/// Goal: every connected client hears of every order, once and in the same order, and of nothing else; one that comes
/// later hears what comes later; one that went away while the barista lived misses nothing either.
/// Method: with `clients` of before, who have heard of everything so far. The one that goes away has heard of two
/// orders and comes back when all are announced; at last the barista ends, so that everybody hears to the end.
async fn every_client_hears_of_every_order(stage: &mut Stage<'_, Cafe>, mut clients: Vec<EventStream>) -> Verdict {
    for _ in 0..20 {
        clients.push(stage.announcements(None).await?);
    }
    let mut leaving = stage.announcements(None).await?;
    let before = usize::try_from(rows(stage, "announcement").await?)?;
    let mut paid = place(stage, &[("홍차", 1); 6]).await?;
    let two = hear(&mut leaving, 2).await?;
    let last_event_id = leaving.last_event_id().to_owned();
    drop(leaving);
    announced(stage, before + paid.len()).await?;
    let mut late = stage.announcements(None).await?;
    let later = place(stage, &[("홍차", 1)]).await?;
    assert_eq!((paid.len(), later.len()), (4, 1), "other orders are declined than the seed says");
    paid.extend(&later);
    announced(stage, before + paid.len()).await?;
    let mut back = stage.announcements(Some(&last_event_id)).await?;

    for client in &mut clients {
        assert_eq!(hear(client, paid.len()).await?, paid);
    }
    assert_eq!(hear(&mut late, 1).await?, later);
    assert_eq!((two.as_slice(), hear(&mut back, 3).await?.as_slice()), paid.split_at(2));
    let ended = stage.part(BARISTA).stop().await?;
    assert!(ended.ends_with(": 0"), "the barista did not end in good order: {ended}");
    clients.extend([late, back]);
    for client in &mut clients {
        assert_eq!(hear_to_the_end(client).await?, [], "a client heard of something twice");
    }
    Ok(())
}

/// Goal: an order that a barista has read and not yet queued when it is killed is made by its successor.
/// Method: the queue is locked while an order is paid. The barista is killed when it waits to store it; so is its
/// session, which would store it all the same once the lock is gone.
async fn what_was_read_and_not_queued_is_made(stage: &mut Stage<'_, Cafe>) -> Verdict {
    stage.environment().expect_complaint("postgres", "terminating connection due to administrator command");
    stage.part(BARISTA).restart().await?;
    let before = rows(stage, "announcement").await?;
    let mut door = stage.database().await?.begin().await?;
    sqlx::query("LOCK TABLE barista_queue IN SHARE ROW EXCLUSIVE MODE").execute(&mut *door).await?;
    let paid = place(stage, &[("홍차", 1)]).await?;
    assert_eq!(paid.len(), 1, "other orders are declined than the seed says");
    let session = waits_to_queue(stage).await?;
    stage.part(BARISTA).kill().await?;
    // Answers when the session has ended, or after this many milliseconds.
    let ended = sqlx::query_scalar("SELECT pg_terminate_backend($1, 60000)").bind(session);
    let ended: bool = ended.fetch_one(&stage.database().await?).await?;
    assert!(ended, "the dead barista's session goes on");
    door.rollback().await?;
    let queued = sqlx::query_scalar("SELECT count(*) FROM barista_queue WHERE order_number = $1");
    let queued: i64 = queued.bind(paid[0].to_string()).fetch_one(&stage.database().await?).await?;
    assert_eq!(queued, 0, "it was queued before the barista died");

    stage.part(BARISTA).restart().await?;
    stage.settle().await?;
    assert_eq!(rows(stage, "announcement").await?, before + 1, "what was paid is not made");
    assert_eq!(hear(&mut stage.announcements(Some(&before.to_string())).await?, 1).await?, paid);
    Ok(())
}

/// Waits until the barista waits to queue an order; the process id of its session.
async fn waits_to_queue(stage: &Stage<'_, Cafe>) -> Result<i32, Failure> {
    let database = stage.database().await?;
    let waiting = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
        AND query LIKE 'INSERT INTO barista_queue%'";
    let waits = eventually(async || match sqlx::query_scalar(waiting).fetch_optional(&database).await {
        Ok(Some(session)) => Ok(session),
        other => Err(format!("the barista does not wait to queue an order: {other:?}")),
    });
    Ok(waits.await?)
}
