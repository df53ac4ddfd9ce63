//! What only the database tells: the state of the outbox, and who has a reservation.

use std::time::Duration;

use fixtures::concert::{Concert, ReservationId, SeatId, UserId};
use fixtures::{Stage, StageError};
use greenroom::scenario::{Verdict, eventually};

/// How long somebody else's service is held up by a lock of the story's: it may give up what waits for longer.
pub(crate) const BEHIND_A_LOCK: Duration = Duration::from_secs(2);
/// How long an answer may take on its way to somebody else's service, on a busy machine too.
pub(crate) const ON_ITS_WAY: Duration = Duration::from_secs(30);

/// The states of all outbox rows, in order of their ids.
pub(crate) async fn outbox(stage: &Stage<'_, Concert>) -> Result<Vec<String>, StageError> {
    let database = stage.database().await?;
    Ok(sqlx::query_scalar("SELECT status::text FROM payment_outbox ORDER BY id").fetch_all(&database).await?)
}

/// Waits until the outbox rows are in these states, in order of their ids.
pub(crate) async fn outbox_is(stage: &Stage<'_, Concert>, states: &[&str]) -> Verdict {
    eventually(async || match outbox(stage).await {
        Ok(rows) if rows == states => Ok(()),
        other => Err(format!("the outbox should be {states:?}: {other:?}")),
    })
    .await?;
    Ok(())
}

/// Waits until a payment was sent and not acknowledged, which just our own service counts.
pub(crate) async fn an_attempt_has_failed(stage: &Stage<'_, Concert>) -> Verdict {
    let database = stage.database().await?;
    let failed = "SELECT count(*) FROM payment_outbox WHERE attempts > 0 AND status = 'INIT'";
    eventually(async || match sqlx::query_scalar::<_, i64>(failed).fetch_one(&database).await {
        Ok(0) => Err("no attempt has failed".to_owned()),
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    })
    .await?;
    Ok(())
}

/// Waits until two have met where the story wants them to. How somebody else's service lets them meet is its own affair,
/// and it may never: the story then goes on without after `limit`.
pub(crate) async fn met(
    stage: &Stage<'_, Concert>,
    limit: Duration,
    state: impl AsyncFnMut() -> Result<(), String>,
) -> Verdict {
    let reached = eventually(state);
    if stage.is_of_somebody_else() {
        let _ = tokio::time::timeout(limit, reached).await;
    } else {
        reached.await?;
    }
    Ok(())
}

/// Waits until so many sessions of the database wait for a lock of the story's.
pub(crate) async fn wait_for_a_lock(stage: &Stage<'_, Concert>, sessions: i64) -> Verdict {
    let database = stage.database().await?;
    met(stage, BEHIND_A_LOCK, async || match waiting_for_a_lock(&database).await {
        Ok(waiting) if waiting == sessions => Ok(()),
        other => Err(format!("{sessions} should wait for a lock: {other:?}")),
    })
    .await
}

/// Everyone who has a reservation of the seat.
pub(crate) async fn holders(stage: &Stage<'_, Concert>, seat: SeatId) -> Result<Vec<UserId>, StageError> {
    let database = stage.database().await?;
    let holders = sqlx::query_scalar("SELECT user_id::bigint FROM reservation WHERE seat_id = $1");
    let holders: Vec<i64> = holders.bind(seat.0).fetch_all(&database).await?;
    Ok(holders.into_iter().map(UserId).collect())
}

/// Prices of all payments of a reservation that were written down, as the database writes decimals.
pub(crate) async fn paid(stage: &Stage<'_, Concert>, reservation: ReservationId) -> Result<Vec<String>, StageError> {
    let database = stage.database().await?;
    let prices =
        sqlx::query_scalar("SELECT trim_scale(price)::text FROM payment WHERE reservation_id = $1 ORDER BY id");
    Ok(prices.bind(reservation.0).fetch_all(&database).await?)
}

/// A user's points as each of the two tables has them.
pub(crate) async fn both_balances(stage: &Stage<'_, Concert>, user: UserId) -> Result<(String, String), StageError> {
    let database = stage.database().await?;
    let balances = sqlx::query_as(
        r#"SELECT trim_scale(u.balance)::text, trim_scale(b.balance)::text
           FROM "user" u JOIN balance b ON b."userId" = u.id WHERE u.id = $1"#,
    );
    Ok(balances.bind(user.0).fetch_one(&database).await?)
}

/// How many sessions of the database wait for a lock.
pub(crate) async fn waiting_for_a_lock(database: &sqlx::PgPool) -> Result<i64, sqlx::Error> {
    let waiting =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    sqlx::query_scalar(waiting).fetch_one(database).await
}

/// Moves the time of every hold to now.
pub(crate) async fn holds_pass(stage: &Stage<'_, Concert>) -> Verdict {
    let held = r#"UPDATE seat SET "releaseAt" = clock_timestamp() WHERE "releaseAt" IS NOT NULL"#;
    sqlx::query(held).execute(&stage.database().await?).await?;
    Ok(())
}
