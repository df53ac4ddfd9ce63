//! Readiness: the first real operation of a test would succeed. One function for each kind of part.

use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, PgConnection};

use super::{Waited, until};
use crate::http;
use crate::report::chain;

/// Pause between two looks at something that takes a few milliseconds to come up.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// How long a program may take for one answer before it is asked again.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// Role that the prepared data directory was made with.
const SUPERUSER: &str = "postgres";

/// Waits until PostgreSQL answers, then makes the role and the database of the system.
pub(super) async fn postgres(
    address: SocketAddrV4,
    user: &str,
    database: &str,
    deadline: Instant,
) -> Result<(), Waited> {
    let options = PgConnectOptions::new_without_pgpass()
        .host(&address.ip().to_string())
        .port(address.port())
        .username(SUPERUSER)
        .database("postgres")
        .ssl_mode(PgSslMode::Disable)
        .disable_statement_logging();
    let mut connection = until(deadline, LOOK_EVERY, async || {
        PgConnection::connect_with(&options).await.map_err(|error| format!("PostgreSQL refuses: {error}"))
    })
    .await?;
    let begun = Instant::now();
    let made = tokio::time::timeout_at(deadline.into(), make(&mut connection, user, database)).await;
    made.unwrap_or_else(|_| {
        let missing = format!("PostgreSQL has not made the role {user} and the database {database}");
        Err(Waited { missing, waited: begun.elapsed() })
    })
}

/// Makes the role and the database of the system.
async fn make(connection: &mut PgConnection, user: &str, database: &str) -> Result<(), Waited> {
    let (role, name) = (quoted(user), quoted(database));
    let mut statements = Vec::new();
    // Both are there already when the server is started again.
    if !exists(connection, "SELECT count(*) FROM pg_roles WHERE rolname = $1", user).await? {
        statements.push(format!("CREATE ROLE {role} LOGIN SUPERUSER"));
    }
    if !exists(connection, "SELECT count(*) FROM pg_database WHERE datname = $1", database).await? {
        // FILE_COPY is three times as fast as the default here: the template is tiny and nothing is synced.
        statements.push(format!("CREATE DATABASE {name} OWNER {role} STRATEGY FILE_COPY"));
    }
    for statement in statements {
        let made = connection.execute(sqlx::AssertSqlSafe(statement.clone())).await;
        made.map_err(|error| Waited { missing: format!("`{statement}` failed: {error}"), waited: Duration::ZERO })?;
    }
    Ok(())
}

async fn exists(connection: &mut PgConnection, query: &'static str, name: &str) -> Result<bool, Waited> {
    let count: Result<i64, _> = sqlx::query_scalar(query).bind(name).fetch_one(connection).await;
    let failed = |error| Waited { missing: format!("`{query}` failed: {error}"), waited: Duration::ZERO };
    Ok(count.map_err(failed)? > 0)
}

/// Waits until Redis answers PING and has loaded its data.
pub(super) async fn redis(address: SocketAddrV4, deadline: Instant) -> Result<(), Waited> {
    let client = redis::Client::open(format!("redis://{address}"))
        .map_err(|error| Waited { missing: error.to_string(), waited: Duration::ZERO })?;
    until(deadline, LOOK_EVERY, async || {
        let refuses = |error| format!("Redis refuses: {error}");
        let mut connection = client.get_multiplexed_async_connection().await.map_err(refuses)?;
        redis::cmd("PING").query_async::<()>(&mut connection).await.map_err(refuses)
    })
    .await
}

/// Waits until a program answers 200 at its readiness URL.
pub(super) async fn program(url: &str, deadline: Instant) -> Result<(), Waited> {
    let client = http::client().timeout(ANSWER_LIMIT).build();
    let client = client.map_err(|error| Waited { missing: error.to_string(), waited: Duration::ZERO })?;
    until(deadline, LOOK_EVERY, async || {
        let answer =
            client.get(url).send().await.map_err(|error| format!("{url} does not answer: {}", chain(&error)))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let body = answer.text().await.unwrap_or_default();
        Err(format!("{url} answers {status}: {}", body.chars().take(300).collect::<String>()))
    })
    .await
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
