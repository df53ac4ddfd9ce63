//! One redacted, stable document of what happened, for a person to review.
//!
//! Start with [`render`]. It works on a typed [`Observation`] and on what the description says of it; nothing is
//! ever replaced in finished text.
//!
//! # What is shown of what differs from run to run
//!
//! * **Ids** are aliases by order of first sight (`event-1`), the same in every part, so that two ids that change
//!   places change the document. First sight does not depend on timing: aliases are given in a pass of its own, before
//!   anything is printed: first the rows by primary key, then keys of history that have no row any more, records by
//!   topic and key, Redis (what is ordered first), journals. Where nothing orders things (keys that are
//!   UUIDs, tables described as `unordered`, Redis keys, calls that cross), they are sorted by what they look
//!   like while ids without an alias are masked.
//! * **Times** within a day of the observation were read from a clock: `<time>`. They have no identity, because two
//!   instants share a millisecond in one run and not in the next, and a store may round. That a time is
//!   there, or is `null`, is shown. Other times were chosen by the scenario and are shown as they are. A time that is
//!   an identity (the date of an event, told by the scenario from a clock) is described as an id.
//! * **Order** is shown only where the system promises one: transitions of one row, records of one key, entries of one
//!   story in a journal, members of a sorted set, items of a list. Topics are sorted by name, groups by key, fields by
//!   name. Records without a key have no order.
//! * Partition, offset, record time, backend and the instance that did the work are not shown. A key that stands in two
//!   partitions is flagged, because then its order is not defined. Addresses of the environment are shown by name.
//! * What is described as volatile is `<varies>`. A UUID that nothing describes is `uuid-1`; one that is described
//!   anywhere has that alias everywhere, also where free text shows it first.
//! * A JWT is shown as `<jwt>` and flagged wherever it stands, also at a volatile or hidden path: a token at rest or on
//!   the wire is a defect.
//!
//! Deliberately absent: colours, widths, and any word of a system under test.

mod keys;
mod messages;
mod names;
mod order;
mod rows;
mod secret;
#[cfg(test)]
mod tests;
mod text;
mod unshown;

use crate::observe::Observation;
use crate::spec::ObserveSpec;
use names::Names;

/// A rendered document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// The text, flags included.
    pub text: String,
    /// Defects that were met while rendering, such as a token in a row; also at the top of the text.
    pub flags: Vec<String>,
}

/// The text of [`render`].
#[must_use]
pub fn document(observation: &Observation, spec: &ObserveSpec) -> String {
    render(observation, spec).text
}

/// Renders an observation as the description says.
#[must_use]
pub fn render(observation: &Observation, spec: &ObserveSpec) -> Document {
    let mut names = Names::new(spec, &observation.addresses, observation.taken_at);
    // What each UUID is: one that free text shows first has its name from where it is described …
    names.masked(|names| {
        order(names, observation, spec);
    });
    // … then first sight, in an order that does not depend on timing …
    let Parts { tables, chains, topics, keys, journals } = order(&mut names, observation, spec);

    // … then the text, in the order in which a person reads it.
    let mut sections = rows::history_sections(&mut names, &chains, spec);
    sections.extend(messages::topic_sections(&mut names, &topics));
    sections.extend(keys::section(&mut names, &keys));
    sections.extend(messages::journal_sections(&mut names, &journals));
    sections.extend(rows::table_sections(&mut names, &tables));

    let flags = names.into_flags();
    if !flags.is_empty() {
        sections.insert(0, Section { title: "DEFECTS".to_owned(), lines: flags.clone() });
    }
    let text = sections.iter().map(Section::text).collect::<Vec<_>>().join("\n");
    Document { text, flags }
}

/// What the document tells of, in its order.
struct Parts<'a> {
    tables: Vec<rows::OrderedTable<'a>>,
    chains: Vec<rows::Chain<'a>>,
    topics: Vec<messages::OrderedTopic<'a>>,
    keys: Vec<keys::OrderedKey<'a>>,
    journals: Vec<messages::OrderedJournal<'a>>,
}

/// Orders everything, and names the ids in that order.
fn order<'a>(names: &mut Names<'_>, observation: &'a Observation, spec: &'a ObserveSpec) -> Parts<'a> {
    Parts {
        tables: rows::order_tables(names, &observation.tables, spec),
        chains: rows::order_history(names, &observation.history, spec),
        topics: messages::order_topics(names, &observation.topics, spec),
        keys: keys::order(names, &observation.keys),
        journals: messages::order_journals(names, &observation.journals, spec),
    }
}

/// A titled part of the document.
struct Section {
    title: String,
    lines: Vec<String>,
}

impl Section {
    fn text(&self) -> String {
        let mut text = format!("# {}\n", self.title);
        for line in &self.lines {
            text.push_str(line);
            text.push('\n');
        }
        if self.lines.is_empty() {
            text.push_str("(none)\n");
        }
        text
    }
}
