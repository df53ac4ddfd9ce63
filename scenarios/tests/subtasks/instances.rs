//! Two API servers at once: an answer reaches the one that asked.

use std::collections::BTreeMap;

use fixtures::subtasks::{self, Behaviour, Health, Pattern, REPLY_TOPIC, SubtaskClient, TOPIC};
use greenroom::drive::burst;
use greenroom::scenario::{Failure, Verdict};

use crate::ledger::{header, settlements};

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
