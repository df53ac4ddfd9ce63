//! Every upload ends with an outcome: done, failed or timed out, in both patterns.

use fixtures::Stage;
use fixtures::subtasks::{self, Behaviour, Outcome, Pattern, REPLY_TOPIC, Subtasks, WORKER};
use greenroom::scenario::{Verdict, eventually};
use serde_json::json;

use crate::ledger::{most_outcomes, uploading};

/// One upload that works, one that fails and one that hangs.
async fn three_outcomes(stage: &Stage<'_, Subtasks>, pattern: Pattern) -> Verdict {
    let expected = [
        (Behaviour::default(), Outcome::Done, None),
        (Behaviour::fails("disk full"), Outcome::Failed, Some("disk full")),
        (Behaviour::hangs(), Outcome::TimedOut, Some("no result after 200 ms")),
    ];
    let mut subtasks = Vec::new();
    for (number, (behaviour, ..)) in expected.iter().enumerate() {
        let subtask = stage.api.create(&format!("Result {number} by {pattern:?}")).await?;
        stage.api.upload(pattern, subtask, behaviour).await?;
        subtasks.push(subtask);
    }
    stage.settle().await?;
    for (subtask, (_, outcome, error)) in subtasks.into_iter().zip(expected) {
        let found = stage.api.subtask(subtask).await?;
        assert_eq!((found.uploading, found.outcome, found.error.as_deref()), (false, Some(outcome), error));
        assert_eq!(found.is_worker_complete, outcome == Outcome::Done);
    }
    Ok(())
}

/// Goal: a request is answered, and the answer ends it: well, with the worker's error, or because the work hung. An
/// event, to which nobody replies, ends with the same outcomes by the worker's own entry, and adds nothing to the reply
/// topic.
#[test]
fn both_patterns_have_three_outcomes() -> Verdict {
    subtasks::adjusted().variable_of(WORKER, "WORK_TIMEOUT", "200ms").scenario(async |stage| {
        for pattern in [Pattern::Request, Pattern::Event] {
            three_outcomes(stage, pattern).await?;
            assert_eq!(stage.records(REPLY_TOPIC).await?.len(), 3, "three requests were answered, and no event");
        }
        insta::assert_snapshot!(stage.document().await?);
        Ok(())
    })
}

/// Goal: with no worker there, both patterns time out; what the worker says later changes nothing.
/// Method: the worker is paused until the deadlines have passed, and then goes on.
#[test]
fn without_a_worker_both_patterns_time_out() -> Verdict {
    subtasks::adjusted().variable("UPLOAD_TIMEOUT", "300ms").scenario(async |stage| {
        let (asked, told) = (stage.api.create("Asked").await?, stage.api.create("Told").await?);
        stage.part(WORKER).pause().await?;
        stage.api.upload(Pattern::Request, asked, &Behaviour::default()).await?;
        stage.api.upload(Pattern::Event, told, &Behaviour::default()).await?;
        let database = stage.database().await?;
        eventually(async || match uploading(&database).await {
            Ok(0) => Ok(()),
            other => Err(format!("uploads should time out, subtasks uploading: {other:?}")),
        })
        .await?;
        stage.part(WORKER).resume().await?;
        stage.settle().await?;
        for subtask in [asked, told] {
            assert_eq!(stage.api.subtask(subtask).await?.outcome, Some(Outcome::TimedOut));
        }
        assert_eq!(most_outcomes(&database).await?, 1);
        insta::assert_snapshot!(stage.document().await?);
        Ok(())
    })
}

/// Goal: a subtask is uploading until the last of its uploads has ended; one that does not say that the worker
/// completes its subtask ends all the same, and does not complete it.
#[test]
fn a_subtask_uploads_until_its_last_upload_ends() -> Verdict {
    subtasks::scenario(async |stage| {
        let subtask = stage.api.create("Part of a result").await?;
        let asked = stage.api.post("/queueUploadResult").json(json!({"subtaskId": subtask})).send().await?;
        assert_eq!(asked.status(), 202);
        stage.settle().await?;
        let found = stage.api.subtask(subtask).await?;
        assert_eq!((found.uploading, found.outcome, found.is_worker_complete), (false, Some(Outcome::Done), false));
        stage.api.upload(Pattern::Event, subtask, &Behaviour::default()).await?;
        stage.settle().await?;
        assert!(stage.api.subtask(subtask).await?.is_worker_complete);

        let subtask = stage.api.create("Twice").await?;
        stage.api.upload(Pattern::Request, subtask, &Behaviour::waits()).await?;
        let quick = stage.api.upload(Pattern::Event, subtask, &Behaviour::default()).await?;
        eventually(async || match stage.api.upload_state(&quick).await {
            Ok(upload) if upload.outcome == Some(Outcome::Done) => Ok(()),
            other => Err(format!("the quick upload should be done: {other:?}")),
        })
        .await?;
        assert!(stage.api.subtask(subtask).await?.uploading);
        stage.open_gate().await?;
        stage.settle().await?;
        assert!(!stage.api.subtask(subtask).await?.uploading);
        let database = stage.database().await?;
        let history =
            "SELECT to_value FROM greenroom.transition WHERE column_name = 'uploading' AND key = $1 ORDER BY seq";
        let history: Vec<String> = sqlx::query_scalar(history).bind(subtask.to_string()).fetch_all(&database).await?;
        assert_eq!(history, ["false", "true", "false"]);
        Ok(())
    })
}
