//! The document of a small shop that never existed: orders, an outbox, one topic, a queue and a journal.
//!
//! The observation is made by hand, so that each test changes one thing and looks at what the document makes of it.

mod shop;
mod unshown;

use bytes::Bytes;
use chrono::TimeDelta;
use serde_json::json;

use super::{document, render};
use crate::observe::Observation;
use crate::observe::history::Operation;
use crate::observe::keys::{Content, Key};
use crate::observe::topics::Topic;
use crate::observe::value::Value;
use shop::{JWT, TOKEN_A, TOKEN_B, empty, number, observation, record, spec, step, table};

#[test]
fn a_document_tells_the_story() {
    insta::assert_snapshot!(document(&observation(), &spec()), @r#"
    # History of outbox.status
    event-1: (new) INIT → SENT → DONE
    event-2: (new) INIT → SENT → FAILED

    # Topic payouts
    (no key, no order)
      text "hello, order_{order-2} at http://<shop>/x"
    order_{order-1}
      {"eventId": event-1}
      {"eventId": event-1, "retry": {"at": "<time>", "orderId": "order-1"}}
    order_{order-2}
      {"eventId": event-2}

    # Topics without records
    refunds

    # Redis
    queue:{token-1} (hash, expires)
      createdAt: <time>
      status: ACTIVE
      uuid: token-1
    queue:{token-2} (hash, expires)
      createdAt: <time>
      status: WAITING
      uuid: token-2
    waiting (sorted set)
      <time> queue:{token-1}
      <time> queue:{token-2}

    # Journal of bank: calls
    order-1
      {"answer": "approved", "orderId": order-1, "tookMs": <varies>, "userId": user-1}
    order-2
      {"answer": "declined", "orderId": order-2, "tookMs": <varies>, "userId": user-1}

    # Table user
    id user-1 · name "김 유나" · balance 90000.00

    # Table outbox
    id event-1 · metadata {"orderId": order-1, "price": "10000", "userId": "user-1"} · status DONE · createdAt <time>
    id event-2 · metadata {"orderId": order-2, "price": "20000", "userId": "user-1"} · status FAILED · createdAt <time>
    "#);
}

#[test]
fn swapping_two_ids_changes_the_document() {
    let mut swapped = observation();
    let Topic { records, .. } = &mut swapped.topics[1];
    records[0].value = Some(Bytes::from_static(br#"{"eventId":11}"#));
    records[1].value = Some(Bytes::from_static(br#"{"eventId":12}"#));
    assert_ne!(document(&swapped, &spec()), document(&observation(), &spec()));
}

#[test]
fn other_numbers_times_and_secrets_of_a_run_leave_the_document_as_it_was() {
    let mut other = observation();
    other.taken_at += TimeDelta::days(90);
    // Each id of the earlier run, and the one that stands in its place in this run.
    let ids = [("501", "9"), ("502", "10"), ("11", "99"), ("12", "100")];
    let id = |text: &str| ids.iter().find(|(a, _)| *a == text).map_or(text.to_owned(), |(_, b)| (*b).to_owned());
    for transition in &mut other.history {
        transition.key = id(&transition.key);
    }
    let swap = |bytes: &Bytes| {
        let mut text = String::from_utf8_lossy(bytes).into_owned();
        for (a, b) in [
            ("order_501", "order_9"),
            ("order_502", "order_10"),
            ("\"501\"", "\"9\""),
            ("Id\":11", "Id\":99"),
            ("Id\":12", "Id\":100"),
            ("2026-03-01", "2026-05-30"),
        ] {
            text = text.replace(a, b);
        }
        Bytes::from(text)
    };
    for record in &mut other.topics[1].records {
        record.key = record.key.as_ref().map(swap);
        record.value = record.value.as_ref().map(swap);
    }
    // The tokens' names sort the other way round, and the clock gave both one millisecond.
    let moved = |text: &str| match text {
        TOKEN_A => "ffffffff-27a7-4a1c-9a55-000000000001".to_owned(),
        TOKEN_B => "00000000-27a7-4a1c-9a55-000000000002".to_owned(),
        "1772366399123" => "1780142399000".to_owned(),
        other => other.to_owned(),
    };
    for key in &mut other.keys {
        key.name = key.name.replace(TOKEN_A, &moved(TOKEN_A)).replace(TOKEN_B, &moved(TOKEN_B));
        match &mut key.content {
            Content::Hash(fields) => fields.values_mut().for_each(|value| *value = moved(value)),
            Content::SortedSet(members) => {
                for (member, score) in members {
                    *member = member.replace(TOKEN_A, &moved(TOKEN_A)).replace(TOKEN_B, &moved(TOKEN_B));
                    *score = 1_780_142_399_000.0;
                }
            }
            _ => {}
        }
    }
    other.keys.sort_by(|a, b| a.name.cmp(&b.name));
    other.journals[0].documents[0] = json!({"calls": [
        {"orderId": 9, "userId": 7, "answer": "approved", "tookMs": 30},
        {"orderId": 10, "userId": 7, "answer": "declined", "tookMs": 1},
    ]});
    for row in &mut other.tables[1].rows {
        if let [Value::Number(key), Value::Json(metadata), _, Value::Time(created)] = row.as_mut_slice() {
            *key = id(key);
            metadata["orderId"] = json!(id(&metadata["orderId"].to_string()).parse::<i64>().expect("a number"));
            *created = other.taken_at;
        }
    }
    assert_eq!(document(&other, &spec()), document(&observation(), &spec()));
}

#[test]
fn the_order_of_json_fields_does_not_matter() {
    let mut other = observation();
    other.topics[1].records[2].value =
        Some(Bytes::from_static(br#"{"retry":{"at":"2026-03-01T11:59:59.5Z","orderId":"501"},"eventId":11}"#));
    assert_eq!(document(&other, &spec()), document(&observation(), &spec()));
}

#[test]
fn the_order_of_records_of_one_key_matters() {
    let mut other = observation();
    let records = &mut other.topics[1].records;
    let first = records[1].value.clone();
    records[1].value = records[2].value.clone();
    records[2].value = first;
    assert_ne!(document(&other, &spec()), document(&observation(), &spec()));
}

#[test]
fn a_token_is_never_shown_and_always_flagged() {
    let mut leaking = observation();
    leaking.tables[1].rows[0][1] = Value::Json(json!({"userId": 7, "token": JWT, "header": format!("Bearer {JWT}")}));
    leaking.topics[1].records[3].value = Some(Bytes::from(format!(r#"{{"note":"{{\"uuid\":\"{JWT}\"}}"}}"#)));
    let rendered = render(&leaking, &spec());
    assert!(!rendered.text.contains("eyJ"), "{}", rendered.text);
    insta::assert_debug_snapshot!(rendered.flags, @r#"
    [
        "a JWT stands in outbox, field header",
        "a JWT stands in outbox, field token",
        "a JWT stands in topic payouts, field uuid",
    ]
    "#);
}

#[test]
fn a_token_is_found_at_the_end_of_a_sentence_in_names_and_where_ids_stand() {
    let mut leaking = observation();
    let record = &mut leaking.topics[1].records[0];
    record.headers = vec![("cause".into(), Some(Bytes::from(format!("cannot verify {JWT}.")))), (JWT.into(), None)];
    let fields = [(JWT.to_owned(), "1".to_owned()), ("uuid".to_owned(), format!("Bearer {JWT}"))];
    leaking.keys[0].content = Content::Hash(fields.into());
    let rendered = render(&leaking, &spec());
    assert!(!rendered.text.contains("eyJ"), "{}", rendered.text);
    assert!(rendered.text.contains("[cause: cannot verify <jwt>.] [<jwt>: (null)]"), "{}", rendered.text);
    assert_eq!(rendered.flags.len(), 4, "{:?}", rendered.flags);
}

/// Goal: an id has one name, also where free text shows it before the place that the description knows.
/// Method: notes name the tokens of the queue; the table of notes comes first.
#[test]
fn a_uuid_in_free_text_has_the_name_from_where_it_is_described() {
    let note = |id: &str, token: &str| vec![number(id), Value::Text(format!("see {token}, please"))];
    let document_of = |first, second| {
        let columns = [("id", "int4"), ("text", "varchar")];
        let notes = table("note", &columns, vec![note("1", first), note("2", second)]);
        document(&Observation { tables: vec![notes], keys: observation().keys, ..empty() }, &spec())
    };
    let one = document_of(TOKEN_A, TOKEN_B);
    insta::assert_snapshot!(one, @r#"
    # History of outbox.status
    (none)

    # Redis
    queue:{token-1} (hash, expires)
      createdAt: <time>
      status: WAITING
      uuid: token-1
    queue:{token-2} (hash, expires)
      createdAt: <time>
      status: ACTIVE
      uuid: token-2
    waiting (sorted set)
      <time> queue:{token-2}
      <time> queue:{token-1}

    # Table note
    id 1 · text "see token-1, please"
    id 2 · text "see token-2, please"
    "#);
    assert_ne!(one, document_of(TOKEN_B, TOKEN_A), "two ids have changed places");
}

#[test]
fn a_uuid_that_two_rules_describe_has_one_name_in_free_text_whatever_comes_first() {
    let mut spec = spec();
    spec.ids.insert("zone".into(), vec!["a.zone".into(), "z.zone".into()]);
    let described = |name| table(name, &[("zone", "uuid")], vec![vec![Value::Text(TOKEN_A.into())]]);
    let tokens = || table("m", &[("uuid", "uuid")], vec![vec![Value::Text(TOKEN_A.into())]]);
    let note = || table("note", &[("text", "varchar")], vec![vec![Value::Text(format!("of {TOKEN_A}"))]]);
    for tables in [vec![note(), described("a"), tokens()], vec![note(), tokens(), described("z")]] {
        let shown = document(&Observation { tables, ..empty() }, &spec);
        assert!(shown.contains("text \"of token-1\""), "{shown}");
    }
}

#[test]
fn a_column_that_holds_a_json_null_is_not_an_empty_one() {
    let rows =
        [Value::Json(json!(null)), Value::Null, Value::Json(json!({"a": null})), Value::Text("json null".into())];
    let rows = rows.into_iter().map(|value| vec![value]).collect();
    let observed = Observation { tables: vec![table("note", &[("about", "jsonb")], rows)], ..empty() };
    insta::assert_snapshot!(document(&observed, &spec()), @r#"
    # History of outbox.status
    (none)

    # Table note
    about "json null"
    about json null
    about null
    about {"a": null}
    "#);
}

#[test]
fn ids_in_the_names_of_fields_are_aliases_in_an_order_that_is_the_contents() {
    let hash = |ids: [&str; 2]| Key {
        name: "waiting".into(),
        content: Content::Hash(
            ids.into_iter().zip(["first", "second"]).map(|(id, at)| (id.into(), at.into())).collect(),
        ),
        expires: false,
    };
    let document_of = |ids| document(&Observation { keys: vec![hash(ids)], ..empty() }, &spec());
    let (one, other) = (document_of([TOKEN_A, TOKEN_B]), document_of([TOKEN_B, TOKEN_A]));
    assert!(one.contains("first") && !one.contains(TOKEN_A), "{one}");
    assert_eq!(one, other);
}

#[test]
fn a_key_in_two_partitions_is_flagged() {
    let mut other = observation();
    other.topics[1].records[2].partition = 0;
    let flags = render(&other, &spec()).flags;
    assert_eq!(flags, ["topic payouts: key order_{order-1} stands in 2 partitions"]);
}

#[test]
fn rows_whose_keys_are_random_are_ordered_by_what_they_say() {
    let columns = [("id", "uuid"), ("userId", "int4"), ("item", "varchar")];
    let row = |id: &str, item: &str| vec![Value::Text(id.into()), number("7"), Value::Text(item.into())];
    let mut spec = spec();
    spec.ids.insert("cart".into(), vec!["cart.id".into()]);
    let with = |rows| Observation { tables: vec![table("cart", &columns, rows)], ..empty() };
    let one = with(vec![row(TOKEN_A, "tea"), row(TOKEN_B, "cup")]);
    let other = with(vec![row(TOKEN_A, "cup"), row(TOKEN_B, "tea")]);
    assert_eq!(document(&one, &spec), document(&other, &spec));
    insta::assert_snapshot!(document(&one, &spec), @r#"
    # History of outbox.status
    (none)

    # Table cart
    id cart-1 · userId user-1 · item cup
    id cart-2 · userId user-1 · item tea
    "#);
}

#[test]
fn records_of_integers_and_deleted_rows_are_shown() {
    let mut observed = empty();
    let mut deleted = step(3, "11", Some("INIT"), "");
    deleted.operation = Operation::Delete;
    deleted.to = None;
    observed.history = vec![step(1, "11", None, "INIT"), deleted];
    let mut number = record(0, 0, None, "");
    number.value = Some(Bytes::copy_from_slice(&7_i64.to_be_bytes()));
    let mut tombstone = record(0, 1, Some("order_3"), "");
    tombstone.value = None;
    observed.topics = vec![Topic { name: "payouts".into(), partitions: 1, records: vec![number, tombstone] }];
    let mut spec = spec();
    spec.integers = vec!["payouts".into()];
    spec.ids.insert("user".into(), vec!["payouts.value".into()]);
    insta::assert_snapshot!(document(&observed, &spec), @r#"
    # History of outbox.status
    event-1: (new) INIT → (deleted)

    # Topic payouts
    (no key, no order)
      user-1
    order_{order-1}
      (tombstone)
    "#);
}

#[test]
fn a_key_that_follows_a_pattern_has_a_path_by_which_its_fields_are_described() {
    let stock = |id: &str| Key {
        name: format!("stock/{id}"),
        content: Content::Text(r#"[{"id":44,"left":3}]"#.into()),
        expires: false,
    };
    let observed = Observation { keys: vec![stock("9")], ..empty() };
    let mut spec = spec();
    spec.patterns.push("stock/{store}".into());
    spec.ids.insert("item".into(), vec!["redis.stock/{store}.value.id".into()]);
    spec.hidden.push("*.left".into());
    insta::assert_snapshot!(document(&observed, &spec), @r#"
    # History of outbox.status
    (none)

    # Redis
    stock/{store-1} (string)
      [{"id": item-1}]
    "#);
}

#[test]
fn a_long_entry_takes_a_line_for_each_of_its_fields() {
    let mut observed = empty();
    observed.journals = observation().journals;
    observed.journals[0].documents = vec![json!({"dropped": 0, "calls": [
        {"orderId": 502, "note": "x".repeat(60), "answers": [{"text": "y".repeat(60)}, {"text": "z".repeat(60)}]},
    ]})];
    let mut spec = spec();
    spec.hidden.push("bank.dropped".into());
    insta::assert_snapshot!(document(&observed, &spec), @r#"
    # History of outbox.status
    (none)

    # Journal of bank: calls
    order-1
      {
        "answers": [
          {"text": "yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy"}
          {"text": "zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz"}
        ]
        "note": "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
        "orderId": order-1
      }
    "#);
}
