//! Points under concurrency: nothing is lost and nothing is made.

use fixtures::concert::{self, Concert, UserId};
use fixtures::{Refusal, Stage};
use greenroom::drive::burst;
use greenroom::scenario::{Failure, Verdict};

use crate::books;
use crate::ledger::{BEHIND_A_LOCK, both_balances, met, waiting_for_a_lock};

/// The user's row in both tables.
const ROWS: &str = r#"SELECT u.id FROM "user" u JOIN balance b ON b."userId" = u.id WHERE u.id = $1 FOR UPDATE"#;

/// Does the same so many times at once. The user's rows are locked from outside until all of them wait there: what they
/// know of one another is then no matter of luck.
async fn at_once<R>(
    stage: &Stage<'_, Concert>,
    user: UserId,
    times: u8,
    action: impl AsyncFn() -> R,
) -> Result<Vec<R>, Failure> {
    let database = stage.database().await?;
    let mut lock = database.begin().await?;
    sqlx::query(ROWS).bind(user.0).execute(&mut *lock).await?;
    let all_wait = async {
        met(stage, BEHIND_A_LOCK, async || match waiting_for_a_lock(&database).await {
            Ok(waiting) if waiting >= times.into() => Ok(()),
            Ok(waiting) => Err(format!("{waiting} of {times} wait for the user")),
            Err(error) => Err(error.to_string()),
        })
        .await?;
        lock.rollback().await?;
        Ok::<_, Failure>(())
    };
    let (all_wait, answers) = tokio::join!(all_wait, burst(times.into(), 0..times, async |_| action().await));
    all_wait?;
    Ok(answers.answers)
}

async fn has_points(stage: &Stage<'_, Concert>, user: UserId, points: &str) -> Verdict {
    assert_eq!(stage.concert.points(user).await?, points);
    assert_eq!(both_balances(stage, user).await?, (points.to_owned(), points.to_owned()));
    Ok(())
}

/// Goal: three charges of 100 at the same time make 300.
#[test]
fn three_parallel_charges() -> Verdict {
    concert::scenario(async |stage| {
        let user = stage.concert.funded_user(1, 0).await?;
        let charged = at_once(stage, user, 3, async || stage.concert.charge(user, 100).await).await?;
        charged.into_iter().collect::<Result<Vec<_>, _>>()?;
        has_points(stage, user, "300").await?;
        books::balance(stage, &[(user, 300)]).await
    })
}

/// Goal: five uses of 100 at the same time leave 1500 of 2000; of 100 points just one of them takes 100.
#[test]
fn five_parallel_uses() -> Verdict {
    concert::scenario(async |stage| {
        let rich = stage.concert.funded_user(1, 2_000).await?;
        let used = at_once(stage, rich, 5, async || stage.concert.use_points(rich, 100).await).await?;
        used.into_iter().collect::<Result<Vec<_>, _>>()?;
        has_points(stage, rich, "1500").await?;

        let poor = stage.concert.funded_user(2, 100).await?;
        let used = at_once(stage, poor, 5, async || stage.concert.use_points(poor, 100).await).await?;
        let (used, refused): (Vec<_>, Vec<_>) = used.into_iter().partition(Result::is_ok);
        assert_eq!((used.len(), refused.len()), (1, 4));
        for refused in refused {
            assert_eq!(refused.refused()?.code(), (400, "USER_002"));
        }
        has_points(stage, poor, "0").await?;
        books::balance(stage, &[(rich, 1_500), (poor, 0)]).await
    })
}
