//! The log is part of the assertion: what a part complains of while a story is played, and nobody expected.
//!
//! A line counts from the moment the environment was lent; what brokers and databases say while they come up is not the
//! story's, also where an engine brings a broker's line later. A system that always complains of something says so in
//! its description, with a reason; a story that provokes a complaint names it. The noise of brokers and stores about
//! faults that a story did to *them* is told apart from then on: they are not the system under test, and a broker that
//! loses another has every right to say so. The same holds for brokers from the moment on at which one of them tells
//! that its machine stood still: they miss one another then, and say so in many ways. What a client met of it, that
//! client says.
//!
//! What is noise of a part is said in `tongue`: what our own settings make it say on a busy machine is, what a database
//! says of the system that uses it is not. Where somebody else's service is played, complaints are told and not judged,
//! whoever has them: no contract says what a log may hold, and a unique key that a service relies on is an error in the
//! database's.
//!
//! Deliberately absent: patterns. A text that must occur is enough to name a complaint, and can be read.

mod tongue;

use std::fmt;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use chrono::{DateTime, SubsecRound as _, Utc};

use self::tongue::Tongue;
use crate::plan::Plan;
use crate::spec::{ExpectedSpec, Spec};

/// Complaints that an error shows.
const SHOWN_MAX: usize = 10;
/// Of a long line, this many characters are shown.
const LINE_CHARACTERS_MAX: usize = 400;

/// Where each log stood when the environment was lent.
#[derive(Clone, Debug, Default)]
pub struct Audit {
    logs: Vec<AuditedLog>,
    expected: Vec<ExpectedSpec>,
    /// Complaints are no failure.
    lenient: bool,
}

#[derive(Clone, Debug)]
struct AuditedLog {
    part: String,
    tongue: Tongue,
    path: PathBuf,
    begins_at: u64,
    /// When that was: what a container says, its engine brings later.
    begun: DateTime<Utc>,
    /// Where it stood when the first fault was done that this part feels.
    disturbed_at: Option<u64>,
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
    pub(crate) fn begin(plan: &Plan, spec: &Spec) -> Self {
        // Brokers tell milliseconds.
        let begun = Utc::now().trunc_subsecs(3);
        let log = |part: &crate::plan::Part| AuditedLog {
            part: part.name.clone(),
            tongue: Tongue::of(&part.kind),
            path: part.log.clone(),
            begins_at: length(&part.log),
            begun,
            disturbed_at: None,
        };
        Self {
            logs: plan.parts.iter().map(log).collect(),
            expected: spec.audit.expected.clone(),
            lenient: spec.is_of_somebody_else(),
        }
    }

    /// Expects lines of a part that contain a text.
    pub(crate) fn expect(&mut self, part: &str, text: &str) {
        let reason = "the story provokes it".to_owned();
        self.expected.push(ExpectedSpec { part: part.to_owned(), text: text.to_owned(), reason });
    }

    /// A fault was done to a part, or to a link in front of it.
    pub(crate) fn disturb(&mut self, part: &str) {
        let is_broker = part == "kafka" || part.starts_with("kafka-");
        for log in &mut self.logs {
            // What is done to one broker is felt by all.
            if log.part == part || (is_broker && log.tongue == Tongue::Kafka) {
                log.disturbed_at.get_or_insert_with(|| length(&log.path));
            }
        }
    }

    /// Complaints that nobody expected.
    pub(crate) fn complaints(&self) -> Vec<Complaint> {
        let brokers = self.logs.iter().filter(|log| log.tongue == Tongue::Kafka);
        let stood_still = brokers.filter_map(AuditedLog::stood_still).min();
        let complaints = self.logs.iter().flat_map(|log| log.complaints(stood_still.as_deref()));
        complaints.filter(|complaint| !self.is_expected(complaint)).collect()
    }

    /// Looks through the logs.
    ///
    /// # Errors
    /// There is a complaint that nobody expected.
    pub(crate) fn verdict(&self) -> Result<(), Unexpected> {
        let complaints = self.complaints();
        if complaints.is_empty() || self.lenient { Ok(()) } else { Err(Unexpected(complaints)) }
    }

    fn is_expected(&self, Complaint { part, line }: &Complaint) -> bool {
        let meant = self.expected.iter().filter(|expected| stands_for(&expected.part, part));
        meant.map(|expected| &expected.text).any(|text| line.contains(text))
    }
}

/// Whether `shop` is this part, or this part one of its instances.
fn stands_for(name: &str, part: &str) -> bool {
    let instance = part.strip_prefix(name).and_then(|rest| rest.strip_prefix('-'));
    name == part || instance.is_some_and(|number| number.parse::<u16>().is_ok())
}

/// In bytes; a part that never ran has no log.
fn length(log: &Path) -> u64 {
    std::fs::metadata(log).map_or(0, |metadata| metadata.len())
}

impl AuditedLog {
    /// The time of the first line in which this broker tells of a standstill.
    fn stood_still(&self) -> Option<String> {
        let text = self.text(self.begins_at, u64::MAX);
        let mut lines = text.lines().filter(|line| !self.was_said_before(line));
        lines.find(|line| tongue::stood_still(line)).map(|line| time(line).to_owned())
    }

    /// What is complained of; brokers may complain from the time on at which one of them `stood_still`.
    fn complaints(&self, stood_still: Option<&str>) -> Vec<Complaint> {
        let of_the_machine =
            |line: &str| self.tongue == Tongue::Kafka && stood_still.is_some_and(|since| time(line) >= since);
        let before = self.text(self.begins_at, self.disturbed_at.unwrap_or(u64::MAX));
        let after = self.disturbed_at.map_or_else(String::new, |disturbed_at| self.text(disturbed_at, u64::MAX));
        let complaints = before.lines().filter(|line| self.tongue.complains(line));
        let complaints = complaints.chain(after.lines().filter(|line| self.tongue.complains_when_disturbed(line)));
        let complaints = complaints.filter(|line| !of_the_machine(line) && !self.was_said_before(line));
        complaints.map(|line| Complaint { part: self.part.clone(), line: line.to_owned() }).collect()
    }

    /// Whether a broker has said it before the environment was lent, by its own clock, which is this machine's.
    fn was_said_before(&self, line: &str) -> bool {
        let said = DateTime::parse_from_rfc3339(time(line));
        self.tongue == Tongue::Kafka && said.is_ok_and(|said| said < self.begun)
    }

    /// What was said between two places of the log.
    fn text(&self, from: u64, to: u64) -> String {
        let read = || {
            let mut file = std::fs::File::open(&self.path)?;
            file.seek(SeekFrom::Start(from))?;
            let mut bytes = Vec::new();
            file.take(to.saturating_sub(from)).read_to_end(&mut bytes)?;
            std::io::Result::Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        // A part that never ran has no log, and nothing to complain of.
        read().unwrap_or_default()
    }
}

/// The time at the beginning of a broker's line, which sorts as text.
fn time(line: &str) -> &str {
    line.split(' ').next().unwrap_or_default()
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

    fn audit(directory: &std::path::Path, tongue: Tongue, part: &str, text: &str) -> Audit {
        let path = directory.join(part);
        std::fs::write(&path, text).expect("a log");
        let log = AuditedLog {
            part: part.to_owned(),
            tongue,
            path,
            begins_at: 0,
            begun: DateTime::UNIX_EPOCH,
            disturbed_at: None,
        };
        Audit { logs: vec![log], ..Audit::default() }
    }

    /// The part says more.
    fn goes_on(audit: &Audit, text: &str) {
        let mut log = std::fs::OpenOptions::new().append(true).open(&audit.logs[0].path).expect("its log");
        std::io::Write::write_all(&mut log, text.as_bytes()).expect("more of it");
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
        let mut brokers = audit(directory.path(), Tongue::Kafka, "kafka-1", "");
        brokers.disturb("kafka-2");
        goes_on(&brokers, "t [thread] WARN x - lost 2\n");
        assert!(brokers.verdict().is_ok());
        let mut program = audit(directory.path(), Tongue::Program, "shop", "ERROR lost a broker\n");
        program.disturb("shop");
        program.disturb("kafka-2");
        assert!(program.verdict().is_err());
    }

    /// Goal: brokers of a machine that stood still may say so from then on, each in its own log, and no program may.
    #[test]
    fn a_machine_that_stood_still_excuses_its_brokers() {
        let directory = tempfile::tempdir().expect("a directory");
        let slow = "2026-11-29T10:00:02.000Z [e] ERROR x - Exceptionally slow controller event noOp took 2103 ms.\n";
        let mut brokers = audit(directory.path(), Tongue::Kafka, "kafka-1", slow);
        let missed = "2026-11-29T10:00:03.000Z [f] WARN x - Partition orders-0 marked as failed\n";
        brokers.logs.extend(audit(directory.path(), Tongue::Kafka, "kafka-2", missed).logs);
        assert!(brokers.verdict().is_ok());
        // A heartbeat that is late by a quarter of a second is no standstill.
        let late = "2026-11-29T10:00:00.000Z [e] ERROR x - processExpiredBrokerHeartbeat: controller event queue \
                    overloaded. Timed out heartbeat from broker 2.\n";
        goes_on(&brokers, late);
        goes_on(&brokers, "2026-11-29T10:00:01.000Z [f] WARN x - by itself\n");
        brokers.logs.extend(audit(directory.path(), Tongue::Program, "shop", "2026-11-29T10:00:03.000Z WARN x\n").logs);
        let said = brokers.verdict().expect_err("two complaints are left").to_string();
        assert!(said.contains("kafka-1: 2026-11-29T10:00:01.000Z [f] WARN x - by itself"), "{said}");
        assert!(said.starts_with("the logs hold 2 complaints") && said.contains("shop: "), "{said}");
    }

    #[test]
    fn a_fault_excuses_nothing_that_was_said_before_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut brokers = audit(directory.path(), Tongue::Kafka, "kafka-1", "t [thread] WARN x - by itself\n");
        brokers.disturb("kafka-1");
        goes_on(&brokers, "t [thread] WARN x - after it\n");
        brokers.disturb("kafka-1");
        let said = brokers.verdict().expect_err("one complaint is left").to_string();
        assert_eq!(said, "the logs hold 1 complaint that nobody expected\nkafka-1: t [thread] WARN x - by itself");
    }

    #[test]
    fn a_database_that_was_ended_may_say_so_and_no_more() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut database = audit(directory.path(), Tongue::Postgres, "postgres", "");
        database.disturb("postgres");
        goes_on(&database, "t [7] FATAL:  terminating connection due to administrator command\n");
        goes_on(&database, "t [8] FATAL:  the database system is starting up\n");
        assert!(database.verdict().is_ok());
        goes_on(&database, "t [9] ERROR:  duplicate key value violates unique constraint\n");
        let said = database.verdict().expect_err("the system did that").to_string();
        assert!(said.ends_with("postgres: t [9] ERROR:  duplicate key value violates unique constraint"), "{said}");
    }

    #[test]
    fn where_somebody_elses_service_is_played_complaints_are_told_and_not_judged() {
        let directory = tempfile::tempdir().expect("a directory");
        let text = "name = \"shop\"\n[[programs]]\nname = \"shop\"\nbinary = \"shop\"\nport = 3000\n";
        let mut spec = crate::spec::read_str(Path::new("shop.toml"), text).expect("a right description");
        let plan = crate::plan::tests::plan(&spec, crate::plan::Scope::Everything);
        assert!(!Audit::begin(&plan, &spec).lenient);
        spec.programs[0].replaced = true;
        let logs = audit(directory.path(), Tongue::Postgres, "postgres", "t [7] ERROR:  duplicate key\nfine\n").logs;
        let audit = Audit { logs, ..Audit::begin(&plan, &spec) };
        assert!(audit.verdict().is_ok());
        let told = Complaint { part: "postgres".to_owned(), line: "t [7] ERROR:  duplicate key".to_owned() };
        assert_eq!(audit.complaints(), [told]);
    }

    #[test]
    fn what_was_said_before_does_not_count() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut audit = audit(directory.path(), Tongue::Program, "shop", "ERROR before\nINFO after\n");
        audit.logs[0].begins_at = 13;
        assert!(audit.verdict().is_ok());
    }

    /// Goal: a line that an engine brings late is told by its time from one that is the story's.
    #[test]
    fn what_a_broker_said_before_does_not_count_however_late_it_comes() {
        let directory = tempfile::tempdir().expect("a directory");
        let lines = "2026-12-01T03:02:04.396Z [f] WARN x - early\n2026-12-01T04:02:04.400+01:00 [f] WARN x - late\n";
        let mut audit = audit(directory.path(), Tongue::Kafka, "kafka-2", lines);
        audit.logs[0].begun = DateTime::parse_from_rfc3339("2026-12-01T03:02:04.400Z").expect("a time").to_utc();
        let said = audit.verdict().expect_err("one complaint is left").to_string();
        assert!(said.ends_with("kafka-2: 2026-12-01T04:02:04.400+01:00 [f] WARN x - late"), "{said}");
        // Every cluster that starts says so, and it excuses nothing.
        goes_on(&audit, "2026-12-01T03:02:04.025Z [q] WARN x - Performing controller activation\n");
        assert!(audit.verdict().is_err());
    }
}
