//! Records by topic and key, and journals by story.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde_json::Value as Json;

use super::Section;
use super::names::{Id, Names, quoted};
use super::order::{by_shape, natural};
use super::text;
use crate::observe::journal::Journal;
use crate::observe::topics::{Record, Topic};
use crate::spec::ObserveSpec;

/// A topic with its records gathered by key.
pub(super) struct OrderedTopic<'a> {
    topic: &'a Topic,
    integers: bool,
    groups: Vec<Group<'a>>,
}

/// The records of one key in order, or one record without a key.
struct Group<'a> {
    key: Option<&'a Bytes>,
    records: Vec<&'a Record>,
}

/// Gathers the records of each topic by key and gives their ids aliases.
pub(super) fn order_topics<'a>(
    names: &mut Names<'_>,
    topics: &'a [Topic],
    spec: &ObserveSpec,
) -> Vec<OrderedTopic<'a>> {
    let mut ordered: Vec<_> = topics.iter().collect();
    ordered.sort_by(|a, b| a.name.cmp(&b.name));
    ordered
        .into_iter()
        .map(|topic| {
            names.at(format!("topic {}", topic.name));
            let integers = spec.integers.contains(&topic.name);
            let mut by_key: BTreeMap<&Bytes, Vec<&Record>> = BTreeMap::new();
            let mut groups = Vec::new();
            for record in &topic.records {
                match &record.key {
                    Some(key) => by_key.entry(key).or_default().push(record),
                    None => groups.push(Group { key: None, records: vec![record] }),
                }
            }
            groups.extend(by_key.into_iter().map(|(key, records)| Group { key: Some(key), records }));
            let groups = by_shape(names, groups, |names, group| group_lines(names, topic, integers, group).join("\n"));
            for group in &groups {
                group_lines(names, topic, integers, group);
            }
            OrderedTopic { topic, integers, groups }
        })
        .collect()
}

pub(super) fn topic_sections(names: &mut Names<'_>, topics: &[OrderedTopic<'_>]) -> Vec<Section> {
    let mut sections = Vec::new();
    let mut empty = Vec::new();
    for OrderedTopic { topic, integers, groups } in topics {
        if groups.is_empty() {
            empty.push(topic.name.clone());
            continue;
        }
        names.at(format!("topic {}", topic.name));
        let mut shown = Vec::new();
        for group in groups {
            let lines = group_lines(names, topic, *integers, group);
            let partitions: BTreeSet<_> = group.records.iter().map(|record| record.partition).collect();
            if partitions.len() > 1 {
                let key = lines.first().cloned().unwrap_or_default();
                names.flag(format!("topic {}: key {key} stands in {} partitions", topic.name, partitions.len()));
            }
            shown.push(lines);
        }
        shown.sort_by(|a, b| natural(&a.join("\n"), &b.join("\n")));
        // One heading for all records without a key.
        shown.dedup_by(|later, earlier| {
            let both_keyless = later[0] == NO_KEY && earlier[0] == NO_KEY;
            if both_keyless {
                earlier.extend(later.drain(1..));
            }
            both_keyless
        });
        sections.push(Section { title: format!("Topic {}", topic.name), lines: shown.concat() });
    }
    if !empty.is_empty() {
        sections.push(Section { title: "Topics without records".to_owned(), lines: vec![empty.join(", ")] });
    }
    sections
}

const NO_KEY: &str = "(no key, no order)";

/// The key, then one line per record.
fn group_lines(names: &mut Names<'_>, topic: &Topic, integers: bool, group: &Group<'_>) -> Vec<String> {
    let heading = match group.key {
        Some(key) if key.is_empty() => "(empty key)".to_owned(),
        Some(key) => {
            let path = format!("{}.key", topic.name);
            // Something stands there even so: the records of one key have an order.
            if names.hides(&path, &key[..]) { "(hidden key)".to_owned() } else { names.bytes(&path, key) }
        }
        None => NO_KEY.to_owned(),
    };
    let mut lines = vec![heading];
    for record in &group.records {
        let mut line = match &record.value {
            Some(value) => format!("  {}", record_value(names, topic, integers, value)),
            None => "  (tombstone)".to_owned(),
        };
        for (name, value) in &record.headers {
            let path = format!("{}.{name}", topic.name);
            if names.hides(&path, value.as_deref().unwrap_or_default()) {
                continue;
            }
            let value = value.as_ref().map_or("(null)".to_owned(), |value| names.bytes(&path, value));
            line.push_str(&format!(" [{}: {value}]", text::scan(names, &path, name)));
        }
        lines.push(line);
    }
    lines
}

fn record_value(names: &mut Names<'_>, topic: &Topic, integers: bool, value: &Bytes) -> String {
    let integer = <[u8; 8]>::try_from(value.as_ref()).ok().filter(|_| integers).map(i64::from_be_bytes);
    let json = serde_json::from_slice::<Json>(value).ok().filter(|_| integer.is_none());
    if let Some(document @ (Json::Object(_) | Json::Array(_))) = &json {
        return names.json_lines(&topic.name, document, 1);
    }
    let path = format!("{}.value", topic.name);
    if names.hides(&path, &value[..]) {
        return "(hidden value)".to_owned();
    }
    match (integer, json, std::str::from_utf8(value)) {
        (Some(integer), ..) => names.number(&path, &integer.to_string()),
        (_, Some(scalar), _) => names.json(&path, &scalar),
        (.., Ok(text)) => format!("text {}", quoted(&names.text(&path, text))),
        (.., Err(_not_text)) => names.bytes(&path, value),
    }
}

/// One list of a journal, gathered by story.
pub(super) struct OrderedJournal<'a> {
    program: &'a str,
    title: String,
    stories: Vec<(BTreeSet<Id>, Vec<&'a Json>)>,
}

/// Gathers the entries of each journal by story and gives their ids aliases.
///
/// A journal is a list, or an object whose lists are a journal each; each other field of such an object is a list of
/// one.
pub(super) fn order_journals<'a>(
    names: &mut Names<'_>,
    journals: &'a [Journal],
    spec: &ObserveSpec,
) -> Vec<OrderedJournal<'a>> {
    let mut ordered = Vec::new();
    for journal in journals {
        names.at(format!("journal of {}", journal.program));
        for (title, entries) in lists(names, journal) {
            let mut stories: BTreeMap<BTreeSet<Id>, Vec<&Json>> = BTreeMap::new();
            let mut outside = Vec::new();
            for entry in entries {
                let ids = names.ids_in(|names| {
                    names.json(&journal.program, entry);
                });
                match story(ids, &spec.stories) {
                    ids if ids.is_empty() => outside.push((ids, vec![entry])),
                    ids => stories.entry(ids).or_default().push(entry),
                }
            }
            let stories: Vec<_> = stories.into_iter().chain(outside).collect();
            let stories = by_shape(names, stories, |names, (ids, entries)| {
                format!("{}\n{}", heading(names, ids), entry_lines(names, &journal.program, entries).join("\n"))
            });
            for (ids, entries) in &stories {
                heading(names, ids);
                entry_lines(names, &journal.program, entries);
            }
            ordered.push(OrderedJournal { program: &journal.program, title, stories });
        }
    }
    ordered
}

pub(super) fn journal_sections(names: &mut Names<'_>, journals: &[OrderedJournal<'_>]) -> Vec<Section> {
    let mut sections = Vec::new();
    for OrderedJournal { program, title, stories } in journals {
        names.at(format!("journal of {program}"));
        let mut shown: Vec<_> = stories
            .iter()
            .map(|(ids, entries)| {
                let mut lines = vec![heading(names, ids)];
                lines.extend(entry_lines(names, program, entries));
                lines
            })
            .collect();
        shown.sort_by(|a, b| natural(&a.join("\n"), &b.join("\n")));
        shown.dedup_by(|later, earlier| {
            let same = later[0] == earlier[0];
            if same {
                earlier.extend(later.drain(1..));
            }
            same
        });
        sections.push(Section { title: title.clone(), lines: shown.concat() });
    }
    sections
}

/// The lists of a journal with their titles; those of several instances joined.
fn lists<'j>(names: &mut Names<'_>, journal: &'j Journal) -> BTreeMap<String, Vec<&'j Json>> {
    let mut lists: BTreeMap<String, Vec<&'j Json>> = BTreeMap::new();
    let title = format!("Journal of {}", journal.program);
    for document in &journal.documents {
        match document {
            Json::Array(entries) => lists.entry(title.clone()).or_default().extend(entries),
            Json::Object(fields) if fields.values().any(Json::is_array) => {
                for (name, value) in fields {
                    if names.hides(&format!("{}.{name}", journal.program), value) {
                        continue;
                    }
                    match value {
                        Json::Array(entries) => lists.entry(format!("{title}: {name}")).or_default().extend(entries),
                        _ => lists.entry(format!("{title}: {name}")).or_default().push(value),
                    }
                }
            }
            entry => lists.entry(title.clone()).or_default().push(entry),
        }
    }
    lists
}

/// The ids that gather an entry: those of the first described kind that it contains, else all of them.
fn story(ids: BTreeSet<Id>, kinds: &[String]) -> BTreeSet<Id> {
    for kind in kinds {
        let of_kind: BTreeSet<_> = ids.iter().filter(|(found, _)| found == kind).cloned().collect();
        if !of_kind.is_empty() {
            return of_kind;
        }
    }
    ids
}

fn heading(names: &mut Names<'_>, ids: &BTreeSet<Id>) -> String {
    if ids.is_empty() {
        return "(no id, no order)".to_owned();
    }
    let mut aliases: Vec<_> = ids.iter().map(|(kind, id)| names.id(kind, id)).collect();
    aliases.sort_by(|a, b| natural(a, b));
    aliases.join(", ")
}

fn entry_lines(names: &mut Names<'_>, program: &str, entries: &[&Json]) -> Vec<String> {
    entries.iter().map(|entry| format!("  {}", names.json_lines(program, entry, 1))).collect()
}
