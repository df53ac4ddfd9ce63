//! What no route tells: who has a coupon, whose write failed, and whom Redis remembers.

use std::collections::BTreeSet;

use fixtures::coupon::Coupons;
use fixtures::{Stage, StageError};
use greenroom::environment::EnvironmentError;
use greenroom::observe::keys::Content;

/// The users of all coupons, in order; one with two coupons stands there twice.
pub(crate) async fn owners(stage: &Stage<'_, Coupons>) -> Result<Vec<i64>, StageError> {
    let database = stage.database().await?;
    Ok(sqlx::query_scalar("SELECT user_id FROM coupon ORDER BY user_id").fetch_all(&database).await?)
}

/// The users whose coupon could not be written yet, with the number of attempts.
pub(crate) async fn failures(database: &sqlx::PgPool) -> Result<Vec<(i64, i32)>, sqlx::Error> {
    sqlx::query_as("SELECT user_id, attempts FROM failed_event ORDER BY user_id").fetch_all(database).await
}

/// The users that Redis remembers as winners, in order, and how many it has counted.
pub(crate) async fn remembered(stage: &Stage<'_, Coupons>) -> Result<(Vec<i64>, String), EnvironmentError> {
    let keys = stage.observe().await?.keys;
    let content = |name: &str| keys.iter().find(|key| key.name == name).map(|key| key.content.clone());
    let users: BTreeSet<i64> = match content("applied_user") {
        Some(Content::Set(users)) => users.iter().filter_map(|user| user.parse().ok()).collect(),
        _ => BTreeSet::new(),
    };
    let count = match content("coupon_count") {
        Some(Content::Text(count)) => count,
        other => format!("{other:?}"),
    };
    Ok((users.into_iter().collect(), count))
}
