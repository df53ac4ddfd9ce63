//! Rows of described tables as typed values, ordered by primary key.
//!
//! The type comes from the catalogue and the value as the database's own text, so a decimal keeps its exact digits.
//! Absent: tables that are not described.

use sqlx::{AssertSqlSafe, Postgres, Row as _, Transaction};

use super::history::quote_identifier;
use super::value::Value;

/// A table with all its rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// Its columns in the order of the catalogue.
    pub columns: Vec<Column>,
    /// Its rows by primary key, each with one value per column.
    pub rows: Vec<Vec<Value>>,
}

/// A column.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type, `pg_type.typname`.
    pub type_name: String,
    /// Whether it belongs to the primary key.
    pub key: bool,
}

/// Why rows could not be read.
#[derive(Debug, thiserror::Error)]
pub enum TablesError {
    /// A described table is not in the database.
    #[error("observe: there is no table {table:?} in the database")]
    NoTable {
        /// Its described name.
        table: String,
    },
    /// The database refused or could not be reached.
    #[error("could not read the rows of table {table:?}")]
    Database {
        /// The table.
        table: String,
        /// The cause.
        source: sqlx::Error,
    },
}

/// Reads the tables in the order given, all in the transaction's one view of the database.
/// The transaction must have set `TimeZone` to UTC and `DateStyle` to ISO.
pub(super) async fn read(
    transaction: &mut Transaction<'_, Postgres>,
    names: &[String],
) -> Result<Vec<Table>, TablesError> {
    let mut tables = Vec::with_capacity(names.len());
    for name in names {
        tables.push(read_one(transaction, name).await?);
    }
    Ok(tables)
}

async fn read_one(transaction: &mut Transaction<'_, Postgres>, name: &str) -> Result<Table, TablesError> {
    let database = |source| TablesError::Database { table: name.to_owned(), source };
    let catalogue = sqlx::query(
        "SELECT attname::text, typname::text, \
            coalesce(array_position(i.indkey::int2[], a.attnum)::int, -1) \
         FROM pg_attribute a \
         JOIN pg_type t ON t.oid = a.atttypid \
         LEFT JOIN pg_index i ON i.indrelid = a.attrelid AND i.indisprimary \
         WHERE a.attrelid = to_regclass(quote_ident($1)) AND a.attnum > 0 AND NOT a.attisdropped \
         ORDER BY a.attnum",
    )
    .bind(name)
    .fetch_all(&mut **transaction)
    .await
    .map_err(database)?;
    if catalogue.is_empty() {
        return Err(TablesError::NoTable { table: name.to_owned() });
    }
    let mut columns = Vec::new();
    let mut key = Vec::new();
    for row in &catalogue {
        let column_name: String = row.try_get(0).map_err(database)?;
        let position: i32 = row.try_get(2).map_err(database)?;
        if position >= 0 {
            key.push((position, column_name.clone()));
        }
        columns.push(Column { name: column_name, type_name: row.try_get(1).map_err(database)?, key: position >= 0 });
    }
    key.sort();
    let cells: Vec<_> = columns.iter().map(|column| format!("{}::text", quote_identifier(&column.name))).collect();
    let mut sql = format!("SELECT ARRAY[{}] FROM {}", cells.join(", "), quote_identifier(name));
    if !key.is_empty() {
        let by: Vec<_> = key.iter().map(|(_, column)| quote_identifier(column)).collect();
        sql = format!("{sql} ORDER BY {}", by.join(", "));
    }
    let rows: Vec<Vec<Option<String>>> =
        sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&mut **transaction).await.map_err(database)?;
    let rows = rows
        .into_iter()
        .map(|row| {
            row.into_iter().zip(&columns).map(|(text, column)| Value::from_column(&column.type_name, text)).collect()
        })
        .collect();
    Ok(Table { name: name.to_owned(), columns, rows })
}
