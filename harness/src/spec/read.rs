//! Reads a description and says, where it is wrong, what was expected and at which line and column.

use std::path::{Path, PathBuf};

use super::{KafkaSpec, ProgramSpec, Spec};
use crate::link;
use crate::plan::{BROKERS, Scope};

/// Why a description could not be used.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// The file could not be read.
    #[error("failed to read the description {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The text is not a description: wrong TOML, an unknown field, a wrong type.
    #[error("wrong description {}:{line}:{column}: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
        /// What was expected.
        message: String,
    },
    /// The text is a description that cannot be started.
    #[error("wrong description {}: {message}", path.display())]
    Meaning {
        /// The file.
        path: PathBuf,
        /// What is wrong and what was expected.
        message: String,
    },
}

/// Reads and checks the description at `path`.
///
/// # Errors
/// The file cannot be read, is not a description, or describes what cannot be started.
pub fn read(path: &Path) -> Result<Spec, SpecError> {
    let text = std::fs::read_to_string(path).map_err(|source| SpecError::Read { path: path.to_owned(), source })?;
    read_str(path, &text)
}

/// Like [`read`], for text already in memory; `path` is only named in errors.
///
/// # Errors
/// As [`read`].
pub fn read_str(path: &Path, text: &str) -> Result<Spec, SpecError> {
    let spec: Spec = toml::from_str(text).map_err(|error| {
        let (line, column) = position(text, error.span().map_or(0, |span| span.start));
        SpecError::Syntax { path: path.to_owned(), line, column, message: error.message().to_owned() }
    })?;
    match fault(&spec) {
        None => Ok(spec),
        Some((needle, message)) => Err(match text.find(&needle) {
            Some(offset) => {
                let (line, column) = position(text, offset);
                SpecError::Syntax { path: path.to_owned(), line, column, message }
            }
            None => SpecError::Meaning { path: path.to_owned(), message },
        }),
    }
}

fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..offset.min(text.len())];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
    (line, column)
}

/// What cannot be started of a description that was changed after it was read, in words.
pub(crate) fn meaningless(spec: &Spec) -> Option<String> {
    fault(spec).map(|(_, message)| message)
}

/// The first thing that cannot be started: a text to look for in the file, and a message.
fn fault(spec: &Spec) -> Option<(String, String)> {
    if spec.name.is_empty() || !spec.name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-') {
        let message = format!("`name` is {:?}; expected lower-case letters, digits and hyphens", spec.name);
        return Some(("name".to_owned(), message));
    }
    spec.kafka.as_ref().and_then(kafka_fault).or_else(|| programs_fault(spec)).or_else(|| ports_fault(spec))
}

fn kafka_fault(kafka: &KafkaSpec) -> Option<(String, String)> {
    if !(1..=9).contains(&kafka.brokers) {
        return Some(("brokers".to_owned(), format!("`brokers` is {}; expected 1 to 9", kafka.brokers)));
    }
    if !(1..=kafka.brokers).contains(&kafka.replication) {
        let message = format!("`replication` is {}; expected 1 to {} (the brokers)", kafka.replication, kafka.brokers);
        return Some(("replication".to_owned(), message));
    }
    if !(1..=kafka.replication).contains(&kafka.min_insync_replicas) {
        let message = format!(
            "`min_insync_replicas` is {}; expected 1 to {} (the replication)",
            kafka.min_insync_replicas, kafka.replication
        );
        return Some(("min_insync_replicas".to_owned(), message));
    }
    kafka.topics.iter().enumerate().find_map(|(index, topic)| {
        let replication = topic.replication.unwrap_or(kafka.replication);
        let problem = if topic.name.is_empty() || topic.name.len() > 249 {
            "expected a name of 1 to 249 characters".to_owned()
        } else if !topic.name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)) {
            "expected letters, digits, `.`, `_` and `-`".to_owned()
        } else if topic.partitions == 0 {
            "expected at least one partition".to_owned()
        } else if !(1..=kafka.brokers).contains(&replication) {
            format!("its replication is {replication}; expected 1 to {} (the brokers)", kafka.brokers)
        } else if kafka.topics[..index].iter().any(|other| other.name == topic.name) {
            "it is described twice".to_owned()
        } else {
            return None;
        };
        Some((format!("\"{}\"", topic.name), format!("topic {:?}: {problem}", topic.name)))
    })
}

fn programs_fault(spec: &Spec) -> Option<(String, String)> {
    spec.programs.iter().enumerate().find_map(|(index, program)| {
        let problem = if is_taken(&program.name) {
            "the name is taken by a part of the environment, or by what links call their clients"
        } else if program.name.is_empty() || program.name.contains(['/', ' ', '{', '}']) {
            "expected a name without blanks, slashes and braces"
        } else if spec.programs[..index].iter().any(|other| other.name == program.name) {
            "it is described twice"
        } else if ways_to_run(program) != 1 {
            "expected one of `binary`, `command` and `image`"
        } else if program.directory.as_ref().is_some_and(|directory| !directory.is_absolute()) {
            "expected a `directory` that begins with `/`"
        } else if program.instances == 0 {
            "expected at least one instance"
        } else if !program.ready.starts_with('/') {
            "`ready` must be a path that begins with `/`"
        } else {
            return None;
        };
        Some((format!("\"{}\"", program.name), format!("program {:?}: {problem}", program.name)))
    })
}

fn ways_to_run(program: &ProgramSpec) -> usize {
    [program.binary.is_some(), !program.command.is_empty(), program.image.is_some()]
        .into_iter()
        .filter(|told| *told)
        .count()
}

/// Whether a name means something else already, where parts and the ways between them are named.
fn is_taken(name: &str) -> bool {
    let parts = [BROKERS, "postgres", "redis"];
    let clients = [link::OUTSIDE, link::EVERYONE, link::SUPERVISOR];
    parts.contains(&name) || clients.contains(&name) || link::is_broker(name)
}

fn ports_fault(spec: &Spec) -> Option<(String, String)> {
    let mut taken: Vec<(u16, &str)> = Vec::new();
    for (port, part) in spec.ports_by_part(Scope::Everything) {
        let Some(port) = port.filter(|port| *port > 0) else {
            return Some(("port".to_owned(), format!("{part}: a port lies outside 1 to 65535")));
        };
        if let Some((_, other)) = taken.iter().find(|(other, _)| *other == port) {
            return Some((format!("{port}"), format!("{part} and {other} both take port {port}")));
        }
        taken.push((port, part));
    }
    None
}
