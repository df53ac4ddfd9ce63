//! Makes the database itself record every transition of described columns.
//!
//! A poller sees some states; a trigger sees all of them, in commit-safe order per row: a row's lock
//! serialises its writers, so `seq` is in order for one row. What is rolled back leaves nothing.
//! Absent: `TRUNCATE`, which fires no row trigger.

use sqlx::{AssertSqlSafe, PgPool, Postgres, Row as _, Transaction};

use crate::spec::HistorySpec;

/// The function that all triggers share: its arguments are the key column and the recorded column.
/// It runs with the installer's rights, so that an application role needs none in this schema.
const SCHEMA: &str = r"
CREATE SCHEMA IF NOT EXISTS greenroom;
CREATE TABLE IF NOT EXISTS greenroom.transition (
    seq bigserial PRIMARY KEY,
    table_name text NOT NULL,
    column_name text NOT NULL,
    operation text NOT NULL,
    key text NOT NULL,
    from_value text,
    to_value text,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    writer text NOT NULL,
    xid text NOT NULL
);
CREATE OR REPLACE FUNCTION greenroom.record_transition() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    earlier jsonb := CASE WHEN TG_OP = 'INSERT' THEN NULL ELSE to_jsonb(OLD) END;
    later jsonb := CASE WHEN TG_OP = 'DELETE' THEN NULL ELSE to_jsonb(NEW) END;
BEGIN
    IF TG_OP = 'UPDATE' AND (earlier -> TG_ARGV[1]) IS NOT DISTINCT FROM (later -> TG_ARGV[1]) THEN
        RETURN NULL;
    END IF;
    INSERT INTO greenroom.transition
        (table_name, column_name, operation, key, from_value, to_value, writer, xid)
    VALUES (TG_TABLE_NAME, TG_ARGV[1], TG_OP, coalesce(later ->> TG_ARGV[0], earlier ->> TG_ARGV[0], ''),
        earlier ->> TG_ARGV[1], later ->> TG_ARGV[1],
        current_setting('application_name') || '/' || pg_backend_pid(), pg_current_xact_id()::text);
    RETURN NULL;
END $$;
";

/// Why history could not be installed or read.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// A described table is not in the database.
    #[error("history: there is no table {table:?} in the database")]
    NoTable {
        /// Its described name.
        table: String,
    },
    /// A described column is not in its table.
    #[error("history: table {table:?} has no column {column:?}")]
    NoColumn {
        /// The table.
        table: String,
        /// The column described.
        column: String,
    },
    /// The database refused or could not be reached.
    #[error("could not {action} the history of transitions")]
    Database {
        /// What was being done.
        action: &'static str,
        /// The cause.
        source: sqlx::Error,
    },
}

/// What a statement did to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// The row came into being.
    Insert,
    /// The column changed.
    Update,
    /// The row went.
    Delete,
}

/// One recorded transition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// Order of recording.
    pub seq: i64,
    /// Table.
    pub table: String,
    /// Column.
    pub column: String,
    /// Text of the row's key.
    pub key: String,
    /// What happened.
    pub operation: Operation,
    /// Value before; none for a new row and for `NULL`.
    pub from: Option<String>,
    /// Value after; none for a deleted row and for `NULL`.
    pub to: Option<String>,
    /// `application_name/backend pid` of the connection that wrote.
    pub writer: String,
}

/// Creates schema `greenroom` and the triggers; doing it again changes nothing.
///
/// # Errors
/// A described table or column that does not exist, or the database's own refusal.
pub async fn install(pool: &PgPool, described: &[HistorySpec]) -> Result<(), HistoryError> {
    if described.is_empty() {
        return Ok(());
    }
    let database = |source| HistoryError::Database { action: "install", source };
    let mut transaction = begin(pool).await?;
    sqlx::raw_sql(SCHEMA).execute(&mut *transaction).await.map_err(database)?;
    for history in described {
        check(&mut transaction, history).await?;
    }
    transaction.commit().await.map_err(database)?;
    // A transaction for each, because the system is at work already: with the locks of one table in hand, waiting for
    // the next would be half of a deadlock.
    for history in described {
        let mut transaction = begin(pool).await?;
        let sql = format!(
            "CREATE OR REPLACE TRIGGER {trigger} AFTER INSERT OR UPDATE OR DELETE ON {table} \
             FOR EACH ROW EXECUTE FUNCTION greenroom.record_transition({key}, {column})",
            trigger = quote_identifier(&format!("greenroom_{}", history.column)),
            table = quote_identifier(&history.table),
            key = quote_literal(&history.key),
            column = quote_literal(&history.column),
        );
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *transaction).await.map_err(database)?;
        transaction.commit().await.map_err(database)?;
    }
    Ok(())
}

/// A transaction that no other installer has at the same time: two would race on `IF NOT EXISTS`.
async fn begin(pool: &PgPool) -> Result<Transaction<'static, Postgres>, HistoryError> {
    let database = |source| HistoryError::Database { action: "install", source };
    let mut transaction = pool.begin().await.map_err(database)?;
    sqlx::raw_sql("SELECT pg_advisory_xact_lock(hashtext('greenroom.history'))")
        .execute(&mut *transaction)
        .await
        .map_err(database)?;
    Ok(transaction)
}

async fn check(transaction: &mut Transaction<'_, Postgres>, history: &HistorySpec) -> Result<(), HistoryError> {
    let database = |source| HistoryError::Database { action: "install", source };
    let columns: Option<Vec<String>> = sqlx::query_scalar(
        "SELECT array_agg(attname::text) FROM pg_attribute \
         WHERE attrelid = to_regclass(quote_ident($1)) AND attnum > 0 AND NOT attisdropped",
    )
    .bind(&history.table)
    .fetch_one(&mut **transaction)
    .await
    .map_err(database)?;
    let Some(columns) = columns else {
        return Err(HistoryError::NoTable { table: history.table.clone() });
    };
    match [&history.key, &history.column].into_iter().find(|column| !columns.contains(column)) {
        Some(column) => Err(HistoryError::NoColumn { table: history.table.clone(), column: column.clone() }),
        None => Ok(()),
    }
}

/// Every transition in order; none where history was never installed.
pub(super) async fn read(transaction: &mut Transaction<'_, Postgres>) -> Result<Vec<Transition>, HistoryError> {
    let database = |source| HistoryError::Database { action: "read", source };
    let installed: bool = sqlx::query_scalar("SELECT to_regclass('greenroom.transition') IS NOT NULL")
        .fetch_one(&mut **transaction)
        .await
        .map_err(database)?;
    if !installed {
        return Ok(Vec::new());
    }
    let rows = sqlx::query(
        "SELECT seq, table_name, column_name, operation, key, from_value, to_value, writer \
         FROM greenroom.transition ORDER BY seq",
    )
    .fetch_all(&mut **transaction)
    .await
    .map_err(database)?;
    rows.iter()
        .map(|row| {
            Ok(Transition {
                seq: row.try_get(0)?,
                table: row.try_get(1)?,
                column: row.try_get(2)?,
                operation: match row.try_get::<&str, _>(3)? {
                    "INSERT" => Operation::Insert,
                    "DELETE" => Operation::Delete,
                    _ => Operation::Update,
                },
                key: row.try_get(4)?,
                from: row.try_get(5)?,
                to: row.try_get(6)?,
                writer: row.try_get(7)?,
            })
        })
        .collect::<Result<_, sqlx::Error>>()
        .map_err(database)
}

/// Quotes an SQL identifier: `user` becomes `"user"`.
pub(super) fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn quote_literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
