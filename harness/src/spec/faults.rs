//! What a program itself can be made to do wrong: by a request that it answers, and by a variant of it that dies at a
//! point. Parts and ways are broken without a description's help; see [`crate::link`].
//!
//! Absent: requests with more than one value, and what an answer says beyond its status.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Spec;

/// A request after which a program does something wrong, or nothing wrong any more: `test-env fault ask PROGRAM NAME`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestSpec {
    /// HTTP method.
    #[serde(default = "post")]
    pub method: String,
    /// Path, from `/` on.
    pub path: String,
    /// Body, sent as JSON. A value that comes with the fault takes the place of `{milliseconds}` (a duration is given)
    /// or `{number}` in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json: Option<String>,
}

/// A variant of a program that dies where it is told to: `test-env up --crash-at POINT`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FailpointsSpec {
    /// The feature that it is built with, as `package/feature`.
    pub feature: String,
    /// Its binary, which an ordinary build leaves out.
    pub binary: String,
    /// The variable that tells it where.
    pub variable: String,
    /// The points, and what the variable says for each: templates, as all variables.
    pub points: BTreeMap<String, String>,
}

/// There is no such point to die at.
#[derive(Debug, thiserror::Error)]
#[error(
    "{system} has no failpoint {point}; {}",
    if known.is_empty() { "none of its programs has any".to_owned() } else { format!("they are {}", known.join(", ")) }
)]
pub struct NoFailpoint {
    /// The system.
    system: String,
    /// What was asked for.
    point: String,
    /// What there is.
    known: Vec<String>,
}

/// What stands for a value in a body.
struct Placeholder {
    text: &'static str,
    /// How a list of faults shows it.
    name: &'static str,
    /// What a person gives for it.
    expected: &'static str,
    read: fn(&str) -> Option<u64>,
}

const PLACEHOLDERS: [Placeholder; 2] = [
    Placeholder { text: "{milliseconds}", name: "DURATION", expected: "a duration such as 200ms", read: milliseconds },
    Placeholder { text: "{number}", name: "NUMBER", expected: "a whole number", read: |value| value.parse().ok() },
];

fn milliseconds(value: &str) -> Option<u64> {
    let duration = humantime::parse_duration(value).ok()?;
    let millis = u64::try_from(duration.as_millis()).ok()?;
    (Duration::from_millis(millis) == duration).then_some(millis)
}

fn post() -> String {
    "POST".to_owned()
}

impl RequestSpec {
    /// Its body with the value in it, if it takes one.
    ///
    /// # Errors
    /// What it takes, in words.
    pub(crate) fn body(&self, value: Option<&str>) -> Result<Option<String>, String> {
        match (self.placeholders().next(), value) {
            (None, None) => Ok(self.json.clone()),
            (None, Some(value)) => Err(format!("takes no value, and {value:?} is given")),
            (Some(Placeholder { expected, .. }), None) => Err(format!("takes {expected}, and none is given")),
            (Some(Placeholder { text, expected, read, .. }), Some(value)) => {
                let read = read(value).ok_or_else(|| format!("takes {expected}, and {value:?} is given"))?;
                Ok(self.json.as_ref().map(|json| json.replace(text, &read.to_string())))
            }
        }
    }

    /// A value that it takes, for a list of faults.
    pub(crate) fn takes(&self) -> Option<&'static str> {
        self.placeholders().next().map(|placeholder| placeholder.name)
    }

    /// What of its body stands for a value.
    fn placeholders(&self) -> impl Iterator<Item = &'static Placeholder> {
        let json = self.json.as_deref().unwrap_or_default();
        PLACEHOLDERS.iter().filter(move |placeholder| json.contains(placeholder.text))
    }

    /// What is wrong with it: the field, and what was expected there.
    pub(super) fn fault(&self) -> Option<(&'static str, String)> {
        if self.method.is_empty() || !self.method.chars().all(|c| c.is_ascii_uppercase()) {
            return Some(("method", format!("{:?} is no HTTP method in capital letters", self.method)));
        }
        if !self.path.starts_with('/') || self.path.contains(['{', '}']) {
            return Some(("path", format!("{:?} is no path that begins with `/` and has no braces", self.path)));
        }
        if self.placeholders().count() > 1 {
            return Some(("json", "it takes one value at most".to_owned()));
        }
        let any = [None, Some("1"), Some("1s")].into_iter().find_map(|value| self.body(value).ok());
        let wrong = serde_json::from_str::<serde::de::IgnoredAny>(&any??).err()?;
        Some(("json", format!("it is no JSON: {wrong}")))
    }
}

impl Spec {
    /// Lets a program die at this point, and answers what must be built for it.
    ///
    /// # Errors
    /// No program has such a point.
    pub fn crash_at(&mut self, point: &str) -> Result<FailpointsSpec, NoFailpoint> {
        let mut known = Vec::new();
        for program in &mut self.programs {
            let Some(failpoints) = program.failpoints.clone() else { continue };
            if let Some(told) = failpoints.points.get(point) {
                program.binary = Some(failpoints.binary.clone());
                program.variables.insert(failpoints.variable.clone(), told.clone());
                return Ok(failpoints);
            }
            known.extend(failpoints.points.into_keys());
        }
        Err(NoFailpoint { system: self.name.clone(), point: point.to_owned(), known })
    }
}
