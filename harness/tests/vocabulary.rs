//! The harness knows no system under test: none of their words stands in its sources.

use std::path::{Path, PathBuf};

/// Words of the systems among the fixtures.
const WORDS: [&str; 14] = [
    "reservation",
    "seat",
    "payment",
    "coupon",
    "concert",
    "barista",
    "café",
    "cafe",
    "subtask",
    "upload",
    "waitingqueue",
    "metric",
    "textlength",
    "applied_user",
];

fn sources(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] }).collect()
}

#[test]
fn the_harness_knows_no_word_of_a_system_under_test() {
    let sources = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert!(sources.len() > 50, "the sources were not found");
    let mut known = Vec::new();
    for path in sources.iter().filter(|path| path.extension().is_some_and(|kind| kind == "rs")) {
        let text = std::fs::read_to_string(path).expect("a source file").to_lowercase();
        for (number, line) in text.lines().enumerate() {
            let words = WORDS.iter().filter(|word| line.contains(*word));
            known.extend(words.map(|word| format!("{}:{}: {word}", path.display(), number + 1)));
        }
    }
    assert!(known.is_empty(), "a system's words belong to fixtures/:\n{}", known.join("\n"));
}
