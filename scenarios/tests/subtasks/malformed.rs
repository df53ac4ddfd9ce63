//! Records that nobody can handle are put aside, and the rest goes on.

use std::collections::BTreeSet;

use fixtures::subtasks::{self, Behaviour, Outcome, Pattern, REPLY_TOPIC, TOPIC};
use greenroom::drive::NewRecord;
use greenroom::scenario::Verdict;

/// An id that nobody asked for.
const NOBODY: &str = "7f2c1a1e-53c8-4a8e-9b57-0a4f0b6d6f11";
const CORRELATION: &str = "kafka_correlationId";
const TO: &str = "kafka_replyTopic";
/// As the description has them.
const PARTITIONS: i32 = 6;

/// Goal: each malformed record of both topics is in its dead-letter topic with the cause, and an upload that comes after
/// it in every partition is done.
#[test]
fn malformed_records_are_put_aside_and_the_rest_goes_on() -> Verdict {
    subtasks::scenario(async |stage| {
        stage.environment().expect_complaint("subtask-api", "put aside");
        stage.environment().expect_complaint("subtask-worker", "put aside");
        let producer = stage.producer()?;
        let upload = || NewRecord::to(TOPIC).value(r#"{"subtaskId":1}"#);
        let reply = || NewRecord::to(REPLY_TOPIC).value("{}");
        let malformed = [
            NewRecord::to(TOPIC),
            NewRecord::to(TOPIC).value("upload, please"),
            NewRecord::to(TOPIC).value(b"\xff\xfe"),
            NewRecord::to(TOPIC).value(r#"{"subtaskId":"x"}"#),
            upload(),
            upload().header(CORRELATION, NOBODY),
            upload().header(TO, REPLY_TOPIC),
            upload().header(CORRELATION, "7").header(TO, REPLY_TOPIC),
            upload().header(CORRELATION, NOBODY).header(TO, "elsewhere"),
            upload().header(CORRELATION, NOBODY).header(TO, REPLY_TOPIC).header("kafka_replyPartition", "99"),
            NewRecord::to(TOPIC).value(format!(r#"{{"subtaskId":1,"uploadId":"{NOBODY}"}}"#)),
        ];
        let malformed_replies = [
            reply(),
            reply().header(CORRELATION, "7"),
            reply().header(CORRELATION, NOBODY),
            reply().header(CORRELATION, NOBODY).value("done, I think"),
        ];
        for (number, record) in (0..).zip(malformed) {
            // In turns over all partitions, so that every one of them has something to get past.
            producer.send(record.partition(number % PARTITIONS)).await?;
        }
        for record in malformed_replies {
            producer.send(record.partition(0)).await?;
        }
        let mut uploads = Vec::new();
        for number in 0..12 {
            let subtask = stage.api.create(&format!("Result {number}")).await?;
            uploads.push(stage.api.upload(Pattern::Request, subtask, &Behaviour::default()).await?);
        }
        stage.settle().await?;
        let requests = stage.records(TOPIC).await?;
        let served: BTreeSet<_> =
            requests.iter().filter(|record| record.key.is_some()).map(|one| one.partition).collect();
        assert_eq!(served, (0..PARTITIONS).collect());
        for upload in &uploads {
            assert_eq!(stage.api.upload_state(upload).await?.outcome, Some(Outcome::Done));
        }
        assert_eq!(stage.records(&format!("{TOPIC}.dlq")).await?.len(), 11);
        assert_eq!(stage.records(&format!("{REPLY_TOPIC}.dlq")).await?.len(), 4);
        insta::assert_snapshot!(stage.document().await?);
        Ok(())
    })
}
