//! The workspace's own programs: where they lie, and that they are built before anything runs them.
//!
//! `cargo test` and `cargo nextest run` build the binaries only of packages under test, so the first test of a
//! run builds them all: the same command that `cargo xtask` uses, a fraction of a second when nothing has changed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use nix::fcntl::{Flock, FlockArg};
use nix::unistd::{AccessFlags, access};

use crate::parent_death::end_with_parent;

/// Set by `cargo xtask`, which has built them already.
pub const BINARIES_VARIABLE: &str = "GREENROOM_BINARIES";
/// The harness's own binary.
pub const GREENROOM: &str = "greenroom";

/// Whether this is a file that may be executed.
#[must_use]
pub fn is_program(path: &Path) -> bool {
    path.is_file() && access(path, AccessFlags::X_OK).is_ok()
}

/// Why there are no binaries to run.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BinariesError {
    /// The running program does not lie in a Cargo target directory.
    #[error("{} lies in no Cargo target directory; set {BINARIES_VARIABLE} to where the binaries are", running.display())]
    NoTarget {
        /// The running program.
        running: PathBuf,
    },
    /// Cargo failed to build them.
    #[error("`cargo build {}` failed:\n{output}", what.join(" "))]
    Build {
        /// What was to be built.
        what: Vec<String>,
        /// What it said.
        output: String,
    },
    /// Something around it failed.
    #[error("failed to {what}: {cause}")]
    Around {
        /// What.
        what: &'static str,
        /// The cause, kept as text so that the error can be cloned.
        cause: String,
    },
}

/// The directory of the workspace's binaries, built once in a test run.
///
/// # Errors
/// They cannot be found or built.
pub fn built() -> Result<PathBuf, BinariesError> {
    static BUILT: OnceLock<Result<PathBuf, BinariesError>> = OnceLock::new();
    BUILT.get_or_init(find_or_build).clone()
}

fn find_or_build() -> Result<PathBuf, BinariesError> {
    if let Some(directory) = std::env::var_os(BINARIES_VARIABLE) {
        return Ok(PathBuf::from(directory));
    }
    let unknown =
        |cause: std::io::Error| BinariesError::Around { what: "find the running program", cause: cause.to_string() };
    let running = std::env::current_exe().map_err(unknown)?;
    let missing = || BinariesError::NoTarget { running: running.clone() };
    let beside = running.parent().ok_or_else(missing)?;
    if running.file_name().is_some_and(|name| name == GREENROOM) {
        return Ok(beside.to_owned());
    }
    // A test is target/<profile>/deps/<name>-<hash>.
    let directory = beside.parent().filter(|_| beside.ends_with("deps")).ok_or_else(missing)?;
    once_in_a_run(directory, GREENROOM, || cargo_build(directory, &["--bins"]))?;
    Ok(directory.to_owned())
}

/// Builds `program` in `directory`, and what is built with it, unless another test of this run of nextest has done so:
/// even where nothing has changed, Cargo needs a third of a second to know it.
fn once_in_a_run(
    directory: &Path,
    program: &str,
    build: impl FnOnce() -> Result<(), BinariesError>,
) -> Result<(), BinariesError> {
    let Some(run) = std::env::var("NEXTEST_RUN_ID").ok() else { return build() };
    let marks = directory.parent().unwrap_or(directory).join("greenroom");
    let of_this_run = format!("built-{run}-");
    let mark = marks.join(format!("{of_this_run}{program}"));
    let is_built = || mark.exists() && is_program(&directory.join(program));
    if is_built() {
        return Ok(());
    }
    let around = |what| {
        let marks = marks.display();
        move |cause: std::io::Error| BinariesError::Around { what, cause: format!("{marks}: {cause}") }
    };
    std::fs::create_dir_all(&marks).map_err(around("make a directory"))?;
    let lock = std::fs::File::create(marks.join("build.lock")).map_err(around("make a lock"))?;
    let _lock =
        Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, errno)| around("take the build lock")(errno.into()))?;
    if is_built() {
        return Ok(());
    }
    build()?;
    forget_older_runs(&marks, &of_this_run);
    std::fs::write(&mark, "").map_err(around("mark the build"))
}

/// Builds a binary that an ordinary build leaves out, with the feature (`package/feature`) that it needs, beside the
/// others: a program with a defect planted in it, for the proof that a scenario finds it. Once in a run of nextest;
/// `offline` fetches nothing.
///
/// # Errors
/// It cannot be built, or there is no place for it.
pub fn build_variant(feature: &str, binary: &str, offline: bool) -> Result<(), BinariesError> {
    // Of the whole workspace, because a package alone would have its dependencies built once more, with fewer features.
    let offline: &[_] = if offline { &["--offline"] } else { &[] };
    let directory = built()?;
    once_in_a_run(&directory, binary, || {
        cargo_build(&directory, &[&["--bin", binary, "--features", feature], offline].concat())
    })
}

fn cargo_build(directory: &Path, what: &[&str]) -> Result<(), BinariesError> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--workspace"]).args(what);
    if let Some(target) = directory.parent() {
        command.arg("--target-dir").arg(target);
    }
    match directory.file_name().and_then(|name| name.to_str()) {
        None | Some("debug") => {}
        Some(profile) => drop(command.args(["--profile", profile])),
    }
    end_with_parent(&mut command);
    let output = command.output();
    let output = output.map_err(|cause| BinariesError::Around { what: "run cargo", cause: cause.to_string() })?;
    if output.status.success() {
        return Ok(());
    }
    let what = what.iter().map(|argument| (*argument).to_owned()).collect();
    Err(BinariesError::Build { what, output: String::from_utf8_lossy(&output.stderr).into_owned() })
}

/// Removes the marks of other runs; one that still goes on asks Cargo once more.
fn forget_older_runs(marks: &Path, of_this_run: &str) {
    let entries = std::fs::read_dir(marks).into_iter().flatten().flatten();
    let names = entries.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()));
    for (_, path) in names.filter(|(name, _)| name.starts_with("built-") && !name.starts_with(of_this_run)) {
        let _ = std::fs::remove_file(path);
    }
}
