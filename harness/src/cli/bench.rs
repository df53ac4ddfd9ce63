//! `bench`.
use std::process::ExitCode;
/// Measurements.
#[derive(clap::Subcommand)]
pub(crate) enum Bench {
    /// Start.
    Start,
}
pub(super) fn run(_: Bench) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not built yet")
}
