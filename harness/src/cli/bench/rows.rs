//! The rows of the table and the goals that the project has set itself.

use greenroom::spec::Layout::{Colocated, Separate};

use super::alone::Jvms;
use super::figures::{self, Goal, Row, Unit};
use super::{Readings, Round, Subject};

/// What is measured of a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Measure {
    /// From asking, or spawning, until it is ready; in seconds, as all times are.
    Start,
    /// The part of `Start` in which the artifacts were looked up.
    LookUp,
    /// The part of `Start` in which the supervisor began.
    Supervisor,
    /// A new client's first acknowledged record.
    Acknowledged,
    /// A new client's first record through a new group.
    Consumed,
    /// The call that gives back.
    GivenBack,
    /// From the end until nothing is left.
    Gone,
    /// Memory of the brokers, in megabytes.
    BrokersMemory,
    /// Memory of the whole environment, in megabytes.
    TotalMemory,
    /// CPU time of the brokers until ready, in seconds.
    BrokersCpu,
    /// CPU time of the whole environment until ready, in seconds.
    TotalCpu,
}

impl Measure {
    fn unit(self) -> Unit {
        match self {
            Self::Start => Unit::Seconds,
            Self::LookUp | Self::Supervisor | Self::Acknowledged | Self::Consumed | Self::GivenBack | Self::Gone => {
                Unit::Milliseconds
            }
            Self::BrokersMemory | Self::TotalMemory => Unit::Megabytes,
            Self::BrokersCpu | Self::TotalCpu => Unit::CpuSeconds,
        }
    }
}

const ONE_JVM: Subject = Subject::Alone(Jvms::One);
const THREE_JVMS: Subject = Subject::Alone(Jvms::Three);
const AS_SHIPPED: Subject = Subject::Alone(Jvms::ThreeAsShipped);
const ALONE: [(Subject, &str); 3] = [
    (ONE_JVM, "brokers alone by hand, one JVM"),
    (THREE_JVMS, "brokers alone by hand, three JVMs"),
    (AS_SHIPPED, "brokers alone by hand, three JVMs with Kafka's default JVM flags and timings"),
];
const LENT: [(Subject, &str); 4] = [
    (Subject::Infrastructure(Colocated), "infrastructure, colocated"),
    (Subject::Infrastructure(Separate), "infrastructure, separate"),
    (Subject::Whole(Colocated), "whole environment, colocated"),
    (Subject::Whole(Separate), "whole environment, separate"),
];

/// The table of all rounds of processes.
pub(super) fn of_processes(rounds: &[Round]) -> String {
    let mut rows = starts(rounds);
    rows.extend(first_records(rounds));
    rows.extend(ends(rounds));
    rows.extend(costs(rounds));
    figures::table(&rows)
}

/// The table of all rounds in which containers were measured.
pub(super) fn of_containers(rounds: &[Round]) -> String {
    let named = [(Colocated, "colocated"), (Separate, "separate")];
    let start = |subject, what: String| row(rounds, subject, Measure::Start, &what, None);
    let mut rows = Vec::new();
    for (layout, name) in named {
        rows.push(start(Subject::Infrastructure(layout), format!("processes, {name}: ready")));
        rows.push(start(Subject::Cold(layout), format!("processes, {name}, brokers begin cold: ready")));
        rows.push(start(Subject::Contained(layout), format!("containers, {name}: ready")));
    }
    rows.push(start(Subject::Scripts, "shell scripts: ready".to_owned()));
    rows.push(start(Subject::Testcontainers, "plain testcontainers: ready".to_owned()));
    for (layout, name) in named {
        let contained = Subject::Contained(layout);
        let what = |above: &str, below: &str| format!("{above} / {below}, {name}");
        let beside_processes = what("containers", "processes");
        rows.push(ratio(rounds, contained, Subject::Infrastructure(layout), &beside_processes, Goal::Median(1.5)));
        let beside_cold = what("containers", "processes, brokers begin cold");
        rows.push(ratio(rounds, contained, Subject::Cold(layout), &beside_cold, None));
        let scripts = what("shell scripts", "containers");
        rows.push(ratio(rounds, Subject::Scripts, contained, &scripts, Goal::MedianFrom(5.0)));
        let testcontainers = what("plain testcontainers", "containers");
        rows.push(ratio(rounds, Subject::Testcontainers, contained, &testcontainers, Goal::MedianFrom(2.5)));
    }
    for (layout, name) in named {
        let contained = |measure, what, goal| {
            row(rounds, Subject::Contained(layout), measure, &format!("containers, {name}: {what}"), goal)
        };
        rows.extend([
            contained(Measure::Acknowledged, "ready to first record acknowledged, over the wire", None),
            contained(Measure::Consumed, "ready to first record consumed, over the wire", None),
            contained(Measure::GivenBack, "given back", Some(Goal::Always(0.05))),
            contained(Measure::Gone, "gone", None),
            contained(Measure::TotalMemory, "memory", None),
            contained(Measure::TotalCpu, "CPU until ready", None),
        ]);
    }
    rows.push(row(rounds, Subject::Scripts, Measure::Gone, "shell scripts: gone", None));
    rows.push(row(rounds, Subject::Testcontainers, Measure::Gone, "plain testcontainers: gone", None));
    figures::table(&rows)
}

/// What a subject took, for a person who waits for the table.
pub(super) fn brief(subject: Subject, readings: &Readings) -> String {
    let shown = readings.iter().map(|(measure, value)| format!("{measure:?} {}", measure.unit().shown(*value)));
    format!("{subject:?}: {}", shown.collect::<Vec<_>>().join(", "))
}

fn starts(rounds: &[Round]) -> Vec<Row> {
    let (infrastructure, whole) = (Subject::Infrastructure, Subject::Whole);
    let start = |subject, what: &str| row(rounds, subject, Measure::Start, what, None);
    let mut rows = ALONE.map(|(subject, name)| start(subject, &format!("{name}: listed"))).to_vec();
    rows.extend(LENT.map(|(subject, name)| start(subject, &format!("{name}: ready"))));
    rows.extend([
        ratio(rounds, infrastructure(Colocated), ONE_JVM, "infrastructure, colocated / one JVM", Goal::Median(1.3)),
        ratio(rounds, whole(Colocated), ONE_JVM, "whole environment, colocated / one JVM", Goal::Median(2.0)),
        ratio(
            rounds,
            whole(Colocated),
            THREE_JVMS,
            "whole environment, colocated / three JVMs",
            Goal::MedianBelow(1.0),
        ),
        ratio(rounds, infrastructure(Separate), THREE_JVMS, "infrastructure, separate / three JVMs", Goal::Median(1.2)),
    ]);
    let of_it = [(Measure::LookUp, "artifacts looked up"), (Measure::Supervisor, "supervisor started")];
    rows.extend(of_it.map(|(measure, name)| {
        let what = format!("of it, infrastructure, colocated: {name}");
        row(rounds, infrastructure(Colocated), measure, &what, None)
    }));
    rows
}

fn first_records(rounds: &[Round]) -> Vec<Row> {
    let first = [(Measure::Acknowledged, "first record acknowledged"), (Measure::Consumed, "first record consumed")];
    let each = LENT.into_iter().flat_map(|subject| first.map(|first| (subject, first)));
    each.map(|((subject, name), (measure, what))| {
        let client = if matches!(subject, Subject::Whole(_)) { "librdkafka" } else { "over the wire" };
        row(rounds, subject, measure, &format!("{name}: ready to {what}, {client}"), None)
    })
    .collect()
}

fn ends(rounds: &[Round]) -> Vec<Row> {
    let within = |seconds| Some(Goal::Always(seconds));
    let mut rows = Vec::new();
    for (subject, name) in LENT {
        rows.push(row(rounds, subject, Measure::GivenBack, &format!("{name}: given back"), within(0.05)));
        rows.push(row(rounds, subject, Measure::Gone, &format!("{name}: gone"), within(1.0)));
    }
    let killed = [
        (Subject::ClientKilled, "whole environment: gone after SIGKILL of the client", 2.0),
        (Subject::SupervisorKilled, "whole environment: gone after SIGKILL of the supervisor", 1.0),
    ];
    rows.extend(killed.map(|(subject, what, limit)| row(rounds, subject, Measure::Gone, what, within(limit))));
    rows
}

fn costs(rounds: &[Round]) -> Vec<Row> {
    let cpu = |(subject, name)| row(rounds, subject, Measure::BrokersCpu, &format!("{name}: CPU until ready"), None);
    let mut rows = ALONE.map(cpu).to_vec();
    for (subject, name) in LENT {
        let limit = match subject {
            Subject::Infrastructure(Colocated) | Subject::Whole(Colocated) => 250.0,
            _ => 420.0,
        };
        let brokers = format!("{name}: memory of the brokers");
        rows.push(row(rounds, subject, Measure::BrokersMemory, &brokers, Some(Goal::Always(limit))));
        rows.push(row(rounds, subject, Measure::TotalMemory, &format!("{name}: memory"), None));
        rows.push(row(rounds, subject, Measure::BrokersCpu, &format!("{name}: CPU of the brokers until ready"), None));
        rows.push(row(rounds, subject, Measure::TotalCpu, &format!("{name}: CPU until ready"), None));
    }
    rows
}

fn row(rounds: &[Round], subject: Subject, measure: Measure, what: &str, goal: Option<Goal>) -> Row {
    let values = rounds.iter().filter_map(|round| round.get(&(subject, measure)).copied()).collect();
    Row { what: what.to_owned(), unit: measure.unit(), values, goal }
}

/// How many times `below` a start took `above`, in the same round.
fn ratio(rounds: &[Round], above: Subject, below: Subject, what: &str, goal: impl Into<Option<Goal>>) -> Row {
    let start = |round: &Round, subject| round.get(&(subject, Measure::Start)).copied();
    let values = rounds.iter().filter_map(|round| Some(start(round, above)? / start(round, below)?)).collect();
    Row { what: what.to_owned(), unit: Unit::Times, values, goal: goal.into() }
}
