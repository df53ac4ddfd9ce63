//! Users are deleted while their seats change hands.

use fixtures::concert::{self, Concert, PRICE, SeatStatus, Show, UserId};
use fixtures::{Refusal, Stage};
use greenroom::scenario::Verdict;

use crate::answers::decline;
use crate::books;
use crate::ledger::{holders, outbox, outbox_is, wait_for_a_lock};
use crate::sales::POINTS;

/// Goal: a user can be deleted whatever happens to its seats meanwhile, and leaves every seat free that was not sold.
/// Method: a user's row is locked from outside, as whoever refers to it does, so that its deletion waits. Meanwhile the
/// payment of one user is declined, which wants its seat, its reservation and its row; and another one reserves one
/// more seat.
#[test]
fn users_are_deleted_while_their_seats_change_hands() -> Verdict {
    concert::scenario(async |stage| {
        let show = stage.concert.put_on_show(4, PRICE).await?;
        let buyer = async |number| stage.concert.buyer(number, POINTS).await;
        let [declined, collector, next] = [buyer(1).await?, buyer(2).await?, buyer(3).await?];
        stage.payments.silence().await?;
        let paid = stage.concert.hold(&declined, &show, 1).await?;
        stage.concert.pay_for(&paid).await?;
        outbox_is(stage, &["PUBLISHED"]).await?;
        stage.concert.hold(&declined, &show, 2).await?;
        stage.concert.hold(&collector, &show, 3).await?;

        deleted_while(stage, declined.id, async || {
            decline(stage, &paid).await?;
            wait_for_a_lock(stage, 2).await
        })
        .await?;
        assert_eq!(outbox(stage).await?, ["FAIL"]);
        is_free(stage, &show, 1).await?;
        deleted_while(stage, collector.id, async || {
            let one_more = stage.concert.hold(&collector, &show, 4).await;
            assert!(one_more.is_ok() || stage.is_of_somebody_else(), "{one_more:?}");
            Ok(())
        })
        .await?;

        // That held seats become free with their user, and not later, is decided by ours.
        if !stage.is_of_somebody_else() {
            for number in 2..=4 {
                is_free(stage, &show, number).await?;
            }
        }
        stage.concert.hold(&next, &show, 1).await?;
        books::balance(stage, &[(next.id, POINTS)]).await
    })
}

/// Deletes a user; nothing but references to it are possible until `meanwhile` is over.
async fn deleted_while(stage: &Stage<'_, Concert>, user: UserId, meanwhile: impl AsyncFnOnce() -> Verdict) -> Verdict {
    let mut lock = stage.database().await?.begin().await?;
    let refer = r#"SELECT id FROM "user" WHERE id = $1 FOR KEY SHARE"#;
    sqlx::query(refer).bind(user.0).execute(&mut *lock).await?;
    let service = stage.concert.clone();
    let deleted = tokio::spawn(async move { service.delete_user(user).await });
    wait_for_a_lock(stage, 1).await?;
    meanwhile().await?;
    lock.rollback().await?;
    deleted.await??;
    stage.settle().await?;
    assert_eq!(stage.concert.points(user).await.refused()?.code(), (400, "USER_001"));
    Ok(())
}

async fn is_free(stage: &Stage<'_, Concert>, show: &Show, number: u32) -> Verdict {
    let seat = stage.concert.seat(show, number).await?.expect("the seat exists");
    assert_eq!((seat.status, seat.release_at), (SeatStatus::Available, None), "seat {number}");
    assert_eq!(holders(stage, seat.id).await?, [], "seat {number}");
    Ok(())
}
