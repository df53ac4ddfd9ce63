//! What a run said of somebody else's service, story by story: law, verdict, evidence.
//!
//! Every story is a process of its own, so each writes a file; whoever ran them all reads the table.

use std::fmt;
use std::path::{Path, PathBuf};

use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{ContentArrangement, Table};
use serde::{Deserialize, Serialize};

use crate::whole_file::{UNFINISHED, write};

/// Where verdicts are written, for whatever runs below `cargo xtask test --service`.
pub const VERDICTS_VARIABLE: &str = "GREENROOM_VERDICTS";

/// The evidence where a story was ended from outside before it could say anything.
pub const NOT_ENDED: &str = "the story did not end: it was stopped, or its time was over";

/// How wide the table may be, in characters.
const TABLE_WIDTH: u16 = 160;

/// Whether a law holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ruling {
    /// It does not.
    Broken,
    /// There was no environment, it was lost, nobody started the service in it, or somebody stopped the story: nothing
    /// is known.
    Untold,
    /// The service cannot be asked.
    Skipped,
    /// It does, as far as the story can tell.
    Holds,
}

/// What one story said.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Judgement {
    /// Whether its law holds.
    pub ruling: Ruling,
    /// The law, by the story's name.
    pub law: String,
    /// What speaks for it.
    pub evidence: String,
}

/// Verdicts could not be written or read.
#[derive(Debug, thiserror::Error)]
#[error("failed to use the verdicts in {}", path.display())]
pub struct VerdictsError {
    path: PathBuf,
    source: std::io::Error,
}

impl Judgement {
    /// Of a story by its test's name, such as `goods::sold_once`.
    #[must_use]
    pub fn of(test: &str, ruling: Ruling, evidence: impl Into<String>) -> Self {
        Self { ruling, law: test.replace("::", ": ").replace('_', " "), evidence: evidence.into() }
    }

    /// Of the story that this thread tells: a test's thread bears its name.
    #[must_use]
    pub fn of_this_test(ruling: Ruling, evidence: impl Into<String>) -> Self {
        Self::of(std::thread::current().name().unwrap_or("a story"), ruling, evidence)
    }

    /// Writes it down where this run wants it; nothing is written where no run does.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self) -> Result<(), VerdictsError> {
        let Some(directory) = std::env::var_os(VERDICTS_VARIABLE).map(PathBuf::from) else { return Ok(()) };
        let name: String = self.law.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let path = directory.join(format!("{name}.json"));
        // Whoever reads the table may do so while a story is killed.
        let written = serde_json::to_vec_pretty(self).map_err(Into::into).and_then(|text| write(&path, &text));
        written.map_err(|source| VerdictsError { path, source })
    }
}

/// Reads what was written to a directory, what is broken first. Where the run was `interrupted`, what did not end says
/// nothing of the service.
///
/// # Errors
/// It cannot be read, or holds something else.
pub fn read(directory: &Path, interrupted: bool) -> Result<Vec<Judgement>, VerdictsError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| VerdictsError { path, source }
    };
    let mut judgements = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(failed(directory))? {
        let path = entry.map_err(failed(directory))?.path();
        if path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(UNFINISHED.as_bytes())) {
            continue;
        }
        let text = std::fs::read(&path).map_err(failed(&path))?;
        let mut judgement: Judgement = serde_json::from_slice(&text).map_err(|error| failed(&path)(error.into()))?;
        if interrupted && judgement.evidence == NOT_ENDED {
            judgement.ruling = Ruling::Untold;
        }
        judgements.push(judgement);
    }
    judgements.sort();
    Ok(judgements)
}

/// The judgements as a Markdown table, with their sum below.
#[must_use]
pub fn table(judgements: &[Judgement]) -> String {
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN).set_content_arrangement(ContentArrangement::Dynamic).set_width(TABLE_WIDTH);
    table.set_header(["law", "verdict", "evidence"]);
    for Judgement { ruling, law, evidence } in judgements {
        table.add_row([law.clone(), ruling.to_string(), in_a_cell(evidence)]);
    }
    let count = |wanted| judgements.iter().filter(|judgement| judgement.ruling == wanted).count();
    let (holds, broken, skipped) = (count(Ruling::Holds), count(Ruling::Broken), count(Ruling::Skipped));
    let untold = match count(Ruling::Untold) {
        0 => String::new(),
        untold => format!(", {untold} NOT TOLD because of their environment or whoever stopped them"),
    };
    format!("{table}\n\n{holds} hold, {broken} broken, {skipped} skipped because the service cannot be asked{untold}")
}

/// A text as it may stand in a table: in one line, and without what ends a cell.
fn in_a_cell(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().replace('|', "\\|")
}

impl fmt::Display for Ruling {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Broken => "BROKEN",
            Self::Untold => "NOT TOLD",
            Self::Skipped => "skipped",
            Self::Holds => "holds",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_broken_stands_first_and_everything_is_counted() {
        let holds = Judgement::of("goods::sold_once", Ruling::Holds, "");
        let broken = Judgement::of("places::hold_expires", Ruling::Broken, "places.rs:3: left\nright | \u{1b}[31mred");
        let untold = Judgement::of("places::sold_twice", Ruling::Untold, "no port is free");
        let mut all = vec![holds.clone(), untold, broken];
        all.sort();
        assert_eq!(all[2], holds);
        let shown = table(&all);
        assert!(shown.contains("| places: hold expires"), "{shown}");
        assert!(shown.contains("places.rs:3: left right \\|  [31mred"), "{shown}");
        let sum =
            "1 hold, 1 broken, 0 skipped because the service cannot be asked, 1 NOT TOLD because of their environment";
        assert!(shown.contains(sum), "{shown}");
    }

    /// Goal: whoever stops the stories in the middle is not told that the service has broken a law; a story that hangs
    /// is.
    #[test]
    fn what_was_interrupted_says_nothing_of_the_service() {
        let directory = tempfile::tempdir().expect("a directory");
        let judgement = Judgement::of("goods::sold_once", Ruling::Broken, NOT_ENDED);
        let text = serde_json::to_vec(&judgement).expect("it has a form");
        std::fs::write(directory.path().join("goods.json"), text).expect("there is room");
        let ruling = |interrupted| read(directory.path(), interrupted).expect("verdicts")[0].ruling;
        assert_eq!((ruling(true), ruling(false)), (Ruling::Untold, Ruling::Broken));
    }
}
