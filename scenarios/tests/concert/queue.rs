//! The waiting queue: so many at a time, first come, first served.

use std::collections::BTreeSet;

use fixtures::concert::{self, Concert, PRICE, QueueStanding, QueueStatus, QueueToken, Show, UserId};
use fixtures::{CallError, Refusal, Stage};
use greenroom::drive::burst;
use greenroom::scenario::{Verdict, eventually};

use crate::books;

/// What ours says of a token whose time is over, or that was used.
pub(crate) const OVER: &str = "WAITING_QUEUE_002";
/// What ours says of one whose turn has not come.
const NOT_YET: &str = "WAITING_QUEUE_003";

/// The law of the gate: whose token is not active neither reserves the first seat of a show nor pays for it. Which code
/// goes with the 401 the contract leaves open; ours is `code`.
pub(crate) async fn is_shut_out(
    stage: &Stage<'_, Concert>,
    token: &QueueToken,
    (user, show): (UserId, &Show),
    code: &str,
) -> Verdict {
    let reserved = stage.concert.reserve(token, &show.wish(user, 1)).await.refused()?;
    let paid = stage.concert.pay(token, user, show.seats[0].id).await.refused()?;
    for refused in [reserved, paid] {
        let right = refused.status == 401 && (refused.error_code == code || stage.is_of_somebody_else());
        assert!(right, "{refused}");
    }
    Ok(())
}

/// Goal: the sixth token waits, and is promoted when one of the five is used up by a payment. Until then nobody
/// reserves or pays with it.
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

        is_shut_out(stage, &sixth, (payer.id, &show), NOT_YET).await?;
        let held = stage.concert.hold(&payer, &show, 1).await?;
        is_shut_out(stage, &sixth, (payer.id, &show), NOT_YET).await?;
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

/// Status, waiting number and remaining time.
type Place = (QueueStatus, Option<u32>, Option<u64>);

fn place(standing: &QueueStanding) -> Place {
    (standing.status, standing.waiting_number, standing.remaining_time)
}

async fn places(stage: &Stage<'_, Concert>, tokens: &[QueueToken]) -> Result<Vec<Place>, CallError> {
    let mut places = Vec::new();
    for token in tokens {
        places.push(place(&stage.concert.check_queue(token).await?));
    }
    Ok(places)
}

/// A place among the active ones.
const IN: Place = (QueueStatus::Processing, Some(0), Some(0));

fn waits(number: u32, time: u64) -> Place {
    (QueueStatus::Waiting, Some(number), Some(time))
}

/// Goal: who waits is told how many are ahead, and the first who waits is the next to be let in.
/// Method: two are active and three wait. One is used up, and each of the three moves up by one; then the next.
/// When places are given on is a matter of minutes where our variables are not known, so that is asked of ours alone,
/// and the table says so.
#[test]
fn first_come_first_served() -> Verdict {
    concert::adjusted().variable("NUMBER_OF_PROCESS", 2).scenario(async |stage| {
        let show = stage.concert.put_on_show(2, PRICE).await?;
        let buyers = [stage.concert.buyer(1, PRICE).await?, stage.concert.buyer(2, PRICE).await?];
        let mut tokens = buyers.clone().map(|buyer| buyer.token).to_vec();
        for _ in 3..=5 {
            tokens.push(stage.concert.issue_token().await?);
        }
        assert_eq!(places(stage, &tokens).await?, [IN, IN, waits(1, 2), waits(2, 2), waits(3, 4)]);
        is_shut_out(stage, &tokens[2], (buyers[0].id, &show), NOT_YET).await?;
        let active = stage.concert.check_queue(&tokens[0]).await?;
        assert!(active.expire_at.is_some_and(|at| !at.is_null()), "an active token does not say when it ends");

        if stage.is_of_somebody_else() {
            stage.environment().leave_unasked("who is let in when a place is given back, which may take minutes");
            return Ok(());
        }
        for (buyer, left) in buyers.iter().zip([&[IN, IN, waits(1, 2), waits(2, 2)][..], &[IN, IN, waits(1, 2)]]) {
            tokens.remove(0);
            let held = stage.concert.hold(buyer, &show, buyer.id.0.try_into()?).await?;
            stage.concert.pay_for(&held).await?;
            stage.settle().await?;
            assert_eq!(places(stage, &tokens).await?, left);
        }
        books::balance(stage, &buyers.map(|buyer| (buyer.id, PRICE))).await
    })
}

/// Goal: a token that waits for too long expires, and has no place in the queue any more; an active one stays.
#[test]
fn a_token_that_waits_for_too_long() -> Verdict {
    let impatient = concert::adjusted().variable("NUMBER_OF_PROCESS", 1).variable("QUEUE_WAIT_DURATION", "1s");
    impatient.scenario(async |stage| {
        let show = stage.concert.put_on_show(1, PRICE).await?;
        let active = stage.concert.buyer(1, PRICE).await?;
        let waiting = stage.concert.issue_token().await?;
        let expired = eventually(async || match stage.concert.check_queue(&waiting).await {
            Ok(standing) if standing.status == QueueStatus::Expired => Ok(standing),
            other => Err(format!("it has not expired: {other:?}")),
        });
        let expired = expired.await?;
        assert_eq!((place(&expired), expired.expire_at), ((QueueStatus::Expired, None, None), None));
        is_shut_out(stage, &waiting, (active.id, &show), OVER).await?;

        assert_eq!(place(&stage.concert.check_queue(&active.token).await?), IN);
        let held = stage.concert.hold(&active, &show, 1).await?;
        stage.concert.pay_for(&held).await?;
        stage.settle().await?;
        // Its place is nobody's now: who has expired is not let in.
        assert_eq!(stage.concert.check_queue(&waiting).await?.status, QueueStatus::Expired);
        books::balance(stage, &[(active.id, PRICE)]).await
    })
}

/// Goal: however many take a number at once, and wherever, as many are let in as may, and every other has a number of
/// its own.
/// Method: forty at once at two instances; seven may be in.
#[test]
fn forty_at_once_at_two_instances() -> Verdict {
    concert::adjusted().instances(2).variable("NUMBER_OF_PROCESS", 7).scenario(async |stage| {
        let instances = [stage.instance(1)?, stage.instance(2)?];
        let issued = burst(40, 0..40, async |index: usize| instances[index % 2].issue_token().await);
        let tokens = issued.await.answers.into_iter().collect::<Result<Vec<_>, _>>()?;
        let places = places(stage, &tokens).await?;
        assert_eq!(places.iter().filter(|place| **place == IN).count(), 7, "{places:?}");
        let waiting: Vec<_> = places.iter().filter(|(status, ..)| *status == QueueStatus::Waiting).collect();
        assert_eq!(waiting.len(), 33, "{places:?}");
        // Two that took a number in the same millisecond may both be told the same of those ahead of them.
        if !stage.is_of_somebody_else() {
            let numbers: BTreeSet<_> = waiting.iter().map(|(_, number, _)| *number).collect();
            assert_eq!(numbers, (1..=33).map(Some).collect());
        }
        Ok(())
    })
}
