//! Holding a seat: one at a time, and not for ever.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fixtures::concert::{self, Buyer, Concert, Held, PRICE, SeatStatus, Show};
use fixtures::{CallError, Refusal, Stage};
use greenroom::drive::burst;
use greenroom::scenario::{Failure, Verdict, eventually};

use crate::books;
use crate::ledger::{holders, holds_pass, outbox, wait_for_a_lock};

/// Goal: of three who ask for the same seat at once, exactly one gets it, and it is the first in line.
/// Method: [`in_line`]. By what somebody else's service puts them in line, if it does, is its own affair, and a lock of
/// ours might be in its way: there the three ask at once, and any of them may be the first.
#[test]
fn three_buyers_and_one_seat() -> Verdict {
    concert::scenario(async |stage| {
        let show = stage.concert.put_on_show(1, PRICE).await?;
        let mut buyers = Vec::new();
        for number in 1..=3 {
            buyers.push(stage.concert.buyer(number, 0).await?);
        }
        let (held, refused) = if stage.is_of_somebody_else() {
            let asking = burst(3, buyers, async |buyer: Buyer| stage.concert.hold(&buyer, &show, 1).await);
            let (mut held, refused): (Vec<_>, Vec<_>) = asking.await.answers.into_iter().partition(Result::is_ok);
            assert_eq!(held.len(), 1, "one of three gets the seat: {held:?}, {refused:?}");
            (held.remove(0)?, refused)
        } else {
            let mut answers = in_line(stage, &show, buyers).await?;
            (answers.remove(0)?, answers)
        };
        assert_eq!(refused.len(), 2);
        for refused in refused {
            let refused = refused.refused()?;
            assert!([(400, "CONCERT_007"), (503, "RESERVATION_003")].contains(&refused.code()), "{refused}");
        }
        assert_eq!(holders(stage, show.seats[0].id).await?, [held.buyer.id]);
        books::balance(stage, &[]).await
    })
}

/// The first seat's row is locked from outside, so that all who ask for it wait in a line whose order is known; then let
/// go.
async fn in_line(
    stage: &Stage<'_, Concert>,
    show: &Show,
    buyers: Vec<Buyer>,
) -> Result<Vec<Result<Held, CallError>>, Failure> {
    let mut lock = stage.database().await?.begin().await?;
    sqlx::query("SELECT id FROM seat WHERE id = $1 FOR UPDATE").bind(show.seats[0].id.0).execute(&mut *lock).await?;
    let mut asking = Vec::new();
    for (buyer, in_line) in buyers.into_iter().zip(1..) {
        let (service, show) = (stage.concert.clone(), show.clone());
        asking.push(tokio::spawn(async move { service.hold(&buyer, &show, 1).await }));
        wait_for_a_lock(stage, in_line).await?;
    }
    lock.rollback().await?;
    let mut answers = Vec::new();
    for answer in asking {
        answers.push(answer.await?);
    }
    Ok(answers)
}

/// How long a seat is held, where that is not the usual five minutes.
const HOLD: Duration = Duration::from_secs(90);

/// Goal: a hold lasts as long as it should, and one that nobody pays for ends then: the seat is free and the
/// reservation gone, and the next buyer gets it.
/// Method: the time that the service has given it is looked at, and then moved to now.
#[test]
fn hold_expires() -> Verdict {
    let adjustments = concert::adjusted().variable("HOLD_DURATION", format!("{}s", HOLD.as_secs()));
    adjustments.variable("SEAT_RELEASE_PERIOD", "100ms").scenario(async |stage| {
        let show = stage.concert.put_on_show(1, PRICE).await?;
        let (slow, next) = (stage.concert.buyer(1, 0).await?, stage.concert.buyer(2, 0).await?);
        // The release is told in whole milliseconds, to which the database rounds it.
        let now_ms = || Ok::<_, Failure>(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis().cast_signed());
        let asked_ms = now_ms()?;
        let held = stage.concert.hold(&slow, &show, 1).await?;
        let answered_ms = now_ms()?;
        let seat = stage.concert.seat(&show, 1).await?.expect("the seat exists");
        let release_ms = seat.release_at.map(|at| i128::from(at.timestamp_millis()));
        let hold_ms = HOLD.as_millis().cast_signed();
        let right = release_ms.is_some_and(|at| (asked_ms + hold_ms..=answered_ms + hold_ms + 1).contains(&at));
        assert!(right, "held from {asked_ms} to {answered_ms}, and released at {release_ms:?}: {seat:?}");

        holds_pass(stage).await?;
        eventually(async || match stage.concert.seat(&show, 1).await {
            Ok(Some(seat)) if seat.status == SeatStatus::Available => Ok(()),
            Ok(seat) => Err(format!("the seat is not free: {seat:?}")),
            Err(error) => Err(error.to_string()),
        })
        .await?;
        assert_eq!(holders(stage, show.seats[0].id).await?, []);
        let late = stage.concert.pay_for(&held).await.refused()?;
        assert!([(404, "RESERVATION_001"), (400, "CONCERT_007")].contains(&late.code()), "{late}");
        let held = stage.concert.hold(&next, &show, 1).await?;
        assert_eq!(holders(stage, show.seats[0].id).await?, [held.buyer.id]);
        assert_eq!(outbox(stage).await?, [""; 0], "nothing was paid");
        books::balance(stage, &[]).await
    })
}
