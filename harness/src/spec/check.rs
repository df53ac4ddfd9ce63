//! What of a description cannot be started, or would silently mean nothing.

use std::collections::BTreeSet;

use super::pattern::{self, Piece};
use super::{KafkaSpec, ProgramSpec, Spec};
use crate::link;
use crate::plan::{BROKERS, Scope, instance_name, is_instance_of};

/// What is wrong.
pub(super) struct Fault {
    /// Where, as fields and positions in lists: `programs.0.port`.
    pub(super) place: String,
    /// What, and what was expected.
    pub(super) message: String,
}

impl Fault {
    fn at(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self { place: place.into(), message: message.into() }
    }
}

/// What cannot be started of a description that was changed after it was read, in words.
pub(crate) fn meaningless(spec: &Spec) -> Option<String> {
    fault(spec).map(|fault| fault.message)
}

/// The first thing that is wrong.
pub(super) fn fault(spec: &Spec) -> Option<Fault> {
    if spec.name.is_empty() || !spec.name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-') {
        let message = format!("`name` is {:?}; expected lower-case letters, digits and hyphens", spec.name);
        return Some(Fault::at("name", message));
    }
    let kafka = spec.kafka.as_ref().and_then(kafka_fault);
    kafka
        .or_else(|| programs_fault(spec))
        .or_else(|| requests_fault(spec))
        .or_else(|| failpoints_fault(spec))
        .or_else(|| ports_fault(spec))
        .or_else(|| paths_fault(spec))
        .or_else(|| variables_fault(spec))
        .or_else(|| absent_fault(spec))
        .or_else(|| observe_fault(spec))
}

fn kafka_fault(kafka: &KafkaSpec) -> Option<Fault> {
    if !(1..=9).contains(&kafka.brokers) {
        return Some(Fault::at("kafka.brokers", format!("`brokers` is {}; expected 1 to 9", kafka.brokers)));
    }
    if !(1..=kafka.brokers).contains(&kafka.replication) {
        let message = format!("`replication` is {}; expected 1 to {} (the brokers)", kafka.replication, kafka.brokers);
        return Some(Fault::at("kafka.replication", message));
    }
    if !(1..=kafka.replication).contains(&kafka.min_insync_replicas) {
        let message = format!(
            "`min_insync_replicas` is {}; expected 1 to {} (the replication)",
            kafka.min_insync_replicas, kafka.replication
        );
        return Some(Fault::at("kafka.min_insync_replicas", message));
    }
    kafka.topics.iter().enumerate().find_map(|(index, topic)| {
        let replication = topic.replication.unwrap_or(kafka.replication);
        let (field, problem) = if topic.name.is_empty() || topic.name.len() > 249 {
            ("name", "expected a name of 1 to 249 characters".to_owned())
        } else if !topic.name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)) {
            ("name", "expected letters, digits, `.`, `_` and `-`".to_owned())
        } else if topic.partitions == 0 {
            ("partitions", "expected at least one partition".to_owned())
        } else if !(1..=kafka.brokers).contains(&replication) {
            ("replication", format!("its replication is {replication}; expected 1 to {} (the brokers)", kafka.brokers))
        } else if kafka.topics[..index].iter().any(|other| other.name == topic.name) {
            ("name", "it is described twice".to_owned())
        } else {
            return None;
        };
        Some(Fault::at(format!("kafka.topics.{index}.{field}"), format!("topic {:?}: {problem}", topic.name)))
    })
}

fn programs_fault(spec: &Spec) -> Option<Fault> {
    let mut taken = BTreeSet::new();
    spec.programs.iter().enumerate().find_map(|(index, program)| {
        let mut instances = (0..program.instances).map(|instance| instance_name(program, instance));
        let (field, problem) = if is_taken(&program.name) {
            ("name", "the name is taken by a part of the environment, or by what links call their clients".to_owned())
        } else if program.name.is_empty() || program.name.contains(['/', ' ', '{', '}']) {
            ("name", "expected a name without blanks, slashes and braces".to_owned())
        } else if let Some(instance) = instances.find(|instance| !taken.insert(instance.clone())) {
            ("name", format!("{instance} is described twice; the second instance of `shop` is called `shop-2`"))
        } else if ways_to_run(program) != 1 {
            ("", "expected one of `binary`, `command` and `image`".to_owned())
        } else if program.directory.as_ref().is_some_and(|directory| !directory.is_absolute()) {
            ("directory", "expected a `directory` that begins with `/`".to_owned())
        } else if program.image.is_some() && program.directory.is_some() {
            ("directory", "an image says itself which directory it runs in; expected no `directory`".to_owned())
        } else if program.instances == 0 {
            ("instances", "expected at least one instance".to_owned())
        } else {
            return None;
        };
        Some(Fault::at(format!("programs.{index}.{field}"), format!("program {:?}: {problem}", program.name)))
    })
}

/// What programs are asked to do wrong.
fn requests_fault(spec: &Spec) -> Option<Fault> {
    spec.programs.iter().enumerate().find_map(|(index, program)| {
        program.faults.iter().find_map(|(name, request)| {
            let (field, problem) = request.fault()?;
            let message = format!("program {:?}: fault {name:?}: {problem}", program.name);
            Some(Fault::at(format!("programs.{index}.faults.{name}.{field}"), message))
        })
    })
}

/// What dies where it is told to.
fn failpoints_fault(spec: &Spec) -> Option<Fault> {
    let mut taken = BTreeSet::new();
    spec.programs.iter().enumerate().find_map(|(index, program)| {
        let failpoints = program.failpoints.as_ref()?;
        let (field, problem) = if program.binary.is_none() {
            ("", "they are of a variant of its `binary`, and it has none".to_owned())
        } else if !is_variable(&failpoints.variable) {
            ("variable", format!("variable {:?}: {VARIABLE}", failpoints.variable))
        } else if failpoints.points.is_empty() {
            ("points", "expected at least one point".to_owned())
        } else if let Some(point) = failpoints.points.keys().find(|point| !taken.insert(*point)) {
            ("points", format!("another program has a point {point:?} too"))
        } else {
            return None;
        };
        let message = format!("program {:?}: failpoints: {problem}", program.name);
        Some(Fault::at(format!("programs.{index}.failpoints.{field}"), message))
    })
}

fn ways_to_run(program: &ProgramSpec) -> usize {
    [program.binary.is_some(), !program.command.is_empty(), program.image.is_some()]
        .into_iter()
        .filter(|told| *told)
        .count()
}

/// Whether a name means something else already, where parts and the ways between them are named.
fn is_taken(name: &str) -> bool {
    let parts = [BROKERS, "postgres", "redis"];
    let clients = [link::OUTSIDE, link::EVERYONE, link::SUPERVISOR];
    parts.contains(&name) || clients.contains(&name) || link::is_broker(name)
}

fn ports_fault(spec: &Spec) -> Option<Fault> {
    let mut taken: Vec<(u32, &str)> = Vec::new();
    for super::Listener { port, part, place } in spec.listeners(Scope::Everything) {
        if !(1..=u32::from(u16::MAX)).contains(&port) {
            return Some(Fault::at(place, format!("{part}: port {port} lies outside 1 to 65535")));
        }
        if let Some((_, other)) = taken.iter().find(|(other, _)| *other == port) {
            return Some(Fault::at(place, format!("{part} and {other} both take port {port}")));
        }
        taken.push((port, part));
    }
    None
}

/// Paths of programs over HTTP begin with a slash, and belong to a program.
fn paths_fault(spec: &Spec) -> Option<Fault> {
    let ready = spec.programs.iter().enumerate().flat_map(|(index, program)| {
        let contract = program.contract.iter().map(move |contract| &contract.ready);
        let contract = contract.map(move |path| (format!("programs.{index}.contract.ready"), &program.name, path));
        [(format!("programs.{index}.ready"), &program.name, &program.ready)].into_iter().chain(contract)
    });
    let idle = spec.settle.idle.iter().enumerate();
    let idle = idle.map(|(index, idle)| (format!("settle.idle.{index}"), &idle.program, &idle.path));
    let journals = spec.observe.journals.iter();
    let journals = journals.map(|(program, path)| (format!("observe.journals.{program}"), program, path));
    ready.chain(idle).chain(journals).find_map(|(place, name, path)| {
        if !path.starts_with('/') {
            return Some(Fault::at(place, format!("program {name:?}: {path:?} is no path that begins with `/`")));
        }
        let is_described = spec.programs.iter().any(|program| program.name == *name);
        (!is_described).then(|| Fault::at(place, format!("no program {name:?} is described")))
    })
}

/// Names that a shell cannot set, where variables are written to a file for one: it would run them as commands.
fn variables_fault(spec: &Spec) -> Option<Fault> {
    let shared = spec.variables.keys().map(|name| ("variables".to_owned(), name));
    // Of a program, those are written whose place somebody else's service can take.
    let with_contract = spec.programs.iter().enumerate().filter(|(_, program)| program.contract.is_some());
    let own = with_contract.flat_map(|(index, program)| {
        program.variables.keys().map(move |name| (format!("programs.{index}.variables"), name))
    });
    shared.chain(own).find_map(|(place, name)| {
        (!is_variable(name)).then(|| Fault::at(place, format!("variable {name:?}: {VARIABLE}")))
    })
}

/// What the name of a variable is.
const VARIABLE: &str = "expected letters, digits and `_`, and no digit at first";

fn is_variable(name: &str) -> bool {
    let mut characters = name.chars();
    characters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && characters.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// What is asked of a part that is not described.
fn absent_fault(spec: &Spec) -> Option<Fault> {
    let (settle, observe) = (&spec.settle, &spec.observe);
    if spec.postgres.is_none() {
        let asked = [
            ("settle.empty", !settle.empty.is_empty()),
            ("observe.tables", !observe.tables.is_empty()),
            ("observe.history", !observe.history.is_empty()),
        ];
        if let Some((place, _)) = asked.into_iter().find(|(_, is_asked)| *is_asked) {
            return Some(Fault::at(place, format!("`{place}` is about a database, and no [postgres] is described")));
        }
    }
    if spec.kafka.is_none() && !settle.consumers.is_empty() {
        let message = "`settle.consumers` is about topics, and no [kafka] is described";
        return Some(Fault::at("settle.consumers", message));
    }
    if !observe.history.is_empty() && !spec.programs.iter().any(|program| program.under_test) {
        let message = "`observe.history` is recorded once the program with `under_test = true` has made its tables, and \
                       no program has that";
        return Some(Fault::at("observe.history", message));
    }
    spec.audit.expected.iter().enumerate().find_map(|(index, expected)| {
        let part = expected.part.as_str();
        let is_described = match part {
            "postgres" => spec.postgres.is_some(),
            "redis" => spec.redis.is_some(),
            BROKERS => spec.kafka.is_some(),
            _ => match (link::broker_id(part), &spec.kafka) {
                (Some(id), Some(kafka)) => (1..=kafka.brokers).contains(&id),
                (Some(_), None) => false,
                (None, _) => spec.programs.iter().any(|program| is_instance_of(program, part)),
            },
        };
        let message = || format!("no part {part:?} is described");
        (!is_described).then(|| Fault::at(format!("audit.expected.{index}.part"), message()))
    })
}

fn observe_fault(spec: &Spec) -> Option<Fault> {
    let observe = &spec.observe;
    let wrong_pattern = observe.patterns.iter().enumerate().find_map(|(index, text)| {
        let problem = pattern::wrong(text)?;
        Some(Fault::at(format!("observe.patterns.{index}"), format!("pattern {text:?}: {problem}")))
    });
    if wrong_pattern.is_some() {
        return wrong_pattern;
    }
    if let Some(index) = observe.unordered.iter().position(|table| !observe.tables.contains(table)) {
        let message = format!("table {:?} is not among `tables`", observe.unordered[index]);
        return Some(Fault::at(format!("observe.unordered.{index}"), message));
    }
    let pieces = observe.patterns.iter().flat_map(|text| pattern::parse(text));
    let in_patterns = pieces.filter_map(|piece| if let Piece::Id(kind) = piece { Some(kind) } else { None });
    let kinds: BTreeSet<_> = observe.ids.keys().map(String::as_str).chain(in_patterns).collect();
    let index = observe.stories.iter().position(|kind| !kinds.contains(kind.as_str()))?;
    let known: Vec<_> = kinds.into_iter().collect();
    let message = format!(
        "{:?} is no kind of id; those that `ids` and `patterns` name: {}",
        observe.stories[index],
        known.join(", ")
    );
    Some(Fault::at(format!("observe.stories.{index}"), message))
}
