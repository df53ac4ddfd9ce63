//! What only the database and the topics tell of uploads.

use fixtures::subtasks::{Health, ReplyAddress, SubtaskClient, Subtasks};
use fixtures::{Stage, StageError};
use greenroom::observe::topics::Record;
use greenroom::runtime::Waited;
use greenroom::scenario::eventually;
use sqlx::PgPool;

/// Who asked for an upload and who wrote its outcome down, as `host:port`.
#[derive(Debug, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Settlement {
    pub(crate) asked_by: String,
    pub(crate) settled_by: Option<String>,
    pub(crate) outcome: Option<String>,
}

/// The settlements of a subtask's uploads.
pub(crate) async fn settlements(stage: &Stage<'_, Subtasks>, subtask: i32) -> Result<Vec<Settlement>, StageError> {
    let settlements = "SELECT asked_by, settled_by, outcome FROM upload WHERE subtask_id = $1";
    Ok(sqlx::query_as(settlements).bind(subtask).fetch_all(&stage.database().await?).await?)
}

/// How many uploads have each outcome, as `done 3`, in alphabetical order.
pub(crate) async fn tally(database: &PgPool) -> Result<Vec<String>, sqlx::Error> {
    let tally = "SELECT coalesce(outcome, 'open') || ' ' || count(*) FROM upload GROUP BY outcome ORDER BY 1";
    sqlx::query_scalar(tally).fetch_all(database).await
}

/// How many subtasks still count as uploading.
pub(crate) async fn uploading(database: &PgPool) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT count(*) FROM subtask WHERE uploading OR in_flight <> 0").fetch_one(database).await
}

/// How often an upload's outcome changed, at most: the database has recorded every transition.
pub(crate) async fn most_outcomes(database: &PgPool) -> Result<i64, sqlx::Error> {
    let most = "SELECT coalesce(max(changes), 0) FROM (
        SELECT count(*) AS changes FROM greenroom.transition
        WHERE table_name = 'upload' AND column_name = 'outcome' AND operation = 'UPDATE' GROUP BY key) AS each_upload";
    sqlx::query_scalar(most).fetch_one(database).await
}

/// A header of a record as text.
pub(crate) fn header(record: &Record, name: &str) -> Option<String> {
    let (_, value) = record.headers.iter().find(|(found, _)| found == name)?;
    value.as_ref().map(|value| String::from_utf8_lossy(value).into_owned())
}

/// Where answers for this instance go, once it is ready.
pub(crate) async fn reply_address(instance: &SubtaskClient) -> Result<ReplyAddress, Waited> {
    eventually(async || match instance.health().await {
        Ok(Health::Ready { replies }) => Ok(replies),
        other => Err(format!("{} is not ready: {other:?}", instance.name())),
    })
    .await
}
