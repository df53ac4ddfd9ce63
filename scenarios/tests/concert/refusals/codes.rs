//! What is refused because of what there is, or is not: each with the code of the contract.

use fixtures::concert::{self, Buyer, Concert, Held, NewSeat, PRICE, SeatId, Show, UserId};
use fixtures::{Refusal, Stage};
use greenroom::scenario::{Failure, Verdict};

use crate::answers::decline;
use crate::books;
use crate::ledger::{both_balances, outbox_is};

/// Goal: seats that do not exist can neither be reserved nor paid, and none is made twice.
#[test]
fn seats_that_are_missing_or_there_already() -> Verdict {
    concert::scenario(async |stage| {
        let show = stage.concert.put_on_show(1, PRICE).await?;
        let buyer = stage.concert.buyer(1, PRICE).await?;
        assert_eq!(stage.concert.hold(&buyer, &show, 2).await.refused()?.code(), (404, "CONCERT_003"));
        let nowhere = SeatId(show.seats[0].id.0 + 1);
        assert_eq!(stage.concert.pay(&buyer.token, buyer.id, nowhere).await.refused()?.code(), (404, "CONCERT_003"));
        // It exists, and nobody holds it.
        let free = stage.concert.pay(&buyer.token, buyer.id, show.seats[0].id).await.refused()?;
        assert!([(400, "CONCERT_007"), (404, "RESERVATION_001")].contains(&free.code()), "{free}");

        let (concert_id, performance_date) = (show.concert, show.date);
        let again = NewSeat { concert_id, performance_date, seat_number: 1, price: PRICE.into() };
        assert_eq!(stage.concert.create_seat(&again).await.refused()?.code(), (400, "CONCERT_006"));
        assert_eq!(stage.concert.seats(show.concert, show.date).await?, show.seats);
        books::balance(stage, &[(buyer.id, PRICE)]).await
    })
}

/// Goal: points are neither given to nor taken from who does not exist, has no balance, or has too few; and nobody has
/// those of an unknown user.
/// Method: a user with too few points uses and pays; then it loses its row of the table of balances, and has it back.
/// At last [`a_refund_is_not_lost_with_its_balance`].
#[test]
fn users_and_balances_that_are_missing_or_too_small() -> Verdict {
    concert::scenario(async |stage| {
        let show = stage.concert.put_on_show(1, PRICE).await?;
        for refused in [stage.concert.charge(UserId(7), 1).await, stage.concert.use_points(UserId(7), 1).await] {
            assert_eq!(refused.refused()?.code(), (400, "USER_001"));
        }
        assert_eq!(stage.concert.points(UserId(7)).await.refused()?.code(), (400, "USER_001"));
        let buyer = stage.concert.buyer(1, PRICE - 1).await?;
        let held = stage.concert.hold(&buyer, &show, 1).await?;
        let database = stage.database().await?;
        takes_nothing(stage, buyer.id, "USER_002").await?;
        assert_eq!(stage.concert.pay_for(&held).await.refused()?.code(), (400, "USER_002"));

        sqlx::query(r#"DELETE FROM balance WHERE "userId" = $1"#).bind(buyer.id.0).execute(&database).await?;
        takes_nothing(stage, buyer.id, "USER_003").await?;
        assert_eq!(stage.concert.charge(buyer.id, 1).await.refused()?.code(), (400, "USER_003"));
        assert_eq!(stage.concert.pay_for(&held).await.refused()?.code(), (400, "USER_003"));
        sqlx::query(r#"INSERT INTO balance ("userId", balance) VALUES ($1, $2)"#)
            .bind(buyer.id.0)
            .bind(fixtures::Decimal::from(PRICE - 1))
            .execute(&database)
            .await?;
        assert_eq!(both_balances(stage, buyer.id).await?, ("9999".to_owned(), "9999".to_owned()));
        // Nothing of it was kept: with one more point the seat is still there to be paid.
        stage.concert.charge(buyer.id, 1).await?;
        // What becomes of such a refund is decided by ours.
        let held = if stage.is_of_somebody_else() {
            held
        } else {
            a_refund_is_not_lost_with_its_balance(stage, &buyer, &show, held).await?
        };
        stage.concert.pay_for(&held).await?;
        stage.settle().await?;
        books::balance(stage, &[(buyer.id, PRICE)]).await
    })
}

/// Goal: a refund reaches a user who has lost its row of the table of balances since it paid: it has the row back.
/// Gives the seat as it is held anew.
async fn a_refund_is_not_lost_with_its_balance(
    stage: &Stage<'_, Concert>,
    buyer: &Buyer,
    show: &Show,
    held: Held,
) -> Result<Held, Failure> {
    stage.payments.silence().await?;
    stage.concert.pay_for(&held).await?;
    outbox_is(stage, &["PUBLISHED"]).await?;
    sqlx::query(r#"DELETE FROM balance WHERE "userId" = $1"#)
        .bind(buyer.id.0)
        .execute(&stage.database().await?)
        .await?;
    decline(stage, &held).await?;
    stage.settle().await?;
    assert_eq!(both_balances(stage, buyer.id).await?, (PRICE.to_string(), PRICE.to_string()));
    stage.payments.clear_rules().await?;
    Ok(stage.concert.hold(buyer, show, 1).await?)
}

/// Somebody uses more points than it has.
async fn takes_nothing(stage: &Stage<'_, Concert>, user: UserId, code: &str) -> Verdict {
    assert_eq!(stage.concert.use_points(user, PRICE).await.refused()?.code(), (400, code));
    Ok(())
}
