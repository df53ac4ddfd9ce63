//! `doctor`: what is missing on this machine, and how to get it.

use std::process::ExitCode;

pub(super) fn run() -> anyhow::Result<ExitCode> {
    anyhow::bail!("not built yet")
}
