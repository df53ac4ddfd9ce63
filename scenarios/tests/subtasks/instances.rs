//! Several at once: an answer reaches the API server that asked, and workers share the work.

use std::collections::BTreeMap;

use fixtures::subtasks::{self, Behaviour, Health, Pattern, REPLY_TOPIC, SubtaskClient, TOPIC, WORKER};
use greenroom::drive::burst;
use greenroom::scenario::{Failure, Verdict, eventually};

use crate::ledger::{header, most_outcomes, settlements, tally, uploading};

/// The second worker, as the environment calls it.
const SECOND_WORKER: &str = "subtask-worker-2";

/// The partition to which answers for this instance go.
async fn reply_partition(instance: &SubtaskClient) -> Result<i32, Failure> {
    match instance.health().await? {
        Health::Ready { replies } => Ok(replies.partition),
        Health::NotReady { missing } => Err(Failure::new(format!("{} is not ready: {missing:?}", instance.name()))),
    }
}

/// Goal: each answer comes to the partition of the instance that asked, which settles it.
/// Method: thirty requests, in turns at two instances; each reply's place is compared with what its request asked for,
/// and who settled an upload with who accepted it.
#[test]
fn an_answer_reaches_the_instance_that_asked() -> Verdict {
    subtasks::adjusted().instances(2).scenario(async |stage| {
        let instances = [stage.instance(1)?, stage.instance(2)?];
        let partitions = [reply_partition(&instances[0]).await?, reply_partition(&instances[1]).await?];
        assert_ne!(partitions[0], partitions[1]);
        let subtask = stage.api.create("Shared").await?;
        let asked = burst(10, 0..30, async |number: usize| {
            let upload = instances[number % 2].upload(Pattern::Request, subtask, &Behaviour::default()).await?;
            Ok::<_, Failure>((upload.0, partitions[number % 2]))
        });
        let asked: BTreeMap<_, _> = asked.await.answers.into_iter().collect::<Result<_, _>>()?;
        stage.settle().await?;

        for settlement in settlements(stage).await? {
            assert_eq!(settlement.outcome.as_deref(), Some("done"));
            assert_eq!(settlement.settled_by.as_ref(), Some(&settlement.asked_by));
        }
        for request in stage.records(TOPIC).await? {
            let upload = header(&request, "kafka_correlationId").expect("a correlation id");
            assert_eq!(header(&request, "kafka_replyTopic").as_deref(), Some(REPLY_TOPIC));
            assert_eq!(header(&request, "kafka_replyPartition"), Some(asked[&upload].to_string()));
        }
        let replies = stage.records(REPLY_TOPIC).await?;
        assert_eq!(replies.len(), 30);
        for reply in replies {
            let upload = header(&reply, "kafka_correlationId").expect("a correlation id");
            assert_eq!(reply.partition, asked[&upload]);
        }
        Ok(())
    })
}

/// Goal: two workers share the work, and what one of them had in hand when it was killed is done by the other, once.
/// Method: twelve uploads wait in the hands of both; the one that is killed stays away until all are done, and finds
/// nothing left to do when it comes back.
#[test]
fn a_killed_worker_is_replaced_by_the_other() -> Verdict {
    subtasks::adjusted().instances_of(WORKER, 2).scenario(async |stage| {
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
        insta::assert_snapshot!(stage.document().await?);
        Ok(())
    })
}
