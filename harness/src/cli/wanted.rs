//! Which environment a command is about: a system or a description, and what differs from it.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use greenroom::environment::chosen_runtime;
use greenroom::plan::{Runtime, Scope};
use greenroom::service::{Runs, Service};
use greenroom::spec::{self, FailpointsSpec, Layout, Links, Spec};
use greenroom::supervisor::state::Workspace;

/// Which environment.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct Wanted {
    /// System, a directory below `fixtures` with an `environment.toml`; without it, the default that
    /// `.config/greenroom.toml` names, or the only one there is.
    system: Option<String>,
    /// Description to use instead of a system's.
    #[arg(long, value_name = "FILE", conflicts_with = "system")]
    description: Option<PathBuf>,
    /// How the brokers are laid out over processes, instead of what the description says.
    #[arg(long)]
    layout: Option<Layout>,
    /// Where links stand, whose ways `fault` can break, instead of where the description says.
    #[arg(long, value_name = "WHERE")]
    links: Option<Links>,
    /// What brokers and stores run as, instead of what GREENROOM_RUNTIME says.
    #[arg(long)]
    runtime: Option<Runtime>,
    /// Start only these parts: `infrastructure` leaves out the programs under test.
    #[arg(long, value_name = "PARTS", conflicts_with_all = ["service", "service_image"])]
    only: Option<Only>,
    /// Run this command instead of the program under test: somebody else's implementation of its contract, with the
    /// same variables. `{port}` stands for its HTTP port.
    #[arg(long, value_name = "COMMAND")]
    service: Option<String>,
    /// Run this image instead of the program under test, beside brokers and stores in containers.
    #[arg(long, value_name = "IMAGE", conflicts_with = "service")]
    service_image: Option<String>,
    /// The HTTP port of that service, where it cannot be chosen by `PORT`.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    service_port: Option<u16>,
    /// Let a program die at this point, which the system's description names; `fault restart` starts it again.
    #[arg(long, value_name = "POINT", conflicts_with_all = ["only", "service", "service_image"])]
    crash_at: Option<String>,
    /// Fetch nothing; say what is missing.
    #[arg(long)]
    pub(super) offline: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Only {
    Infrastructure,
}

impl Wanted {
    /// Which parts.
    pub(super) fn scope(&self) -> Scope {
        match self.only {
            Some(Only::Infrastructure) => Scope::Infrastructure,
            None => Scope::Everything,
        }
    }

    /// What brokers and stores run as.
    pub(super) fn runtime(&self) -> anyhow::Result<Runtime> {
        match self.runtime {
            Some(runtime) => Ok(runtime),
            None if self.service_image.is_some() => Ok(Runtime::Docker),
            None => Ok(chosen_runtime()?),
        }
    }

    /// What must be built before it starts, which an ordinary build leaves out.
    pub(super) fn variant(&self, spec: &Spec) -> Option<FailpointsSpec> {
        let point = self.crash_at.as_ref()?;
        let mut failpoints = spec.programs.iter().filter_map(|program| program.failpoints.as_ref());
        failpoints.find(|failpoints| failpoints.points.contains_key(point)).cloned()
    }

    /// The description, read and changed as asked.
    pub(super) fn spec(&self, workspace: &Workspace) -> anyhow::Result<Spec> {
        let path = match (&self.description, &self.system) {
            (Some(path), _) => path.clone(),
            (None, Some(system)) => self::system(&workspace.root, system)?,
            (None, None) => match default_system(&workspace.root)? {
                Some(system) => self::system(&workspace.root, &system)?,
                None => only_system(&workspace.root)?,
            },
        };
        let mut spec = spec::read(&path)?;
        if let Some(layout) = self.layout {
            let kafka = spec.kafka.as_mut().context("--layout: this environment has no Kafka")?;
            kafka.layout = layout;
        }
        spec.links = self.links.unwrap_or(spec.links);
        if let Some(point) = &self.crash_at {
            spec.crash_at(point).context("--crash-at")?;
        }
        if self.service_port.is_some() && self.service.is_none() && self.service_image.is_none() {
            bail!("--service-port: no service was named; use --service or --service-image");
        }
        if let Some(command) = &self.service {
            let directory = std::env::current_dir().context("find the current directory")?;
            let runs = Runs::Command { command: command.clone(), directory };
            Service { runs, port: self.service_port }.take_the_place(&mut spec).context("--service")?;
        }
        if let Some(image) = &self.service_image {
            let runs = Runs::Image(image.clone());
            Service { runs, port: self.service_port }.take_the_place(&mut spec).context("--service-image")?;
        }
        Ok(spec)
    }
}

fn system(root: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let systems = systems(root)?;
    let found = systems.iter().find(|(system, _)| system == name);
    let known: Vec<_> = systems.iter().map(|(system, _)| system.as_str()).collect();
    Ok(found.with_context(|| format!("there is no system {name}; the systems are {}", known.join(", ")))?.1.clone())
}

fn only_system(root: &Path) -> anyhow::Result<PathBuf> {
    match systems(root)?.as_slice() {
        [(_, path)] => Ok(path.clone()),
        [] => {
            bail!("no system below {}: none has an environment.toml; use --description FILE", fixtures(root).display())
        }
        several => {
            let names: Vec<_> = several.iter().map(|(system, _)| system.as_str()).collect();
            bail!("name one of the systems {}", names.join(", "))
        }
    }
}

/// What `.config/greenroom.toml` says.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    default: Option<String>,
}

pub(super) fn default_system(root: &Path) -> anyhow::Result<Option<String>> {
    let path = root.join(".config").join("greenroom.toml");
    let text = match std::fs::read_to_string(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        text => text.with_context(|| format!("read {}", path.display()))?,
    };
    let settings: Settings = toml::from_str(&text).with_context(|| format!("read {}", path.display()))?;
    Ok(settings.default)
}

fn fixtures(root: &Path) -> PathBuf {
    root.join("fixtures")
}

fn systems(root: &Path) -> anyhow::Result<Vec<(String, PathBuf)>> {
    let directory = fixtures(root);
    let mut systems = Vec::new();
    for entry in std::fs::read_dir(&directory).with_context(|| format!("read {}", directory.display()))? {
        let entry = entry?;
        let description = entry.path().join("environment.toml");
        if description.is_file() {
            systems.push((entry.file_name().to_string_lossy().into_owned(), description));
        }
    }
    systems.sort();
    Ok(systems)
}
