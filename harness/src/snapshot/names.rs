//! The one aliaser of a document: which values are ids, times, secrets or noise, and how each is named.
//!
//! Works on typed values with the path where they stand, never on finished text.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, NaiveDate, SecondsFormat, TimeDelta, Utc};
use serde_json::Value as Json;

use super::text;
use super::unshown::Searched;
use crate::observe::value::{Value, parse_time};
use crate::spec::ObserveSpec;
use crate::spec::pattern::{self, Piece};

/// Longest JSON that stands on one line: as much as a review shows without scrolling sideways.
const LINE_CHARS_MAX: usize = 100;

/// The kind of a UUID that nothing describes.
const UNDESCRIBED: &str = "uuid";

/// An id with its kind, as found.
pub(super) type Id = (String, String);

/// Names values. While it is *masked* it gives no new aliases but shows unknown ids as `<kind>`.
pub(super) struct Names<'a> {
    rules: Vec<(&'a str, &'a str)>,
    volatile: &'a [String],
    hidden: &'a [String],
    pub(super) patterns: Vec<Vec<Piece<'a>>>,
    pub(super) addresses: &'a BTreeMap<String, String>,
    pub(super) hosts: BTreeSet<&'a str>,
    taken_at: DateTime<Utc>,
    numbers: HashMap<String, HashMap<String, usize>>,
    kinds_of_uuid: HashMap<String, String>,
    masked: bool,
    seen: Vec<Id>,
    place: String,
    flags: BTreeSet<String>,
}

impl<'a> Names<'a> {
    pub(super) fn new(spec: &'a ObserveSpec, addresses: &'a BTreeMap<String, String>, taken_at: DateTime<Utc>) -> Self {
        let mut rules: Vec<_> = spec
            .ids
            .iter()
            .flat_map(|(kind, paths)| paths.iter().map(move |path| (path.as_str(), kind.as_str())))
            .collect();
        // The most particular rule counts: a whole path before `*.`, the longer before the shorter.
        rules.sort_by_key(|(path, _)| (path.starts_with("*."), usize::MAX - path.len()));
        let hosts = addresses.keys().filter_map(|address| Some(address.rsplit_once(':')?.0)).collect();
        Self {
            rules,
            volatile: &spec.volatile,
            hidden: &spec.hidden,
            patterns: spec.patterns.iter().map(|pattern| pattern::parse(pattern)).collect(),
            addresses,
            hosts,
            taken_at,
            numbers: HashMap::new(),
            kinds_of_uuid: HashMap::new(),
            masked: false,
            seen: Vec::new(),
            place: String::new(),
            flags: BTreeSet::new(),
        }
    }

    /// Says where the next values stand, for flags.
    pub(super) fn at(&mut self, place: impl Into<String>) {
        self.place = place.into();
    }

    /// Runs `look` without giving new aliases.
    pub(super) fn masked<R>(&mut self, look: impl FnOnce(&mut Self) -> R) -> R {
        let before = std::mem::replace(&mut self.masked, true);
        let result = look(self);
        self.masked = before;
        result
    }

    /// Runs `look` without giving new aliases, and returns the ids that it met.
    pub(super) fn ids_in(&mut self, look: impl FnOnce(&mut Self)) -> BTreeSet<Id> {
        self.seen.clear();
        self.masked(look);
        self.seen.drain(..).collect()
    }

    pub(super) fn flag(&mut self, defect: String) {
        self.flags.insert(defect);
    }

    pub(super) fn into_flags(self) -> Vec<String> {
        self.flags.into_iter().collect()
    }

    /// The alias of an id, by order of first sight.
    pub(super) fn id(&mut self, kind: &str, found: &str) -> String {
        let found = canonical(found);
        if kind != UNDESCRIBED && is_uuid(&found) {
            // One that is described twice has one kind, whichever place is met first.
            let known = self.kinds_of_uuid.entry(found.clone()).or_insert_with(|| kind.to_owned());
            if kind < known.as_str() {
                kind.clone_into(known);
            }
        }
        self.alias(kind, found)
    }

    fn alias(&mut self, kind: &str, found: String) -> String {
        self.seen.push((kind.to_owned(), found.clone()));
        let known = self.numbers.get(kind).and_then(|numbers| numbers.get(&found)).copied();
        let number = match known {
            Some(number) => number,
            None if self.masked => return format!("<{kind}>"),
            None => {
                let numbers = self.numbers.entry(kind.to_owned()).or_default();
                let number = numbers.len() + 1;
                numbers.insert(found, number);
                number
            }
        };
        format!("{kind}-{number}")
    }

    /// The alias of a UUID that no rule describes here: that of the kind under which it is described elsewhere, else of
    /// kind `uuid`.
    pub(super) fn uuid(&mut self, found: &str) -> String {
        let found = canonical(found);
        let kind = self.kinds_of_uuid.get(&found).cloned();
        self.alias(kind.as_deref().unwrap_or(UNDESCRIBED), found)
    }

    /// Shows a column's value: plain words unquoted, everything else as JSON would.
    pub(super) fn column(&mut self, path: &str, value: &Value) -> String {
        if *value != Value::Null && self.varies(path, value) {
            return "<varies>".to_owned();
        }
        match value {
            Value::Null => "null".to_owned(),
            Value::Bool(value) => value.to_string(),
            Value::Number(number) => self.number(path, number),
            Value::Time(time) => match self.kind(path) {
                Some(kind) => self.id(kind, &time.to_rfc3339()),
                None if self.is_near(*time) => "<time>".to_owned(),
                None => time.to_rfc3339_opts(SecondsFormat::AutoSi, true),
            },
            // A column that holds JSON's `null` is not empty.
            Value::Json(Json::Null) => "json null".to_owned(),
            Value::Json(json) => self.json(path, json),
            Value::Text(text) => {
                if let Some(inner) = nested(text) {
                    return format!("'{}'", self.json(path, &inner));
                }
                let shown = self.text(path, text);
                let reads_as_word = text.starts_with(|c: char| c.is_alphabetic())
                    && text.chars().all(|c| c.is_alphanumeric() || c == '_')
                    && !matches!(text.as_str(), "null" | "true" | "false");
                if reads_as_word || (shown != *text && !shown.contains(' ')) { shown } else { quoted(&shown) }
            }
        }
    }

    /// Shows JSON in one line, fields by name.
    pub(super) fn json(&mut self, path: &str, json: &Json) -> String {
        if !json.is_null() && self.varies(path, json) {
            return "<varies>".to_owned();
        }
        match json {
            Json::Null | Json::Bool(_) => json.to_string(),
            Json::Number(number) => self.number(path, &number.to_string()),
            Json::String(text) => match nested(text) {
                Some(inner) => format!("'{}'", self.json(path, &inner)),
                None => quoted(&self.text(path, text)),
            },
            Json::Array(items) => {
                let items: Vec<_> = items.iter().map(|item| self.json(path, item)).collect();
                format!("[{}]", items.join(", "))
            }
            Json::Object(fields) => {
                let fields: BTreeMap<_, _> = fields.iter().collect();
                let mut shown = Vec::with_capacity(fields.len());
                for (name, value) in fields {
                    let path = format!("{path}.{name}");
                    if !self.hides(&path, value) {
                        let value = self.json(&path, value);
                        shown.push(format!("{}: {value}", quoted(&text::scan(self, &path, name))));
                    }
                }
                format!("{{{}}}", shown.join(", "))
            }
        }
    }

    /// Shows JSON in one line if that is short, else each field or item on a line of its own, `depth` steps indented.
    pub(super) fn json_lines(&mut self, path: &str, json: &Json, depth: usize) -> String {
        let line = self.json(path, json);
        if line.chars().count() <= LINE_CHARS_MAX || self.is_volatile(path) {
            return line;
        }
        let (open, close, parts): (_, _, Vec<String>) = match json {
            Json::Array(items) => ('[', ']', items.iter().map(|item| self.json_lines(path, item, depth + 1)).collect()),
            Json::Object(fields) => {
                let fields: BTreeMap<_, _> = fields.iter().collect();
                let mut parts = Vec::with_capacity(fields.len());
                for (name, value) in fields {
                    let path = format!("{path}.{name}");
                    if !self.hides(&path, value) {
                        let value = self.json_lines(&path, value, depth + 1);
                        parts.push(format!("{}: {value}", quoted(&text::scan(self, &path, name))));
                    }
                }
                ('{', '}', parts)
            }
            _ => return line,
        };
        let outer = "  ".repeat(depth);
        let mut shown = format!("{open}\n");
        for part in parts {
            shown.push_str(&format!("{outer}  {part}\n"));
        }
        format!("{shown}{outer}{close}")
    }

    /// Shows bytes as JSON where they are a JSON document, else as text, else in hexadecimal.
    pub(super) fn bytes(&mut self, path: &str, bytes: &[u8]) -> String {
        match std::str::from_utf8(bytes) {
            Ok(text) => match nested(text) {
                Some(json) => self.json(path, &json),
                None => self.text(path, text),
            },
            Err(_not_text) => {
                let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                format!("0x{digits}")
            }
        }
    }

    /// Shows a number given as its exact text.
    pub(super) fn number(&mut self, path: &str, number: &str) -> String {
        if self.varies(path, number) {
            return "<varies>".to_owned();
        }
        match self.kind(path) {
            Some(kind) => self.id(kind, number),
            None if self.is_epoch(number) => "<time>".to_owned(),
            None => number.to_owned(),
        }
    }

    /// Shows text without quotes.
    pub(super) fn text(&mut self, path: &str, text: &str) -> String {
        if self.varies(path, text) {
            return "<varies>".to_owned();
        }
        if let (Some(kind), false) = (self.kind(path), text.is_empty() || text::holds_jwt(text)) {
            return self.id(kind, text);
        }
        if let Some(time) = parse_time(text) {
            return if self.is_near(time) { "<time>".to_owned() } else { text.to_owned() };
        }
        if self.is_epoch(text) {
            return "<time>".to_owned();
        }
        if let Ok(date) = NaiveDate::parse_from_str(text, "%Y-%m-%d")
            && (date - self.taken_at.date_naive()).abs() <= TimeDelta::days(1)
        {
            return "<date>".to_owned();
        }
        text::scan(self, path, text)
    }

    /// A JWT was met: it is never shown, and that it stands there is a defect.
    pub(super) fn jwt(&mut self, path: &str) -> String {
        let field = path.rsplit('.').next().unwrap_or(path);
        self.flags.insert(format!("a JWT stands in {}, field {field}", self.place));
        "<jwt>".to_owned()
    }

    /// Whether an instant lies so near the observation that it was read from a clock.
    pub(super) fn is_near(&self, time: DateTime<Utc>) -> bool {
        (time - self.taken_at).abs() <= TimeDelta::days(1)
    }

    /// Whether digits are the seconds or milliseconds since 1970 of an instant near the observation.
    fn is_epoch(&self, digits: &str) -> bool {
        let whole = digits.split_once('.').map_or(digits, |(whole, _)| whole);
        match (whole.len(), whole.parse::<i64>()) {
            (10, Ok(seconds)) => DateTime::from_timestamp(seconds, 0).is_some_and(|time| self.is_near(time)),
            (13, Ok(millis)) => DateTime::from_timestamp_millis(millis).is_some_and(|time| self.is_near(time)),
            _ => false,
        }
    }

    fn kind(&self, path: &str) -> Option<&'a str> {
        self.rules.iter().find(|(rule, _)| matches(rule, path)).map(|(_, kind)| *kind)
    }

    /// Whether the description wants nothing shown of `value`, which stands at `path`. It is searched for tokens then.
    pub(super) fn hides<V: Searched + ?Sized>(&mut self, path: &str, value: &V) -> bool {
        let hidden = self.hidden.iter().any(|rule| matches(rule, path));
        if hidden {
            value.search(self, path);
        }
        hidden
    }

    /// Whether `value` is shown as `<varies>`. It is searched for tokens then.
    fn varies<V: Searched + ?Sized>(&mut self, path: &str, value: &V) -> bool {
        let volatile = self.is_volatile(path);
        if volatile {
            value.search(self, path);
        }
        volatile
    }

    fn is_volatile(&self, path: &str) -> bool {
        self.volatile.iter().any(|rule| matches(rule, path))
    }
}

/// `table.column` is that path; `*.field` every path that ends so.
fn matches(rule: &str, path: &str) -> bool {
    match rule.strip_prefix('*') {
        Some(suffix) => path.ends_with(suffix),
        None => rule == path,
    }
}

/// One id in all its notations: an instant in any notation, a UUID in any case, a number as number or text.
fn canonical(found: &str) -> String {
    match parse_time(found) {
        Some(time) => time.to_rfc3339(),
        None if is_uuid(found) => found.to_ascii_lowercase(),
        None => found.to_owned(),
    }
}

pub(super) fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// JSON in a string: only objects and lists, for a bare number or word is text.
pub(super) fn nested(text: &str) -> Option<Json> {
    let start = text.trim_start();
    (start.starts_with('{') || start.starts_with('[')).then(|| serde_json::from_str(text).ok())?
}

pub(super) fn quoted(text: &str) -> String {
    Json::String(text.to_owned()).to_string()
}
