//! What the sender refuses.

use fixtures::metrics::{self, Route};
use greenroom::scenario::Verdict;

/// Goal: what is no text is refused with the field named, on every route, and yields no metric.
#[test]
fn what_is_no_text_is_refused() -> Verdict {
    let long = format!(r#"{{"text":"{}"}}"#, "x".repeat(10_001));
    let longer = format!(r#"{{"text":"{}"}}"#, "x".repeat(200_000));
    let wrong = ["", "text", "[]", "{}", r#"{"text":5}"#, r#"{"text":-1.5}"#, r#"{"text":null}"#, r#"{"text":["a"]}"#];
    metrics::scenario(async |stage| {
        for route in Route::ALL {
            for body in wrong.into_iter().chain([long.as_str(), longer.as_str()]) {
                let refused = stage.sender.refused(route, body).await?;
                assert_eq!(refused.code(), (400, "COMMON_400"), "{refused:?}");
                assert!(refused.message.contains(" text "), "the field is not named: {refused:?}");
            }
            let refused = stage.sender.refused(route, r#"{"text":"a","txt":"b"}"#).await?;
            assert_eq!(refused.message, "Invalid request data. txt is not a known field.");
        }
        stage.settle().await?;
        stage.each_stored_once(&[]).await?;
        Ok(())
    })
}
