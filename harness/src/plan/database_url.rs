//! The URL of a database, whatever stands in its parts.

use std::fmt::Display;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What does not stand in a URL as it is: all but the unreserved characters of RFC 3986.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Of a database at a server (`host:port`), for a user with or without a password.
pub(super) fn database_url(user: &str, password: Option<&str>, server: &impl Display, database: &str) -> String {
    let escaped = |text| utf8_percent_encode(text, RESERVED);
    let password = password.map(|password| format!(":{}", escaped(password))).unwrap_or_default();
    format!("postgres://{}{password}@{server}/{}", escaped(user), escaped(database))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_end_a_part_of_a_url_is_escaped() {
        assert_eq!(database_url("a-b", Some("p#w/?"), &"h:1", "d@x"), "postgres://a-b:p%23w%2F%3F@h:1/d%40x");
        assert_eq!(database_url("u", None, &"h:1", "d"), "postgres://u@h:1/d");
    }
}
