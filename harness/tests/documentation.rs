//! What the documentation shows of a file is that file.

use std::path::{Path, PathBuf};

/// A block of code that says which file it shows: three backticks, the language, and ` file=` with a path from the root.
struct Shown {
    path: String,
    text: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn pages() -> Vec<PathBuf> {
    let pages = std::fs::read_dir(root().join("harness/docs")).expect("the documentation");
    let pages = pages.map(|entry| entry.expect("an entry").path());
    pages.filter(|path| path.extension().is_some_and(|kind| kind == "md")).collect()
}

fn files_shown_in(page: &str) -> Vec<Shown> {
    let mut shown = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let Some((_, path)) = line.strip_prefix("```").and_then(|info| info.split_once(" file=")) else { continue };
        let text = lines.by_ref().take_while(|line| *line != "```").map(|line| format!("{line}\n")).collect();
        shown.push(Shown { path: path.to_owned(), text });
    }
    shown
}

/// Goal: a page that shows a file cannot fall behind it.
#[test]
fn a_file_is_shown_as_it_is() {
    let mut shown = Vec::new();
    for page in pages() {
        let text = std::fs::read_to_string(&page).expect("a page");
        for block in files_shown_in(&text) {
            let actual = std::fs::read_to_string(root().join(&block.path));
            let actual = actual.unwrap_or_else(|error| panic!("{}: {}: {error}", page.display(), block.path));
            assert_eq!(block.text, actual, "{} shows {} as it was (left)", page.display(), block.path);
            shown.push(block.path);
        }
    }
    shown.sort();
    let example = ["Cargo.toml", "environment.toml", "src/main.rs"].map(|file| format!("fixtures/echo/{file}"));
    let example: Vec<_> = example.into_iter().chain(["scenarios/tests/echo/main.rs".to_owned()]).collect();
    assert!(example.iter().all(|file| shown.contains(file)), "the worked example is {example:?}; shown are {shown:?}");
}

/// Goal: every system has a page that shows how its parts speak with one another, and the README leads there.
/// What is shown whole in the documentation, as the worked example is, needs none.
#[test]
fn every_system_has_a_page_with_a_diagram() {
    let readme = std::fs::read_to_string(root().join("README.md")).expect("the README");
    let mut pages = 0;
    for entry in std::fs::read_dir(root().join("fixtures")).expect("the fixtures") {
        let room = entry.expect("a fixture");
        let name = room.file_name().into_string().expect("a name in UTF-8");
        if !room.path().join("environment.toml").is_file() || name == "echo" {
            continue;
        }
        let page = std::fs::read_to_string(room.path().join("README.md"));
        let page = page.unwrap_or_else(|error| panic!("fixtures/{name}/README.md: {error}"));
        assert!(page.contains("```mermaid\nsequenceDiagram\n"), "fixtures/{name}/README.md has no sequence diagram");
        assert!(readme.contains(&format!("](fixtures/{name}/README.md)")), "the README does not lead to {name}'s page");
        pages += 1;
    }
    assert!(pages >= 5, "only {pages} systems were found");
}
