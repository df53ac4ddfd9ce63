//! The eleven defects of the original (contract 1.10): for each a story whose law proves that our service does not have
//! it, and the proof of the proof: the same story, played with the defect put back, fails for the right reason.

mod commits;
mod money;
mod outbox;
mod retries;
mod seats;
mod tokens;

use fixtures::concert::{self, Concert, Defect};
use fixtures::{Adjustments, Refused, Stage};
use greenroom::observe::topics::Record;
use greenroom::scenario::{Failure, Verdict};
use greenroom::service::Service;

use crate::ledger::both_balances;

/// A law of a story. It is an error and no panic where it is broken, so that the proof of the proof can read it.
#[track_caller]
fn law(holds: bool, broken: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(Failure::new(broken())) }
}

/// Plays a story with a defect, and demands that it fails, and says these words. Nothing can be planted in somebody
/// else's service, and the story says so.
fn catches(defect: Defect, story: fn(Adjustments<Concert>) -> Verdict, words: &[&str]) -> Verdict {
    let played = story(concert::adjusted().broken_by(defect));
    if Service::of_this_run()?.is_some() {
        return played;
    }
    let caught = played.expect_err("the defect went unnoticed");
    let caught = format!("{caught:?}");
    for words in words {
        assert!(caught.contains(words), "caught for another reason than {words:?}: {caught}");
    }
    Ok(())
}

/// The service says that something broke in it; the contract has several codes for that, and ours says this one.
fn something_broke(stage: &Stage<'_, Concert>, refused: &Refused) {
    let right = if stage.is_of_somebody_else() { refused.status >= 500 } else { refused.code() == (500, "COMMON_500") };
    assert!(right, "{refused}");
}

/// Both tables give the user this many points.
async fn has_points(stage: &Stage<'_, Concert>, user: concert::UserId, points: i64) -> Verdict {
    let (one, other) = both_balances(stage, user).await?;
    let right = points.to_string();
    law(one == right && other == right, || format!("user {user} has {one} and {other} points, not {right}"))
}

/// The event that a record is about.
fn event(record: &Record) -> Option<i64> {
    serde_json::from_slice::<serde_json::Value>(record.value.as_deref()?).ok()?.get("eventId")?.as_i64()
}
