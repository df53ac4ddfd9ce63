//! The command line of Greenroom; `cargo xtask` hands over to it.
//!
//! Deliberately absent: mechanism. Every command is a client of the library.

mod cli;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use greenroom::supervisor::state::{House, Workspace};
use greenroom::supervisor::{serve, watch};

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    version,
    about = "Real, isolated environments for integration tests"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Environments by hand: start, look at, end.
    #[command(subcommand)]
    TestEnv(cli::TestEnv),
    /// Measurements, printed as tables.
    #[command(subcommand)]
    Bench(cli::Bench),
    /// The images that containers are made from.
    #[command(subcommand)]
    Images(cli::Images),
    /// Run the default system's stories against another implementation of it (`cargo xtask test --service`).
    #[command(hide = true)]
    Judge(cli::Judge),
    /// Take the place of a service that runs elsewhere (started as a part of its environment).
    #[command(hide = true)]
    StandIn(cli::StandIn),
    /// Start a service once (started by `judge`).
    #[command(hide = true)]
    StartOnce(cli::StartOnce),
    /// Run the supervisor in a directory (started by clients).
    #[command(hide = true)]
    Supervise {
        /// Its directory.
        house: PathBuf,
    },
    /// Sweep a supervisor's directory once standard input closes (started by the supervisor).
    #[command(hide = true)]
    Watch {
        /// Its directory.
        house: PathBuf,
        /// Its identity.
        identity: String,
    },
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::TestEnv(command) => cli::test_env(command),
        Command::Bench(command) => cli::bench(command),
        Command::Images(images) => images.run(),
        Command::Judge(judge) => judge.run(),
        Command::StandIn(stand_in) => stand_in.run(),
        // On the main thread: whatever it spawns ends with the thread that spawned it.
        Command::Supervise { house } => supervise(house).map(|()| ExitCode::SUCCESS),
        Command::StartOnce(start_once) => start_once.run(),
        Command::Watch { house, identity } => {
            watch::watch(&House::at(house), &identity);
            Ok(ExitCode::SUCCESS)
        }
    };
    outcome.unwrap_or_else(|error| {
        cli::say(&format!("error: {}", cli::chain(&error)));
        ExitCode::FAILURE
    })
}

fn supervise(house: PathBuf) -> anyhow::Result<()> {
    serve::serve(&Workspace::here()?, House::at(house))?;
    Ok(())
}
