//! What many stories begin with: buyers who hold seats.

use fixtures::concert::{Concert, Held, PRICE};
use fixtures::{CallError, Stage};

/// What every buyer begins with.
pub(crate) const POINTS: i64 = 100_000;

/// A show with this many seats, each held by a buyer of its own.
pub(crate) async fn held_seats(stage: &Stage<'_, Concert>, count: u32) -> Result<Vec<Held>, CallError> {
    let show = stage.concert.put_on_show(count, PRICE).await?;
    let mut held = Vec::new();
    for number in 1..=count {
        let buyer = stage.concert.buyer(number.into(), POINTS).await?;
        held.push(stage.concert.hold(&buyer, &show, number).await?);
    }
    Ok(held)
}

/// A show with one seat, held by a buyer.
pub(crate) async fn a_held_seat(stage: &Stage<'_, Concert>) -> Result<Held, CallError> {
    let show = stage.concert.put_on_show(1, PRICE).await?;
    let buyer = stage.concert.buyer(1, POINTS).await?;
    stage.concert.hold(&buyer, &show, 1).await
}
