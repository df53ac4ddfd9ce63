//! Queue tokens end, and give their place on (defects 7 and 8).

use std::time::Duration;

use fixtures::concert::{self, Concert, Defect, PRICE, QueueStatus};
use fixtures::{Adjustments, Refusal};
use greenroom::environment::SETTLE_DEADLINE;
use greenroom::scenario::{Verdict, eventually};

use super::{catches, law};
use crate::answers::token_is_gone;
use crate::books;
use crate::queue::{OVER, is_shut_out};

/// How long is waited for a place in the queue that is never given on: fifty rounds of promotion.
const STARVED_AFTER: Duration = Duration::from_secs(5);

/// A buyer pays, and asks where its token stands; then it asks for another seat with it.
fn a_used_token(adjustments: Adjustments<Concert>) -> Verdict {
    adjustments.scenario(async |stage| {
        let show = stage.concert.put_on_show(2, PRICE).await?;
        let buyer = stage.concert.buyer(1, PRICE).await?;
        let held = stage.concert.hold(&buyer, &show, 2).await?;
        stage.concert.pay_for(&held).await?;
        stage.settle().await?;

        if stage.is_of_somebody_else() {
            // It may be used up after the transaction that settles the payment (contract 1.6), and after its offset.
            token_is_gone(stage, &held).await?;
        }
        let standing = stage.concert.check_queue(&buyer.token).await;
        law(standing.is_err(), || format!("the used token still stands in the queue: {standing:?}"))?;
        assert_eq!(standing.refused()?.code(), (404, "WAITING_QUEUE_004"));
        is_shut_out(stage, &buyer.token, (buyer.id, &show), OVER).await?;
        books::balance(stage, &[(buyer.id, PRICE)]).await
    })
}

/// Goal: a token is gone when its payment succeeded, and nobody reserves or pays with it any more.
/// Method: [`a_used_token`].
#[test]
fn a_used_token_is_gone() -> Verdict {
    a_used_token(concert::adjusted())
}

/// Goal: the story above finds a used token that stays active.
#[test]
fn a_used_token_that_stays_is_caught() -> Verdict {
    catches(Defect::UsedTokenStays, a_used_token, &["the used token still stands in the queue", "Processing"])
}

/// Two are active and a third waits. The second pays; the first, at the head of the queue, stays active.
fn an_active_head(adjustments: Adjustments<Concert>, deadline: Duration) -> Verdict {
    let two = adjustments.variable("NUMBER_OF_PROCESS", 2).variable("QUEUE_PROMOTION_PERIOD", "100ms");
    two.scenario(async |stage| {
        let show = stage.concert.put_on_show(1, PRICE).await?;
        let head = stage.concert.issue_token().await?;
        let buyer = stage.concert.buyer(1, PRICE).await?;
        let third = stage.concert.issue_token().await?;
        assert_eq!(stage.concert.check_queue(&third).await?.status, QueueStatus::Waiting);
        let held = stage.concert.hold(&buyer, &show, 1).await?;
        stage.concert.pay_for(&held).await?;
        stage.settle().await?;

        let promoted = eventually(async || match stage.concert.check_queue(&third).await {
            Ok(standing) if standing.status == QueueStatus::Processing => Ok(()),
            other => Err(format!("it stands so: {other:?}")),
        });
        let promoted = tokio::time::timeout(deadline, promoted).await;
        law(promoted.is_ok(), || "the third token starves behind an active one".to_owned())?;
        promoted??;
        assert_eq!(stage.concert.check_queue(&head).await?.status, QueueStatus::Processing);
        books::balance(stage, &[(buyer.id, PRICE)]).await?;
        insta::assert_snapshot!(stage.document().await?);
        Ok(())
    })
}

/// Goal: who waits behind an active token is promoted when a place is free. Method: [`an_active_head`].
#[test]
fn nobody_starves_behind_an_active_token() -> Verdict {
    an_active_head(concert::adjusted(), SETTLE_DEADLINE)
}

/// Goal: the story above finds promotion that looks at the head of the queue alone.
#[test]
fn promotion_at_the_head_alone_is_caught() -> Verdict {
    catches(
        Defect::PromotionAtHead,
        |adjustments| an_active_head(adjustments, STARVED_AFTER),
        &["the third token starves behind an active one"],
    )
}
