//! Texts that contain ids, as a description names them: `queue:{token}` is a literal and an id of the kind `token`.

/// A part of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// Text that stands there.
    Literal(&'a str),
    /// An id of this kind.
    Id(&'a str),
}

/// The pieces of a pattern in order; what is [`wrong`] has none that match.
pub(crate) fn parse(pattern: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = pattern;
    while let Some((literal, (kind, after))) =
        rest.split_once('{').and_then(|(literal, rest)| Some((literal, rest.split_once('}')?)))
    {
        pieces.extend([Piece::Literal(literal), Piece::Id(kind)]);
        rest = after;
    }
    pieces.push(Piece::Literal(rest));
    pieces.retain(|piece| *piece != Piece::Literal(""));
    pieces
}

/// What is wrong with a pattern, in words.
pub(super) fn wrong(pattern: &str) -> Option<&'static str> {
    let pieces = parse(pattern);
    let is_id = |piece: &Piece<'_>| matches!(piece, Piece::Id(_));
    let is_broken = |piece: &Piece<'_>| match piece {
        Piece::Literal(text) | Piece::Id(text) => text.is_empty() || text.contains(['{', '}']),
    };
    if pieces.iter().any(is_broken) {
        Some("a brace has no partner, or nothing stands between two")
    } else if !pieces.iter().any(is_id) {
        Some("expected at least one `{kind of id}`")
    } else if pieces.windows(2).any(|two| two.iter().all(is_id)) {
        Some("expected a text between two ids, which says where the first ends")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_literals_and_kinds() {
        assert_eq!(
            parse("desk:{desk}/of/{user}"),
            [Piece::Literal("desk:"), Piece::Id("desk"), Piece::Literal("/of/"), Piece::Id("user")]
        );
    }

    #[test]
    fn a_pattern_that_would_match_nothing_or_everything_is_wrong() {
        for pattern in ["", "order", "{order", "order}", "{}", "{order}{user}", "a}{order}"] {
            assert!(wrong(pattern).is_some(), "{pattern:?}");
        }
        assert!(["{order}", "order-{order}-of-{user}"].iter().all(|pattern| wrong(pattern).is_none()));
    }
}
