//! What the sender refuses.

use fixtures::metrics::{self, Call, Route};
use greenroom::scenario::Verdict;

/// Goal: what is no text is refused with the field named, on every route, and yields no metric; the shortest and the
/// longest text yield one each.
#[test]
fn what_is_no_text_is_refused() -> Verdict {
    let strange = [r#"{"text":true}"#, r#"{"text":{}}"#, "{", r#"{"text":"\ud800"}"#];
    let no_utf8 = [&b"\xff\xfe"[..], b"{\"text\":\"\xff\"}"];
    let long = format!(r#"{{"text":"{}"}}"#, "x".repeat(10_001));
    let longer = format!(r#"{{"text":"{}"}}"#, "x".repeat(200_000));
    let wrong = ["", "text", "[]", "{}", r#"{"text":5}"#, r#"{"text":-1.5}"#, r#"{"text":null}"#, r#"{"text":["a"]}"#];
    metrics::scenario(async |stage| {
        for route in Route::ALL {
            let texts = wrong.into_iter().chain(strange).chain([long.as_str(), longer.as_str()]);
            for body in texts.map(str::as_bytes).chain(no_utf8) {
                let refused = stage.sender.refused(route, body).await?;
                assert_eq!(refused.code(), (400, "COMMON_400"), "{refused:?}");
                assert!(refused.message.contains(" text "), "the field is not named: {refused:?}");
            }
            let refused = stage.sender.refused(route, r#"{"text":"a","txt":"b"}"#).await?;
            assert_eq!(refused.message, "Invalid request data. txt is not a known field.");
        }
        let bounds = [Call { route: Route::First, text_length: 0 }, Call { route: Route::First, text_length: 10_000 }];
        stage.sender.call_all(1, &bounds).await?;
        stage.settle().await?;
        stage.each_stored_once(&bounds).await?;
        Ok(())
    })
}
