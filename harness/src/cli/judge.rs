//! `test --service`: the stories of a system against somebody else's implementation of it, and what they say.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{self, ExitCode};

use anyhow::{Context, bail, ensure};
use futures_util::FutureExt as _;
use greenroom::environment::{RUNTIME_VARIABLE, StartOptions, kept_directory};
use greenroom::service::{
    SERVICE_ADDRESS_VARIABLE, SERVICE_DIRECTORY_VARIABLE, SERVICE_FILE_VARIABLE, SERVICE_IMAGE_VARIABLE,
    SERVICE_PORT_VARIABLE, SERVICE_VARIABLE, elsewhere,
};
use greenroom::supervisor::state::Workspace;
use greenroom::verdict::{self, VERDICTS_VARIABLE};
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

use super::start::{asked_by, gone, start};
use super::wanted::{Wanted, default_system};
use super::{EndRequests, answer, block_on, say};

/// The exit code of [`StartOnce`] where the service listens at every address.
const HEARD_EVERYWHERE: u8 = 75;

/// Run the default system's stories against another implementation of it.
#[derive(clap::Args)]
pub(crate) struct Judge {
    /// cargo-nextest.
    #[arg(long, value_name = "FILE", hide = true)]
    nextest: PathBuf,
    /// The command that runs the service, in each story's own environment with the variables of the contract.
    /// `{port}` stands for its HTTP port.
    #[arg(long, value_name = "COMMAND", required_unless_present_any = ["service_image", "service_address"])]
    service: Option<String>,
    /// An image of the service instead, run beside brokers and stores in containers.
    #[arg(long, value_name = "IMAGE", conflicts_with = "service")]
    service_image: Option<String>,
    /// The address of a service that you start by hand, such as in a debugger: each story waits until it was started
    /// with the variables of its environment, which are written to target/greenroom/service/variables.env.
    #[arg(
        long,
        value_name = "HOST:PORT",
        value_parser = elsewhere::address,
        conflicts_with_all = ["service", "service_image", "service_port"]
    )]
    service_address: Option<SocketAddr>,
    /// The HTTP port of the service, where it cannot be chosen by `PORT`.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    service_port: Option<u16>,
    /// Nextest's arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    arguments: Vec<String>,
}

impl Judge {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let workspace = Workspace::here()?;
        let system = default_system(&workspace.root)?;
        let system = system.context("`.config/greenroom.toml` names no default system, whose stories could be told")?;
        let is_heard_everywhere = self.service_address.is_none() && self.start_once(&system)?;
        let verdicts = tempfile::Builder::new().prefix("greenroom-verdicts-").tempdir().context("make a directory")?;
        let mut stories = process::Command::new(&self.nextest);
        // By target and not by filter, because nextest runs what any of several filters chooses.
        stories.args(["nextest", "run", "--workspace", "--test", &system]);
        let here = std::env::current_dir().context("find the current directory")?;
        stories.env(SERVICE_DIRECTORY_VARIABLE, here);
        stories.args(&self.arguments).env(VERDICTS_VARIABLE, verdicts.path());
        stories.envs(self.service.iter().map(|command| (SERVICE_VARIABLE, command)));
        if let Some(image) = &self.service_image {
            stories.env(SERVICE_IMAGE_VARIABLE, image).env(RUNTIME_VARIABLE, "docker");
        }
        if let Some(at) = self.service_address {
            // A directory of its own: a file that is written anew is another one to whoever watches only that.
            let directory = kept_directory(&workspace).join("service");
            std::fs::create_dir_all(&directory).with_context(|| format!("make {}", directory.display()))?;
            let file = directory.join("variables.env");
            let _ = std::fs::remove_file(&file);
            say(&format!(
                "each story waits for your service at {at}: start it anew whenever {} changes; `cargo xtask test-env logs \
                 {system}` says what is missing (--environment ID, where several run)",
                file.display()
            ));
            stories.env(SERVICE_ADDRESS_VARIABLE, at.to_string()).env(SERVICE_FILE_VARIABLE, file);
            // As long as a person takes.
            stories.env("NEXTEST_PROFILE", "by-hand");
        }
        if is_heard_everywhere {
            say("the service listens at every address of this machine, so one story is told after the other");
        }
        if is_heard_everywhere || self.service_address.is_some() || self.service_port.is_some() {
            ensure!(
                !asks_for_several(&self.arguments),
                "two of this service would be in each other's way, so one story is told after the other: leave out `-j`"
            );
            // No argument: nextest takes it once, and `-j 1` may be there.
            stories.env("NEXTEST_TEST_THREADS", "1");
        }
        // A snapshot shows our own columns too; of somebody else's service the plain assertions speak.
        stories.env("INSTA_FORCE_PASS", "1").env("INSTA_UPDATE", "no");
        if let Some(port) = self.service_port {
            stories.env(SERVICE_PORT_VARIABLE, port.to_string());
        }
        let (told, interrupted) = block_on(async {
            // Whoever interrupts the stories wants to know what they said until then; nextest is interrupted too.
            let mut interrupts = signal(SignalKind::interrupt())?;
            let told = Command::from(stories).status().await.context("run cargo-nextest")?;
            Ok((told, interrupts.recv().now_or_never().is_some()))
        })?;
        let judgements = verdict::read(verdicts.path(), interrupted)?;
        ensure!(!judgements.is_empty(), "no story was told: see what cargo-nextest said");
        answer(&verdict::table(&judgements));
        Ok(if told.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// A service that does not start is told of once, not once for each story. Answers whether it listens at every
    /// address.
    fn start_once(&self, system: &str) -> anyhow::Result<bool> {
        // A process of its own: what asks it to end must not be held back from the stories.
        let mut start = process::Command::new(std::env::current_exe()?);
        start.args(["start-once", system]);
        start.args(self.service.iter().flat_map(|command| ["--service", command]));
        start.args(self.service_image.iter().flat_map(|image| ["--service-image", image]));
        if let Some(port) = self.service_port {
            start.args(["--service-port", &port.to_string()]);
        }
        say("starting the service once");
        match start.status().context("start the service once")?.code() {
            Some(0) => Ok(false),
            Some(code) if code == i32::from(HEARD_EVERYWHERE) => Ok(true),
            _ => bail!("the service does not start, so no story is told"),
        }
    }
}

/// Whether nextest is asked for more than one test at a time.
fn asks_for_several(arguments: &[String]) -> bool {
    let mut arguments = arguments.iter().map(String::as_str).take_while(|argument| *argument != "--");
    while let Some(argument) = arguments.next() {
        let number = match argument {
            "-j" | "--test-threads" | "--jobs" => arguments.next(),
            _ => ["--test-threads=", "--jobs=", "-j"].iter().find_map(|name| argument.strip_prefix(name)),
        };
        if number.is_some_and(|number| number.trim_start_matches('=') != "1") {
            return true;
        }
    }
    false
}

/// Start a service and end it, and say by the exit code whether it listens at every address.
#[derive(clap::Args)]
pub(crate) struct StartOnce {
    #[command(flatten)]
    wanted: Wanted,
}

impl StartOnce {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        block_on(async {
            let mut end = EndRequests::listen()?;
            let options = StartOptions { awaits_consumers: false, ..asked_by("test --service") };
            let Some(environment) = start(&self.wanted, options, &mut end).await? else {
                return Ok(ExitCode::from(130));
            };
            let directory = environment.plan().site.directory.clone();
            let heard = elsewhere::is_heard_everywhere(&environment.plan().site.environment);
            environment.release().await?;
            gone(&directory).await?;
            Ok(ExitCode::from(if heard? { HEARD_EVERYWHERE } else { 0 }))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_one_at_a_time_is_noticed_in_every_form() {
        let several = |text: &str| asks_for_several(&text.split(' ').map(str::to_owned).collect::<Vec<_>>());
        for one in ["-E test(paid)", "-j 1", "-j1", "-j=1", "--test-threads=1 -E test(paid)", "-E test(paid) -- -j 4"] {
            assert!(!several(one), "{one}");
        }
        for four in ["-j 4", "-j4", "-E test(paid) --test-threads 4", "--jobs=4", "-j num-cpus"] {
            assert!(several(four), "{four}");
        }
    }
}
