//! PostgreSQL and Redis go away in the middle of a payment and come back.
//!
//! The middle is between the payment's record and its mark: the relay waits at a gate there, and the answer for the
//! relay.

use fixtures::Refusal;
use fixtures::concert;
use greenroom::scenario::Verdict;

use super::each_paid_once;
use crate::answers::token_is_gone;
use crate::gate::{CHANGE_OF_STATUS, Gate};
use crate::ledger::outbox_is;
use crate::sales::held_seats;

/// Goal: a restart of PostgreSQL in the middle of a payment loses nothing and pays nothing twice.
/// Method: the mark of the first payment is lost with its transaction, so it goes out again, unless its answer comes
/// first; the second is asked for afterwards. There is no snapshot: the two race for the row.
#[test]
fn postgres_restarted_in_the_middle_of_a_payment() -> Verdict {
    concert::adjusted().resending_soon().scenario(async |stage| {
        let (closed, found_closed) = ("terminating connection", "while testing the connection");
        for complaint in
            ["outbox relay will try again", "record not handled yet", "seats not released", closed, found_closed]
        {
            stage.environment().expect_complaint("concert", complaint);
        }
        let held = held_seats(stage, 2).await?;
        let gate = Gate::at(CHANGE_OF_STATUS, stage.database().await?).await?;
        stage.concert.pay_for(&held[0]).await?;
        gate.held_up().await?;
        stage.environment().postgres().restart().await?;
        stage.settle().await?;
        stage.concert.pay_for(&held[1]).await?;
        each_paid_once(stage, &held).await
    })
}

/// Goal: a Redis that stands still holds up no money; the token of a paid seat is used up when it goes on.
#[test]
fn redis_stands_still_while_a_payment_is_settled() -> Verdict {
    concert::scenario(async |stage| {
        stage.environment().expect_complaint("concert", "waiting tokens not promoted");
        let held = held_seats(stage, 2).await?;
        let gate = Gate::at(CHANGE_OF_STATUS, stage.database().await?).await?;
        stage.concert.pay_for(&held[0]).await?;
        gate.held_up().await?;
        stage.environment().redis().pause().await?;
        gate.open().await?;
        outbox_is(stage, &["SUCCESS"]).await?;
        stage.environment().redis().resume().await?;
        token_is_gone(stage, &held[0]).await?;
        stage.concert.pay_for(&held[1]).await?;
        each_paid_once(stage, &held).await?;
        insta::assert_snapshot!(stage.document().await?);
        Ok(())
    })
}

/// Goal: a Redis that dies takes its queue with it and no money: a payment under way is settled, who asks meanwhile is
/// told, and who takes a new token pays for the seat that it holds.
#[test]
fn redis_lost_and_back() -> Verdict {
    concert::scenario(async |stage| {
        for complaint in ["queue token not used up", "waiting tokens not promoted", "request failed", "cache"] {
            stage.environment().expect_complaint("concert", complaint);
        }
        let held = held_seats(stage, 2).await?;
        let gate = Gate::at(CHANGE_OF_STATUS, stage.database().await?).await?;
        stage.concert.pay_for(&held[0]).await?;
        gate.held_up().await?;
        stage.environment().redis().kill().await?;
        gate.open().await?;
        outbox_is(stage, &["SUCCESS"]).await?;
        // What is answered meanwhile the contract does not say.
        if !stage.is_of_somebody_else() {
            let refused = stage.concert.pay_for(&held[1]).await.refused()?;
            assert_eq!(refused.code(), (502, "COMMON_502"));
        }

        stage.environment().redis().restart().await?;
        token_is_gone(stage, &held[0]).await?;
        let token = stage.concert.issue_token().await?;
        stage.concert.pay(&token, held[1].buyer.id, held[1].reservation.seat_id).await?;
        each_paid_once(stage, &held).await
    })
}
