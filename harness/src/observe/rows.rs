//! What the database says of being at rest: the described counts, and how many transitions it has recorded.

use std::collections::BTreeMap;

use sqlx::pool::PoolConnection;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, PgPool, Postgres};

use super::settle::{ANSWER, SettleError, Waiting};

/// Counts each query, and finds the number of the last recorded transition.
pub(super) async fn look(
    pool: &PgPool,
    queries: &BTreeMap<String, String>,
) -> Result<(Vec<Waiting>, Option<i64>), SettleError> {
    let mut connection = match pool.acquire().await {
        Ok(connection) => connection,
        Err(error) => return Ok((vec![unanswered_unless_refused("the connection", error)?], None)),
    };
    let mut waiting = Vec::new();
    for (name, sql) in queries {
        match ask::<i64>(&mut connection, name, sql).await? {
            Ok(0) => {}
            Ok(count) => waiting.push(Waiting::Rows { name: name.clone(), count }),
            Err(silent) => return Ok(cut_short(connection, waiting, silent)),
        }
    }
    match transitions(&mut connection).await? {
        Ok(transitions) => Ok((waiting, transitions)),
        Err(silent) => Ok(cut_short(connection, waiting, silent)),
    }
}

/// What was seen before a query that was not answered. The next look takes another connection: this one may go on
/// waiting.
fn cut_short(
    connection: PoolConnection<Postgres>,
    mut seen: Vec<Waiting>,
    silent: Waiting,
) -> (Vec<Waiting>, Option<i64>) {
    drop(connection.detach());
    seen.push(silent);
    (seen, None)
}

/// The number of the last recorded transition; none where no recording is installed, or nothing was recorded yet.
async fn transitions(connection: &mut PgConnection) -> Result<Result<Option<i64>, Waiting>, SettleError> {
    const NAME: &str = "recorded transitions";
    match ask(connection, NAME, "SELECT to_regclass('greenroom.transition') IS NOT NULL").await? {
        Ok(true) => ask(connection, NAME, "SELECT max(seq) FROM greenroom.transition").await,
        Ok(false) => Ok(Ok(None)),
        Err(silent) => Ok(Err(silent)),
    }
}

/// The value that a query gives, or that there is none yet: it may wait for a lock that the story holds.
async fn ask<T>(connection: &mut PgConnection, name: &str, sql: &str) -> Result<Result<T, Waiting>, SettleError>
where
    (T,): for<'r> sqlx::FromRow<'r, PgRow>,
    T: Send + Unpin,
{
    let value = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(connection);
    match tokio::time::timeout(ANSWER, value).await {
        Ok(Ok(value)) => Ok(Ok(value)),
        Ok(Err(error)) => Ok(Err(unanswered_unless_refused(name, error)?)),
        Err(_) => {
            let after = humantime::format_duration(ANSWER);
            Ok(Err(Waiting::Unanswered { what: format!("postgres within {after}: {name}") }))
        }
    }
}

/// A query that the database understood and refused stays refused; a connection may come back.
fn unanswered_unless_refused(name: &str, source: sqlx::Error) -> Result<Waiting, SettleError> {
    match source {
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => {
            Ok(Waiting::Unanswered { what: format!("postgres: {source}") })
        }
        // Class 57 and 53: the server is starting, stopping or out of connections.
        sqlx::Error::Database(ref refusal)
            if refusal.code().is_some_and(|code| code.starts_with("57") || code.starts_with("53")) =>
        {
            Ok(Waiting::Unanswered { what: format!("postgres: {source}") })
        }
        _ => Err(SettleError::Query { name: name.to_owned(), source }),
    }
}
