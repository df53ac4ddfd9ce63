//! `stand-in`: takes the place of a service that somebody starts by hand, as a part of its environment.

use std::net::{SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::process::ExitCode;

use greenroom::service::elsewhere::{Elsewhere, address};

use super::{block_on, say};

/// Hand on to a service that runs elsewhere.
#[derive(clap::Args)]
pub(crate) struct StandIn {
    /// Where the environment expects the service.
    #[arg(long)]
    place: SocketAddrV4,
    /// Where it is.
    #[arg(long, value_parser = address)]
    at: SocketAddr,
    /// The file that its variables are written to.
    #[arg(long)]
    variables: PathBuf,
}

impl StandIn {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let Self { place, at, variables } = self;
        match block_on(async { Ok(Elsewhere { at, variables }.stand_in(place, say).await?) })? {}
    }
}
