//! What is done to a running environment: signals and restarts of parts, faults of ways, and what a program is asked.

use std::net::SocketAddrV4;
use std::time::Duration;

use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderValue};

use super::protocol::{Action, Event, PartSignal};
use super::tenancy::{SIGNAL_LIMIT, Tenancy};
use crate::http;
use crate::link::LinkError;
use crate::plan::is_instance_of;
use crate::report::{Problem, chain};
use crate::runtime::{Spawner, StartError};
use crate::spec::{Layout, ProgramSpec, RequestSpec};

/// What to do about brokers that share a process.
const SEPARATE: &str = "ask for `layout = \"separate\"` in the description, or `--layout separate`";
/// How long a program may think about what it is asked.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Does something to a running environment.
pub(super) async fn act(tenancy: &Tenancy, action: Action, spawner: &Spawner) -> Event {
    let done = match action {
        Action::Signal { part, .. } | Action::Restart { part } if is_one_of_many(tenancy, &part) => {
            let problem = Problem::new(format!("the brokers share one process, so {part} has none of its own"));
            Err(problem.hint(SEPARATE))
        }
        Action::Signal { part, signal } => signalled(tenancy, &part, signal).await,
        Action::Restart { part } => tenancy.restart(&part, spawner).await.map_err(|error| advised(&error)),
        Action::Link { routes, change } => {
            tenancy.change_links(&routes, change).await.map_err(|error| link_problem(&error))
        }
        Action::Ask { part, fault, value } => asked(tenancy, &part, &fault, value.as_deref()).await,
    };
    done.map_or_else(Event::Failed, |()| Event::Done)
}

/// Tells of an error with what can be done about it, where that is known.
pub(super) fn advised(error: &StartError) -> Problem {
    hinted(Problem::from_error(error), error.advice())
}

pub(super) fn hinted(problem: Problem, advice: Option<&'static str>) -> Problem {
    match advice {
        Some(advice) => problem.hint(advice),
        None => problem,
    }
}

fn link_problem(error: &LinkError) -> Problem {
    let problem = Problem::from_error(error);
    match error {
        LinkError::SharedProcess { .. } => problem.hint(SEPARATE),
        LinkError::NoLinks => problem.hint("ask for `links = \"clients\"` in the description, or `--links clients`"),
        LinkError::NotBetweenBrokers { .. } => {
            problem.hint("ask for `links = \"all\"` in the description, or `--links all`")
        }
        LinkError::UnknownTarget { .. }
        | LinkError::UnknownSource { .. }
        | LinkError::Whole { .. }
        | LinkError::Impossible(_) => problem,
    }
}

/// Whether a broker is meant that has no process of its own.
fn is_one_of_many(tenancy: &Tenancy, part: &str) -> bool {
    let mut brokers = 1..=tenancy.plan.brokers().len();
    tenancy.plan.layout == Some(Layout::Colocated) && brokers.any(|id| part == format!("kafka-{id}"))
}

/// Signals a part; when this returns, one that is killed has ended, and one that is paused stands still.
async fn signalled(tenancy: &Tenancy, part: &str, signal: PartSignal) -> Result<(), Problem> {
    if signal == PartSignal::Resume && tenancy.processes.goes_on(part) {
        return Err(Problem::new(format!("{part} is not paused")));
    }
    if !tenancy.signal(part, signal).await {
        if tenancy.plan.part(part).is_some() {
            return Err(does_not_run(part));
        }
        let known = tenancy.plan.parts.iter().map(|part| part.name.as_str()).collect::<Vec<_>>().join(", ");
        return Err(Problem::new(format!("no running part {part}; the parts are {known}")));
    }
    let missing = match signal {
        PartSignal::Kill => {
            (!tenancy.processes.ended(part, SIGNAL_LIMIT).await).then_some("was killed and has not ended")
        }
        PartSignal::Pause => {
            (!tenancy.stands_still(part, SIGNAL_LIMIT).await).then_some("was paused and does not stand still")
        }
        PartSignal::Stop | PartSignal::Resume => None,
    };
    match missing {
        Some(missing) => Err(Problem::new(format!("{part} {missing} after {} s", SIGNAL_LIMIT.as_secs()))),
        None => Ok(()),
    }
}

/// Asks a program for a fault that its description names.
async fn asked(tenancy: &Tenancy, part: &str, fault: &str, value: Option<&str>) -> Result<(), Problem> {
    let programs = &tenancy.order.spec.programs;
    let program = programs.iter().find(|program| is_instance_of(program, part));
    let (Some(program), Some(planned)) = (program, tenancy.plan.part(part)) else {
        let known = programs.iter().map(|program| program.name.as_str()).collect::<Vec<_>>().join(", ");
        return Err(Problem::new(format!("there is no program {part}; the programs are {known}")));
    };
    let Some(request) = program.faults.get(fault) else { return Err(no_fault(part, fault, program, programs)) };
    if tenancy.processes.is_paused(part) {
        return Err(Problem::new(format!("{part} is paused")).hint(format!("`fault resume {part}` lets it go on")));
    }
    if !tenancy.processes.goes_on(part) {
        return Err(does_not_run(part));
    }
    let body = request.body(value).map_err(|why| Problem::new(format!("{part}: fault {fault} {why}")))?;
    let address = planned.addresses.first();
    let address = address.ok_or_else(|| Problem::new(format!("{part} listens nowhere, so nobody can ask it")))?;
    send(part, *address, request, body).await
}

/// A program has no fault of this name; with those that can be asked.
fn no_fault(part: &str, fault: &str, program: &ProgramSpec, programs: &[ProgramSpec]) -> Problem {
    let problem = Problem::new(format!("{part} has no fault {fault}"));
    if program.faults.is_empty() {
        let able: Vec<_> = programs.iter().filter(|it| !it.faults.is_empty()).map(|it| it.name.as_str()).collect();
        return problem.hint(if able.is_empty() {
            "the description of this system names no faults of programs".to_owned()
        } else {
            format!("what can be asked is {}", able.join(", "))
        });
    }
    let with_value = |(name, request): (&String, &RequestSpec)| {
        request.takes().map_or_else(|| name.clone(), |value| format!("{name} {value}"))
    };
    let known: Vec<_> = program.faults.iter().map(with_value).collect();
    problem.hint(format!("those that its description names are {}", known.join(", ")))
}

/// Sends a program the request that makes it do what it is asked.
async fn send(part: &str, address: SocketAddrV4, request: &RequestSpec, body: Option<String>) -> Result<(), Problem> {
    let call = format!("{} {}", request.method, request.path);
    let failed = |why: String| Problem::new(format!("{part} does not answer {call}: {why}"));
    let method = Method::from_bytes(request.method.as_bytes()).map_err(|error| failed(error.to_string()))?;
    let client = http::client().timeout(ANSWER_LIMIT).build().map_err(|error| failed(chain(&error)))?;
    let mut asking = client.request(method, format!("http://{address}{}", request.path));
    if let Some(body) = body {
        asking = asking.header(CONTENT_TYPE, HeaderValue::from_static("application/json")).body(body);
    }
    let answer = asking.send().await.map_err(|error| failed(chain(&error)))?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let said: String = answer.text().await.unwrap_or_default().chars().take(300).collect();
    let said = if said.is_empty() { said } else { format!(": {said}") };
    Err(Problem::new(format!("{part} refuses {call} with {status}{said}")))
}

fn does_not_run(part: &str) -> Problem {
    Problem::new(format!("{part} does not run")).hint(format!("`fault restart {part}` starts it"))
}
