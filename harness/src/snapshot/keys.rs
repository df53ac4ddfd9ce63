//! Redis keys with their content.

use super::Section;
use super::names::{Names, quoted};
use super::order::{by_shape, natural};
use super::text;
use crate::observe::keys::{Content, Key};

/// Orders the keys and gives their ids aliases: what is ordered by itself comes first, because the order of a sorted
/// set says more about its members than their names do.
pub(super) fn order<'a>(names: &mut Names<'_>, keys: &'a [Key]) -> Vec<OrderedKey<'a>> {
    names.at("redis");
    let (ordered, other): (Vec<_>, Vec<_>) =
        keys.iter().partition(|key| matches!(key.content, Content::SortedSet(_) | Content::List(_)));
    let mut all = Vec::new();
    for group in [ordered, other] {
        let mut group: Vec<_> =
            group.into_iter().map(|key| OrderedKey { key, members: members(names, key, keys) }).collect();
        group = by_shape(names, group, |names, key| key_lines(names, key).join("\n"));
        for key in &group {
            key_lines(names, key);
        }
        all.extend(group);
    }
    all
}

/// A key, and the members of its sorted set or set in the order of the document.
pub(super) struct OrderedKey<'a> {
    key: &'a Key,
    members: Vec<(&'a str, Option<f64>)>,
}

/// Members with one score have no order but that of their names: they are ordered by their look, and by that of the key
/// of the same name where there is one.
fn members<'a>(names: &mut Names<'_>, key: &'a Key, keys: &[Key]) -> Vec<(&'a str, Option<f64>)> {
    let found: Vec<(&str, Option<f64>)> = match &key.content {
        Content::SortedSet(members) => members.iter().map(|(member, score)| (member.as_str(), Some(*score))).collect(),
        Content::Set(members) => members.iter().map(|member| (member.as_str(), None)).collect(),
        _ => return Vec::new(),
    };
    let mut shaped = by_shape(names, found, |names, (member, _)| {
        let named = keys.iter().find(|key| key.name == *member);
        let named = named.map(|key| key_lines(names, &OrderedKey { key, members: Vec::new() }).join("\n"));
        let path = key_path(names, key, "member");
        let shown = if names.hides(&path, *member) { String::new() } else { names.text(&path, member) };
        format!("{shown}\n{}", named.unwrap_or_default())
    });
    shaped.sort_by(|(_, a), (_, b)| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    shaped
}

pub(super) fn section(names: &mut Names<'_>, keys: &[OrderedKey<'_>]) -> Option<Section> {
    if keys.is_empty() {
        return None;
    }
    names.at("redis");
    let mut shown: Vec<_> = keys.iter().map(|key| key_lines(names, key)).collect();
    shown.sort_by(|a, b| natural(&a.join("\n"), &b.join("\n")));
    Some(Section { title: "Redis".to_owned(), lines: shown.concat() })
}

/// The name with its type, then one line per field, member or item that is not hidden.
fn key_lines(names: &mut Names<'_>, OrderedKey { key, members }: &OrderedKey<'_>) -> Vec<String> {
    let name = names.text("redis.key", &key.name);
    let kind = match &key.content {
        Content::Text(_) => "string",
        Content::Hash(_) => "hash",
        Content::SortedSet(_) => "sorted set",
        Content::Set(_) => "set",
        Content::List(_) => "list",
        Content::Other(kind) => kind,
    };
    let expires = if key.expires { ", expires" } else { "" };
    let mut lines = vec![format!("{name} ({kind}{expires})")];
    match &key.content {
        Content::Text(text) => lines.extend(content_line(names, &key_path(names, key, "value"), text)),
        Content::Hash(fields) => {
            let seen = fields
                .iter()
                .filter(|(field, value)| !names.hides(&key_path(names, key, field), value.as_str()))
                .collect();
            // A field's name may hold an id, and then its place among the others says nothing.
            for field in by_shape(names, seen, |names, field| field_line(names, key, field)) {
                lines.push(field_line(names, key, &field));
            }
        }
        Content::List(items) => {
            let path = key_path(names, key, "item");
            lines.extend(items.iter().filter_map(|item| content_line(names, &path, item)));
        }
        Content::SortedSet(_) | Content::Set(_) => {
            let paths = ["score", "member"].map(|field| key_path(names, key, field));
            lines.extend(members.iter().filter_map(|member| member_line(names, &paths, member)));
        }
        Content::Other(_) => {}
    }
    lines
}

/// A string or an item of a list.
fn content_line(names: &mut Names<'_>, path: &str, text: &str) -> Option<String> {
    (!names.hides(path, text)).then(|| format!("  {}", names.bytes(path, text.as_bytes())))
}

/// A member of a sorted set or set; of a sorted one, each of the two may be hidden.
fn member_line(
    names: &mut Names<'_>,
    [score_path, member_path]: &[String; 2],
    (member, score): &(&str, Option<f64>),
) -> Option<String> {
    let score = score.map(|score| score.to_string());
    let score = score.filter(|score| !names.hides(score_path, score.as_str()));
    let score = score.map(|score| names.number(score_path, &score));
    let member = (!names.hides(member_path, *member)).then(|| names.bytes(member_path, member.as_bytes()));
    let shown: Vec<_> = score.into_iter().chain(member).collect();
    (!shown.is_empty()).then(|| format!("  {}", shown.join(" ")))
}

/// One field of a hash.
fn field_line(names: &mut Names<'_>, key: &Key, (field, value): &(&String, &String)) -> String {
    let path = key_path(names, key, field);
    let shown = names.bytes(&path, value.as_bytes());
    let field = text::scan(names, &path, field);
    format!("  {field}: {}", if shown.is_empty() { quoted("") } else { shown })
}

/// Where a field of a key stands, ids in the key's name replaced by their kind: `redis.queue:{token}.status`.
fn key_path(names: &Names<'_>, key: &Key, field: &str) -> String {
    format!("redis.{}.{field}", text::pattern_of(names, &key.name))
}
