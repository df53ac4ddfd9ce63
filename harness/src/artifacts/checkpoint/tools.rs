//! The programs that make and restore checkpoints: of this machine, or of an image.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::super::child::{self, Program};
use super::super::error::at;
use super::super::{PrepareError, Within};
use crate::binaries::is_program;
use crate::node::{IN_NAMESPACES, LOCALE, UNCONFINED};
use crate::toolchain::Checkpoint;

/// Which CRIU is taken.
pub(super) const VARIABLE: &str = "GREENROOM_CRIU";
/// Where system programs lie that a user's `PATH` may leave out.
const OF_THE_SYSTEM: [&str; 2] = ["/usr/local/sbin", "/usr/sbin"];
/// The oldest CRIU that does without root, and knows the kernels of today.
const VERSION_MIN: u16 = 4;
/// How long a question to a program may take, also where a container is made for it.
const QUESTION: Duration = Duration::from_secs(60);
/// What `docker run` ends with where the image has no such program.
const NO_PROGRAM: i32 = 127;

/// How the names of entries begin that are restored on this machine.
const OF_THE_MACHINE: &str = "checkpoint";
/// How the names of entries begin that are restored in an image.
const OF_AN_IMAGE: &str = "checkpoint-image";
/// All of them.
pub(super) const KINDS: [&str; 2] = [OF_THE_MACHINE, OF_AN_IMAGE];

/// What makes checkpoints, and restores them.
#[derive(Debug)]
pub(super) struct Tools {
    criu: PathBuf,
    /// Whether a person has named it, and wants to hear where it does not work.
    pub(super) is_named: bool,
    unshare: PathBuf,
    /// Where they are in an image: who runs it, and how.
    within: Option<(PathBuf, Within)>,
}

/// What runs a program, and what takes away afterwards whatever is left of it.
struct Job {
    command: Command,
    taken_away_by: Option<Command>,
}

/// What `GREENROOM_CRIU` says: a program, nothing, or that there shall be none.
fn named(variable: Option<&OsStr>) -> Result<Option<&Path>, String> {
    match variable.filter(|name| !name.is_empty()) {
        Some(name) if name == "none" => Err(format!("{VARIABLE} is none")),
        name => Ok(name.map(Path::new)),
    }
}

impl Tools {
    /// Those of this machine, or why there are none.
    pub(super) fn here(variable: Option<&OsStr>) -> Result<Result<Self, String>, PrepareError> {
        let named = match named(variable) {
            Ok(named) => named,
            Err(because) => return Ok(Err(because)),
        };
        let criu = match named {
            Some(named) if !named.is_absolute() || !is_program(named) => {
                return Err(PrepareError::new(format!("{VARIABLE} is {}, which is no program", named.display()))
                    .hint("set it to the absolute path of CRIU's program, to `none`, or leave it unset"));
            }
            Some(named) => Some(named.to_owned()),
            None => child::find_program("criu").or_else(|| {
                OF_THE_SYSTEM
                    .into_iter()
                    .map(|directory| Path::new(directory).join("criu"))
                    .find(|path| is_program(path))
            }),
        };
        let Some(criu) = criu else { return Ok(Err("there is no `criu` (4.0 or later)".to_owned())) };
        let Some(unshare) = child::find_program("unshare") else { return Ok(Err("there is no `unshare`".to_owned())) };
        Ok(Ok(Self { criu, is_named: named.is_some(), unshare, within: None }))
    }

    /// Those of an image, or why there are none.
    pub(super) fn within(within: &Within, variable: Option<&OsStr>) -> Result<Self, String> {
        // A program of this machine is none of an image's.
        named(variable)?;
        let docker = child::find_program("docker");
        let docker = docker.ok_or("there is no `docker`, the engine's command, by which a checkpoint is made")?;
        let within = Some((docker, within.clone()));
        Ok(Self { criu: "criu".into(), is_named: false, unshare: "unshare".into(), within })
    }

    /// How the names of their entries begin.
    pub(super) fn kind(&self) -> &'static str {
        if self.within.is_some() { OF_AN_IMAGE } else { OF_THE_MACHINE }
    }

    /// Where they are, as the end of a sentence.
    pub(super) fn place(&self) -> String {
        self.within.as_ref().map_or_else(String::new, |(_, within)| format!(" in {}", within.image.name))
    }

    /// The program that restores.
    pub(super) fn criu(&self) -> &Path {
        &self.criu
    }

    /// Starts a program, which sees these directories of this machine wherever it runs.
    pub(super) fn start(
        &self,
        name: &str,
        program: &Path,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
        sees: &[&Path],
        log: &Path,
    ) -> Result<Program, PrepareError> {
        let Job { mut command, taken_away_by } = self.job(program, sees);
        command.args(arguments);
        let program = Program::start(name, command, log)?;
        Ok(match taken_away_by {
            Some(command) => program.taken_away_by(command),
            None => program,
        })
    }

    /// Starts `unshare`, which runs what is named by these arguments in namespaces of its own.
    pub(super) fn start_in_namespaces<'a>(
        &self,
        name: &str,
        arguments: impl IntoIterator<Item = &'a OsStr>,
        sees: &[&Path],
        log: &Path,
    ) -> Result<Program, PrepareError> {
        let arguments = IN_NAMESPACES.into_iter().map(OsStr::new).chain(arguments);
        self.start(name, &self.unshare, arguments, sees, log)
    }

    /// What a program answers that is soon at its end.
    fn answer(&self, program: &Path, arguments: &[&str]) -> Result<Output, PrepareError> {
        let Job { mut command, taken_away_by } = self.job(program, &[]);
        let answer = child::answer(command.args(arguments), QUESTION).map_err(at("run", program));
        if let (Err(_), Some(mut command)) = (&answer, taken_away_by) {
            let _ = child::answer(&mut command, child::REMOVAL);
        }
        answer
    }

    fn job(&self, program: &Path, sees: &[&Path]) -> Job {
        let Some((docker, within)) = &self.within else {
            return Job { command: child::bare(program), taken_away_by: None };
        };
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("greenroom-{}-{count}", std::process::id());
        let client = || {
            let mut client = child::bare(docker);
            client.args(["--host", &within.host]);
            client
        };
        let mut command = client();
        command.args(["run", "--rm", "--interactive", "--network", "host", "--name", &name, "--label", &within.label]);
        command.arg("--user").arg(format!("{}:{}", nix::unistd::geteuid(), nix::unistd::getegid()));
        let freedoms = UNCONFINED.into_iter().chain(["systempaths=unconfined"]);
        command.args(freedoms.flat_map(|freedom| ["--security-opt", freedom]));
        command.arg("--env").arg(format!("LC_ALL={LOCALE}"));
        for directory in sees {
            let directory = directory.display();
            command.arg("--volume").arg(format!("{directory}:{directory}"));
        }
        command.arg("--entrypoint").arg(program).arg(&within.image.id);
        let mut removal = client();
        removal.args(["rm", "--force", &name]);
        Job { command, taken_away_by: Some(removal) }
    }

    /// Whether CRIU is new enough. What it can do is seen when a checkpoint is made.
    pub(super) fn ask(&self) -> Result<(), PrepareError> {
        let answer = self.answer(&self.criu, &["--version"])?;
        let told = String::from_utf8_lossy(&answer.stdout).into_owned();
        let version = told.lines().find_map(|line| line.strip_prefix("Version: "));
        let (criu, place) = (self.criu.display(), self.place());
        Err(match version.map(|version| (version, version.split('.').next().map(str::parse::<u16>))) {
            Some((_, Some(Ok(VERSION_MIN..)))) => return Ok(()),
            Some((version, _)) => {
                PrepareError::new(format!("{criu}{place} is CRIU {version}, and 4.0 or later is needed"))
            }
            None if self.within.is_some() && answer.status.code() == Some(NO_PROGRAM) => {
                PrepareError::new(format!("there is no `criu` (4.0 or later){place}, because its base has none"))
            }
            None => {
                let said = String::from_utf8_lossy(&answer.stderr).trim().to_owned();
                let said = if said.is_empty() { said } else { format!(": {said}") };
                PrepareError::new(format!("{criu}{place} does not tell its version{said}"))
            }
        })
    }

    /// Whether namespaces are allowed.
    pub(super) fn try_namespaces(&self) -> Result<(), PrepareError> {
        let answer = self.answer(&self.unshare, &[&IN_NAMESPACES[..], &["true"]].concat())?;
        let said = String::from_utf8_lossy(&answer.stderr).trim().to_owned();
        let place = self.within.as_ref().map_or_else(|| " here".to_owned(), |_| self.place());
        if answer.status.success() { Ok(()) } else { Err(PrepareError::new(format!("no namespaces{place}: {said}"))) }
    }

    /// What brokers are restored from that these have made in this entry.
    pub(super) fn checkpoint(&self, entry: &Path, mount: PathBuf) -> Checkpoint {
        Checkpoint {
            image: self.within.as_ref().map(|(_, within)| within.image.clone()),
            unshare: self.unshare.clone(),
            criu: self.criu.clone(),
            script: entry.join("restore.sh"),
            images: entry.join("images"),
            mount,
        }
    }

    /// What changes when CRIU is replaced, or the C library, which a JVM has open: CRIU restores what it finds
    /// unchanged.
    pub(super) fn identity(&self) -> Result<String, PrepareError> {
        if let Some((_, within)) = &self.within {
            return Ok(within.image.id.clone());
        }
        let maps = Path::new("/proc/self/maps");
        let mapped = fs::read_to_string(maps).map_err(at("read", maps))?;
        let is_of_libc = |path: &&str| {
            let name = path.rsplit('/').next().unwrap_or_default();
            name.starts_with("libc.so") || name.starts_with("ld-linux") || name.starts_with("libc-")
        };
        let libc: BTreeSet<_> =
            mapped.lines().filter_map(|line| line.split_whitespace().nth(5)).filter(is_of_libc).collect();
        let programs = libc.into_iter().map(Path::new).chain([self.criu.as_path()]);
        programs.map(identity).collect::<Result<Vec<_>, _>>().map(|all| all.join("\n"))
    }
}

fn identity(program: &Path) -> Result<String, PrepareError> {
    let found = fs::metadata(program).map_err(at("look at", program))?;
    Ok(format!("{} {} {}.{}", program.display(), found.len(), found.mtime(), found.mtime_nsec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toolchain::HeldImage;

    #[test]
    fn criu_is_done_without_where_that_is_said_and_a_wrong_name_is_an_error() {
        let none = Some(OsStr::new("none"));
        assert_eq!(Tools::here(none).expect("that can be said").unwrap_err(), "GREENROOM_CRIU is none");
        let image = HeldImage { name: "brokers:1".to_owned(), id: "sha256:1".to_owned() };
        let within = Within { image, host: "unix:///nowhere".to_owned(), label: "test".to_owned() };
        assert_eq!(Tools::within(&within, none).unwrap_err(), "GREENROOM_CRIU is none");
        for name in ["/nowhere/criu", "criu"] {
            let error = Tools::here(Some(OsStr::new(name))).unwrap_err();
            assert_eq!(error.message, format!("GREENROOM_CRIU is {name}, which is no program"));
            assert!(error.hint.is_some());
        }
    }
}
