//! `status`, `logs` and `down`: environments that run, whoever holds them. Choosing one of them is here too.

use std::io::{Read, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, bail};
use greenroom::supervisor::client::{ClientError, Connection};
use greenroom::supervisor::protocol::Summary;
use greenroom::supervisor::state::{House, Workspace};
use greenroom::{report, runtime};

use super::{EndRequests, answer, block_on, chain, say, start};

/// How long a supervisor may take to tell of its environments.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// Pause between two looks at whether it has died.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Show the environments of this workspace.
#[derive(clap::Args)]
pub(crate) struct Status {
    /// Answer as JSON.
    #[arg(long)]
    json: bool,
}

/// Print the log of a part.
#[derive(clap::Args)]
pub(crate) struct Logs {
    /// The part, such as `kafka` or `postgres`.
    part: String,
    /// Go on printing what comes.
    #[arg(short, long)]
    follow: bool,
    /// The environment; may be left out where there is one only.
    #[arg(long, value_name = "ID")]
    environment: Option<String>,
}

/// End an environment.
#[derive(clap::Args)]
pub(crate) struct Down {
    /// The environment; may be left out where there is one only.
    environment: Option<String>,
    /// End all environments of this workspace.
    #[arg(long, conflicts_with = "environment")]
    all: bool,
}

impl Status {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let Running { environments, all_heard } = block_on(running())?;
        let summaries: Vec<_> = environments.into_iter().map(|(_, summary)| summary).collect();
        if self.json {
            answer(&serde_json::to_string_pretty(&summaries)?);
        } else if summaries.is_empty() && all_heard {
            say("no environment runs");
        }
        for summary in summaries.iter().filter(|_| !self.json) {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
            let age = humantime::format_duration(Duration::from_secs(now.saturating_sub(summary.since_s)));
            let Summary { environment, state, holder, .. } = summary;
            answer(&format!("{environment}  {state}, since {age}, held by {holder}"));
            answer(&start::table(summary));
            summary.faults.iter().for_each(|fault| answer(&format!(" fault, {fault}")));
        }
        Ok(if all_heard { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

impl Logs {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        block_on(async {
            let (_, summary) = choose(running().await?, self.environment.as_deref())?;
            let names: Vec<_> = summary.parts.iter().map(|part| part.name.as_str()).collect();
            let part = summary.parts.iter().find(|part| part.name == self.part);
            let part = part.with_context(|| format!("no part {}; the parts are {}", self.part, names.join(", ")))?;
            let open = || std::fs::File::open(&part.log).with_context(|| format!("read {}", part.log.display()));
            let mut log = open()?;
            let mut end = EndRequests::listen()?;
            let mut looks = tokio::time::interval(Duration::from_millis(100));
            loop {
                let mut bytes = Vec::new();
                log.read_to_end(&mut bytes)?;
                if std::io::stdout().write_all(&bytes).is_err() || !self.follow || !part.log.exists() {
                    return Ok(ExitCode::SUCCESS);
                }
                std::io::stdout().flush()?;
                tokio::select! {
                    _ = looks.tick() => {}
                    () = end.next() => return Ok(ExitCode::SUCCESS),
                }
            }
        })
    }
}

impl Down {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        block_on(async {
            if self.all {
                return end_all().await;
            }
            let running = running().await?;
            if running.environments.is_empty() && running.all_heard && self.environment.is_none() {
                say("no environment runs");
                return Ok(ExitCode::SUCCESS);
            }
            let (mut connection, summary) = choose(running, self.environment.as_deref())?;
            let ended = connection.end(Some(summary.environment.clone())).await;
            gone(ended, connection.house()).await?;
            say(&format!("{} is gone", summary.environment));
            Ok(ExitCode::SUCCESS)
        })
    }
}

/// Ends all environments of this workspace, also those of a build that tells of them otherwise.
async fn end_all() -> anyhow::Result<ExitCode> {
    let (mut any, mut failed) = (false, false);
    for house in Workspace::here()?.houses()? {
        let summaries = match told_by(&house).await {
            Told::Nothing => continue,
            Told::Of(summaries) => summaries.into_iter().map(|summary| summary.environment).collect(),
            Told::NotUnderstood(_) => vec![format!("whatever ran of the supervisor in {}", house.path().display())],
            Told::Silence => {
                say(&silence(&house));
                failed = true;
                continue;
            }
        };
        any |= !summaries.is_empty();
        let Ok(mut connection) = Connection::to(&house).await else { continue };
        let ended = connection.end(None).await;
        let ended = match ended {
            // All that there are can always be ended: this one has not understood.
            Err(refused @ ClientError::Refused(_)) => Err(refused.into()),
            ended => gone(ended, &house).await,
        };
        match ended {
            Ok(()) => summaries.iter().for_each(|what| say(&format!("{what} is gone"))),
            // Those of others are ended all the same.
            Err(error) => {
                say(&chain(&error));
                failed = true;
            }
        }
    }
    if failed {
        return Ok(ExitCode::FAILURE);
    }
    if !any {
        say("no environment runs");
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes sure that what was to end is gone, by what the supervisor has answered.
async fn gone(ended: Result<(), ClientError>, house: &House) -> anyhow::Result<()> {
    match ended {
        // It may have ended by itself since it was listed: gone is gone.
        Ok(()) | Err(ClientError::Refused(_)) => Ok(()),
        // With the supervisor all has gone, if that is what has happened.
        Err(ClientError::Lost { .. }) => {
            let waited = runtime::until(Instant::now() + ANSWER_LIMIT, LOOK_EVERY, async || {
                let lives = || format!("the supervisor in {} still lives, and does not answer", house.path().display());
                if house.is_abandoned() { Ok(()) } else { Err(lives()) }
            });
            Ok(waited.await?)
        }
        Err(error) => Err(error.into()),
    }
}

/// What runs in this workspace.
pub(super) struct Running {
    /// All environments that were told of, each with a connection to its supervisor.
    environments: Vec<(Connection, Summary)>,
    /// Whether every supervisor was understood. What was wrong with one that was not has been said.
    all_heard: bool,
}

/// Asks every supervisor of this workspace.
pub(super) async fn running() -> anyhow::Result<Running> {
    let (mut environments, mut all_heard) = (Vec::new(), true);
    for house in Workspace::here()?.houses()? {
        match told_by(&house).await {
            Told::Nothing => {}
            Told::Of(summaries) => {
                for summary in summaries {
                    if let Ok(own) = Connection::to(&house).await {
                        environments.push((own, summary));
                    }
                }
            }
            Told::NotUnderstood(error) => {
                all_heard = false;
                say(&format!(
                    "the supervisor in {} is of another build, and what it tells is not understood; `down --all` ends \
                     its environments too: {}",
                    house.path().display(),
                    report::chain(&error)
                ));
            }
            Told::Silence => {
                all_heard = false;
                say(&silence(&house));
            }
        }
    }
    Ok(Running { environments, all_heard })
}

/// What a house tells of the environments in it.
enum Told {
    /// Nobody lives there, or is just leaving.
    Nothing,
    /// These.
    Of(Vec<Summary>),
    /// In words of another build.
    NotUnderstood(ClientError),
    /// Somebody who lives there does not answer.
    Silence,
}

async fn told_by(house: &House) -> Told {
    // A dead supervisor's directory answers nobody; the next start sweeps it.
    let Ok(mut connection) = Connection::to(house).await else { return Told::Nothing };
    // One that hangs shall not stop the command.
    match tokio::time::timeout(ANSWER_LIMIT, connection.status()).await {
        Ok(Ok(summaries)) => Told::Of(summaries),
        Ok(Err(ClientError::Lost { .. })) => Told::Nothing,
        Ok(Err(error)) => Told::NotUnderstood(error),
        Err(_) => Told::Silence,
    }
}

fn silence(house: &House) -> String {
    format!("the supervisor in {} does not answer; its log is {}", house.path().display(), house.log().display())
}

pub(super) fn choose(running: Running, wanted: Option<&str>) -> anyhow::Result<(Connection, Summary)> {
    let Running { environments, all_heard } = running;
    let known: Vec<_> = environments.iter().map(|(_, summary)| summary.environment.clone()).collect();
    let mut fitting = environments.into_iter().filter(|(_, summary)| wanted.is_none_or(|id| id == summary.environment));
    match (fitting.next(), fitting.next()) {
        (Some(one), None) => Ok(one),
        (Some(_), Some(_)) => {
            bail!("several environments run; name one of {} (`--environment ID`, or `down ID`)", known.join(", "))
        }
        (None, _) if known.is_empty() && !all_heard => bail!("what runs there is not known"),
        (None, _) if known.is_empty() => bail!("no environment runs; `cargo xtask test-env up` starts one"),
        (None, _) => bail!("there is no environment {}; these run: {}", wanted.unwrap_or_default(), known.join(", ")),
    }
}
