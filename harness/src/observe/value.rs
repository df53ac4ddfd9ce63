//! Values as they were found, with their type: what redaction works on.
//!
//! Absent: any decision about how a value is shown, see [`crate::snapshot`].

use chrono::{DateTime, NaiveDateTime, Utc};

/// One value of a column.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// SQL `NULL`.
    Null,
    /// A boolean.
    Bool(bool),
    /// A number in the exact text of the database, trailing zeros of a decimal included.
    Number(String),
    /// An instant; a `timestamp` without time zone is taken as UTC.
    Time(DateTime<Utc>),
    /// `json` or `jsonb`.
    Json(serde_json::Value),
    /// Everything else, in the text of the database.
    Text(String),
}

impl Value {
    /// Reads the text of a column by the type that the catalogue gives it (`pg_type.typname`).
    /// Text that does not parse as its type (such as `infinity`) stays text.
    #[must_use]
    pub fn from_column(type_name: &str, text: Option<String>) -> Self {
        let Some(text) = text else {
            return Self::Null;
        };
        match type_name {
            "bool" => Self::Bool(text == "true"),
            "int2" | "int4" | "int8" | "numeric" | "float4" | "float8" | "oid" => Self::Number(text),
            "timestamp" | "timestamptz" => parse_time(&text).map_or(Self::Text(text), Self::Time),
            "json" | "jsonb" => serde_json::from_str(&text).map_or(Self::Text(text), Self::Json),
            _ => Self::Text(text),
        }
    }
}

/// Parses an instant as RFC 3339, as PostgreSQL's ISO output or as ISO 8601, also without zone (taken as UTC).
/// A bare date is not an instant.
#[must_use]
pub fn parse_time(text: &str) -> Option<DateTime<Utc>> {
    // Cheap refusal first: this is asked for every string of a document.
    let bytes = text.as_bytes();
    if bytes.len() < 16 || bytes[4] != b'-' || !matches!(bytes[10], b'T' | b' ') {
        return None;
    }
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(time.with_timezone(&Utc));
    }
    let zoned = ["%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%dT%H:%M:%S%.f%#z"];
    if let Some(time) = zoned.iter().find_map(|format| DateTime::parse_from_str(text, format).ok()) {
        return Some(time.with_timezone(&Utc));
    }
    ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M"]
        .iter()
        .find_map(|format| NaiveDateTime::parse_from_str(text, format).ok())
        .map(|time| time.and_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_instant_in_every_notation_is_equal() {
        let expected = parse_time("2030-05-01T10:00:00.250Z").expect("RFC 3339");
        for text in [
            "2030-05-01T12:00:00.250+02:00",
            "2030-05-01 10:00:00.25+00",
            "2030-05-01T10:00:00.25+0000",
            "2030-05-01 10:00:00.250",
            "2030-05-01T10:00:00.250",
        ] {
            assert_eq!(parse_time(text), Some(expected), "{text}");
        }
        assert_eq!(parse_time("2030-05-01"), None);
        assert_eq!(parse_time("shipment_of_1"), None);
    }

    #[test]
    fn decimals_keep_their_exact_text() {
        let value = Value::from_column("numeric", Some("90000.00".to_owned()));
        assert_eq!(value, Value::Number("90000.00".to_owned()));
    }
}
