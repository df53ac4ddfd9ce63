//! Records as other programs may write them.

use fixtures::metrics::{self, Route};
use greenroom::drive::NewRecord;
use greenroom::scenario::Verdict;

const ID: &str = "metricId";

/// Goal: a malformed record is put aside with its cause and the rest of its partition goes on; a metric that comes twice
/// is stored once; one without an id, as the original sends it, is stored too.
/// Method: all of them are put into one partition, between two metrics that are well formed; and into another topic, whose
/// metrics have another form, one of each.
#[test]
fn malformed_records_are_put_aside() -> Verdict {
    metrics::scenario(async |stage| {
        stage.environment().expect_complaint("store", "put aside");
        let producer = stage.producer()?;
        let elapsed = |value: &[u8]| NewRecord::to(Route::Decorated.topic()).partition(0).value(value);
        let plain = |value: &[u8]| NewRecord::to(Route::First.topic()).partition(0).value(value);
        let known = br#"{"textLength":1,"responseTime":600}"#;
        let records = [
            plain(known).header(ID, "metric-of-old"),
            plain(b"ten characters"),
            plain(br#"{"textLength":-1,"responseTime":600}"#),
            plain(br#"{"textLength":3,"duration":600}"#),
            plain(b"\xff\xfe"),
            plain(known).header(ID, ""),
            plain(known).header(ID, "metric-of-old"),
            plain(br#"{"textLength":2,"responseTime":600.5}"#),
            elapsed(br#"{"textLength":4,"responseTime":500}"#),
            elapsed(br#"{"textLength":5,"duration":500}"#),
        ];
        for record in records {
            producer.send(record).await?;
        }
        stage.settle().await?;

        let stored: Vec<_> = stage.stored().await?.iter().map(|row| row.text_length).collect();
        assert_eq!(stored, [1, 2, 5]);
        insta::assert_snapshot!(stage.document().await?);
        Ok(())
    })
}
