//! What the API server refuses, with the field named; and what both programs put aside.

use fixtures::subtasks::{self, SubtaskClient, Subtasks};
use fixtures::{Refused, Stage};
use greenroom::scenario::Verdict;
use serde_json::json;

use crate::ledger::tally;
use crate::records::{a_second_delivery_changes_nothing, malformed_records_are_put_aside};

const TOO_LONG: &str = "body: length limit exceeded";

/// Status and code; the field is named in the message and nowhere else.
fn code(refused: &Refused) -> (u16, &str) {
    assert!(refused.field.is_none() && refused.more.is_empty(), "{refused:?}");
    refused.code()
}

/// Goal: what is wrong is refused with the field named, what does not exist is not found, and nothing of either stays;
/// what is malformed is put aside, what comes a second time changes nothing, and uploads go on all the while.
#[test]
fn what_is_wrong_is_refused_or_put_aside() -> Verdict {
    subtasks::scenario(async |stage| {
        stage.environment().expect_complaint("subtask-api", "put aside");
        stage.environment().expect_complaint("subtask-worker", "put aside");
        wrong_names_are_refused(stage).await?;
        wrong_uploads_are_refused(stage).await?;
        what_does_not_exist_is_not_found(stage).await?;
        assert_eq!(tally(&stage.database().await?).await?, Vec::<String>::new());
        malformed_records_are_put_aside(stage).await?;
        a_second_delivery_changes_nothing(stage).await?;
        insta::assert_snapshot!(stage.document().await?);
        Ok(())
    })
}

/// Names of the wrong type, empty, too long, or no text, and bodies that are none.
async fn wrong_names_are_refused(stage: &Stage<'_, Subtasks>) -> Verdict {
    for (body, message) in [
        (json!({}), "name is missing"),
        (json!({"name": null}), "name must be a text"),
        (json!({"name": 7}), "name must be a text"),
        (json!({"name": "\0"}), "name must be a text"),
        (json!({"name": " "}), "name must not be empty"),
        (json!({"name": "x".repeat(256)}), "name must have at most 255 characters"),
        (json!({"name": "x".repeat(70_000)}), TOO_LONG),
        (json!({"name": "x", "uploading": true}), "uploading is not a known field"),
    ] {
        refuses(&stage.api, "/subtasks", body.to_string(), message).await?;
    }
    refuses_what_is_no_object(&stage.api, "/subtasks").await?;
    refuses(&stage.api, "/subtasks", b"{\"name\":\"\xff\"}", "name must be UTF-8").await?;
    let subtasks = "SELECT count(*) FROM subtask";
    assert_eq!(sqlx::query_scalar::<_, i64>(subtasks).fetch_one(&stage.database().await?).await?, 0);
    Ok(())
}

/// Uploads that are wrong in any field, in both patterns.
async fn wrong_uploads_are_refused(stage: &Stage<'_, Subtasks>) -> Verdict {
    let subtask = stage.api.create("Result").await?;
    let range = "subtaskId must be from 1 to 2147483647";
    let upload = |more: &str| format!(r#"{{"subtaskId":{subtask},{more}}}"#);
    let long = "x".repeat(256);
    let long_fail = format!(r#""simulate":{{"fail":"{long}"}}"#);
    let long_key = format!(r#""simulate":{{"{long}":true}}"#);
    let long_key_is_unknown = format!("simulate.{long} is not a known field");
    let cases = [
        ("{}".to_owned(), "subtaskId is missing"),
        (r#"{"subtask":1}"#.to_owned(), "subtaskId is missing"),
        (r#"{"subtaskId":null}"#.to_owned(), "subtaskId must be a whole number"),
        (r#"{"subtaskId":"seven"}"#.to_owned(), "subtaskId must be a whole number"),
        (r#"{"subtaskId":[1]}"#.to_owned(), "subtaskId must be a whole number"),
        (r#"{"subtaskId":1.5}"#.to_owned(), "subtaskId must be a whole number"),
        (r#"{"subtaskId":-1}"#.to_owned(), range),
        (r#"{"subtaskId":0}"#.to_owned(), range),
        (r#"{"subtaskId":9223372036854775807}"#.to_owned(), range),
        (r#"{"subtaskId":"92233720368547758080"}"#.to_owned(), "subtaskId must be a whole number"),
        (upload(r#""isWorkerComplete":"yes""#), "isWorkerComplete must be true or false"),
        (upload(r#""isWorkerComplete":null"#), "isWorkerComplete must be true or false"),
        (upload(r#""urgent":true"#), "urgent is not a known field"),
        (upload(r#""simulate":1"#), "simulate must be an object"),
        (upload(r#""simulate":{"workMs":-1}"#), "simulate.workMs must be a whole number"),
        (upload(r#""simulate":{"fail":7}"#), "simulate.fail must be a text"),
        (upload(&long_fail), "simulate.fail must have at most 255 characters"),
        (upload(r#""simulate":{"hang":1}"#), "simulate.hang must be true or false"),
        (upload(r#""simulate":{"gate":"open"}"#), "simulate.gate must be true or false"),
        (upload(r#""simulate":{"workMs":600001}"#), "simulate.workMs must be a whole number from 0 to 600000"),
        (upload(r#""simulate":{"explode":true}"#), "simulate.explode is not a known field"),
        (upload(&long_key), long_key_is_unknown.as_str()),
    ];
    for route in ["/queueUploadResult", "/queueUploadResult/event"] {
        for (body, message) in &cases {
            refuses(&stage.api, route, body.as_str(), message).await?;
        }
        refuses(&stage.api, route, upload(&format!(r#""note":"{}""#, "x".repeat(70_000))), TOO_LONG).await?;
        refuses_what_is_no_object(&stage.api, route).await?;
        for (garbled, message) in [
            (&b"{\"subtaskId\":\"\xff\"}"[..], "subtaskId must be UTF-8"),
            (b"{\"isWorkerComplete\":\"\xff\"}", "isWorkerComplete must be UTF-8"),
            (b"{\"simulate\":{\"workMs\":\"\xff\"}}", "simulate.workMs must be UTF-8"),
            (b"{\"simulate\":{\"fail\":\"\xff\"}}", "simulate.fail must be UTF-8"),
            (b"{\"simulate\":{\"hang\":\"\xff\"}}", "simulate.hang must be UTF-8"),
            (b"{\"simulate\":{\"gate\":\"\xff\"}}", "simulate.gate must be UTF-8"),
        ] {
            refuses(&stage.api, route, garbled, message).await?;
        }
    }
    assert!(!stage.api.subtask(subtask).await?.uploading);
    Ok(())
}

/// Bodies that are none.
async fn refuses_what_is_no_object(api: &SubtaskClient, path: &str) -> Verdict {
    for body in [&b""[..], b"[]", b"7", b"null", b"{\"name\":"] {
        refuses(api, path, body, "The body must be a JSON object").await?;
    }
    refuses(api, path, b"\xff\xfe", "The body must be UTF-8").await
}

/// An id that nothing has is 404 and one that is none is 400, either with the field named; so is 404 a route that is
/// none.
async fn what_does_not_exist_is_not_found(stage: &Stage<'_, Subtasks>) -> Verdict {
    for route in ["/queueUploadResult", "/queueUploadResult/event"] {
        let refused = stage.api.post(route).json(json!({"subtaskId": 4711})).refused().await?;
        assert_eq!(code(&refused), (404, "SUBTASK_001"));
        assert!(refused.message.contains("no subtaskId is 4711"), "{refused}");
    }
    for (path, expected, message) in [
        ("/subtasks/4711", (404, "SUBTASK_001"), "no subtaskId is 4711"),
        ("/subtasks/first", (400, "COMMON_400"), "subtaskId must be"),
        ("/subtasks/99999999999", (400, "COMMON_400"), "subtaskId must be"),
        ("/uploads/7f2c1a1e-53c8-4a8e-9b57-0a4f0b6d6f11", (404, "SUBTASK_002"), "no uploadId is 7f2c1a1e-"),
        ("/subtasks/%FF", (400, "COMMON_400"), "subtaskId must be UTF-8"),
        ("/uploads/first", (400, "COMMON_400"), "uploadId must be a UUID"),
        ("/uploads/%FF", (400, "COMMON_400"), "uploadId must be UTF-8"),
        ("/nowhere", (404, "COMMON_404"), ""),
    ] {
        let refused = stage.api.get(path).refused().await?;
        assert_eq!(code(&refused), expected, "{path}");
        assert!(refused.message.contains(message), "{path}: {refused}");
    }
    Ok(())
}

/// The law: 400 with this message.
async fn refuses(api: &SubtaskClient, path: &str, body: impl Into<Vec<u8>>, message: &str) -> Verdict {
    let body = body.into();
    let refused = api.post(path).body(body.clone()).refused().await?;
    assert_eq!(code(&refused), (400, "COMMON_400"), "{path} {}", body.escape_ascii());
    assert!(refused.message.contains(message), "{path} {}: {refused}", body.escape_ascii());
    Ok(())
}
