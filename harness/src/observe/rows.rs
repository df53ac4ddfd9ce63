//! What the database says of being at rest: the described counts, and how many transitions it has recorded.
//!
//! A query may wait for a lock that the story holds. It goes on waiting beyond one look, and the next look asks nothing
//! new before it is answered: the database would keep a session for each.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use sqlx::postgres::{PgPoolOptions, PgRow};
use sqlx::{AssertSqlSafe, PgPool};
use tokio::task::JoinSet;

use super::settle::{ANSWER, SettleError, Waiting};

/// What one look found: what is waited for, and the number of the last recorded transition.
pub(super) type Seen = (Vec<Waiting>, Option<i64>);

/// The described queries of one settling.
pub(super) struct Rows {
    database: Database,
    /// The look that has not ended.
    looking: tokio::sync::Mutex<JoinSet<Result<Seen, SettleError>>>,
}

#[derive(Clone)]
struct Database {
    pool: PgPool,
    /// By name.
    queries: Arc<BTreeMap<String, String>>,
    /// The name of what is asked now.
    asked: Arc<Mutex<String>>,
}

impl Rows {
    /// Connects to nothing yet.
    pub(super) fn new(url: &str, queries: &BTreeMap<String, String>) -> Result<Self, SettleError> {
        let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(ANSWER).connect_lazy(url);
        let pool = pool.map_err(|source| SettleError::Client { what: "postgres", source: Box::new(source) })?;
        let database = Database { pool, queries: Arc::new(queries.clone()), asked: Arc::default() };
        Ok(Self { database, looking: tokio::sync::Mutex::default() })
    }

    /// Counts each query, and finds the number of the last recorded transition.
    pub(super) async fn look(&self) -> Result<Seen, SettleError> {
        let mut looking = self.looking.lock().await;
        if looking.is_empty() {
            let database = self.database.clone();
            looking.spawn(async move { database.look().await });
        }
        match tokio::time::timeout(ANSWER, looking.join_next()).await {
            Ok(Some(Ok(seen))) => seen,
            Ok(Some(Err(source))) => Err(SettleError::Client { what: "postgres", source: Box::new(source) }),
            Ok(None) | Err(_) => {
                let after = humantime::format_duration(ANSWER);
                let asked = self.database.asked.lock().unwrap_or_else(PoisonError::into_inner).clone();
                Ok((vec![Waiting::Unanswered { what: format!("postgres within {after}: {asked}") }], None))
            }
        }
    }
}

impl Database {
    async fn look(&self) -> Result<Seen, SettleError> {
        let mut waiting = Vec::new();
        for (name, sql) in &*self.queries {
            match self.ask::<i64>(name, sql).await? {
                Ok(0) => {}
                Ok(count) => waiting.push(Waiting::Rows { name: name.clone(), count }),
                Err(silent) => waiting.push(silent),
            }
        }
        match self.transitions().await? {
            Ok(transitions) => Ok((waiting, transitions)),
            Err(silent) => {
                waiting.push(silent);
                Ok((waiting, None))
            }
        }
    }

    /// None where no recording is installed, or nothing was recorded yet.
    async fn transitions(&self) -> Result<Result<Option<i64>, Waiting>, SettleError> {
        const NAME: &str = "recorded transitions";
        match self.ask(NAME, "SELECT to_regclass('greenroom.transition') IS NOT NULL").await? {
            Ok(true) => self.ask(NAME, "SELECT max(seq) FROM greenroom.transition").await,
            Ok(false) => Ok(Ok(None)),
            Err(silent) => Ok(Err(silent)),
        }
    }

    /// The value that a query gives, or why there is none yet.
    async fn ask<T>(&self, name: &str, sql: &str) -> Result<Result<T, Waiting>, SettleError>
    where
        (T,): for<'r> sqlx::FromRow<'r, PgRow>,
        T: Send + Unpin,
    {
        name.clone_into(&mut self.asked.lock().unwrap_or_else(PoisonError::into_inner));
        match sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&self.pool).await {
            Ok(value) => Ok(Ok(value)),
            Err(error) => Ok(Err(unanswered_unless_refused(name, error)?)),
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
