//! Acts of a story: records come twice, or are such that nobody can handle them, and the rest goes on.

use std::collections::BTreeSet;

use fixtures::Stage;
use fixtures::subtasks::{Behaviour, Outcome, Pattern, REPLY_TOPIC, Subtasks, TOPIC};
use greenroom::drive::NewRecord;
use greenroom::scenario::Verdict;

use crate::ledger::{header, most_outcomes, tally};

/// An id that nobody asked for.
const NOBODY: &str = "7f2c1a1e-53c8-4a8e-9b57-0a4f0b6d6f11";
const CORRELATION: &str = "kafka_correlationId";
const TO: &str = "kafka_replyTopic";
/// As the description has them.
const PARTITIONS: i32 = 6;

/// Goal: a record that comes a second time is answered the same way, and the answer changes nothing.
/// Method: the records of two failed uploads are sent again, asking for success this time.
pub(crate) async fn a_second_delivery_changes_nothing(stage: &Stage<'_, Subtasks>) -> Verdict {
    let (asked, told) = (stage.api.create("Asked").await?, stage.api.create("Told").await?);
    let upload = stage.api.upload(Pattern::Request, asked, &Behaviour::fails("disk full")).await?;
    stage.api.upload(Pattern::Event, told, &Behaviour::fails("disk full")).await?;
    stage.settle().await?;
    let producer = stage.producer()?;
    let keys = [asked, told].map(|subtask| subtask.to_string().into_bytes());
    let mut first = stage.records(TOPIC).await?;
    first.retain(|record| record.key.as_ref().is_some_and(|key| keys.iter().any(|known| key == known)));
    assert_eq!(first.len(), 2);
    for record in first {
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
    assert_eq!(tally(&database).await?, ["done 12", "failed 2"]);
    assert_eq!(most_outcomes(&database).await?, 1);
    let mut replies = stage.records(REPLY_TOPIC).await?;
    replies.retain(|reply| header(reply, CORRELATION) == Some(upload.to_string()));
    let errors: Vec<_> = replies.iter().map(|reply| header(reply, "kafka_nest-err")).collect();
    assert_eq!(errors, [Some("disk full".to_owned()), Some("disk full".to_owned())]);
    Ok(())
}

/// Goal: each malformed record of both topics is in its dead-letter topic with the cause, and an upload that comes
/// after it in every partition is done.
pub(crate) async fn malformed_records_are_put_aside(stage: &Stage<'_, Subtasks>) -> Verdict {
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
        reply().header(CORRELATION, NOBODY).header("kafka_nest-err", "disk\0full"),
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
    let mut behind = BTreeSet::new();
    for upload in &uploads {
        assert_eq!(stage.api.upload_state(upload).await?.outcome, Some(Outcome::Done));
        let request = requests.iter().find(|request| header(request, CORRELATION) == Some(upload.to_string()));
        behind.insert(request.expect("a record of every upload").partition);
    }
    assert_eq!(behind, (0..PARTITIONS).collect());
    assert_eq!(stage.records(&format!("{TOPIC}.dlq")).await?.len(), 11);
    assert_eq!(stage.records(&format!("{REPLY_TOPIC}.dlq")).await?.len(), 5);
    Ok(())
}
