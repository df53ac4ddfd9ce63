//! Waits until a system is at rest, by a deadline, and says what it still waited for.
//!
//! At rest: no HTTP call of the scenario is in flight, every described query counts 0, no described group
//! lags, every described program says that it is idle; the same in two looks in a row between which no
//! counter moved (end offsets, committed offsets, recorded transitions). One look alone could fall between a
//! commit and the message about it.
//!
//! Brokers are asked last, and only where all else is at rest: a look at three of them with two groups is ten requests,
//! and asked at every look they were 28 % of what all clients sent in four suites.
//!
//! Absent: any quiet period. After settling, "nothing more came" is a fact and not a guess.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::lag::Lag;
use super::rows::{Rows, Seen};
use super::{Endpoints, instances};
use crate::attempts::Attempts;
use crate::report;
use crate::spec::{IdleSpec, SettleSpec};

/// Pause between two looks.
const INTERVAL: Duration = Duration::from_millis(20);
/// Longest wait for one answer.
pub(super) const ANSWER: Duration = Duration::from_secs(2);

/// Why the system cannot be said to be at rest.
#[derive(Debug, thiserror::Error)]
pub enum SettleError {
    /// The deadline passed.
    #[error("not at rest after {}: {}", humantime::format_duration(*after), Listed(waiting))]
    NotAtRest {
        /// How long it was waited for.
        after: Duration,
        /// What the last look still waited for.
        waiting: Vec<Waiting>,
    },
    /// The description asks for something that the environment does not have.
    #[error("settle: the description asks for {what}, which this environment does not have")]
    Missing {
        /// What is asked for.
        what: String,
    },
    /// The database refuses a described query.
    #[error("settle: the query for {name:?} is refused by the database")]
    Query {
        /// Name of the query in the description.
        name: String,
        /// The cause.
        source: sqlx::Error,
    },
    /// A client could not be made.
    #[error("settle: could not make a client for {what}")]
    Client {
        /// Of what.
        what: &'static str,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// One thing that is not at rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// HTTP calls of the scenario are in flight.
    InFlight(usize),
    /// A query that should count 0 counts more.
    Rows {
        /// Name of the query.
        name: String,
        /// What it counts.
        count: i64,
    },
    /// A group is behind.
    Lag {
        /// Group.
        group: String,
        /// Topic.
        topic: String,
        /// Partition.
        partition: i32,
        /// Records between the committed offset and the end.
        lag: i64,
    },
    /// A record belongs to a transaction that is neither committed nor aborted.
    OpenTransaction {
        /// Topic.
        topic: String,
        /// Partition.
        partition: i32,
    },
    /// A described topic does not exist (yet).
    NoTopic {
        /// Group that would read it.
        group: String,
        /// Topic.
        topic: String,
    },
    /// A program says that it is busy, or says something else than whether it is.
    Busy {
        /// Instance name.
        program: String,
        /// What it answered.
        answer: String,
    },
    /// Something did not answer.
    Unanswered {
        /// What, and why.
        what: String,
    },
    /// All is at rest, but counters moved since the look before.
    Moved,
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InFlight(count) => write!(f, "HTTP calls in flight: {count}"),
            Self::Rows { name, count } => write!(f, "{name}: {count}"),
            Self::Lag { group, topic, partition, lag } => write!(f, "group {group} lags {lag} on {topic}[{partition}]"),
            Self::OpenTransaction { topic, partition } => write!(f, "a transaction is open in {topic}[{partition}]"),
            Self::NoTopic { group, topic } => {
                write!(f, "group {group} reads topic {topic}, which does not exist")
            }
            Self::Busy { program, answer } => write!(f, "{program} is not idle: {answer}"),
            Self::Unanswered { what } => write!(f, "no answer from {what}"),
            Self::Moved => write!(f, "offsets or rows still move"),
        }
    }
}

struct Listed<'a>(&'a [Waiting]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, waiting) in self.0.iter().enumerate() {
            write!(f, "{}{waiting}", if index == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

/// Waits until the system is at rest; `in_flight` counts the scenario's own unanswered calls.
///
/// # Errors
/// [`SettleError::NotAtRest`] after `deadline`, or at most 2 s later, for what brokers say; the others at once, because
/// waiting would not help.
pub async fn settle(
    endpoints: &Endpoints,
    spec: &SettleSpec,
    in_flight: &(dyn Fn() -> usize + Sync),
    deadline: Duration,
) -> Result<(), SettleError> {
    let started = Instant::now();
    let eyes = Eyes::open(endpoints, spec)?;
    let mut waiting = vec![Waiting::Unanswered { what: "the first look".to_owned() }];
    let mut before: Option<Counters> = None;
    let mut brokers_were_asked = false;
    let mut looks = Attempts::new(INTERVAL, started + deadline);
    while let Some(look) = looks.make(eyes.look(in_flight)).await {
        let look = look?;
        brokers_were_asked = look.counters.is_some();
        let rested = look.counters.filter(|_| look.waiting.is_empty());
        if rested.is_some() && rested == before {
            return Ok(());
        }
        waiting = if rested.is_some() { vec![Waiting::Moved] } else { look.waiting };
        before = rested;
    }
    if !brokers_were_asked {
        waiting.extend(eyes.last_look_at_offsets().await);
    }
    Err(SettleError::NotAtRest { after: deadline, waiting })
}

/// What must not move between two looks.
#[derive(PartialEq)]
struct Counters {
    transitions: Option<i64>,
    offsets: BTreeMap<(String, i32), i64>,
}

struct Look {
    waiting: Vec<Waiting>,
    /// None where brokers were not asked.
    counters: Option<Counters>,
}

/// The connections that one settling looks through.
struct Eyes<'a> {
    rows: Option<Rows>,
    lag: Option<Mutex<Lag>>,
    http: reqwest::Client,
    idle: Vec<(&'a str, String)>,
}

impl<'a> Eyes<'a> {
    fn open(endpoints: &'a Endpoints, spec: &'a SettleSpec) -> Result<Self, SettleError> {
        let missing = |what: String| SettleError::Missing { what };
        let rows = match &endpoints.postgres_url {
            Some(url) => Some(Rows::new(url, &spec.empty)?),
            None if spec.empty.is_empty() => None,
            None => return Err(missing("rows of a database".to_owned())),
        };
        if endpoints.brokers.is_empty() && !spec.consumers.is_empty() {
            return Err(missing("consumer groups of a cluster".to_owned()));
        }
        let lag = match endpoints.brokers.as_slice() {
            [] => None,
            brokers => Some(
                Lag::new(brokers, &spec.consumers)
                    .map(Mutex::new)
                    .map_err(|source| SettleError::Client { what: "kafka", source: Box::new(source) })?,
            ),
        };
        let http = crate::http::client()
            .timeout(ANSWER)
            .build()
            .map_err(|source| SettleError::Client { what: "http", source: Box::new(source) })?;
        let mut idle = Vec::new();
        for IdleSpec { program, path } in &spec.idle {
            let found = instances(&endpoints.programs, program);
            if found.is_empty() {
                return Err(missing(format!("program {program:?}")));
            }
            idle.extend(found.into_iter().map(|(name, url)| (name, format!("{}{path}", url.trim_end_matches('/')))));
        }
        Ok(Self { rows, lag, http, idle })
    }

    async fn look(&self, in_flight: &(dyn Fn() -> usize + Sync)) -> Result<Look, SettleError> {
        let mut waiting = Vec::new();
        let calls_before = in_flight();
        let programs = async { Ok(self.look_at_programs().await) };
        let ((rows, transitions), busy) = tokio::try_join!(self.look_at_rows(), programs)?;
        waiting.extend(rows);
        waiting.extend(busy);
        let mut calls = calls_before.max(in_flight());
        let mut counters = None;
        if calls == 0 && waiting.is_empty() {
            let (behind, offsets) = self.look_at_offsets().await;
            waiting.extend(behind);
            counters = Some(Counters { transitions, offsets });
            calls = in_flight();
        }
        if calls > 0 {
            waiting.insert(0, Waiting::InFlight(calls));
        }
        Ok(Look { waiting, counters })
    }

    async fn look_at_rows(&self) -> Result<Seen, SettleError> {
        match &self.rows {
            Some(rows) => rows.look().await,
            None => Ok(Seen::default()),
        }
    }

    async fn look_at_offsets(&self) -> (Vec<Waiting>, BTreeMap<(String, i32), i64>) {
        match &self.lag {
            Some(lag) => {
                let look = lag.lock().await.look().await;
                (look.waiting, look.counters)
            }
            None => Default::default(),
        }
    }

    /// What brokers would have said to a look that did not ask them, for the error.
    async fn last_look_at_offsets(&self) -> Vec<Waiting> {
        match tokio::time::timeout(ANSWER, self.look_at_offsets()).await {
            Ok((behind, _)) => behind,
            Err(_) => {
                let after = humantime::format_duration(ANSWER);
                vec![Waiting::Unanswered { what: format!("kafka within {after}") }]
            }
        }
    }

    async fn look_at_programs(&self) -> Vec<Waiting> {
        let mut waiting = Vec::new();
        for (program, url) in &self.idle {
            let answer = match self.http.get(url).send().await {
                Ok(answer) => answer.text().await,
                Err(error) => Err(error),
            };
            match answer {
                Ok(text) => {
                    let idle = serde_json::from_str::<serde_json::Value>(&text)
                        .ok()
                        .and_then(|json| json.get("idle")?.as_bool());
                    if idle != Some(true) {
                        let answer = text.chars().take(200).collect();
                        waiting.push(Waiting::Busy { program: (*program).to_owned(), answer });
                    }
                }
                Err(error) => {
                    waiting.push(Waiting::Unanswered { what: format!("{program}: {}", report::chain(&error)) })
                }
            }
        }
        waiting
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn an_error_says_in_numbers_what_was_waited_for() {
        let waiting = vec![
            Waiting::InFlight(2),
            Waiting::Rows { name: "outbox rows waiting".into(), count: 3 },
            Waiting::Lag { group: "bank-group".into(), topic: "payout".into(), partition: 1, lag: 2 },
            Waiting::Busy { program: "bank-2".into(), answer: r#"{"idle":false}"#.into() },
        ];
        let error = SettleError::NotAtRest { after: Duration::from_secs(30), waiting };
        assert_eq!(
            error.to_string(),
            "not at rest after 30s: HTTP calls in flight: 2; outbox rows waiting: 3; \
             group bank-group lags 2 on payout[1]; bank-2 is not idle: {\"idle\":false}"
        );
    }

    #[tokio::test]
    async fn asking_for_what_an_environment_does_not_have_is_an_error_at_once() {
        let spec = SettleSpec {
            idle: vec![IdleSpec { program: "bank".into(), path: "/status".into() }],
            ..SettleSpec::default()
        };
        let error = settle(&Endpoints::default(), &spec, &|| 0, Duration::from_secs(30)).await.expect_err("no bank");
        assert_eq!(
            error.to_string(),
            "settle: the description asks for program \"bank\", which this environment does not have"
        );
    }

    #[tokio::test]
    async fn nothing_to_look_at_is_at_rest_once_calls_are_answered() {
        let spec = SettleSpec::default();
        settle(&Endpoints::default(), &spec, &|| 0, Duration::from_secs(5)).await.expect("at rest");
        let error = settle(&Endpoints::default(), &spec, &|| 1, Duration::from_millis(30)).await.expect_err("a call");
        assert_eq!(error.to_string(), "not at rest after 30ms: HTTP calls in flight: 1");
    }

    #[tokio::test]
    async fn a_call_that_comes_and_goes_while_others_are_asked_is_no_rest() {
        let asked = AtomicUsize::new(0);
        let calls = || usize::from(![0, 2].contains(&asked.fetch_add(1, Ordering::Relaxed)));
        let error = settle(&Endpoints::default(), &SettleSpec::default(), &calls, Duration::from_millis(30)).await;
        error.expect_err("a call was in flight");
    }
}
