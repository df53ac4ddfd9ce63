//! Reads a description and says, where it is wrong, what was expected and at which line and column.

use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::Spec;
use super::check::{Fault, fault};

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
        Some(Fault { place, message }) => Err(match offset(text, &place) {
            Some(offset) => {
                let (line, column) = position(text, offset);
                SpecError::Syntax { path: path.to_owned(), line, column, message }
            }
            None => SpecError::Meaning { path: path.to_owned(), message },
        }),
    }
}

/// Where in the text a place stands; where it is left out, what it would stand in.
fn offset(text: &str, place: &str) -> Option<usize> {
    let document = DeTable::parse(text).ok()?;
    let mut steps = place.split('.');
    let mut here = document.get_ref().get(steps.next()?)?;
    for step in steps {
        let inner = match here.get_ref() {
            DeValue::Table(fields) => fields.get(step),
            DeValue::Array(items) => step.parse().ok().and_then(|index: usize| items.get(index)),
            _ => None,
        };
        match inner {
            Some(inner) => here = inner,
            None => break,
        }
    }
    Some(here.span().start)
}

fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..offset.min(text.len())];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
    (line, column)
}
