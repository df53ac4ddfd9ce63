//! Records as other programs may write them.

use fixtures::metrics::{self, RawRecord, Route};
use greenroom::scenario::Verdict;

/// Goal: a malformed record is put aside with its cause and the rest of its partition goes on; a metric that comes twice
/// is stored once; one without an id, as the original sends it, is stored too.
/// Method: all of them are put into one partition, between two metrics that are well formed.
#[test]
fn malformed_records_are_put_aside() -> Verdict {
    metrics::scenario(async |stage| {
        let (recorder, topic) = (stage.recorder()?, Route::First.topic());
        let plain = |value: &'static str| RawRecord { value: value.as_bytes(), metric_id: None };
        let known = RawRecord { metric_id: Some(b"metric-of-old"), ..plain(r#"{"textLength":1,"responseTime":600}"#) };
        recorder.record(topic, known).await?;
        recorder.record(topic, plain("ten characters")).await?;
        recorder.record(topic, plain(r#"{"textLength":-1,"responseTime":600}"#)).await?;
        recorder.record(topic, plain(r#"{"textLength":3,"duration":600}"#)).await?;
        recorder.record(topic, RawRecord { value: b"\xff\xfe", metric_id: None }).await?;
        recorder.record(topic, RawRecord { metric_id: Some(b""), ..known }).await?;
        recorder.record(topic, known).await?;
        recorder.record(topic, plain(r#"{"textLength":2,"responseTime":600.5}"#)).await?;
        stage.settle().await?;

        let stored: Vec<_> = stage.stored().await?.iter().map(|row| row.text_length).collect();
        assert_eq!(stored, [1, 2]);
        insta::assert_snapshot!(stage.document().await?);
        Ok(())
    })
}
