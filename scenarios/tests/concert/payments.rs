//! Paying for a seat: through the outbox to the payment API and back.

use fixtures::Refusal;
use fixtures::concert::{self, PRICE, SeatStatus};
use greenroom::scenario::Verdict;

use crate::books;
use crate::ledger::{both_balances, holders, outbox, paid};
use crate::sales::{POINTS, held_seats};

/// Goal: a payment goes all the way once. Method: issue a token, reserve, pay 10 000 of 100 000 points.
#[test]
fn approved_payment() -> Verdict {
    concert::scenario(async |stage| {
        let show = stage.concert.put_on_show(1, PRICE).await?;
        let buyer = stage.concert.buyer(1, 100_000).await?;
        let held = stage.concert.hold(&buyer, &show, 1).await?;
        stage.concert.pay_for(&held).await?;
        stage.settle().await?;

        assert_eq!(stage.concert.points(buyer.id).await?, "90000");
        assert_eq!(both_balances(stage, buyer.id).await?, ("90000".to_owned(), "90000".to_owned()));
        assert_eq!(outbox(stage).await?, ["SUCCESS"]);
        assert_eq!(paid(stage, held.reservation.id).await?, ["10000"]);
        let seat = stage.concert.seat(&show, 1).await?.expect("the seat exists");
        assert_eq!(seat.status, SeatStatus::Reserved);
        books::balance(stage, &[(buyer.id, 100_000)]).await?;
        insta::assert_snapshot!(stage.document().await?);
        Ok(())
    })
}

/// Goal: a declined payment gives back points, seat and reservation, and the next buyer succeeds at once.
#[test]
fn declined_payment() -> Verdict {
    concert::scenario(async |stage| {
        let show = stage.concert.put_on_show(1, PRICE).await?;
        let (poor, rich) = (stage.concert.buyer(1, 90_000).await?, stage.concert.buyer(2, 90_000).await?);
        let held = stage.concert.hold(&poor, &show, 1).await?;
        stage.payments.decline(held.reservation.id, "card expired").await?;
        stage.concert.pay_for(&held).await?;
        stage.settle().await?;

        assert_eq!(both_balances(stage, poor.id).await?, ("90000".to_owned(), "90000".to_owned()));
        assert_eq!(outbox(stage).await?, ["FAIL"]);
        assert_eq!(holders(stage, show.seats[0].id).await?, []);
        let seat = stage.concert.seat(&show, 1).await?.expect("the seat exists");
        assert_eq!(seat.status, SeatStatus::Available);

        let next = stage.concert.hold(&rich, &show, 1).await?;
        stage.concert.pay_for(&next).await?;
        stage.settle().await?;
        assert_eq!(outbox(stage).await?, ["FAIL", "SUCCESS"]);
        assert_eq!(stage.concert.points(rich.id).await?, "80000");
        books::balance(stage, &[(poor.id, 90_000), (rich.id, 90_000)]).await?;
        insta::assert_snapshot!(stage.document().await?);
        Ok(())
    })
}

/// Goal: a seat is paid by whoever holds it, and by nobody else.
/// Method: each of two buyers holds a seat, and the second pays for that of the first. Then both pay for their own.
#[test]
fn a_seat_that_somebody_else_holds() -> Verdict {
    concert::scenario(async |stage| {
        let held = held_seats(stage, 2).await?;
        let (holder, other) = (&held[0], &held[1].buyer);
        let refused = stage.concert.pay(&other.token, other.id, holder.reservation.seat_id).await.refused()?;
        assert_eq!(refused.code(), (404, "RESERVATION_001"));
        for buyer in [&holder.buyer, other] {
            assert_eq!(both_balances(stage, buyer.id).await?, (POINTS.to_string(), POINTS.to_string()));
        }
        assert_eq!(outbox(stage).await?, [""; 0], "a payment was asked for");

        for held in &held {
            stage.concert.pay_for(held).await?;
        }
        stage.settle().await?;
        for held in &held {
            assert_eq!(paid(stage, held.reservation.id).await?, ["10000"]);
        }
        books::balance(stage, &[(holder.buyer.id, POINTS), (other.id, POINTS)]).await
    })
}

/// Goal: two instances share one database and one group, and every payment is made once.
/// Method: four buyers, two at each instance, pay at the same time.
#[test]
fn two_instances() -> Verdict {
    concert::adjusted().instances(2).scenario(async |stage| {
        let (one, other) = (stage.instance(1)?, stage.instance(2)?);
        let show = one.put_on_show(4, PRICE).await?;
        let mut held = Vec::new();
        for (number, instance) in (1..=4).zip([&one, &other, &one, &other]) {
            let buyer = instance.buyer(number.into(), 100_000).await?;
            held.push(instance.hold(&buyer, &show, number).await?);
        }
        let paying = (one.pay_for(&held[0]), other.pay_for(&held[1]), one.pay_for(&held[2]), other.pay_for(&held[3]));
        tokio::try_join!(paying.0, paying.1, paying.2, paying.3)?;
        stage.settle().await?;

        assert_eq!(outbox(stage).await?, ["SUCCESS"; 4]);
        for held in &held {
            assert_eq!(paid(stage, held.reservation.id).await?, ["10000"]);
            assert_eq!(stage.payments.journal_of(held.reservation.id).await?.len(), 1, "sent more than once");
            assert_eq!(both_balances(stage, held.buyer.id).await?, ("90000".to_owned(), "90000".to_owned()));
        }
        let given: Vec<_> = held.iter().map(|held| (held.buyer.id, 100_000)).collect();
        books::balance(stage, &given).await?;
        insta::assert_snapshot!(stage.document().await?);
        Ok(())
    })
}
