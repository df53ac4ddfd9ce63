//! The commands. One file each; what they share is here.

mod bench;
mod doctor;
mod fault;
mod gc;
mod images;
mod inspect;
mod judge;
mod stand_in;
mod start;
mod wanted;

use std::future::Future;
use std::process::ExitCode;

use clap::Subcommand;
use greenroom::environment::chosen_runtime;
use greenroom::plan::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

pub(crate) use bench::Bench;
pub(crate) use images::Images;
pub(crate) use judge::{Judge, StartOnce};
pub(crate) use stand_in::StandIn;

/// Environments by hand.
#[derive(Subcommand)]
pub(crate) enum TestEnv {
    /// Start an environment and keep it until Ctrl-C.
    Up(start::Up),
    /// Start an environment, run a command in it, take it away.
    Run(start::Run),
    /// Show the environments of this workspace.
    Status(inspect::Status),
    /// Print the log of a part.
    Logs(inspect::Logs),
    /// End an environment.
    Down(inspect::Down),
    /// Break something in a running environment, or heal it.
    Fault(fault::Fault),
    /// Say what is missing on this machine and how to get it.
    Doctor {
        /// Look at what environments of this runtime need, instead of what GREENROOM_RUNTIME says.
        #[arg(long)]
        runtime: Option<Runtime>,
    },
    /// Remove kept failures and cached artifacts that nobody has used for two weeks (images: `docker image prune`).
    Gc(gc::Gc),
    /// Print everything that would run, without starting anything.
    Plan(start::PlanCommand),
}

/// Runs a `test-env` command.
pub(crate) fn test_env(command: TestEnv) -> anyhow::Result<ExitCode> {
    match command {
        TestEnv::Up(up) => up.run(),
        TestEnv::Run(run) => run.run(),
        TestEnv::Status(status) => status.run(),
        TestEnv::Logs(logs) => logs.run(),
        TestEnv::Down(down) => down.run(),
        TestEnv::Fault(fault) => fault.run(),
        TestEnv::Doctor { runtime } => doctor::run(runtime.map_or_else(chosen_runtime, Ok)?),
        TestEnv::Gc(gc) => gc.run(),
        TestEnv::Plan(plan) => plan.run(),
    }
}

/// Runs a benchmark.
pub(crate) fn bench(command: Bench) -> anyhow::Result<ExitCode> {
    bench::run(command)
}

/// Prints a line for a person, apart from what the command answers.
pub(crate) fn say(line: &str) {
    use std::io::Write;
    // Whoever has stopped reading is no failure.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Prints what the command answers.
pub(crate) fn answer(text: &str) {
    use std::io::Write;
    // A reader that has seen enough (`| head`) is no failure.
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// An error and its causes, each once.
pub(crate) fn chain(error: &anyhow::Error) -> String {
    greenroom::report::chain(error.as_ref())
}

/// Runs on the calling thread, so that what is spawned ends with the process and not with a worker.
fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(future);
    // A preparation under way ends with this process, its programs too; nobody waits for it.
    runtime.shutdown_background();
    outcome
}

/// Hears a person or a service manager who asks the command to end. Made once and kept as long as the command runs, so
/// that no request falls between two listeners.
struct EndRequests {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl EndRequests {
    fn listen() -> anyhow::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Returns at the next request.
    async fn next(&mut self) {
        self.request().await;
    }

    /// Returns at the next request of which a command that we run has not heard: a terminal interrupts all that runs in
    /// its foreground.
    async fn next_of_ours(&mut self) {
        while self.request().await == SignalKind::interrupt() && is_in_the_foreground() {}
    }

    async fn request(&mut self) -> SignalKind {
        tokio::select! {
            _ = self.interrupt.recv() => SignalKind::interrupt(),
            _ = self.terminate.recv() => SignalKind::terminate(),
            _ = self.hangup.recv() => SignalKind::hangup(),
        }
    }
}

/// Whether a terminal counts this process among those that it interrupts.
fn is_in_the_foreground() -> bool {
    let terminal = std::fs::File::open("/dev/tty");
    terminal.is_ok_and(|terminal| nix::unistd::tcgetpgrp(terminal) == Ok(nix::unistd::getpgrp()))
}
