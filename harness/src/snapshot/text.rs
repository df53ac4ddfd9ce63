//! What stands inside a string value: ids by the described patterns, UUIDs, tokens, instants and addresses.

use super::names::{Names, is_uuid};
use super::secret::is_jwt;
use crate::observe::value::parse_time;
use crate::spec::pattern::Piece;

/// Replaces what has a meaning inside `text`, from left to right; only at the beginning of a word.
pub(super) fn scan(names: &mut Names<'_>, path: &str, text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    let mut inside_word = false;
    while let Some(first) = rest.chars().next() {
        if !inside_word && let Some((replacement, length)) = recognise(names, path, rest) {
            shown.push_str(&replacement);
            rest = &rest[length..];
            continue;
        }
        shown.push(first);
        inside_word = first.is_alphanumeric();
        rest = &rest[first.len_utf8()..];
    }
    shown
}

/// What stands at the beginning of `rest`: its replacement and its length in bytes.
fn recognise(names: &mut Names<'_>, path: &str, rest: &str) -> Option<(String, usize)> {
    if let Some(token) = jwt_at(rest) {
        return Some((names.jwt(path), token.len()));
    }
    if let Some(found) = recognise_pattern(names, rest) {
        return Some(found);
    }
    if let Some(uuid) = rest.get(..36).filter(|text| is_uuid(text))
        && !rest[36..].starts_with(|next: char| next.is_ascii_alphanumeric())
    {
        return Some((names.uuid(uuid), uuid.len()));
    }
    if !rest.starts_with(|first: char| first.is_ascii_digit()) {
        return None;
    }
    let address = names.addresses.iter().find(|(address, _)| begins_with_whole(rest, address));
    if let Some((address, name)) = address {
        return Some((format!("<{name}>"), address.len()));
    }
    if let Some(host) = names.hosts.iter().find(|host| begins_with_whole(rest, host)) {
        return Some(("<address>".to_owned(), host.len()));
    }
    let instant = run(rest, |byte| byte.is_ascii_digit() || matches!(byte, b'T' | b'Z' | b':' | b'.' | b'+' | b'-'))
        .trim_end_matches(['.', ':', '-']);
    let time = parse_time(instant)?;
    names.is_near(time).then(|| ("<time>".to_owned(), instant.len()))
}

fn recognise_pattern(names: &mut Names<'_>, rest: &str) -> Option<(String, usize)> {
    let (pieces, found) =
        names.patterns.iter().find_map(|pattern| Some((pattern.clone(), match_pattern(pattern, rest)?)))?;
    let mut found_ids = found.into_iter();
    let (mut shown, mut length) = (String::new(), 0);
    for piece in pieces {
        match piece {
            Piece::Literal(literal) => {
                shown.push_str(literal);
                length += literal.len();
            }
            Piece::Id(kind) => {
                let id = found_ids.next()?;
                length += id.len();
                shown.push_str(&format!("{{{}}}", names.id(kind, id)));
            }
        }
    }
    Some((shown, length))
}

/// Whether [`scan`] would find a JWT in `text`.
pub(super) fn holds_jwt(text: &str) -> bool {
    let mut inside_word = false;
    text.char_indices().any(|(at, first)| {
        let begins_word = !std::mem::replace(&mut inside_word, first.is_alphanumeric());
        begins_word && jwt_at(&text[at..]).is_some()
    })
}

/// The JWT with which `rest` begins.
fn jwt_at(rest: &str) -> Option<&str> {
    // The end of a sentence is none of a token's.
    let token = run(rest, stands_in_a_word).trim_end_matches('.');
    is_jwt(token).then_some(token)
}

/// What tokens, addresses and instants are made of.
fn stands_in_a_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

/// The described pattern that `text` follows as a whole, as it is described; else `text`.
pub(super) fn pattern_of(names: &Names<'_>, text: &str) -> String {
    for pattern in &names.patterns {
        let Some(ids) = match_pattern(pattern, text) else {
            continue;
        };
        let (mut length, mut described) = (ids.iter().map(|id| id.len()).sum::<usize>(), String::new());
        for piece in pattern {
            match piece {
                Piece::Literal(literal) => {
                    length += literal.len();
                    described.push_str(literal);
                }
                Piece::Id(kind) => described.push_str(&format!("{{{kind}}}")),
            }
        }
        if length == text.len() {
            return described;
        }
    }
    text.to_owned()
}

/// The ids of a pattern in order, if `rest` begins with it. An id has at least one digit, or a sentence that happens
/// to go on like the pattern would be taken for one.
fn match_pattern<'t>(pattern: &[Piece<'_>], rest: &'t str) -> Option<Vec<&'t str>> {
    let mut ids = Vec::new();
    let mut rest = rest;
    for (index, piece) in pattern.iter().enumerate() {
        match piece {
            Piece::Literal(literal) => rest = rest.strip_prefix(literal)?,
            Piece::Id(_) => {
                let mut id = run(rest, |byte| byte.is_ascii_alphanumeric() || byte == b'-');
                if let Some(Piece::Literal(next)) = pattern.get(index + 1)
                    && let Some(end) = rest.find(next)
                {
                    id = &id[..end.min(id.len())];
                }
                if !id.bytes().any(|byte| byte.is_ascii_digit()) {
                    return None;
                }
                ids.push(id);
                rest = &rest[id.len()..];
            }
        }
    }
    Some(ids)
}

/// Whether `rest` begins with the address `text`, and not with one that is longer.
fn begins_with_whole(rest: &str, text: &str) -> bool {
    rest.strip_prefix(text).is_some_and(|after| {
        let mut next = after.chars();
        match next.next() {
            Some('.') => !next.next().is_some_and(|c| c.is_ascii_digit()),
            Some(c) => !c.is_ascii_alphanumeric(),
            None => true,
        }
    })
}

/// The longest beginning of `text` whose bytes are all `wanted` (ASCII only).
fn run(text: &str, wanted: impl Fn(u8) -> bool) -> &str {
    let end = text.bytes().position(|byte| !wanted(byte)).unwrap_or(text.len());
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::pattern;

    #[test]
    fn an_id_in_a_pattern_ends_where_the_next_literal_begins() {
        let pattern = pattern::parse("order-{order}-of-{user}");
        assert_eq!(match_pattern(&pattern, "order-12-of-7, please"), Some(vec!["12", "7"]));
        assert_eq!(match_pattern(&pattern, "order-of-7"), None);
    }

    #[test]
    fn a_sentence_is_no_id() {
        assert_eq!(match_pattern(&pattern::parse("order {order}"), "order not found"), None);
    }
}
