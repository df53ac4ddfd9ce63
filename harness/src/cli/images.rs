//! `images`: what containers are made from, built here over any base or fetched from a registry.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use greenroom::binaries;
use greenroom::docker::images::{self, Image};
use greenroom::docker::pinned::{Listed, Pinned};
use greenroom::docker::{Engine, EngineError};
use greenroom::plan::Runtime;
use greenroom::report::Problem;
use greenroom::supervisor::state::Workspace;

use super::start::prepare;
use super::{answer, block_on, say};

/// The images that `--runtime docker` runs.
#[derive(clap::Subcommand)]
#[command(after_help = "\
Examples:
  cargo xtask images build --base greenroom-base:trixie
  cargo xtask images list")]
pub(crate) enum Images {
    /// Build those that are missing, or over another base or by another Dockerfile, over a base image with glibc (any
    /// Debian, Ubuntu or Fedora).
    Build {
        /// The base, instead of the one that `docker/images.toml` names.
        #[arg(long, value_name = "IMAGE")]
        base: Option<String>,
        /// Fetch nothing for what lies in them; say what is missing.
        #[arg(long)]
        offline: bool,
    },
    /// Build an image of a program of this workspace, such as one that `--service-image` can run.
    Program {
        /// The binary's name.
        name: String,
        /// The base, instead of the one that `docker/images.toml` names.
        #[arg(long, value_name = "IMAGE")]
        base: Option<String>,
    },
    /// Fetch the images of others that the list names (`docker/images.toml`, or GREENROOM_IMAGES), from their
    /// registries.
    Pull,
    /// List them, and whether they are there.
    List,
}

impl Images {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Build { base, offline } => build(base, offline)?,
            Self::Program { name, base } => program(&name, base)?,
            Self::Pull => pull()?,
            Self::List => list()?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn build(base: Option<String>, offline: bool) -> anyhow::Result<()> {
    let (base, dockerfile) = (base_or_pinned(base)?, read("part.Dockerfile")?);
    let toolchain = prepare(offline, Runtime::Docker)?;
    block_on(async {
        let engine = Engine::here().await.map_err(advised)?;
        for image in images::all(&toolchain) {
            if engine.has_built(&image.name, &base, &dockerfile).await.map_err(advised)? {
                say(&format!("{} is there, over {base}", image.name));
            } else {
                make(&engine, &image, &dockerfile, &base, &[]).await?;
            }
        }
        Ok(())
    })
}

fn program(name: &str, base: Option<String>) -> anyhow::Result<()> {
    let (base, dockerfile) = (base_or_pinned(base)?, read("service.Dockerfile")?);
    let binary = binaries::built()?.join(name);
    if !binary.is_file() {
        let problem = Problem::new(format!("this workspace has built no program {name}"));
        return Err(problem.hint(format!("its programs are {}", programs(&binaries::built()?)?.join(", "))).into());
    }
    let path = binary.display().to_string();
    let image = images::program(name, binary);
    block_on(async {
        let engine = Engine::here().await.map_err(advised)?;
        make(&engine, &image, &dockerfile, &base, &[("PROGRAM", &path)]).await
    })
}

/// The programs that are built.
fn programs(directory: &Path) -> anyhow::Result<Vec<String>> {
    let entries = std::fs::read_dir(directory).with_context(|| format!("read {}", directory.display()))?;
    let paths = entries.flatten().map(|entry| entry.path());
    let paths = paths.filter(|path| path.extension().is_none() && binaries::is_program(path));
    let mut names: Vec<_> = paths.filter_map(|path| path.file_name()?.to_str().map(str::to_owned)).collect();
    names.sort();
    Ok(names)
}

async fn make(
    engine: &Engine,
    image: &Image,
    dockerfile: &str,
    base: &str,
    arguments: &[(&str, &str)],
) -> anyhow::Result<()> {
    say(&format!("building {}", image.name));
    let built = image.build(engine, dockerfile, base, arguments, |line| say(&format!("  {line}"))).await;
    let Err(error) = built else { return Ok(()) };
    if engine.has(base).await.map_err(advised)? {
        return Err(advised(error));
    }
    let hint = format!("the base {base} is not here; name another with `--base`, or make one as the README says");
    Err(Problem::from_error(&error).hint(hint).into())
}

/// The base that was named, or the one in `docker/images.toml`.
fn base_or_pinned(base: Option<String>) -> anyhow::Result<String> {
    if let Some(base) = base {
        return Ok(base);
    }
    let base = pinned()?.base.context("the list of images names no base; add one, or name it by `--base IMAGE`")?;
    Ok(base.name())
}

/// The list of images of this workspace.
fn pinned() -> anyhow::Result<Pinned> {
    let root = Workspace::here()?.root;
    Pinned::of(&root)?.with_context(|| format!("there is no docker/images.toml in {}", root.display()))
}

fn pull() -> anyhow::Result<()> {
    let pinned = pinned()?;
    if pinned.listed().next().is_none() {
        say("the list of images names none of others; nothing was fetched");
    }
    block_on(async {
        let engine = Engine::here().await.map_err(advised)?;
        let mut failed = 0;
        for (part, listed) in pinned.listed() {
            if let Err(error) = fetch(&engine, part, listed).await {
                say(&super::chain(&error));
                failed += 1;
            }
        }
        if failed > 0 {
            bail!("{failed} not fetched; what is here already stays, and is used");
        }
        Ok(())
    })
}

async fn fetch(engine: &Engine, part: &str, listed: &Listed) -> anyhow::Result<()> {
    let (name, digest) = (listed.name(), listed.digest.as_deref());
    if digest.is_some() && engine.holds(part, &name, digest).await.is_ok() {
        say(&format!("{name} is there, and the one that is pinned"));
    } else {
        say(&format!("fetching {name}"));
        let step = |line: &str| say(&format!("  {line}"));
        let given = engine.pull(&listed.image, &listed.version, digest, step).await;
        let given = given.map_err(|error| unfetched(&error, part, digest))?;
        match (digest, given) {
            (Some(_), _) => say("  it is the one that is pinned"),
            (None, Some(given)) => say(&format!("  to pin it, write `digest = \"{given}\"` below [{part}]")),
            (None, None) => say("  it is not pinned, and its registry tells no digest to pin it by"),
        }
    }
    if !listed.used {
        say(&format!("  {part} runs in the one that is built here; without `use = false` it runs in this one"));
    }
    Ok(())
}

/// Why an image could not be fetched, with what can be done about it.
fn unfetched(error: &EngineError, part: &str, digest: Option<&str>) -> anyhow::Error {
    if let Some(advice) = error.known_advice() {
        return Problem::from_error(error).hint(advice).into();
    }
    let wrong = match digest {
        Some(digest) => format!("are the name and the digest {digest} below [{part}] right"),
        None => format!("is the name below [{part}] right"),
    };
    let hint = format!(
        "is its registry reachable from here, and {wrong}? Where it asks for a login, `docker pull` knows that"
    );
    Problem::from_error(error).hint(hint).into()
}

/// A file of `docker/`.
fn read(name: &str) -> anyhow::Result<String> {
    let path = Workspace::here()?.root.join("docker").join(name);
    std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
}

fn list() -> anyhow::Result<()> {
    let (workspace, toolchain) = (Workspace::here()?, prepare(true, Runtime::Docker)?);
    block_on(async {
        let engine = Engine::here().await.map_err(advised)?;
        let mut table = Table::new();
        table.load_preset(NOTHING).set_header(["IMAGE", "STATE", "HOLDS"]);
        for image in images::all(&toolchain) {
            let there = engine.has(&image.name).await.map_err(advised)?;
            let contents: Vec<_> = image.contents.iter().map(|path| path.display().to_string()).collect();
            table.add_row([image.name, if there { "there" } else { "missing" }.to_owned(), contents.join("\n")]);
        }
        for (part, listed) in Pinned::of(&workspace.root)?.iter().flat_map(Pinned::listed) {
            let (state, known) = match engine.holds(part, &listed.name(), listed.digest.as_deref()).await {
                Ok(digest) => ("there", format!(", {digest}")),
                Err(EngineError::NoImage { .. }) => ("missing", String::new()),
                Err(EngineError::OtherImage { found, .. }) => ("another one", format!(", {found}")),
                Err(error) => return Err(advised(error)),
            };
            let used =
                if listed.used { format!("runs {part}") } else { format!("not chosen for {part} (`use = false`)") };
            table.add_row([listed.name(), state.to_owned(), format!("made by others: {used}{known}")]);
        }
        answer(&table.to_string());
        Ok(())
    })
}

/// An error of the engine with what can be done about it.
fn advised(error: EngineError) -> anyhow::Error {
    Problem::from_error(&error).hint(error.advice()).into()
}
