//! Several at once: an answer reaches the API server that asked, and workers share the work.

use fixtures::Stage;
use fixtures::subtasks::{self, Behaviour, Pattern, REPLY_TOPIC, Subtasks, TOPIC, WORKER};
use greenroom::drive::burst;
use greenroom::observe::topics::Record;
use greenroom::scenario::{Failure, Verdict, eventually};

use crate::ledger::{header, most_outcomes, reply_address, settlements, tally, uploading};

/// The second worker, as the environment calls it.
const SECOND_WORKER: &str = "subtask-worker-2";

/// Goal: each upload is done once, by whichever worker lives, and settled by the server that was asked.
/// Method: [`a_killed_worker_is_replaced`], then [`an_answer_reaches_the_instance_that_asked`].
#[test]
fn two_servers_and_two_workers() -> Verdict {
    // A worker that stays away is replaced when its session is over.
    let two =
        subtasks::adjusted().instances(2).instances_of(WORKER, 2).variable_of(WORKER, "KAFKA_SESSION_TIMEOUT", "6s");
    two.scenario(async |stage| {
        a_killed_worker_is_replaced(stage).await?;
        insta::assert_snapshot!(stage.document().await?);
        an_answer_reaches_the_instance_that_asked(stage).await
    })
}

/// Goal: two workers share the work, and what one of them had in hand when it was killed is done by the other, once.
/// Method: twelve uploads wait in the hands of both; the one that is killed stays away until all are done, and finds
/// nothing left to do when it comes back.
async fn a_killed_worker_is_replaced(stage: &mut Stage<'_, Subtasks>) -> Verdict {
    for number in 0..12 {
        let pattern = if number % 2 == 0 { Pattern::Request } else { Pattern::Event };
        let subtask = stage.api.create(&format!("Result {number}")).await?;
        stage.api.upload(pattern, subtask, &Behaviour::waits()).await?;
    }
    stage.in_hand(12).await?;
    let shares = [stage.workers[0].in_hand().await?, stage.workers[1].in_hand().await?];
    assert!(shares.iter().all(|share| *share > 0), "one worker has everything: {shares:?}");
    stage.part(SECOND_WORKER).kill().await?;
    stage.workers[0].open_gate().await?;
    let database = stage.database().await?;
    eventually(async || match tally(&database).await {
        Ok(tally) if tally == ["done 12"] => Ok(()),
        other => Err(format!("the other worker should do all twelve, there are {other:?}")),
    })
    .await?;
    stage.part(SECOND_WORKER).restart().await?;
    stage.settle().await?;

    assert_eq!(tally(&database).await?, ["done 12"]);
    assert_eq!(most_outcomes(&database).await?, 1);
    assert_eq!(uploading(&database).await?, 0);
    Ok(())
}

/// Goal: each answer comes to the partition of the instance that asked, which settles it.
/// Method: thirty requests, in turns at two instances; each reply's place is compared with what its request asked for,
/// and who settled an upload with who accepted it.
async fn an_answer_reaches_the_instance_that_asked(stage: &Stage<'_, Subtasks>) -> Verdict {
    let instances = [stage.instance(1)?, stage.instance(2)?];
    let partitions = [reply_address(&instances[0]).await?.partition, reply_address(&instances[1]).await?.partition];
    assert_ne!(partitions[0], partitions[1]);
    let subtask = stage.api.create("Shared").await?;
    let asked = burst(10, 0..30, async |number: usize| {
        let upload = instances[number % 2].upload(Pattern::Request, subtask, &Behaviour::default()).await?;
        Ok::<_, Failure>((upload.0, partitions[number % 2].to_string()))
    });
    let mut asked = asked.await.answers.into_iter().collect::<Result<Vec<_>, _>>()?;
    asked.sort();
    stage.settle().await?;

    let settlements = settlements(stage, subtask.0).await?;
    assert_eq!(settlements.len(), 30);
    for settlement in settlements {
        assert_eq!(settlement.outcome.as_deref(), Some("done"));
        assert_eq!(settlement.settled_by.as_ref(), Some(&settlement.asked_by));
    }
    let requests = stage.records(TOPIC).await?;
    let requests = places(&requests, &asked, |request| header(request, "kafka_replyPartition").unwrap_or_default());
    assert_eq!(requests, asked);
    let replies = stage.records(REPLY_TOPIC).await?;
    assert_eq!(places(&replies, &asked, |reply| reply.partition.to_string()), asked);
    Ok(())
}

/// The uploads among `asked` that records speak of, in order, and the partition that each record has for the answer.
fn places(records: &[Record], asked: &[(String, String)], place: impl Fn(&Record) -> String) -> Vec<(String, String)> {
    let of_upload = |record| {
        let upload = header(record, "kafka_correlationId")?;
        asked.iter().any(|(asked, _)| *asked == upload).then(|| (upload, place(record)))
    };
    let mut places: Vec<_> = records.iter().filter_map(of_upload).collect();
    places.sort();
    places
}
