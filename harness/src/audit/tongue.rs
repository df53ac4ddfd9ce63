//! What is a complaint in the log of a part: each kind of part says it in its own way.

use crate::node::LATE_HEARTBEATS;
use crate::plan::Kind;
use crate::wire::READY_TOPIC;

/// What a controller says of an event that took it two seconds and more (`EventPerformanceMonitor`, Apache Kafka 4.3):
/// news of the machine, on which it stood still that long. At rest the record that says nothing is such an event, and
/// `metadata.max.idle.interval.ms` is shorter than that, so no standstill goes by without one.
const SLOW_EVENT: &str = "Exceptionally slow controller event";

/// What controllers say when another of them leads the quorum from now on, and brokers ask the former one
/// (`QuorumController`, `ControllerApis`, Apache Kafka 4.3). Where no fault was done to a broker, it stood still for
/// `controller.quorum.fetch.timeout` or longer: news of the machine too, and what a client met of it, that client says.
const ANOTHER_CONTROLLER: [&str; 3] = [
    "Performing controller activation",
    "Renouncing the leadership",
    "Unexpected error handling request RequestHeader(apiKey=BROKER_HEARTBEAT",
];

/// What PostgreSQL says when a client ends while it is being answered: news of the client, whose own end tells it.
const CLIENT_LOST: &str = "FATAL:  connection to client lost";

/// What PostgreSQL says when it is ended or comes up again (PostgreSQL 17: `tcop/postgres.c`, `tcop/backend_startup.c`,
/// `libpq/be-secure.c`).
const ENDINGS: [&str; 7] = [
    "terminating connection due to administrator command",
    "terminating connection due to unexpected postmaster exit",
    "terminating autovacuum process due to administrator command",
    "the database system is shutting down",
    "the database system is starting up",
    "the database system is not yet accepting connections",
    "the database system is in recovery mode",
];

/// How a part says that something is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tongue {
    /// `2026-… [thread] WARN logger - text`.
    Kafka,
    /// `2026-… [pid] ERROR:  text`.
    Postgres,
    /// `1631:M 25 Nov 2026 19:32:10.550 # text`.
    Redis,
    /// JSON lines with a `level`, or any text with the name of a level in it.
    Program,
}

impl Tongue {
    /// The way of a part of this kind.
    pub(super) fn of(kind: &Kind) -> Self {
        match kind {
            Kind::Kafka => Self::Kafka,
            Kind::Postgres { .. } => Self::Postgres,
            Kind::Redis => Self::Redis,
            Kind::Program { .. } => Self::Program,
        }
    }

    /// Whether a line is a complaint.
    pub(super) fn complains(self, line: &str) -> bool {
        match self {
            Self::Kafka => {
                // The topic is our own, made and removed around the beginning of a story.
                let late = LATE_HEARTBEATS.iter().any(|text| line.contains(*text));
                let told_apart = line.contains(READY_TOPIC) || late || stood_still(line);
                ["] WARN ", "] ERROR "].iter().any(|level| line.contains(level)) && !told_apart
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

    /// Whether it says more than that a fault was done to it.
    pub(super) fn complains_when_disturbed(self, line: &str) -> bool {
        match self {
            Self::Kafka | Self::Redis => false,
            Self::Postgres => self.complains(line) && !ENDINGS.iter().any(|ending| line.contains(ending)),
            // A program is the system under test, whatever is done to it.
            Self::Program => self.complains(line),
        }
    }
}

/// Whether a broker's line tells that it stood still for two seconds or longer, so that others begin to miss it.
pub(super) fn stood_still(line: &str) -> bool {
    ANOTHER_CONTROLLER.iter().chain([&SLOW_EVENT]).any(|text| line.contains(*text))
}

/// Levels from a warning on, in capitals, by the names that loggers of several languages give them.
const SEVERE: [&str; 12] =
    ["WARN", "WARNING", "ERROR", "ERR", "SEVERE", "CRITICAL", "CRIT", "ALERT", "EMERGENCY", "DPANIC", "PANIC", "FATAL"];

/// From here on a numeric level is a warning or worse (bunyan, pino).
const WARN_LEVEL: i64 = 40;

fn program_complains(line: &str) -> bool {
    match serde_json::from_str::<serde_json::Value>(line) {
        Ok(serde_json::Value::Object(entry)) => {
            let level = entry.get("level").or_else(|| entry.get("severity"));
            level.is_some_and(|level| match level.as_str() {
                Some(name) => SEVERE.contains(&name.to_ascii_uppercase().as_str()),
                None => level.as_i64().is_some_and(|number| number >= WARN_LEVEL),
            })
        }
        _ => line.contains("panicked at") || line.split(|c: char| !c.is_ascii_alphanumeric()).any(severe_word),
    }
}

/// The name of a level, in capitals as logs write it.
fn severe_word(word: &str) -> bool {
    SEVERE.contains(&word)
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
        let slow = "Exceptionally slow controller event writeNoOpRecord(1745314928) took 2103 ms.";
        let changed = "[QuorumController id=1] Performing controller activation.";
        assert!([late, slow, changed].iter().all(|text| !Tongue::Kafka.complains(&kafka.replace("text", text))));
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

    #[test]
    fn levels_are_known_by_the_names_and_numbers_of_several_loggers() {
        let complaints = [
            r#"{"level":50,"msg":"lost"}"#,
            r#"{"level":"dpanic","msg":"lost"}"#,
            r#"{"severity":"CRITICAL","message":"lost"}"#,
            "2026-01-01 12:00:00,000 CRITICAL worker: lost",
            "Jan 01, 2026 12:00:00 PM worker main SEVERE: lost",
        ];
        assert!(complaints.iter().all(|line| Tongue::Program.complains(line)));
        let news = [r#"{"level":30,"msg":"no ERROR"}"#, r#"{"severity":"NOTICE","message":"no ERROR"}"#, "Error: none"];
        assert!(!news.iter().any(|line| Tongue::Program.complains(line)));
    }
}
