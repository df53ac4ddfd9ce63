//! The waiting queue: five at a time, first come, first served.

use fixtures::concert::{self, PRICE, QueueStatus};
use greenroom::scenario::{Verdict, eventually};

use crate::books;

/// Goal: the sixth token waits, and is promoted when one of the five is used up by a payment.
#[test]
fn sixth_token_waits_until_one_is_used_up() -> Verdict {
    concert::adjusted().variable("QUEUE_PROMOTION_PERIOD", "100ms").scenario(async |stage| {
        let show = stage.concert.put_on_show(1, PRICE).await?;
        let payer = stage.concert.buyer(1, PRICE).await?;
        for _ in 2..=5 {
            let token = stage.concert.issue_token().await?;
            assert_eq!(stage.concert.check_queue(&token).await?.status, QueueStatus::Processing);
        }
        let sixth = stage.concert.issue_token().await?;
        let standing = stage.concert.check_queue(&sixth).await?;
        assert_eq!((standing.status, standing.waiting_number), (QueueStatus::Waiting, Some(1)));
        // Ceil(1 / 5) × 5: the contract's estimate, whatever its unit.
        assert_eq!(standing.remaining_time, Some(5));

        let held = stage.concert.hold(&payer, &show, 1).await?;
        stage.concert.pay_for(&held).await?;
        stage.settle().await?;
        eventually(async || match stage.concert.check_queue(&sixth).await {
            Ok(standing) if standing.status == QueueStatus::Processing => Ok(()),
            Ok(standing) => Err(format!("the sixth token was not promoted: {standing:?}")),
            Err(error) => Err(error.to_string()),
        })
        .await?;
        books::balance(stage, &[(payer.id, PRICE)]).await?;
        insta::assert_snapshot!(stage.document().await?);
        Ok(())
    })
}
