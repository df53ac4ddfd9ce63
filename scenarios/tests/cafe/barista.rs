//! The barista's line: first in, first out, whatever happens to the barista, and everybody hears of it.

use fixtures::Stage;
use fixtures::cafe::{self, BARISTA, Cafe, NewOrder, OrderNumber, PaymentResult};
use greenroom::scenario::{Failure, Verdict};

use crate::ledger::{hear, hear_to_the_end};

/// Places orders one after another; the numbers of those that were paid.
async fn place(stage: &Stage<'_, Cafe>, drinks: &[&str]) -> Result<Vec<OrderNumber>, Failure> {
    let mut paid = Vec::new();
    for drink in drinks {
        let answer = stage.order.order(&NewOrder::of(drink, 1)).await?;
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

/// Goal: what was paid first is made first and announced first, once and to everybody, whatever happens to the barista.
/// Method: [`first_in_first_out_across_a_restart`], then [`every_client_hears_of_every_order`].
#[test]
fn the_baristas_line() -> Verdict {
    cafe::adjusted().variable_of(BARISTA, "BARISTA_TIME_SCALE", "0.06").scenario(async |stage| {
        first_in_first_out_across_a_restart(stage).await?;
        insta::assert_snapshot!(stage.document().await?);
        every_client_hears_of_every_order(stage).await
    })
}

/// Goal: a barista that is killed loses nothing that was paid, before or meanwhile, and keeps the order; a client that
/// comes back with `Last-Event-ID` misses nothing and hears nothing twice.
/// Method: killed after two of five orders, which take 180 ms and more each; two more are paid while it is away.
async fn first_in_first_out_across_a_restart(stage: &mut Stage<'_, Cafe>) -> Verdict {
    let mut client = stage.announcements(None).await?;
    let mut paid = place(stage, &["에스프레소", "모카", "라떼", "아메리카노", "카푸치노", "마키아토"]).await?;
    assert_eq!(paid.len(), 5, "the second is declined");
    let mut heard = hear(&mut client, 2).await?;
    stage.part(BARISTA).kill().await?;
    heard.extend(hear_to_the_end(&mut client).await?);
    assert!(heard.len() < paid.len(), "nothing was left to lose: {heard:?}");
    paid.extend(place(stage, &["홍차", "에스프레소"]).await?);

    stage.part(BARISTA).restart().await?;
    let mut client = stage.announcements(Some(client.last_event_id())).await?;
    heard.extend(hear(&mut client, paid.len() - heard.len()).await?);
    assert_eq!(heard, paid);
    // One that was never there before may ask for everything.
    let mut from_the_first = stage.announcements(Some("0")).await?;
    assert_eq!(hear(&mut from_the_first, 7).await?, paid);
    one_at_a_time(stage, paid.len()).await
}

/// Goal: every connected client hears of every order, in the same order; one that comes later hears what comes later.
async fn every_client_hears_of_every_order(stage: &Stage<'_, Cafe>) -> Verdict {
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(stage.announcements(None).await?);
    }
    let paid = place(stage, &["홍차"; 6]).await?;
    for client in &mut clients {
        assert_eq!(hear(client, paid.len()).await?, paid);
    }
    let mut late = stage.announcements(None).await?;
    let later = place(stage, &["홍차"]).await?;
    assert_eq!((paid.len(), later.len()), (4, 1), "other orders are declined than the seed says");
    assert_eq!(hear(&mut late, 1).await?, later);
    assert_eq!(hear(&mut clients[0], 1).await?, later);
    Ok(())
}
