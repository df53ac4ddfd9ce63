//! The programs that make and restore checkpoints: of this machine, or of an image.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::super::PrepareError;
use super::super::child;
use super::super::error::at;
use crate::binaries::is_program;
use crate::node::{IN_NAMESPACES, LOCALE};
use crate::toolchain::{Checkpoint, HeldImage};

/// Which CRIU is taken.
pub(super) const VARIABLE: &str = "GREENROOM_CRIU";
/// Where system programs lie that a user's `PATH` may leave out.
const OF_THE_SYSTEM: [&str; 2] = ["/usr/local/sbin", "/usr/sbin"];
/// The oldest CRIU that does without root, and knows the kernels of today.
const VERSION_MIN: u16 = 4;
/// What a container is told, so that a process in it may make namespaces as one of this machine may.
const AS_FREE: [&str; 3] = ["seccomp=unconfined", "apparmor=unconfined", "systempaths=unconfined"];

/// How the names of entries begin: of this machine's, and of an image's.
pub(super) const KINDS: [&str; 2] = ["checkpoint", "checkpoint-image"];

/// What makes checkpoints, and restores them.
#[derive(Debug)]
pub(super) struct Tools {
    criu: PathBuf,
    /// Whether a person has named it, and wants to hear where it does not work.
    pub(super) is_named: bool,
    unshare: PathBuf,
    /// The image that they are in, and who runs it; absent where they are this machine's.
    within: Option<Within>,
}

/// An image, and the client of its engine.
#[derive(Debug)]
struct Within {
    docker: PathBuf,
    /// Where the engine listens, as `DOCKER_HOST` has it.
    host: String,
    image: HeldImage,
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
                let those = OF_THE_SYSTEM.into_iter().map(|directory| Path::new(directory).join("criu"));
                those.into_iter().find(|path| is_program(path))
            }),
        };
        let Some(criu) = criu else { return Ok(Err("there is no `criu` (4.0 or later)".to_owned())) };
        let Some(unshare) = child::find_program("unshare") else { return Ok(Err("there is no `unshare`".to_owned())) };
        Ok(Ok(Self { criu, is_named: named.is_some(), unshare, within: None }))
    }

    /// Those of an image of the engine that listens at `host`, or why there are none.
    pub(super) fn within(image: &HeldImage, host: &str, variable: Option<&OsStr>) -> Result<Self, String> {
        // A program of this machine is none of an image's.
        named(variable)?;
        let docker =
            child::find_program("docker").ok_or("there is no `docker`, by which a checkpoint is made in one")?;
        let within = Within { docker, host: host.to_owned(), image: image.clone() };
        Ok(Self { criu: "criu".into(), is_named: false, unshare: "unshare".into(), within: Some(within) })
    }

    /// How the names of their entries begin.
    pub(super) fn kind(&self) -> &'static str {
        KINDS[usize::from(self.within.is_some())]
    }

    /// Where they are, as the end of a sentence.
    pub(super) fn place(&self) -> String {
        self.within.as_ref().map_or_else(String::new, |within| format!(" in {}", within.image.name))
    }

    /// The program that restores.
    pub(super) fn criu(&self) -> &Path {
        &self.criu
    }

    /// What runs `program`, which sees these directories of this machine wherever it runs.
    pub(super) fn command(&self, program: &Path, sees: &[&Path]) -> Command {
        let Some(Within { docker, host, image }) = &self.within else { return child::bare(program) };
        let mut command = child::bare(docker);
        // It ends when its input closes, as all that is run in it does.
        command.args(["--host", host, "run", "--rm", "--interactive", "--network", "host"]);
        command.arg("--user").arg(format!("{}:{}", nix::unistd::geteuid(), nix::unistd::getegid()));
        command.args(AS_FREE.iter().flat_map(|freedom| ["--security-opt", freedom]));
        command.arg("--env").arg(format!("LC_ALL={LOCALE}"));
        for directory in sees {
            let directory = directory.display();
            command.arg("--mount").arg(format!("type=bind,source={directory},target={directory}"));
        }
        command.arg("--entrypoint").arg(program).arg(&image.id);
        command
    }

    /// What runs a program in namespaces of its own, which it is named after this.
    pub(super) fn in_namespaces(&self, sees: &[&Path]) -> Command {
        let mut command = self.command(&self.unshare, sees);
        command.args(IN_NAMESPACES);
        command
    }

    /// Whether CRIU is new enough. What it can do is seen when a checkpoint is made.
    pub(super) fn ask(&self) -> Result<(), PrepareError> {
        let answer = self.command(&self.criu, &[]).arg("--version").output().map_err(at("run", &self.criu))?;
        let told = String::from_utf8_lossy(&answer.stdout).into_owned();
        let version = told.lines().find_map(|line| line.strip_prefix("Version: "));
        let of = self.place();
        let error = match version.map(|version| (version, version.split('.').next().map(str::parse::<u16>))) {
            Some((_, Some(Ok(VERSION_MIN..)))) => return Ok(()),
            Some((version, _)) => {
                PrepareError::new(format!("{}{of} is CRIU {version}, and 4.0 or later is needed", self.criu.display()))
            }
            None if self.within.is_some() => PrepareError::new(format!(
                "there is no `criu` (4.0 or later){of}; the base that it is built over has none"
            )),
            None => PrepareError::new(format!("{} does not tell its version", self.criu.display())),
        };
        Err(error)
    }

    /// Whether namespaces are allowed.
    pub(super) fn try_namespaces(&self) -> Result<(), PrepareError> {
        let answer = self.in_namespaces(&[]).arg("true").output().map_err(at("run", &self.unshare))?;
        let said = String::from_utf8_lossy(&answer.stderr).trim().to_owned();
        if answer.status.success() { Ok(()) } else { Err(PrepareError::new(format!("no namespaces here: {said}"))) }
    }

    /// What brokers are restored from that these have made in this entry.
    pub(super) fn checkpoint(&self, entry: &Path, mount: PathBuf) -> Checkpoint {
        Checkpoint {
            image: self.within.as_ref().map(|within| within.image.clone()),
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
        if let Some(within) = &self.within {
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

    #[test]
    fn criu_is_done_without_where_that_is_said_and_a_wrong_name_is_an_error() {
        let none = Some(OsStr::new("none"));
        assert_eq!(Tools::here(none).expect("that can be said").unwrap_err(), "GREENROOM_CRIU is none");
        let image = HeldImage { name: "brokers:1".to_owned(), id: "sha256:1".to_owned() };
        assert_eq!(Tools::within(&image, "unix:///nowhere", none).unwrap_err(), "GREENROOM_CRIU is none");
        for name in ["/nowhere/criu", "criu"] {
            let error = Tools::here(Some(OsStr::new(name))).unwrap_err();
            assert_eq!(error.message, format!("GREENROOM_CRIU is {name}, which is no program"));
            assert!(error.hint.is_some());
        }
    }
}
