//! Stories of the echo, the worked example of `harness/docs/add-a-system.md`.

use std::path::Path;

use greenroom::drive::{NewRecord, Producer};
use greenroom::scenario::{self, Verdict};
use greenroom::spec;

const DESCRIPTION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/echo/environment.toml");

/// Goal: a record comes back with its own key and value, in the order of its key; what is no text holds up nobody.
/// Method: three records of one key, the second of them broken, and one of another key.
#[test]
fn what_comes_in_goes_out() -> Verdict {
    scenario::run(spec::read(Path::new(DESCRIPTION))?, async |environment| {
        environment.expect_complaint("echo", "record put aside as a dead letter");
        let producer = Producer::of(environment)?;
        let (first, broken, second) = (&b"first"[..], &b"\xff\xfe"[..], "zweites ☕".as_bytes());
        for (key, value) in [("a", first), ("a", broken), ("a", second), ("b", first)] {
            producer.send(NewRecord::to("echo.in").key(key).value(value)).await?;
        }
        let document = environment.document().await?;

        let seen = environment.observe().await?;
        let values_of = |topic, key: &str| -> Vec<_> {
            let of_key = seen.records(topic).iter().filter(|record| record.key.as_deref() == Some(key.as_bytes()));
            of_key.map(|record| record.value.as_deref().unwrap_or_default()).collect()
        };
        assert_eq!(values_of("echo.out", "a"), [first, second]);
        assert_eq!(values_of("echo.out", "b"), [first]);
        assert_eq!(values_of("echo.in.dlq", "a"), [broken]);
        assert_eq!(seen.records("echo.out").len() + seen.records("echo.in.dlq").len(), 4);
        insta::assert_snapshot!(document);
        Ok(())
    })
}
