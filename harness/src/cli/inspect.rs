//! `status`, `logs` and `down`: environments that run, whoever holds them. Choosing one of them is here too.

use std::io::{Read, Write};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use greenroom::supervisor::client::{ClientError, Connection};
use greenroom::supervisor::protocol::Summary;
use greenroom::supervisor::state::Workspace;

use super::{EndRequests, answer, block_on, say, start};

/// How long a supervisor may take to tell of its environments.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

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
        let summaries: Vec<_> = block_on(running())?.into_iter().map(|(_, summary)| summary).collect();
        if self.json {
            answer(&serde_json::to_string_pretty(&summaries)?);
        } else if summaries.is_empty() {
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
        Ok(ExitCode::SUCCESS)
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
            let mut environments = running().await?;
            if environments.is_empty() && self.environment.is_none() {
                say("no environment runs");
                return Ok(ExitCode::SUCCESS);
            }
            if !self.all {
                environments = vec![choose(environments, self.environment.as_deref())?];
            }
            for (mut connection, summary) in environments {
                // It may have ended by itself since it was listed: gone is gone.
                let ended = connection.end(Some(summary.environment.clone())).await;
                match ended {
                    Ok(()) | Err(ClientError::Refused(_) | ClientError::Lost { .. }) => {
                        say(&format!("{} is gone", summary.environment));
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            Ok(ExitCode::SUCCESS)
        })
    }
}

/// All environments of this workspace, each with a connection to its supervisor.
pub(super) async fn running() -> anyhow::Result<Vec<(Connection, Summary)>> {
    let mut environments = Vec::new();
    for house in Workspace::here()?.houses()? {
        // A dead supervisor's directory answers nobody; the next start sweeps it.
        let Ok(mut connection) = Connection::to(&house).await else { continue };
        // One that is just ending answers nobody either, and one that hangs shall not stop the command.
        let told = tokio::time::timeout(ANSWER_LIMIT, connection.status()).await;
        if told.is_err() {
            say(&format!(
                "the supervisor in {} does not answer; its log is {}",
                house.path().display(),
                house.log().display()
            ));
        }
        for summary in told.ok().and_then(Result::ok).unwrap_or_default() {
            if let Ok(own) = Connection::to(&house).await {
                environments.push((own, summary));
            }
        }
    }
    Ok(environments)
}

pub(super) fn choose(
    environments: Vec<(Connection, Summary)>,
    wanted: Option<&str>,
) -> anyhow::Result<(Connection, Summary)> {
    let known: Vec<_> = environments.iter().map(|(_, summary)| summary.environment.clone()).collect();
    let mut fitting = environments.into_iter().filter(|(_, summary)| wanted.is_none_or(|id| id == summary.environment));
    match (fitting.next(), fitting.next()) {
        (Some(one), None) => Ok(one),
        (Some(_), Some(_)) => {
            bail!("several environments run; name one of {} (`--environment ID`, or `down ID`)", known.join(", "))
        }
        (None, _) if known.is_empty() => bail!("no environment runs; `cargo xtask test-env up` starts one"),
        (None, _) => bail!("there is no environment {}; these run: {}", wanted.unwrap_or_default(), known.join(", ")),
    }
}
