//! A small shop that never existed: its description and what was observed of it.

use std::collections::BTreeMap;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;

use crate::observe::Observation;
use crate::observe::history::{Operation, Transition};
use crate::observe::journal::Journal;
use crate::observe::keys::{Content, Key};
use crate::observe::tables::{Column, Table};
use crate::observe::topics::{Record, Topic};
use crate::observe::value::{Value, parse_time};
use crate::spec::{HistorySpec, ObserveSpec};

pub(super) const TOKEN_A: &str = "0b0f9c5e-27a7-4a1c-9a55-000000000001";
pub(super) const TOKEN_B: &str = "f3b1c0de-27a7-4a1c-9a55-000000000002";
pub(super) const JWT: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxIn0.AAAA";

pub(super) fn spec() -> ObserveSpec {
    let ids = [
        ("user", &["user.id", "*.userId"][..]),
        ("order", &["order.id", "*.orderId"]),
        ("event", &["outbox.id", "*.eventId"]),
        ("token", &["*.uuid"]),
    ];
    ObserveSpec {
        history: vec![HistorySpec { table: "outbox".into(), key: "id".into(), column: "status".into() }],
        stories: vec!["order".into()],
        ids: ids
            .into_iter()
            .map(|(kind, paths)| (kind.to_owned(), paths.iter().map(|path| (*path).to_owned()).collect()))
            .collect(),
        patterns: vec!["order_{order}".into(), "queue:{token}".into()],
        volatile: vec!["*.tookMs".into()],
        ..ObserveSpec::default()
    }
}

pub(super) fn now() -> DateTime<Utc> {
    parse_time("2026-03-01T12:00:00Z").expect("an instant")
}

pub(super) fn table(name: &str, columns: &[(&str, &str)], rows: Vec<Vec<Value>>) -> Table {
    let columns = columns
        .iter()
        .enumerate()
        .map(|(index, (name, type_name))| Column {
            name: (*name).to_owned(),
            type_name: (*type_name).to_owned(),
            key: index == 0,
        })
        .collect();
    Table { name: name.to_owned(), columns, rows }
}

pub(super) fn number(text: &str) -> Value {
    Value::Number(text.to_owned())
}

pub(super) fn step(seq: i64, key: &str, from: Option<&str>, to: &str) -> Transition {
    Transition {
        seq,
        table: "outbox".into(),
        column: "status".into(),
        key: key.into(),
        operation: if from.is_some() { Operation::Update } else { Operation::Insert },
        from: from.map(Into::into),
        to: Some(to.into()),
        writer: "shop/1".into(),
    }
}

pub(super) fn record(partition: i32, offset: i64, key: Option<&str>, value: &str) -> Record {
    Record {
        topic: "payouts".into(),
        partition,
        offset,
        timestamp_ms: Some(1),
        key: key.map(|key| Bytes::copy_from_slice(key.as_bytes())),
        headers: Vec::new(),
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
    }
}

pub(super) fn token(uuid: &str, status: &str) -> Key {
    let fields = [("uuid", uuid), ("status", status), ("createdAt", "1772366399123")];
    let fields = fields.map(|(field, value)| (field.to_owned(), value.to_owned()));
    Key { name: format!("queue:{uuid}"), content: Content::Hash(fields.into()), expires: true }
}

pub(super) fn observation() -> Observation {
    Observation {
        taken_at: now(),
        addresses: BTreeMap::from([("127.9.0.1:8080".to_owned(), "shop".to_owned())]),
        history: vec![
            step(1, "12", None, "INIT"),
            step(2, "11", None, "INIT"),
            step(3, "12", Some("INIT"), "SENT"),
            step(4, "11", Some("INIT"), "SENT"),
            step(5, "12", Some("SENT"), "FAILED"),
            step(6, "11", Some("SENT"), "DONE"),
        ],
        topics: topics(),
        keys: vec![
            token(TOKEN_A, "WAITING"),
            token(TOKEN_B, "ACTIVE"),
            Key {
                name: "waiting".into(),
                content: Content::SortedSet(vec![
                    (format!("queue:{TOKEN_B}"), 1_772_366_399_000.0),
                    (format!("queue:{TOKEN_A}"), 1_772_366_399_123.0),
                ]),
                expires: false,
            },
        ],
        journals: vec![Journal {
            program: "bank".into(),
            documents: vec![json!({"calls": [
                {"orderId": 502, "userId": 7, "answer": "declined", "tookMs": 12},
                {"orderId": 501, "userId": 7, "answer": "approved", "tookMs": 3},
            ]})],
        }],
        tables: tables(),
    }
}

fn topics() -> Vec<Topic> {
    vec![
        Topic { name: "refunds".into(), partitions: 1, records: Vec::new() },
        Topic {
            name: "payouts".into(),
            partitions: 2,
            records: vec![
                record(0, 0, Some("order_502"), r#"{"eventId":12}"#),
                record(1, 0, Some("order_501"), r#"{"eventId":11}"#),
                record(
                    1,
                    1,
                    Some("order_501"),
                    r#"{"eventId":11,"retry":{"orderId":"501","at":"2026-03-01T11:59:59.5Z"}}"#,
                ),
                record(0, 1, None, "hello, order_502 at http://127.9.0.1:8080/x"),
            ],
        },
    ]
}

fn tables() -> Vec<Table> {
    let created = now() - TimeDelta::seconds(2);
    vec![
        table(
            "user",
            &[("id", "int4"), ("name", "varchar"), ("balance", "numeric")],
            vec![vec![number("7"), Value::Text("김 유나".into()), number("90000.00")]],
        ),
        table(
            "outbox",
            &[("id", "int8"), ("metadata", "jsonb"), ("status", "varchar"), ("createdAt", "timestamptz")],
            vec![
                vec![
                    number("11"),
                    Value::Json(json!({"userId": "7", "orderId": 501, "price": "10000"})),
                    Value::Text("DONE".into()),
                    Value::Time(created),
                ],
                vec![
                    number("12"),
                    Value::Json(json!({"userId": "7", "orderId": 502, "price": "20000"})),
                    Value::Text("FAILED".into()),
                    Value::Time(created),
                ],
            ],
        ),
    ]
}

pub(super) fn empty() -> Observation {
    Observation {
        history: Vec::new(),
        topics: Vec::new(),
        keys: Vec::new(),
        journals: Vec::new(),
        tables: Vec::new(),
        ..observation()
    }
}
