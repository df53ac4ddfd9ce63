//! What the description keeps out of the document.

use bytes::Bytes;
use serde_json::json;

use super::shop::{JWT, TOKEN_A, empty, number, observation, record, spec, table};
use crate::observe::Observation;
use crate::observe::keys::{Content, Key};
use crate::observe::topics::Topic;
use crate::observe::value::Value;
use crate::snapshot::{document, render};

fn key(name: &str, content: Content) -> Key {
    Key { name: name.to_owned(), content, expires: false }
}

fn texts<C: FromIterator<String>>(texts: [&str; 2]) -> C {
    texts.into_iter().map(str::to_owned).collect()
}

/// Goal: a token is a defect wherever it stands, also where nothing of it is shown.
/// Method: the same leaks with the paths described as volatile and as hidden.
#[test]
fn a_token_that_is_not_shown_is_flagged() {
    let mut leaking = observation();
    leaking.tables[1].rows[0][1] = Value::Json(json!({"claims": {"inner": format!("Bearer {JWT}")}, "orderId": 501}));
    leaking.tables[0].rows[0][1] = Value::Text(format!(r#"{{"raw":"{JWT}"}}"#));
    let record = &mut leaking.topics[1].records[0];
    record.headers = vec![("auth".into(), Some(Bytes::from_static(JWT.as_bytes())))];
    leaking.keys.push(key("session", Content::Hash([("jwt".to_owned(), format!("_{JWT}"))].into())));
    leaking.journals[0].documents[0]["calls"][0]["answer"] = json!([JWT]);
    let paths = ["outbox.metadata.claims", "user.name", "payouts.auth", "redis.session.jwt", "bank.answer"];
    let expected = [
        "a JWT stands in journal of bank, field answer",
        "a JWT stands in outbox, field inner",
        "a JWT stands in redis, field jwt",
        "a JWT stands in topic payouts, field auth",
        "a JWT stands in user, field raw",
    ];
    let paths = || paths.map(str::to_owned).to_vec();
    let mut volatile = spec();
    volatile.volatile.extend(paths());
    let mut hidden = spec();
    hidden.hidden = paths();
    for spec in [volatile, hidden] {
        let rendered = render(&leaking, &spec);
        assert_eq!(rendered.flags, expected);
        assert!(!rendered.text.contains("eyJ") && !rendered.text.contains("<jwt>"), "{}", rendered.text);
    }
}

#[test]
fn what_is_not_shown_gives_no_alias() {
    let columns = [("id", "int4"), ("text", "varchar"), ("uuid", "uuid")];
    let row = vec![number("1"), Value::Text(format!("order_7 and {TOKEN_A}")), Value::Text(TOKEN_A.into())];
    let mut seen = record(0, 0, None, "order_8");
    seen.headers = vec![("about".into(), Some(Bytes::from_static(TOKEN_A.as_bytes())))];
    let topics = vec![Topic { name: "payouts".into(), partitions: 1, records: vec![seen] }];
    let observed = Observation { tables: vec![table("note", &columns, vec![row])], topics, ..empty() };
    let mut spec = spec();
    spec.volatile = vec!["note.text".into()];
    spec.hidden = vec!["note.uuid".into()];
    insta::assert_snapshot!(document(&observed, &spec), @r#"
    # History of outbox.status
    (none)

    # Topic payouts
    (no key, no order)
      text "order_{order-1}" [about: uuid-1]

    # Table note
    id 1 · text <varies>
    "#);
}

#[test]
fn hidden_content_of_redis_is_not_shown() {
    let keys = vec![
        key("count", Content::Text("3".into())),
        key("document", Content::Text(r#"{"left":3,"of":9}"#.into())),
        key("list", Content::List(texts(["a", "b"]))),
        key("ranks", Content::SortedSet(vec![("x".into(), 1.0), ("y".into(), 2.0)])),
        key("scores", Content::SortedSet(vec![("x".into(), 1.0), ("y".into(), 2.0)])),
        key("set", Content::Set(texts(["a", "b"]))),
        key("shown", Content::Set(texts(["a", "b"]))),
    ];
    let observed = Observation { keys, ..empty() };
    let mut spec = spec();
    spec.hidden = ["count.value", "document.value.of", "list.item", "ranks.member", "scores.score", "set.member"]
        .map(|path| format!("redis.{path}"))
        .to_vec();
    insta::assert_snapshot!(document(&observed, &spec), @r#"
    # History of outbox.status
    (none)

    # Redis
    count (string)
    document (string)
      {"left": 3}
    list (list)
    ranks (sorted set)
      1
      2
    scores (sorted set)
      x
      y
    set (set)
    shown (set)
      a
      b
    "#);
}

#[test]
fn of_a_hidden_value_or_key_of_a_record_is_shown_that_it_is_there() {
    let mut with_header = record(0, 3, Some("k"), "text");
    with_header.headers = vec![("cause".into(), Some(Bytes::from_static(b"late")))];
    let mut bytes = record(0, 2, None, "");
    bytes.value = Some(Bytes::from_static(&[0xff, 0xfe]));
    let mut integer = record(0, 0, None, "");
    integer.value = Some(Bytes::copy_from_slice(&7_i64.to_be_bytes()));
    let mut tombstone = record(0, 4, Some("k"), "");
    tombstone.value = None;
    let records = vec![integer, record(0, 1, None, "1.5"), bytes, with_header, tombstone, record(0, 5, None, "{}")];
    let topics = vec![Topic { name: "payouts".into(), partitions: 1, records }];
    let observed = Observation { topics, ..empty() };
    let mut spec = spec();
    spec.integers = vec!["payouts".into()];
    spec.hidden = vec!["payouts.value".into(), "payouts.key".into()];
    insta::assert_snapshot!(document(&observed, &spec), @r#"
    # History of outbox.status
    (none)

    # Topic payouts
    (hidden key)
      (hidden value) [cause: late]
      (tombstone)
    (no key, no order)
      (hidden value)
      (hidden value)
      (hidden value)
      {}
    "#);
}
