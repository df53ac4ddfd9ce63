//! How a problem reaches a person: what, where and what to do.

use std::error::Error;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::artifacts::PrepareError;

/// A problem that a person must act on; crosses the socket between supervisor and client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What went wrong, with its causes.
    pub message: String,
    /// What to do about it, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Problem {
    /// A problem told in words.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    /// A problem told by its error and all its causes.
    #[must_use]
    pub fn from_error(error: &(dyn Error + 'static)) -> Self {
        Self { message: chain(error), hint: None }
    }

    /// The same problem with what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(formatter, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

impl Error for Problem {}

/// An error and its causes, each once, in one text.
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut advice = advice(error);
    let mut cause = error.source();
    while let Some(current) = cause {
        advice.push_str(&self::advice(current));
        // A cause goes before quoted log lines, which may be many.
        text = match text.split_once('\n') {
            Some((first, rest)) => format!("{first}: {current}\n{rest}"),
            None => format!("{text}: {current}"),
        };
        cause = current.source();
    }
    text + &advice
}

/// Details and hints that an error carries beside its message.
fn advice(error: &(dyn Error + 'static)) -> String {
    let Some(PrepareError { detail, hint, .. }) = error.downcast_ref() else {
        return String::new();
    };
    let detail = detail.iter().map(|detail| format!("\n{detail}"));
    detail.chain(hint.iter().map(|hint| format!("\nhint: {hint}"))).collect()
}
