//! What the document does not show is still searched for tokens: a description that calls a value volatile or hidden
//! does not make a token in it right.

use serde_json::Value as Json;

use super::names::{Names, nested};
use super::text::holds_jwt;
use crate::observe::value::Value;

/// What can stand at a volatile or hidden path. Searching it gives no aliases.
pub(super) trait Searched {
    /// Flags the tokens in it.
    fn search(&self, names: &mut Names<'_>, path: &str);
}

impl Searched for str {
    fn search(&self, names: &mut Names<'_>, path: &str) {
        match nested(self) {
            Some(json) => json.search(names, path),
            None if holds_jwt(self) => {
                names.jwt(path);
            }
            None => {}
        }
    }
}

impl Searched for [u8] {
    fn search(&self, names: &mut Names<'_>, path: &str) {
        String::from_utf8_lossy(self).search(names, path);
    }
}

impl Searched for Json {
    fn search(&self, names: &mut Names<'_>, path: &str) {
        match self {
            Json::Null | Json::Bool(_) | Json::Number(_) => {}
            Json::String(text) => text.search(names, path),
            Json::Array(items) => items.iter().for_each(|item| item.search(names, path)),
            Json::Object(fields) => {
                for (name, value) in fields {
                    let path = format!("{path}.{name}");
                    name.search(names, &path);
                    value.search(names, &path);
                }
            }
        }
    }
}

impl Searched for Value {
    fn search(&self, names: &mut Names<'_>, path: &str) {
        match self {
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Time(_) => {}
            Value::Json(json) => json.search(names, path),
            Value::Text(text) => text.search(names, path),
        }
    }
}
