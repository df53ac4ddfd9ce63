//! What the sender refuses, and what the store puts aside.

use std::time::Duration;

use fixtures::Stage;
use fixtures::metrics::{self, Call, Metrics, Route};
use greenroom::drive::NewRecord;
use greenroom::scenario::{Failure, Verdict};

use crate::flushing::first_went_after;

const ID: &str = "metricId";

/// Goal: what is wrong is told to its sender or put aside with its cause, becomes no metric, and holds up nothing; the
/// good go when they are old enough, and not before.
/// Method: a sender that flushes what is 4 s old: [`malformed_records_are_put_aside`], [`what_is_no_text_is_refused`],
/// and one good call of each route. At last [`a_large_malformed_record_is_put_aside`], which no document should show.
#[test]
fn what_is_wrong_is_refused_or_put_aside() -> Verdict {
    let flush_age = Duration::from_secs(4);
    metrics::adjusted().variable("FLUSH_AGE", "4s").scenario(async |stage| {
        stage.environment().expect_complaint("store", "put aside");
        let mut calls = malformed_records_are_put_aside(stage).await?;
        what_is_no_text_is_refused(stage).await?;
        let good = Route::ALL.map(|route| Call { route, text_length: 5 });
        let went_after = first_went_after(stage, &good).await?;
        assert!(went_after >= flush_age, "a metric went after {went_after:?}, before any was {flush_age:?} old");
        calls.extend(good);
        stage.each_stored_once(&calls).await?;
        insta::assert_snapshot!(stage.document().await?);
        calls.push(a_large_malformed_record_is_put_aside(stage).await?);
        stage.each_stored_once(&calls).await?;
        Ok(())
    })
}

/// Goal: a malformed record is put aside with its cause and the rest of its partition goes on; a metric that comes
/// twice is stored once; one without an id, as the original sends it, is stored too.
/// Method: all of them are put into one partition, between two metrics that are well formed; and into the other topics,
/// one of each: the metrics of one of them have another form.
async fn malformed_records_are_put_aside(stage: &Stage<'_, Metrics>) -> Result<Vec<Call>, Failure> {
    let producer = stage.producer()?;
    let elapsed = |value: &[u8]| NewRecord::to(Route::Decorated.topic()).partition(0).value(value);
    let second = |value: &[u8]| NewRecord::to(Route::Second.topic()).partition(0).value(value);
    let plain = |value: &[u8]| NewRecord::to(Route::First.topic()).partition(0).value(value);
    let known = br#"{"textLength":1,"responseTime":600}"#;
    let records = [
        plain(known).header(ID, "metric-of-old"),
        plain(b"ten characters"),
        plain(br#"{"textLength":-1,"responseTime":600}"#),
        plain(br#"{"textLength":3,"duration":600}"#),
        plain(b"\xff\xfe"),
        plain(known).header(ID, ""),
        plain(known).header(ID, "x".repeat(201)),
        plain(known).header(ID, b"\xff\xfe"),
        plain(known).header(ID, "no\0text"),
        NewRecord::to(Route::First.topic()).partition(0),
        plain(known).header(ID, "metric-of-old"),
        plain(br#"{"textLength":2,"responseTime":600.5}"#),
        second(br#"{"textLength":8,"duration":700}"#),
        second(br#"{"textLength":9,"responseTime":700.5}"#),
        elapsed(br#"{"textLength":4,"responseTime":500}"#),
        elapsed(br#"{"textLength":7,"duration":500}"#),
    ];
    for record in records {
        producer.send(record).await?;
    }
    stage.settle().await?;

    let stored = [(Route::First, 1), (Route::First, 2), (Route::Second, 9), (Route::Decorated, 7)];
    let stored = stored.map(|(route, text_length)| Call { route, text_length });
    stage.each_stored_once(&stored).await?;
    Ok(stored.into())
}

/// Goal: a malformed record that is too large to be written a second time, with a cause, holds up nothing either: its
/// letter leaves the value out and says so, and where the record lies.
/// Method: a record as large as the brokers' clients send, and behind it a metric that is well formed.
async fn a_large_malformed_record_is_put_aside(stage: &Stage<'_, Metrics>) -> Result<Call, Failure> {
    let good = Call { route: Route::First, text_length: 6 };
    let (topic, letters) = (good.route.topic(), "FIRST_TOPIC.dlq");
    let before = stage.records(letters).await?;
    let producer = stage.producer()?;
    let record = || NewRecord::to(topic).partition(0).key("large");
    let large = producer.send(record().value("x".repeat(999_900))).await?;
    producer.send(record().value(br#"{"textLength":6,"responseTime":600}"#)).await?;
    stage.settle().await?;

    let mut added = stage.records(letters).await?;
    added.retain(|letter| !before.contains(letter));
    let [letter] = added.as_slice() else { panic!("{} letters of one record", added.len()) };
    assert_eq!((letter.key.as_deref(), letter.value.as_deref()), (Some(&b"large"[..]), None));
    let offset = large.offset.to_string();
    for (name, expected) in [
        ("cause", "the value is no JSON object"),
        ("source-topic", topic),
        ("source-partition", "0"),
        ("source-offset", offset.as_str()),
        ("left-out", "value"),
    ] {
        let header = letter.headers.iter().find(|(found, _)| found == name);
        let said = header.and_then(|(_, value)| value.as_deref());
        assert_eq!(said, Some(expected.as_bytes()), "{name}");
    }
    Ok(good)
}

/// Goal: what is no text is refused with the field named, on every route, and yields no metric.
async fn what_is_no_text_is_refused(stage: &Stage<'_, Metrics>) -> Verdict {
    let strange = [r#"{"text":true}"#, r#"{"text":{}}"#, "{", r#"{"text":"\ud800"}"#];
    let no_utf8 = [&b"\xff\xfe"[..], b"{\"text\":\"\xff\"}"];
    let long = format!(r#"{{"text":"{}"}}"#, "x".repeat(10_001));
    let longer = format!(r#"{{"text":"{}"}}"#, "x".repeat(200_000));
    let wrong = ["", "text", "[]", "{}", r#"{"text":5}"#, r#"{"text":-1.5}"#, r#"{"text":null}"#, r#"{"text":["a"]}"#];
    for route in Route::ALL {
        let texts = wrong.into_iter().chain(strange).chain([long.as_str(), longer.as_str()]);
        for body in texts.map(str::as_bytes).chain(no_utf8) {
            let refused = stage.sender.refused(route, body).await?;
            assert_eq!(refused.code(), (400, "COMMON_400"), "{refused:?}");
            assert!(refused.message.starts_with("Invalid request data. text "), "the field is not named: {refused:?}");
        }
        let refused = stage.sender.refused(route, r#"{"text":"a","txt":"b"}"#).await?;
        assert_eq!(refused.message, "Invalid request data. txt is not a known field.");
    }
    Ok(())
}
