//! `up`, `run` and `plan`: one road for a person and for a test.

use std::io::{BufRead, BufReader, Write as _};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use greenroom::artifacts::{self, PrepareOptions, ProgressState};
use greenroom::binaries;
use greenroom::docker::{self, pinned};
use greenroom::env_file;
use greenroom::environment::{Environment, StartOptions};
use greenroom::parent_death::end_with_parent;
use greenroom::plan::{Network, Plan, Runtime, Site};
use greenroom::runtime::{self, ENVIRONMENT_VARIABLE, PartState};
use greenroom::spec::FailpointsSpec;
use greenroom::supervisor::client::News;
use greenroom::supervisor::protocol::{Event, Summary};
use greenroom::supervisor::state::Workspace;
use greenroom::toolchain::Toolchain;

use super::wanted::Wanted;
use super::{EndRequests, answer, block_on, say};

/// How long the command waits for an environment to be gone, once it was given back.
const GONE_DEADLINE: Duration = Duration::from_secs(60);
/// How long a command may take to end once it was asked to.
const END_LIMIT: Duration = Duration::from_secs(10);
/// How the holder of a detached environment says that it is ready; its name follows.
const READY: &str = "ready ";
/// How a file of an environment's variables begins.
const ENV_FILE_HEAD: &str = "# An environment's variables, written by Greenroom and replaced by the next one.";
/// What a shell answers for a command that does not exist.
const NO_COMMAND: u8 = 127;
/// What a shell answers for a file that is no program.
const NOT_EXECUTABLE: u8 = 126;

/// Start an environment and keep it until Ctrl-C.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask test-env up SYSTEM
  cargo xtask test-env up --only infrastructure --detach --env-file .env")]
pub(crate) struct Up {
    #[command(flatten)]
    wanted: Wanted,
    /// Leave it running in the background and print its id; `down` ends it. So does a logout that takes your files in
    /// memory away (systemd's `RemoveIPC`): let GREENROOM_STATE name a directory on a disk then.
    #[arg(long)]
    detach: bool,
    /// Write the environment's variables to this file, a line `NAME=value` each.
    #[arg(long, value_name = "FILE")]
    env_file: Option<PathBuf>,
    /// Hold the lease of a detached environment (started by `up --detach`).
    #[arg(long, hide = true)]
    hold: bool,
}

/// Start an environment, run a command in it, take it away.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask test-env run SYSTEM -- npm test
  cargo xtask test-env run SYSTEM -- sh -c 'echo $DATABASE_URL'")]
pub(crate) struct Run {
    #[command(flatten)]
    wanted: Wanted,
    /// The command and its arguments, after `--`.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Print everything that would run.
#[derive(clap::Args)]
pub(crate) struct PlanCommand {
    #[command(flatten)]
    wanted: Wanted,
}

impl Up {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        if self.detach && !self.hold {
            return self.detach();
        }
        if self.hold {
            // The shell that started it may go away.
            let _ = nix::unistd::setsid();
        }
        let parent = self.env_file.as_deref().and_then(Path::parent).filter(|parent| !parent.as_os_str().is_empty());
        if let Some(missing) = parent.filter(|parent| !parent.is_dir()) {
            bail!("--env-file: there is no directory {}; nothing was started", missing.display());
        }
        if let Some(path) = self.env_file.as_deref().filter(|path| !may_be_replaced(path)) {
            bail!(
                "--env-file: {} is not one of ours, and nothing of yours is overwritten; nothing was started",
                path.display()
            );
        }
        block_on(async {
            let mut end = EndRequests::listen()?;
            let Some(mut environment) = start(&self.wanted, asked_by("test-env up"), &mut end).await? else {
                return Ok(ExitCode::from(130));
            };
            if let Some(path) = &self.env_file {
                write_env_file(path, &environment)?;
            }
            let summary = environment.summary().await?;
            say(&table(&summary));
            let seconds = environment.took().as_secs_f64();
            if self.hold {
                // From here on it outlives the command that started it.
                nix::sys::prctl::set_pdeathsig(None).context("part from the command that started this")?;
                let environment = &summary.environment;
                writeln!(std::io::stdout(), "{READY}{environment}").context("tell that the environment is ready")?;
                release_output()?;
            } else {
                say(&format!("ready in {seconds:.2} s; Ctrl-C ends it"));
            }
            let directory = environment.plan().site.directory.clone();
            let told = tokio::select! {
                () = end.next() => Ok(()),
                told = tell_news(&mut environment) => told,
            };
            // Given back or ended already: in both cases there is nothing more to say.
            let _ = environment.release().await;
            gone(&directory).await?;
            told.map(|()| ExitCode::SUCCESS)
        })
    }

    /// Starts a holder in the background and returns when it says that the environment is ready.
    fn detach(&self) -> anyhow::Result<ExitCode> {
        let mut holder = std::process::Command::new(std::env::current_exe()?);
        holder.args(std::env::args_os().skip(1)).arg("--hold");
        // Until it is ready it ends with this command, so that Ctrl-C ends both.
        end_with_parent(&mut holder);
        let mut holder = holder.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("start the holder")?;
        let output = holder.stdout.take().context("read from the holder")?;
        let mut lines = BufReader::new(output).lines().map_while(Result::ok);
        if let Some(environment) = lines.find_map(|line| line.strip_prefix(READY).map(str::to_owned)) {
            say(&format!("ready and detached; `cargo xtask test-env down {environment}` ends it"));
            answer(&environment);
            return Ok(ExitCode::SUCCESS);
        }
        holder.wait()?;
        Ok(ExitCode::FAILURE)
    }
}

impl Run {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let program = match find_program(&self.command[0]) {
            Ok(program) => program,
            Err((code, why)) => {
                say(&format!("error: {why}; nothing was started"));
                return Ok(ExitCode::from(code));
            }
        };
        block_on(async {
            let mut end = EndRequests::listen()?;
            let options = asked_by(&format!("test-env run {}", self.command.join(" ")));
            let Some(environment) = start(&self.wanted, options, &mut end).await? else {
                return Ok(ExitCode::from(130));
            };
            let directory = environment.plan().site.directory.clone();
            let mut command = std::process::Command::new(program);
            command.args(&self.command[1..]).envs(environment.variables());
            // Whatever the command starts and leaves behind is taken away with the environment.
            command.env(ENVIRONMENT_VARIABLE, &environment.plan().site.environment);
            end_with_parent(&mut command);
            let outcome = follow(tokio::process::Command::from(command), &mut end).await;
            // The command's exit code is the answer, whatever becomes of the environment.
            if let Err(error) = environment.release().await {
                say(&format!("the environment ended before the command: {}", greenroom::report::chain(&error)));
            }
            if let Err(error) = gone(&directory).await {
                say(&super::chain(&error));
            }
            outcome
        })
    }
}

impl PlanCommand {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let workspace = Workspace::here()?;
        let spec = self.wanted.spec(&workspace)?;
        let runtime = self.wanted.runtime()?;
        let mut toolchain = prepare(self.wanted.offline, runtime)?;
        if runtime == Runtime::Docker {
            block_on(put_into_containers(&mut toolchain, &workspace))?;
        }
        let site = Site {
            environment: format!("{}-0-0", spec.name),
            supervisor: "none".to_owned(),
            address: Ipv4Addr::new(127, 16, 0, 1),
            backstage: Ipv4Addr::new(127, 128, 0, 1),
            network: Network::default(),
            directory: workspace.directory.join("plan"),
            binaries: binaries::built()?,
            runtime,
        };
        answer(&Plan::new(&spec, self.wanted.scope(), &toolchain, site)?.to_string());
        Ok(ExitCode::SUCCESS)
    }
}

/// How this command asks for an environment.
pub(super) fn asked_by(command: &str) -> StartOptions {
    StartOptions { holder: format!("{command}, process {}", std::process::id()), ..StartOptions::default() }
}

/// Starts what is wanted and tells a person of every step; `None` when asked to end meanwhile.
pub(super) async fn start(
    wanted: &Wanted,
    options: StartOptions,
    end: &mut EndRequests,
) -> anyhow::Result<Option<Environment>> {
    let workspace = Workspace::here()?;
    let spec = wanted.spec(&workspace)?;
    let (offline, runtime, variant) = (wanted.offline, wanted.runtime()?, wanted.variant(&spec));
    let options = StartOptions { scope: wanted.scope(), runtime: Some(runtime), offline, ..options };
    let mut directory = None;
    let starting = async {
        let preparing = move || {
            if let Some(FailpointsSpec { feature, binary, .. }) = variant {
                say(&format!("building {binary} …"));
                binaries::build_variant(&feature, &binary, offline)?;
            }
            prepare(offline, runtime)
        };
        let mut toolchain = tokio::task::spawn_blocking(preparing).await??;
        if runtime == Runtime::Docker {
            put_into_containers(&mut toolchain, &workspace).await?;
        }
        let step = |event: &Event| match event {
            Event::Planned(plan) => {
                directory = Some(plan.site.directory.clone());
                say(&format!("starting {} at {}", plan.site.environment, plan.site.address));
            }
            Event::Ready { part, took_ms } => say(&format!("  {part} ready after {took_ms} ms")),
            Event::Started { .. }
            | Event::PartEnded { .. }
            | Event::Ended
            | Event::Lent { .. }
            | Event::Done
            | Event::Kept { .. }
            | Event::Failed(_)
            | Event::Status(_) => {}
        };
        anyhow::Ok(Environment::start(spec, options, step).await?)
    };
    let started = tokio::select! {
        started = starting => Some(started?),
        () = end.next() => None,
    };
    if let (None, Some(directory)) = (&started, directory) {
        say("asked to end; taking away what was started");
        gone(&directory).await?;
    }
    Ok(started)
}

/// Prepares the artifacts and tells a person of every step.
pub(super) fn prepare(offline: bool, runtime: Runtime) -> anyhow::Result<Toolchain> {
    Ok(artifacts::prepare(&PrepareOptions { offline, runtime }, &mut |progress| say(&told(&progress)))?)
}

/// Prepares what only containers need, and tells a person of every step.
async fn put_into_containers(toolchain: &mut Toolchain, workspace: &Workspace) -> anyhow::Result<()> {
    toolchain.images = pinned::chosen(&workspace.root)?;
    let tell = |progress| say(&told(&progress));
    toolchain.kafka.start = docker::brokers::begin(&docker::host(), toolchain, tell).await?;
    Ok(())
}

fn told(progress: &artifacts::Progress) -> String {
    let step = &progress.step;
    match &progress.state {
        ProgressState::Waiting => format!("{step}: another process is at it; waiting"),
        ProgressState::Damaged(what) => format!("{step}: {what}; making it anew"),
        ProgressState::Refused(why) => format!("{step}: there is none, which only makes starts slower: {why}"),
        ProgressState::Started => format!("{step} …"),
        ProgressState::Done { elapsed } => format!("{step}: done after {:.1} s", elapsed.as_secs_f64()),
    }
}

/// Tells a person of parts that end, until somebody else ends the environment.
async fn tell_news(environment: &mut Environment) -> anyhow::Result<()> {
    loop {
        match environment.news().await? {
            News::PartEnded { part, status } => {
                say(&format!("{part} has ended ({status}); `cargo xtask test-env logs {part}` shows what it said"));
            }
            News::Ended => {
                say("the environment was ended by another command");
                return Ok(());
            }
        }
    }
}

/// Waits until nothing of an environment is left.
pub(super) async fn gone(directory: &Path) -> anyhow::Result<()> {
    let deadline = Instant::now() + GONE_DEADLINE;
    let waited = runtime::until(deadline, Duration::from_millis(5), async || {
        if directory.exists() { Err(format!("{} is still there", directory.display())) } else { Ok(()) }
    });
    waited.await.context("wait until the environment is gone")
}

/// Runs a command to its end and passes on its exit code, and what asks us to end: SIGTERM first, and SIGKILL when we
/// are asked again or it has not ended after [`END_LIMIT`]. An interrupt from the terminal is the command's own affair.
async fn follow(mut command: tokio::process::Command, end: &mut EndRequests) -> anyhow::Result<ExitCode> {
    let mut child = command.spawn().context("start the command")?;
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
    let status = tokio::select! {
        status = child.wait() => status?,
        () = end.next_of_ours() => {
            if let Some(pid) = pid {
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM);
            }
            let patience = tokio::time::timeout(END_LIMIT, end.next());
            tokio::select! {
                status = child.wait() => status?,
                _ = patience => {
                    say("the command does not end when asked; killing it");
                    child.kill().await?;
                    child.wait().await?
                }
            }
        }
    };
    use std::os::unix::process::ExitStatusExt;
    // As a shell does: 128 and the number of the signal.
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}

/// Finds a command as a shell does; else the shell's exit code and what is wrong.
fn find_program(name: &str) -> Result<PathBuf, (u8, String)> {
    let candidates: Vec<PathBuf> = if name.contains('/') {
        vec![PathBuf::from(name)]
    } else {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).map(|directory| directory.join(name)).collect()
    };
    if let Some(program) = candidates.iter().find(|path| binaries::is_program(path)) {
        return Ok(program.clone());
    }
    match candidates.iter().find(|path| path.is_file()) {
        Some(path) => Err((NOT_EXECUTABLE, format!("{} may not be executed", path.display()))),
        None => Err((NO_COMMAND, format!("there is no command {name}"))),
    }
}

/// Whether a file is not there yet, or was written here.
fn may_be_replaced(path: &Path) -> bool {
    match std::fs::read_to_string(path) {
        Ok(text) => text.starts_with(ENV_FILE_HEAD),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

fn write_env_file(path: &Path, environment: &Environment) -> anyhow::Result<()> {
    let text = env_file::text(ENV_FILE_HEAD, environment.variables())?;
    std::fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

/// The parts of an environment as a table.
pub(super) fn table(summary: &Summary) -> String {
    let mut table = Table::new();
    table.load_preset(NOTHING).set_header(["PART", "WHAT", "ADDRESS", "STATE", "LOG"]);
    for part in &summary.parts {
        let addresses: Vec<_> = part.addresses.iter().map(ToString::to_string).collect();
        let state = match (&part.state, part.ready_ms) {
            (PartState::Ready, Some(ms)) => format!("ready after {ms} ms"),
            (state, _) => state.to_string(),
        };
        let log = part.log.display().to_string();
        table.add_row([part.name.clone(), part.version.clone(), addresses.join("\n"), state, log]);
    }
    table.to_string()
}

/// Lets go of the terminal that started a detached environment.
fn release_output() -> anyhow::Result<()> {
    std::io::stdout().flush()?;
    let nothing = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    nix::unistd::dup2_stdout(&nothing)?;
    nix::unistd::dup2_stderr(&nothing)?;
    Ok(())
}
