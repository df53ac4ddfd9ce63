//! A seat and its reservation come and go together (defects 6 and 11).

use fixtures::concert::{self, Concert, Defect, PRICE};
use fixtures::{Adjustments, Refusal};
use greenroom::scenario::Verdict;

use super::{catches, something_broke};
use crate::books;
use crate::ledger::holders;

/// Refuses every reservation.
const REFUSE: &str = "
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no room left'; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON reservation FOR EACH ROW EXECUTE FUNCTION refuse()";

/// A payment is declined, and the next buyer asks for the seat at once.
fn the_next_buyer(adjustments: Adjustments<Concert>) -> Verdict {
    adjustments.scenario(async |stage| {
        let show = stage.concert.put_on_show(1, PRICE).await?;
        let (poor, rich) = (stage.concert.buyer(1, 90_000).await?, stage.concert.buyer(2, 90_000).await?);
        let held = stage.concert.hold(&poor, &show, 1).await?;
        stage.payments.decline(held.reservation.id, "card expired").await?;
        stage.concert.pay_for(&held).await?;
        stage.settle().await?;

        let next = stage.concert.hold(&rich, &show, 1).await?;
        assert_eq!(holders(stage, show.seats[0].id).await?, [rich.id]);
        stage.concert.pay_for(&next).await?;
        stage.settle().await?;
        books::balance(stage, &[(poor.id, 90_000), (rich.id, 90_000)]).await
    })
}

/// Goal: after a failed payment the next buyer gets the seat at once. Method: [`the_next_buyer`].
#[test]
fn the_next_buyer_gets_the_seat() -> Verdict {
    the_next_buyer(concert::adjusted())
}

/// Goal: the story above finds the reservation that a failed payment leaves.
#[test]
fn a_reservation_that_stays_is_caught() -> Verdict {
    let refused = ["the service refused POST /reservation/seat", "503 RESERVATION_003"];
    catches(Defect::ReservationStays, the_next_buyer, &refused)
}

/// The database refuses a reservation, and takes the next one.
fn a_refused_reservation(adjustments: Adjustments<Concert>) -> Verdict {
    adjustments.scenario(async |stage| {
        let show = stage.concert.put_on_show(1, PRICE).await?;
        let buyer = stage.concert.buyer(1, PRICE).await?;
        stage.environment().expect_complaint("postgres", "no room left");
        stage.environment().expect_complaint("concert", "no room left");
        let database = stage.database().await?;
        sqlx::raw_sql(REFUSE).execute(&database).await?;
        let refused = stage.concert.hold(&buyer, &show, 1).await.refused()?;
        something_broke(stage, &refused);
        books::balance(stage, &[(buyer.id, PRICE)]).await?;

        sqlx::raw_sql("DROP TRIGGER refuse ON reservation").execute(&database).await?;
        let held = stage.concert.hold(&buyer, &show, 1).await?;
        stage.concert.pay_for(&held).await?;
        stage.settle().await?;
        books::balance(stage, &[(buyer.id, PRICE)]).await
    })
}

/// Goal: a hold whose reservation fails is no hold. Method: [`a_refused_reservation`].
#[test]
fn a_hold_without_a_reservation_is_none() -> Verdict {
    a_refused_reservation(concert::adjusted())
}

/// Goal: the story above finds a seat that is held by nobody.
#[test]
fn a_seat_held_by_nobody_is_caught() -> Verdict {
    catches(Defect::HoldAndReservationApart, a_refused_reservation, &["seat 1 is HOLD and has 0 reservations"])
}
