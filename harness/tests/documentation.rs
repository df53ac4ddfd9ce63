//! What the documentation shows of a file is that file, and its lines can be read side by side.

use std::path::{Path, PathBuf};

/// Longest line of prose, in characters, as in the code.
const WIDTH: usize = 120;

/// A block of code that says which file it shows: three backticks, the language, and ` file=` (all of it) or ` from=`
/// (some of its lines, in their order) with a path from the root.
struct Shown {
    path: String,
    text: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// All pages of the project.
fn pages() -> Vec<PathBuf> {
    let directories = ["fixtures", "harness/docs"].map(|directory| root().join(directory));
    let below = |directory: &PathBuf| entries(directory).into_iter().filter(|path| path.is_dir()).collect::<Vec<_>>();
    let inner: Vec<_> = directories.iter().flat_map(below).collect();
    let all = [root()].into_iter().chain(directories).chain(inner);
    let pages = all.flat_map(|directory| entries(&directory));
    pages.filter(|path| path.extension().is_some_and(|kind| kind == "md")).collect()
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).expect("a directory");
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

fn shown_in(page: &str, mark: &str) -> Vec<Shown> {
    let mut shown = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let Some((_, path)) = line.strip_prefix("```").and_then(|info| info.split_once(mark)) else { continue };
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
        for block in shown_in(&text, " file=") {
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

/// Goal: a story that is shown shortened is one that runs.
#[test]
fn what_is_shown_of_a_file_stands_in_it() {
    let mut blocks = 0;
    for page in pages() {
        let text = std::fs::read_to_string(&page).expect("a page");
        for Shown { path, text } in shown_in(&text, " from=") {
            let actual = std::fs::read_to_string(root().join(&path)).unwrap_or_else(|error| panic!("{path}: {error}"));
            let mut rest = actual.lines();
            for line in text.lines().filter(|line| !line.is_empty()) {
                assert!(rest.any(|actual| actual == line), "{}: {path} has no such line there: {line}", page.display());
            }
            blocks += 1;
        }
    }
    assert!(blocks > 0, "the README shows a story");
}

/// Goal: prose is as wide as code. Tables, code and links that cannot be broken may be wider.
#[test]
fn prose_is_no_wider_than_code() {
    let mut wide = Vec::new();
    for page in pages() {
        let text = std::fs::read_to_string(&page).expect("a page");
        let mut in_code = false;
        for (number, line) in text.lines().enumerate() {
            in_code ^= line.trim_start().starts_with("```");
            let is_prose = !in_code && !line.starts_with('|');
            if is_prose && line.chars().count() > WIDTH && line.trim().contains(' ') {
                wide.push(format!("{}:{}", page.display(), number + 1));
            }
        }
    }
    assert!(wide.is_empty(), "more than {WIDTH} characters: {}", wide.join(", "));
}

/// Goal: every system with a driver has a page that shows how its parts speak with one another, and the README leads
/// there. One that has just been added as `add-a-system.md` says is three files and has neither; all of it can be read.
#[test]
fn every_system_with_a_driver_has_a_page_with_a_diagram() {
    let readme = std::fs::read_to_string(root().join("README.md")).expect("the README");
    let mut pages = 0;
    for entry in std::fs::read_dir(root().join("fixtures")).expect("the fixtures") {
        let room = entry.expect("a fixture");
        let name = room.file_name().into_string().expect("a name in UTF-8");
        let driver = root().join(format!("fixtures/driver/src/{name}.rs"));
        if !room.path().join("environment.toml").is_file() || !driver.is_file() {
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
