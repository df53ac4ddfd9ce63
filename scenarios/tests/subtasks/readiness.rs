//! The reply subscription stands before the first request is accepted.

use fixtures::Stage;
use fixtures::subtasks::{self, API, Behaviour, Health, Outcome, Pattern, REPLY_TOPIC, Subtasks};
use greenroom::scenario::{Failure, Verdict, eventually};
use serde_json::json;

use crate::ledger::{header, reply_address, tally};

/// What the law of the first request says when it is broken.
const LOST: &str = "the answer to the first request was lost: it lay in its topic in time, and the upload timed out";
/// How long before the deadline an answer must lie in the topic, so that a server that listens hears it in time.
const TO_HEAR_MS: i64 = 1_000;

/// Goal: the answer to the first request of all is heard, however quick the worker is.
/// Method: request at once; then look where the answer lies and since when, and whether the server heard it.
async fn first_request_is_answered(stage: &Stage<'_, Subtasks>) -> Verdict {
    let subtask = stage.api.create("First").await?;
    let upload = stage.api.upload(Pattern::Request, subtask, &Behaviour::default()).await?;
    let database = stage.database().await?;
    eventually(async || match tally(&database).await {
        Ok(tally) if tally == ["open 1"] => Err("the upload has no outcome".to_owned()),
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    })
    .await?;
    // The deadline may have come before the worker, on a busy machine; the worker answers all the same.
    let replies = eventually(async || match stage.records(REPLY_TOPIC).await {
        Ok(replies) if replies.len() == 1 => Ok(replies),
        other => Err(format!("the worker should answer once, the reply topic holds {other:?}")),
    })
    .await?;
    assert_eq!(header(&replies[0], "kafka_correlationId"), Some(upload.to_string()));
    let answered_ms = replies[0].timestamp_ms.expect("the time of the answer");
    let deadline = "SELECT (1000 * extract(epoch FROM deadline))::bigint FROM upload WHERE id = $1::uuid";
    let deadline_ms: i64 = sqlx::query_scalar(deadline).bind(&upload.0).fetch_one(&database).await?;
    match stage.api.subtask(subtask).await?.outcome {
        Some(Outcome::Done) => Ok(()),
        Some(Outcome::TimedOut) if answered_ms + TO_HEAR_MS <= deadline_ms => Err(Failure::new(LOST)),
        Some(Outcome::TimedOut) => Err(Failure::new("the worker answered too late for the first request to be done")),
        other => Err(Failure::new(format!("the first request ended otherwise: {other:?}"))),
    }
}

/// Goal: see [`first_request_is_answered`]; and a server that cannot hear answers accepts nothing and says so; when it
/// can, it says from where on it listens.
/// Method: every reply partition is taken by somebody else while the server starts again. Only the one that it had is
/// given back before it is ready, so that it has no choice.
#[test]
fn no_request_is_accepted_before_the_subscription_stands() -> Verdict {
    subtasks::adjusted().variable("UPLOAD_TIMEOUT", "1h").scenario(async |stage| {
        first_request_is_answered(stage).await?;
        stage.settle().await?;
        let subtask = stage.api.create("Second").await?;
        stage.part(API).kill().await?;
        let database = stage.database().await?;
        let mut holder = database.acquire().await?;
        let taken = "SELECT pg_advisory_lock(x'73756274'::integer, n) FROM generate_series(0, 3) AS n";
        sqlx::query(taken).execute(&mut *holder).await?;

        let api = stage.api.clone();
        let refused = async {
            eventually(async || match api.health().await {
                Ok(Health::NotReady { missing }) if missing[0].contains("reply partitions are taken") => Ok(()),
                other => Err(format!("the server should lack a reply partition, it says {other:?}")),
            })
            .await?;
            for route in ["/queueUploadResult", "/queueUploadResult/event"] {
                let body = json!({"subtaskId": subtask});
                let refused = api.post(route).json(body).refused().await?;
                assert_eq!((refused.status, refused.error_code.as_str()), (503, "COMMON_503"));
            }
            sqlx::query("SELECT pg_advisory_unlock(x'73756274'::integer, 0)").execute(&mut *holder).await?;
            Ok::<_, Failure>(())
        };
        let (restarted, refused) = tokio::join!(stage.part(API).restart(), refused);
        refused?;
        restarted?;
        let replies = reply_address(&stage.api).await?;
        sqlx::query("SELECT pg_advisory_unlock_all()").execute(&mut *holder).await?;
        // One answer was read before; the next will lie at the position that is told.
        assert_eq!((replies.topic.as_str(), replies.partition, replies.position), (REPLY_TOPIC, 0, 1));
        stage.api.upload(Pattern::Request, subtask, &Behaviour::default()).await?;
        stage.settle().await?;
        assert_eq!(tally(&database).await?, ["done 2"]);
        let last = stage.records(REPLY_TOPIC).await?.pop().expect("a reply");
        assert_eq!((last.partition, last.offset), (replies.partition, replies.position));
        Ok(())
    })
}

/// Goal: the same scenario finds a server that subscribes too late, and for that reason.
#[test]
fn a_late_subscription_is_found() -> Verdict {
    let late = subtasks::adjusted().late_subscription().variable("UPLOAD_TIMEOUT", "15s");
    let found = late.scenario(async |stage| first_request_is_answered(stage).await);
    let failure = format!("{:?}", found.expect_err("the planted defect was not found"));
    assert!(failure.contains(LOST), "found for another reason: {failure}");
    Ok(())
}
