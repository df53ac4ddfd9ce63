//! Final rows and the history of their transitions.

use std::collections::BTreeMap;

use super::Section;
use super::names::Names;
use super::order::{by_shape, natural};
use crate::observe::history::{Operation, Transition};
use crate::observe::tables::Table;
use crate::observe::value::Value;
use crate::spec::{HistorySpec, ObserveSpec};

/// A table with its rows in the order of the document.
pub(super) struct OrderedTable<'a> {
    table: &'a Table,
    rows: Vec<&'a Vec<Value>>,
}

/// The transitions of one column of one row.
pub(super) struct Chain<'a> {
    spec: &'a HistorySpec,
    key: &'a str,
    transitions: Vec<&'a Transition>,
}

/// Orders the rows of each table and gives their ids aliases.
pub(super) fn order_tables<'a>(
    names: &mut Names<'_>,
    tables: &'a [Table],
    spec: &ObserveSpec,
) -> Vec<OrderedTable<'a>> {
    let mut ordered = Vec::new();
    for table in tables {
        names.at(&table.name);
        let mut rows: Vec<_> = table.rows.iter().collect();
        let mut key = table.columns.iter().filter(|column| column.key).peekable();
        let counted =
            key.peek().is_some() && key.all(|column| matches!(column.type_name.as_str(), "int2" | "int4" | "int8"));
        if !counted || spec.unordered.contains(&table.name) {
            rows = by_shape(names, rows, |names, row| row_line(names, table, row));
        }
        for row in &rows {
            row_line(names, table, row);
        }
        ordered.push(OrderedTable { table, rows });
    }
    ordered
}

pub(super) fn table_sections(names: &mut Names<'_>, tables: &[OrderedTable<'_>]) -> Vec<Section> {
    let mut sections = Vec::new();
    for OrderedTable { table, rows } in tables {
        names.at(&table.name);
        let lines = rows.iter().map(|row| row_line(names, table, row)).collect();
        sections.push(Section { title: format!("Table {}", table.name), lines });
    }
    sections
}

/// `id event-1 · status SUCCESS · createdAt <time>`
fn row_line(names: &mut Names<'_>, table: &Table, row: &[Value]) -> String {
    let mut cells = Vec::with_capacity(row.len());
    for (column, value) in table.columns.iter().zip(row) {
        let path = format!("{}.{}", table.name, column.name);
        if !names.hides(&path, value) {
            cells.push(format!("{} {}", column.name, names.column(&path, value)));
        }
    }
    cells.join(" · ")
}

/// Gathers transitions by row and gives the keys of rows that are gone their aliases.
pub(super) fn order_history<'a>(
    names: &mut Names<'_>,
    history: &'a [Transition],
    spec: &'a ObserveSpec,
) -> Vec<Chain<'a>> {
    let mut chains = Vec::new();
    for described in &spec.history {
        names.at(&described.table);
        let mut by_key: BTreeMap<&str, Vec<&Transition>> = BTreeMap::new();
        for transition in history {
            if transition.table == described.table && transition.column == described.column {
                by_key.entry(&transition.key).or_default().push(transition);
            }
        }
        let counted = by_key.keys().all(|key| key.parse::<i64>().is_ok());
        let mut of_column: Vec<_> =
            by_key.into_iter().map(|(key, transitions)| Chain { spec: described, key, transitions }).collect();
        of_column.sort_by(|a, b| natural(a.key, b.key));
        if !counted || spec.unordered.contains(&described.table) {
            of_column = by_shape(names, of_column, chain_line);
        }
        for chain in &of_column {
            chain_line(names, chain);
        }
        chains.extend(of_column);
    }
    chains
}

pub(super) fn history_sections(names: &mut Names<'_>, chains: &[Chain<'_>], spec: &ObserveSpec) -> Vec<Section> {
    let mut sections = Vec::new();
    for described in &spec.history {
        names.at(&described.table);
        let mut lines: Vec<_> =
            chains.iter().filter(|chain| chain.spec == described).map(|chain| chain_line(names, chain)).collect();
        lines.sort_by(|a, b| natural(a, b));
        sections.push(Section { title: format!("History of {}.{}", described.table, described.column), lines });
    }
    sections
}

/// `event-1: (new) INIT → PUBLISHED → SUCCESS`
fn chain_line(names: &mut Names<'_>, chain: &Chain<'_>) -> String {
    let HistorySpec { table, key, column } = chain.spec;
    let row = names.text(&format!("{table}.{key}"), chain.key);
    let path = format!("{table}.{column}");
    let mut value = |value: &Option<String>| match value {
        Some(text) => names.text(&path, text),
        None => "null".to_owned(),
    };
    let mut steps = Vec::new();
    for transition in &chain.transitions {
        match transition.operation {
            Operation::Insert => steps.push(format!("(new) {}", value(&transition.to))),
            Operation::Update => {
                // The row is older than the recording: say where it began.
                if steps.is_empty() {
                    steps.push(value(&transition.from));
                }
                steps.push(value(&transition.to));
            }
            Operation::Delete => steps.push("(deleted)".to_owned()),
        }
    }
    format!("{row}: {}", steps.join(" → "))
}
