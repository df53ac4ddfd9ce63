//! What the API server refuses, with the field named.

use fixtures::{Refused, subtasks};
use greenroom::scenario::Verdict;
use serde_json::{Value, json};

use crate::ledger::tally;

/// Status and code; the field is named in the message and nowhere else.
fn code(refused: &Refused) -> (u16, &str) {
    assert!(refused.field.is_none() && refused.more.is_empty(), "{refused:?}");
    refused.code()
}

/// Goal: a wrong body is refused with the field named, and nothing of it stays.
#[test]
fn wrong_bodies_are_refused_with_the_field_named() -> Verdict {
    subtasks::scenario(async |stage| {
        let upload = "/queueUploadResult";
        let cases: Vec<(&str, Value, &str)> = vec![
            ("/subtasks", json!({}), "name is missing"),
            ("/subtasks", json!({"name": 7}), "name must be a text"),
            ("/subtasks", json!({"name": " "}), "name must not be empty"),
            ("/subtasks", json!({"name": "x".repeat(256)}), "name must have at most 255 characters"),
            ("/subtasks", json!({"name": "x", "uploading": true}), "uploading is not a known field"),
            ("/subtasks", json!([]), "The body must be a JSON object"),
            (upload, json!({}), "subtaskId is missing"),
            (upload, json!({"subtaskId": null}), "subtaskId must be a whole number"),
            (upload, json!({"subtaskId": "seven"}), "subtaskId must be a whole number"),
            (upload, json!({"subtaskId": 1.5}), "subtaskId must be a whole number"),
            (upload, json!({"subtaskId": -1}), "subtaskId must be from 1 to 2147483647"),
            (upload, json!({"subtaskId": 0}), "subtaskId must be from 1 to 2147483647"),
            (upload, json!({"subtaskId": 9_223_372_036_854_775_807_i64}), "subtaskId must be from 1 to 2147483647"),
            (upload, json!({"subtaskId": "92233720368547758080"}), "subtaskId must be a whole number"),
            (upload, json!({"subtaskId": 1, "isWorkerComplete": "yes"}), "isWorkerComplete must be true or false"),
            (upload, json!({"subtaskId": 1, "simulate": 1}), "simulate must be an object"),
            (upload, json!({"subtaskId": 1, "simulate": {"workMs": -1}}), "simulate.workMs must be a whole number"),
            ("/queueUploadResult/event", json!({"subtask": 1}), "subtaskId is missing"),
        ];
        for (path, body, message) in cases {
            let refused = stage.api.post(path).json(&body).refused().await?;
            assert_eq!(code(&refused), (400, "COMMON_400"), "{path} {body}");
            assert!(refused.message.contains(message), "{path} {body}: {}", refused.message);
        }
        let bytes: [(&[u8], &str); 4] = [
            (b"{\"name\":\"\xff\"}", "name must be UTF-8"),
            (b"\xff\xfe", "The body must be UTF-8"),
            (b"{\"name\":", "The body must be a JSON object"),
            (b"", "The body must be a JSON object"),
        ];
        for (body, message) in bytes {
            let refused = stage.api.post("/subtasks").body(body).refused().await?;
            assert_eq!(code(&refused), (400, "COMMON_400"));
            assert!(refused.message.contains(message), "{}", refused.message);
        }
        assert_eq!(tally(&stage.database().await?).await?, Vec::<String>::new());
        Ok(())
    })
}

/// Goal: what does not exist is 404, and an id that is none is 400.
#[test]
fn unknown_subtasks_and_uploads_are_not_found() -> Verdict {
    subtasks::scenario(async |stage| {
        for route in ["/queueUploadResult", "/queueUploadResult/event"] {
            let refused = stage.api.post(route).json(json!({"subtaskId": 4711})).refused().await?;
            assert_eq!(code(&refused), (404, "SUBTASK_001"));
        }
        for (path, expected) in [
            ("/subtasks/4711", (404, "SUBTASK_001")),
            ("/subtasks/first", (400, "COMMON_400")),
            ("/subtasks/99999999999", (400, "COMMON_400")),
            ("/uploads/7f2c1a1e-53c8-4a8e-9b57-0a4f0b6d6f11", (404, "SUBTASK_002")),
            ("/uploads/first", (400, "COMMON_400")),
            ("/nowhere", (404, "COMMON_404")),
        ] {
            let refused = stage.api.get(path).refused().await?;
            assert_eq!(code(&refused), expected, "{path}");
        }
        assert_eq!(tally(&stage.database().await?).await?, Vec::<String>::new());
        Ok(())
    })
}
