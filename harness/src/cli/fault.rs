//! `fault`: does to a running environment what a scenario can do to its own.

use std::process::ExitCode;
use std::time::Duration;

use bytesize::ByteSize;
use clap::Subcommand;
use greenroom::link::{Change, EVERYONE, Fault as LinkFault, Flow, Route};
use greenroom::supervisor::client::Connection;
use greenroom::supervisor::protocol::{Action, PartSignal, Summary};

use super::inspect::{choose, running};
use super::{block_on, say};

/// Break something in a running environment, or heal it.
#[derive(clap::Args)]
#[command(after_help = "\
Examples, where PROGRAM is a part of the environment (links stand there after `up --links clients`):
  cargo xtask test-env fault kill postgres
  cargo xtask test-env fault cut PROGRAM postgres
  cargo xtask test-env fault delay everyone kafka-1 200ms --only answers
  cargo xtask test-env fault throttle PROGRAM kafka-1 64KiB
  cargo xtask test-env fault heal PROGRAM postgres
  cargo xtask test-env fault ask PROGRAM delay 3s         (where the description has such a fault)")]
pub(crate) struct Fault {
    #[command(subcommand)]
    what: What,
    /// The environment; may be left out where there is one only.
    #[arg(long, value_name = "ID", global = true)]
    environment: Option<String>,
}

#[derive(Clone, Subcommand)]
enum What {
    /// End a part at once, without warning.
    Kill(Part),
    /// Ask a part to end in good order.
    Stop(Part),
    /// Let a part stand still.
    Pause(Part),
    /// Let a paused part go on.
    Resume(Part),
    /// Start a part again; one that runs is killed first.
    Restart(Part),
    /// Reset a client's connections to a part, and every new one.
    Cut(Way),
    /// Let nothing through from a client to a part, and tell nobody.
    Blackhole(DirectedWay),
    /// Let everything between a client and a part arrive later, in each direction.
    Delay {
        #[command(flatten)]
        way: DirectedWay,
        /// By how much, such as `200ms`.
        by: humantime::Duration,
    },
    /// Let only so many bytes through between a client and a part, on each connection.
    Throttle {
        #[command(flatten)]
        way: DirectedWay,
        /// In a second, such as `64KiB`.
        to: ByteSize,
    },
    /// Take all faults between a client and a part back.
    Heal(Way),
    /// Have a program do something wrong that only it can: a fault that the system's description names.
    ///
    /// It lasts until the program is asked otherwise, or starts again.
    Ask {
        /// A program of the system.
        program: String,
        /// The fault; where there is none of this name, the answer lists them.
        fault: String,
        /// The value that it takes, such as `3s`, if it takes one.
        #[arg(allow_hyphen_values = true)]
        value: Option<String>,
    },
}

#[derive(Clone, clap::Args)]
struct Part {
    /// The part, such as `kafka-2` or `postgres`.
    part: String,
}

#[derive(Clone, clap::Args)]
struct Way {
    /// The client: a part, `outside` for whatever is no part, or `everyone`.
    client: String,
    /// The part; a broker is `kafka-1`, `kafka-2` or `kafka-3`.
    part: String,
}

#[derive(Clone, clap::Args)]
struct DirectedWay {
    #[command(flatten)]
    way: Way,
    /// Only this direction; both where left out.
    #[arg(long, value_name = "DIRECTION")]
    only: Option<Direction>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Direction {
    /// What the client sends.
    Requests,
    /// What the part answers.
    Answers,
}

impl Fault {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        block_on(async {
            let (mut connection, summary): (Connection, Summary) =
                choose(running().await?, self.environment.as_deref())?;
            let (action, told) = self.what.action();
            connection.act(Some(summary.environment.clone()), action).await?;
            say(&format!("{}: {told}", summary.environment));
            Ok(ExitCode::SUCCESS)
        })
    }
}

impl What {
    /// What the supervisor is asked, and what a person is told when it is done.
    fn action(self) -> (Action, String) {
        match self {
            Self::Kill(part) => part.signal(PartSignal::Kill, "is killed"),
            Self::Stop(part) => part.signal(PartSignal::Stop, "is asked to end"),
            Self::Pause(part) => part.signal(PartSignal::Pause, "stands still; `resume` lets it go on"),
            Self::Resume(part) => part.signal(PartSignal::Resume, "goes on"),
            Self::Restart(Part { part }) => {
                let told = format!("{part} is ready again");
                (Action::Restart { part }, told)
            }
            Self::Cut(way) => way.broken(LinkFault::Cut, Flow::Both),
            Self::Blackhole(directed) => directed.broken(LinkFault::Blackhole),
            Self::Delay { way, by } => {
                let ms = u64::try_from(Duration::from(by).as_millis()).unwrap_or(u64::MAX);
                way.broken(LinkFault::Delay { ms })
            }
            Self::Throttle { way, to } => way.broken(LinkFault::Throttle { bytes_per_s: to.as_u64() }),
            Self::Heal(way) => {
                let told = format!("the way from {} to {} is whole again", way.client, way.part);
                (Action::Link { routes: vec![way.route()], change: Change::Heal }, told)
            }
            Self::Ask { program: part, fault, value } => {
                let with = value.as_ref().map_or_else(String::new, |value| format!(" {value}"));
                let told =
                    format!("{part} does as it was asked: {fault}{with}; until it is asked otherwise or starts again");
                (Action::Ask { part, fault, value }, told)
            }
        }
    }
}

impl Part {
    fn signal(self, signal: PartSignal, told: &str) -> (Action, String) {
        let told = format!("{} {told}", self.part);
        (Action::Signal { part: self.part, signal }, told)
    }
}

impl Way {
    fn route(self) -> Route {
        Route { from: (self.client != EVERYONE).then_some(self.client), to: self.part }
    }

    fn broken(self, fault: LinkFault, flow: Flow) -> (Action, String) {
        let Self { client, part } = &self;
        let direction = match flow {
            Flow::Both => "in both directions",
            Flow::Requests => "for what the client sends",
            Flow::Answers => "for the answers",
        };
        let how = match fault {
            LinkFault::Cut => "is cut".to_owned(),
            LinkFault::Blackhole => format!("lets nothing through {direction}"),
            LinkFault::Delay { ms } => format!("takes {ms} ms longer {direction}"),
            LinkFault::Throttle { bytes_per_s } => {
                format!("carries {bytes_per_s} bytes a second {direction} on each connection")
            }
        };
        let told = format!("the way from {client} to {part} {how}; `fault heal {client} {part}` takes it back");
        (Action::Link { routes: vec![self.clone().route()], change: Change::Break(fault, flow) }, told)
    }
}

impl DirectedWay {
    fn broken(self, fault: LinkFault) -> (Action, String) {
        let flow = match self.only {
            None => Flow::Both,
            Some(Direction::Requests) => Flow::Requests,
            Some(Direction::Answers) => Flow::Answers,
        };
        self.way.broken(fault, flow)
    }
}
