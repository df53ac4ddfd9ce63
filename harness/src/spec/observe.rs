//! The part of a description that says when a system is at rest and what is written down of it.
//!
//! A *path* below is `container.field.field…`: the container is a table, a topic, a program with a
//! journal, or `redis.` with a key (as its pattern has it, such as `redis.queue:{token}`); the fields are a column,
//! then the fields of a JSON document (positions in lists do not count). `*.field` means any path that ends in that
//! field. What has no name of its own: the key of a topic's records is `key`, a value that is no JSON object or list is
//! `value`; in Redis a string is `value`, an item of a list `item`, a member of a set `member` with its `score`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// When the system is at rest; see [`crate::observe::settle()`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SettleSpec {
    /// Queries that return one count each: a name a person understands, and the SQL; at rest each count is 0.
    #[serde(default)]
    pub empty: BTreeMap<String, String>,
    /// Which group consumes which topics: at rest none of them lags.
    #[serde(default)]
    pub consumers: Vec<ConsumerSpec>,
    /// Programs that say over HTTP whether they are idle.
    #[serde(default)]
    pub idle: Vec<IdleSpec>,
}

/// A consumer group and the topics it reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsumerSpec {
    /// Group id.
    pub group: String,
    /// Topics.
    pub topics: Vec<String>,
}

/// A program that answers `GET path` with JSON whose field `idle` is a boolean.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdleSpec {
    /// Program name; every instance of it is asked.
    pub program: String,
    /// Path, such as `/status`.
    pub path: String,
}

/// What the document of a scenario contains, and how its values are named.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObserveSpec {
    /// Tables whose final rows are shown, in this order. Ids get their numbers in this order too, so a
    /// table stands after those that its rows refer to.
    #[serde(default)]
    pub tables: Vec<String>,
    /// Of these tables, those whose keys are given out in the order of a race that the scenario means to run:
    /// their rows are ordered by content instead of by primary key.
    #[serde(default)]
    pub unordered: Vec<String>,
    /// Columns whose every change the database itself records.
    #[serde(default)]
    pub history: Vec<HistorySpec>,
    /// Programs whose journal is shown: program name to path.
    #[serde(default)]
    pub journals: BTreeMap<String, String>,
    /// Kinds of id by which the entries of a journal are gathered; the first kind that an entry contains counts.
    /// Within such a story the order is shown; between stories there is none, because their calls may cross.
    #[serde(default)]
    pub stories: Vec<String>,
    /// Alias name to the paths that hold such an id, e.g.
    /// `order = ["order.id", "*.orderId", "*.order_id"]`.
    #[serde(default)]
    pub ids: BTreeMap<String, Vec<String>>,
    /// Texts that contain ids, such as `shipment_of_{order}` or `queue:{token}`.
    #[serde(default)]
    pub patterns: Vec<String>,
    /// Paths whose value differs from run to run and means nothing: durations, ports, attempt counters that depend on
    /// timing. Shown as `<varies>`; a token there is flagged all the same.
    #[serde(default)]
    pub volatile: Vec<String>,
    /// Paths that say nothing about what happened and are not shown at all: sequence numbers, offsets in a journal. Of a
    /// record only that it has a key or a value is shown then; a token there is flagged all the same.
    #[serde(default)]
    pub hidden: Vec<String>,
    /// Topics whose values are signed 64-bit big-endian integers, which no one can tell from text.
    #[serde(default)]
    pub integers: Vec<String>,
    /// Topics that are compacted or written in transactions, in which offsets without a record are expected.
    #[serde(default)]
    pub gaps: Vec<String>,
}

/// What may stand in the logs; see [`crate::audit`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditSpec {
    /// Complaints that mean nothing, whatever the story.
    #[serde(default)]
    pub expected: Vec<ExpectedSpec>,
}

/// A complaint that is expected.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectedSpec {
    /// Whose; a program's name stands for all of its instances.
    pub part: String,
    /// What the line contains.
    pub text: String,
    /// Why it means nothing.
    pub reason: String,
}

/// A column whose transitions are recorded by a trigger in the database.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HistorySpec {
    /// Table.
    pub table: String,
    /// Primary key column.
    pub key: String,
    /// Column whose changes are recorded.
    pub column: String,
}
