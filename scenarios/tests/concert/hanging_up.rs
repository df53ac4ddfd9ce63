//! Callers who hang up before they are answered: what they asked for is done as if they were there, or not at all.

use fixtures::concert;
use greenroom::scenario::{Verdict, eventually};
use tokio::task::JoinHandle;

use crate::books;
use crate::gate::{COMMIT_OF_A_CONCERT, COMMIT_OF_A_PAYMENT, Gate};
use crate::judged::is_skipped_for_others;
use crate::sales::{POINTS, a_held_seat};

/// Goal: a concert whose maker has hung up is in the list as soon as it exists, though the list was cached before.
/// Method: the commit is held up until the connection is closed.
#[test]
fn while_a_concert_is_made() -> Verdict {
    concert::scenario(async |stage| {
        let first = stage.concert.create_concert("Winterreise", "Small Hall").await?;
        assert_eq!(stage.concert.concerts().await?, [first]);
        let gate = Gate::at(COMMIT_OF_A_CONCERT, stage.database().await?).await?;
        let service = stage.concert.clone();
        let asked = tokio::spawn(async move { service.create_concert("Schwanengesang", "Small Hall").await });
        hangs_up(asked, &gate).await?;
        // An answer from here on comes from a service that may have noticed.
        stage.concert.concerts().await?;
        gate.open().await?;

        let made: i64 = sqlx::query_scalar("SELECT count(*) FROM concert").fetch_one(&stage.database().await?).await?;
        eventually(async || match stage.concert.concerts().await {
            Ok(concerts) if i64::try_from(concerts.len()) == Ok(made) => Ok(()),
            other => Err(format!("there are {made} concerts, and listed are {other:?}")),
        })
        .await?;
        Ok(())
    })
}

/// Goal: a payment whose buyer has hung up is made like any other, and does not wait for a timer of minutes.
/// Method: as above.
#[test]
fn while_a_payment_is_asked_for() -> Verdict {
    // The contract has timers that send what nobody was woken for, but not within the patience of a story.
    if is_skipped_for_others("when it sends what nobody waits for is a matter of its timers")? {
        return Ok(());
    }
    concert::scenario(async |stage| {
        let held = a_held_seat(stage).await?;
        let gate = Gate::at(COMMIT_OF_A_PAYMENT, stage.database().await?).await?;
        let (service, buyer) = (stage.concert.clone(), held.buyer.id);
        let asked = tokio::spawn(async move { service.pay_for(&held).await });
        hangs_up(asked, &gate).await?;
        stage.concert.concerts().await?;
        gate.open().await?;
        stage.settle().await?;
        books::balance(stage, &[(buyer, POINTS)]).await
    })
}

/// Closes the connection of a call when its commit is held up.
async fn hangs_up<T: std::fmt::Debug>(asked: JoinHandle<T>, gate: &Gate) -> Verdict {
    gate.held_up().await?;
    asked.abort();
    let hung_up = asked.await.expect_err("nobody has answered");
    assert!(hung_up.is_cancelled(), "{hung_up}");
    Ok(())
}
