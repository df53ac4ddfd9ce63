//! A program dies in the middle: nothing is lost, and no upload gets a second outcome.

use fixtures::subtasks::{self, API, Behaviour, Outcome, Pattern, REPLY_TOPIC, TOPIC, WORKER};
use greenroom::drive::NewRecord;
use greenroom::scenario::Verdict;

use crate::ledger::{header, most_outcomes, tally, uploading};

/// Goal: what the worker had in hand when it was killed is done after its restart, once.
/// Method: three requests and three events wait in the worker's hands when it is killed; its successor lets them through.
#[test]
fn a_worker_killed_in_the_middle_loses_nothing() -> Verdict {
    subtasks::scenario(async |stage| {
        for number in 0..6 {
            let pattern = if number < 3 { Pattern::Request } else { Pattern::Event };
            let subtask = stage.api.create(&format!("Result {number}")).await?;
            stage.api.upload(pattern, subtask, &Behaviour::waits()).await?;
        }
        stage.in_hand(6).await?;
        stage.part(WORKER).kill().await?;
        stage.part(WORKER).restart().await?;
        stage.open_gate().await?;
        stage.settle().await?;

        let database = stage.database().await?;
        assert_eq!(tally(&database).await?, ["done 6"]);
        assert_eq!(most_outcomes(&database).await?, 1);
        assert_eq!(uploading(&database).await?, 0);
        insta::assert_snapshot!(stage.document().await?);
        Ok(())
    })
}

/// Goal: a worker that is told to end finishes what it has in hand, and its successor does it no second time.
#[test]
fn a_worker_told_to_end_finishes_its_work() -> Verdict {
    subtasks::scenario(async |stage| {
        let subtask = stage.api.create("Result").await?;
        stage.api.upload(Pattern::Request, subtask, &Behaviour::works(300)).await?;
        stage.in_hand(1).await?;
        stage.part(WORKER).stop().await?;
        stage.part(WORKER).restart().await?;
        stage.settle().await?;
        assert_eq!(stage.api.subtask(subtask).await?.outcome, Some(Outcome::Done));
        assert_eq!(stage.records(REPLY_TOPIC).await?.len(), 1);
        Ok(())
    })
}

/// Goal: an answer that comes while the API server is away is found when it is back.
/// Method: the server is killed while the worker works, and comes back when the answer lies there.
#[test]
fn an_answer_waits_for_a_server_that_was_killed() -> Verdict {
    subtasks::scenario(async |stage| {
        let subtask = stage.api.create("Result").await?;
        stage.api.upload(Pattern::Request, subtask, &Behaviour::waits()).await?;
        stage.in_hand(1).await?;
        stage.part(API).kill().await?;
        stage.open_gate().await?;
        stage.in_hand(0).await?;
        let database = stage.database().await?;
        assert_eq!(tally(&database).await?, ["open 1"]);
        stage.part(API).restart().await?;
        stage.settle().await?;
        assert_eq!(stage.api.subtask(subtask).await?.outcome, Some(Outcome::Done));
        insta::assert_snapshot!(stage.document().await?);
        Ok(())
    })
}

/// Goal: a record that comes a second time is answered the same way, and the answer changes nothing.
/// Method: both records of two failed uploads are sent again, asking for success this time.
#[test]
fn a_second_delivery_changes_nothing() -> Verdict {
    subtasks::scenario(async |stage| {
        let (asked, told) = (stage.api.create("Asked").await?, stage.api.create("Told").await?);
        stage.api.upload(Pattern::Request, asked, &Behaviour::fails("disk full")).await?;
        stage.api.upload(Pattern::Event, told, &Behaviour::fails("disk full")).await?;
        stage.settle().await?;
        let producer = stage.producer()?;
        for record in stage.records(TOPIC).await? {
            let mut value: serde_json::Value = serde_json::from_slice(&record.value.clone().expect("a value"))?;
            value.as_object_mut().expect("an object").remove("simulate");
            let mut again = NewRecord::to(TOPIC).key(record.key.as_ref().expect("a key")).value(value.to_string());
            for (name, value) in &record.headers {
                again = again.header(name, value.as_ref().expect("a header's value"));
            }
            producer.send(again).await?;
        }
        stage.settle().await?;
        let database = stage.database().await?;
        assert_eq!(tally(&database).await?, ["failed 2"]);
        assert_eq!(most_outcomes(&database).await?, 1);
        let replies = stage.records(REPLY_TOPIC).await?;
        let errors: Vec<_> = replies.iter().map(|reply| header(reply, "kafka_nest-err")).collect();
        assert_eq!(errors, [Some("disk full".to_owned()), Some("disk full".to_owned())]);
        Ok(())
    })
}
