//! What runs out while a payment is under way: the queue token, the hold of the seat.

use fixtures::concert::{self, PRICE, SeatStatus};
use greenroom::scenario::{Verdict, eventually};

use super::{approve, token_is_gone};
use crate::books;
use crate::ledger::{holders, holds_pass, outbox_is};

/// Goal: a payment that was asked for in time is made, though its token has expired when the answer comes.
/// Method: the payment API is silent until the token is gone; then the story answers in its place.
#[test]
fn the_token_expires_before_the_answer() -> Verdict {
    concert::adjusted().variable("QUEUE_TOKEN_DURATION", "8s").scenario(async |stage| {
        let show = stage.concert.put_on_show(1, PRICE).await?;
        stage.payments.silence().await?;
        let buyer = stage.concert.buyer(1, 100_000).await?;
        let held = stage.concert.hold(&buyer, &show, 1).await?;
        stage.concert.pay_for(&held).await?;
        outbox_is(stage, &["PUBLISHED"]).await?;
        token_is_gone(stage, &held).await?;

        approve(stage, &held).await?;
        stage.settle().await?;
        assert_eq!(holders(stage, show.seats[0].id).await?, [buyer.id]);
        books::balance(stage, &[(buyer.id, 100_000)]).await?;
        insta::assert_snapshot!(stage.document().await?);
        Ok(())
    })
}

/// Goal: a seat whose payment is under way stays sold when its hold would have passed.
/// Method: the payment API is silent, and a second seat is held. The time of every hold is moved to now: when the second
/// seat is free, the time of the first is over too, had it any. Then the story answers.
#[test]
fn the_hold_passes_while_the_payment_is_in_flight() -> Verdict {
    concert::adjusted().variable("SEAT_RELEASE_PERIOD", "100ms").scenario(async |stage| {
        let show = stage.concert.put_on_show(2, PRICE).await?;
        stage.payments.silence().await?;
        let (buyer, idler) = (stage.concert.buyer(1, 100_000).await?, stage.concert.buyer(2, 0).await?);
        let held = stage.concert.hold(&buyer, &show, 1).await?;
        stage.concert.pay_for(&held).await?;
        stage.concert.hold(&idler, &show, 2).await?;
        holds_pass(stage).await?;
        eventually(async || match stage.concert.seat(&show, 2).await {
            Ok(Some(seat)) if seat.status == SeatStatus::Available => Ok(()),
            other => Err(format!("the second seat is not free: {other:?}")),
        })
        .await?;
        let seat = stage.concert.seat(&show, 1).await?.expect("the seat exists");
        assert_eq!((seat.status, seat.release_at), (SeatStatus::Reserved, None));

        approve(stage, &held).await?;
        stage.settle().await?;
        assert_eq!(holders(stage, show.seats[0].id).await?, [buyer.id]);
        books::balance(stage, &[(buyer.id, 100_000)]).await?;
        insta::assert_snapshot!(stage.document().await?);
        Ok(())
    })
}
