//! The log is part of the assertion: what a part complains of while a story is played, and nobody expected.
//!
//! A line counts from the moment the environment was lent; what brokers and databases say while they come up is not the
//! story's. A system that always complains of something says so in its description, with a reason; a story that
//! provokes a complaint names it. The noise of brokers and stores about faults that a story did to *them* is told
//! apart: they are not the system under test, and a broker that loses another has every right to say so. So is what our own
//! settings make them say on a busy machine ([`LATE_HEARTBEATS`]), and what a database says of a client that has gone.
//!
//! Deliberately absent: patterns. A text that must occur is enough to name a complaint, and can be read.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;

use crate::node::LATE_HEARTBEATS;
use crate::plan::{Kind, Plan};
use crate::spec::ExpectedSpec;
use crate::wire::READY_TOPIC;

/// Complaints that an error shows.
const SHOWN_MAX: usize = 10;
/// Of a long line, this many characters are shown.
const LINE_CHARACTERS_MAX: usize = 400;

/// What PostgreSQL says when a client ends while it is being answered: news of the client, whose own end tells it.
const CLIENT_LOST: &str = "FATAL:  connection to client lost";

/// Where each log stood when the environment was lent.
#[derive(Clone, Debug, Default)]
pub struct Audit {
    logs: Vec<AuditedLog>,
    expected: Vec<ExpectedSpec>,
    /// Parts that faults were done to.
    disturbed: BTreeSet<String>,
}

#[derive(Clone, Debug)]
struct AuditedLog {
    part: String,
    tongue: Tongue,
    path: PathBuf,
    begins_at: u64,
}

/// How a part says that something is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tongue {
    /// `2026-… [thread] WARN logger - text`.
    Kafka,
    /// `2026-… [pid] ERROR:  text`.
    Postgres,
    /// `1631:M 25 Nov 2026 19:32:10.550 # text`.
    Redis,
    /// JSON lines with a `level`, or any text with the name of a level in it.
    Program,
}

/// A line that nobody expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// Who said it.
    pub part: String,
    /// What.
    pub line: String,
}

/// Nobody expected these.
#[derive(Clone, Debug, thiserror::Error)]
pub struct Unexpected(Vec<Complaint>);

impl Audit {
    /// Begins now.
    pub(crate) fn begin(plan: &Plan, expected: &[ExpectedSpec]) -> Self {
        let log = |part: &crate::plan::Part| AuditedLog {
            part: part.name.clone(),
            tongue: match part.kind {
                Kind::Kafka => Tongue::Kafka,
                Kind::Postgres { .. } => Tongue::Postgres,
                Kind::Redis => Tongue::Redis,
                Kind::Program { .. } => Tongue::Program,
            },
            path: part.log.clone(),
            begins_at: std::fs::metadata(&part.log).map_or(0, |metadata| metadata.len()),
        };
        Self { logs: plan.parts.iter().map(log).collect(), expected: expected.to_vec(), disturbed: BTreeSet::new() }
    }

    /// Expects lines of a part that contain a text.
    pub(crate) fn expect(&mut self, part: &str, text: &str) {
        let reason = "the story provokes it".to_owned();
        self.expected.push(ExpectedSpec { part: part.to_owned(), text: text.to_owned(), reason });
    }

    /// A fault was done to a part, or to a link in front of it.
    pub(crate) fn disturb(&mut self, part: &str) {
        self.disturbed.insert(part.to_owned());
    }

    /// Looks through the logs.
    ///
    /// # Errors
    /// There is a complaint that nobody expected.
    pub(crate) fn verdict(&self) -> Result<(), Unexpected> {
        let complaints: Vec<_> = self.logs.iter().flat_map(|log| self.complaints(log)).collect();
        if complaints.is_empty() { Ok(()) } else { Err(Unexpected(complaints)) }
    }

    fn complaints(&self, log: &AuditedLog) -> Vec<Complaint> {
        if log.tongue != Tongue::Program && self.is_disturbed(log) {
            return Vec::new();
        }
        let text = log.text();
        let complaints = text.lines().filter(|line| log.tongue.complains(line) && !self.is_expected(&log.part, line));
        complaints.map(|line| Complaint { part: log.part.clone(), line: line.to_owned() }).collect()
    }

    /// What is done to one broker is felt by all.
    fn is_disturbed(&self, log: &AuditedLog) -> bool {
        let is_broker = |part: &String| part == "kafka" || part.starts_with("kafka-");
        self.disturbed.contains(&log.part) || (log.tongue == Tongue::Kafka && self.disturbed.iter().any(is_broker))
    }

    fn is_expected(&self, part: &str, line: &str) -> bool {
        // `shop` stands for all of its instances.
        let meant = |expected: &&ExpectedSpec| {
            let instance = part.strip_prefix(expected.part.as_str()).and_then(|rest| rest.strip_prefix('-'));
            expected.part == part || instance.is_some_and(|number| number.parse::<u16>().is_ok())
        };
        self.expected.iter().filter(meant).any(|expected| line.contains(&expected.text))
    }
}

impl AuditedLog {
    fn text(&self) -> String {
        let read = || {
            let mut file = std::fs::File::open(&self.path)?;
            file.seek(SeekFrom::Start(self.begins_at))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            std::io::Result::Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        // A part that never ran has no log, and nothing to complain of.
        read().unwrap_or_default()
    }
}

impl Tongue {
    fn complains(self, line: &str) -> bool {
        match self {
            Self::Kafka => {
                let names = |text: &&str| line.contains(*text);
                // The topic is our own, made and removed around the beginning of a story.
                let ours = line.contains(READY_TOPIC) || LATE_HEARTBEATS.iter().any(names);
                ["] WARN ", "] ERROR "].iter().any(names) && !ours
            }
            Self::Postgres => {
                let severe =
                    ["] WARNING:", "] ERROR:", "] FATAL:", "] PANIC:"].iter().any(|level| line.contains(level));
                severe && !line.contains(CLIENT_LOST)
            }
            Self::Redis => line.split_whitespace().nth(5) == Some("#"),
            Self::Program => program_complains(line),
        }
    }
}

fn program_complains(line: &str) -> bool {
    let severe = |level: &str| ["WARN", "WARNING", "ERROR", "FATAL"].contains(&level.to_ascii_uppercase().as_str());
    match serde_json::from_str::<serde_json::Value>(line) {
        Ok(serde_json::Value::Object(entry)) => entry.get("level").and_then(|level| level.as_str()).is_some_and(severe),
        _ => line.contains("panicked at") || line.split(|c: char| !c.is_ascii_alphanumeric()).any(severe_word),
    }
}

/// The name of a level, in capitals as logs write it.
fn severe_word(word: &str) -> bool {
    ["WARN", "WARNING", "ERROR", "FATAL"].contains(&word)
}

impl fmt::Display for Unexpected {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        write!(formatter, "the logs hold {count} complaint{} that nobody expected", if count == 1 { "" } else { "s" })?;
        for Complaint { part, line } in self.0.iter().take(SHOWN_MAX) {
            let shown: String = line.chars().take(LINE_CHARACTERS_MAX).collect();
            write!(formatter, "\n{part}: {shown}")?;
        }
        if count > SHOWN_MAX { write!(formatter, "\n… and {} more", count - SHOWN_MAX) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_complains_in_its_own_tongue() {
        let kafka = "2026-11-25T19:32:12.245Z [quorum-controller-1] WARN org.apache.kafka.X - [id=1] text";
        assert!(Tongue::Kafka.complains(kafka) && !Tongue::Kafka.complains(&kafka.replace("WARN", "INFO")));
        let late =
            "processExpiredBrokerHeartbeat: controller event queue overloaded. Timed out heartbeat from broker 2.";
        assert!(!Tongue::Kafka.complains(&kafka.replace("text", late)));
        assert!(!Tongue::Kafka.complains(&kafka.replace("text", "Received an error for partition greenroom.ready-0")));
        let postgres = "2026-11-25 19:32:10.659 UTC [1666] FATAL:  the database system is starting up";
        assert!(Tongue::Postgres.complains(postgres) && !Tongue::Postgres.complains(&postgres.replace("FATAL", "LOG")));
        assert!(!Tongue::Postgres.complains("2026-11-27 13:08:22.012 UTC [406] FATAL:  connection to client lost"));
        let redis = "1631:M 25 Nov 2026 19:32:10.550 # WARNING Memory overcommit must be enabled!";
        assert!(Tongue::Redis.complains(redis) && !Tongue::Redis.complains(&redis.replace('#', "*")));
        let program = r#"{"timestamp":"…","level":"WARN","message":"no ERROR"}"#;
        assert!(Tongue::Program.complains(program) && !Tongue::Program.complains(&program.replace("WARN", "INFO")));
        assert!(Tongue::Program.complains("[Nest] 17 - ERROR [Kafka] lost") && !Tongue::Program.complains("an error"));
        assert!(Tongue::Program.complains("thread 'main' panicked at src/main.rs:1:1:"));
    }

    fn audit(directory: &std::path::Path, tongue: Tongue, part: &str, text: &str) -> Audit {
        let path = directory.join(part);
        std::fs::write(&path, text).expect("a log");
        let log = AuditedLog { part: part.to_owned(), tongue, path, begins_at: 0 };
        Audit { logs: vec![log], ..Audit::default() }
    }

    #[test]
    fn what_is_named_is_expected_of_every_instance_and_of_nobody_else() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut audit = audit(directory.path(), Tongue::Program, "shop-2", "ERROR one\nERROR two\nfine\n");
        audit.expect("shop", "one");
        audit.expect("till", "two");
        let said = audit.verdict().expect_err("one complaint is left").to_string();
        assert_eq!(said, "the logs hold 1 complaint that nobody expected\nshop-2: ERROR two");
        audit.expect("shop-2", "two");
        assert!(audit.verdict().is_ok());
    }

    #[test]
    fn brokers_may_complain_of_what_was_done_to_them_and_programs_may_not() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut brokers = audit(directory.path(), Tongue::Kafka, "kafka-1", "t [thread] WARN x - lost 2\n");
        assert!(brokers.verdict().is_err());
        brokers.disturb("kafka-2");
        assert!(brokers.verdict().is_ok());
        let mut program = audit(directory.path(), Tongue::Program, "shop", "ERROR lost a broker\n");
        program.disturb("shop");
        program.disturb("kafka-2");
        assert!(program.verdict().is_err());
    }

    #[test]
    fn what_was_said_before_does_not_count() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut audit = audit(directory.path(), Tongue::Program, "shop", "ERROR before\nINFO after\n");
        audit.logs[0].begins_at = 13;
        assert!(audit.verdict().is_ok());
    }
}
