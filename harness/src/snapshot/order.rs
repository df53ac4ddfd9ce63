//! Orders that do not depend on timing.

use std::cmp::Ordering;
use std::iter::Peekable;
use std::str::Chars;

use super::names::Names;

/// Sorts by what each item looks like while ids without an alias are masked, so that the order of first sight comes
/// from content and not from who won a race. Items that look alike keep their order.
pub(super) fn by_shape<T>(
    names: &mut Names<'_>,
    items: Vec<T>,
    mut look: impl FnMut(&mut Names<'_>, &T) -> String,
) -> Vec<T> {
    let mut shaped: Vec<(String, T)> =
        names.masked(|names| items.into_iter().map(|item| (look(names, &item), item)).collect());
    shaped.sort_by(|(a, _), (b, _)| natural(a, b));
    shaped.into_iter().map(|(_, item)| item).collect()
}

/// Compares texts with their numbers by value: `event-2` before `event-10`.
pub(super) fn natural(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a.chars().peekable(), b.chars().peekable());
    loop {
        let order = match (left.peek().copied(), right.peek().copied()) {
            (None, None) => return a.cmp(b),
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(x), Some(y)) if x.is_ascii_digit() && y.is_ascii_digit() => {
                let (x, y) = (number(&mut left), number(&mut right));
                x.len().cmp(&y.len()).then_with(|| x.cmp(&y))
            }
            (Some(x), Some(y)) => {
                left.next();
                right.next();
                x.cmp(&y)
            }
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// Takes a run of digits, leading zeros dropped.
fn number(chars: &mut Peekable<Chars<'_>>) -> String {
    let mut digits = String::new();
    while let Some(digit) = chars.next_if(char::is_ascii_digit) {
        if digit != '0' || !digits.is_empty() {
            digits.push(digit);
        }
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_count_by_value() {
        let mut texts = vec!["event-10", "event-2", "event-1", "<event>", "event-02", "e"];
        texts.sort_by(|a, b| natural(a, b));
        assert_eq!(texts, ["<event>", "e", "event-1", "event-02", "event-2", "event-10"]);
    }
}
