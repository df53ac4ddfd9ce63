//! The handle of a running environment: what a test, a person's shell and the benchmark hold.
//!
//! [`Environment::start`] asks the supervisor for one and returns when the first real operation would succeed.
//! It ends when the handle is dropped or its process dies; [`Environment::release`] is the good manner.

mod error;
mod faults;
mod groups;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::artifacts::{self, PrepareOptions};
use crate::audit::{Audit, Complaint, Unexpected};
use crate::binaries::{self, GREENROOM};
use crate::docker::{self, pinned};
use crate::observe::{self, Endpoints, Observation};
use crate::plan::{Kind, Part, Plan, Runtime, Scope};
use crate::runtime::{PartState, inherited};
use crate::snapshot;
use crate::spec::Spec;
use crate::supervisor::client::{self, Lease, News};
use crate::supervisor::protocol::{Action, Event, Order, PartSignal, PartSummary, Summary};
use crate::supervisor::state::Workspace;

pub use error::EnvironmentError;
pub use faults::{KafkaHandle, LinkHandle, PartHandle, broker_name};

/// How long a start may take before it is given up, unless the caller says otherwise.
pub const START_DEADLINE: Duration = Duration::from_secs(120);
/// How long the system may take to come to rest, unless the caller says otherwise. A service may leave its consumer
/// group slowly: the usual session of a client on the JVM is 45 s.
pub const SETTLE_DEADLINE: Duration = Duration::from_secs(90);

/// Says what the brokers and stores of environments run as: `process` or `docker`.
pub const RUNTIME_VARIABLE: &str = "GREENROOM_RUNTIME";

/// A running environment on loan.
#[derive(Debug)]
pub struct Environment {
    spec: Spec,
    lease: Lease,
    calls: Calls,
    audit: Audit,
    /// Parts that the story has ended, or whose end it has waited for.
    ended: BTreeSet<String>,
    /// Groups of somebody else's service that nobody had joined when it was waited for.
    absent: Vec<Complaint>,
    /// What a story did not ask of somebody else's service.
    unasked: Vec<String>,
}

/// Counts calls to the system under test that have not been answered yet: part of being at rest.
#[derive(Clone, Debug, Default)]
pub struct Calls(Arc<AtomicUsize>);

/// A call in flight; over when dropped.
#[derive(Debug)]
#[must_use = "the call counts as answered when this is dropped"]
pub struct Call(Arc<AtomicUsize>);

/// How an environment is asked for.
#[derive(Clone, Debug)]
pub struct StartOptions {
    /// Which parts of the description.
    pub scope: Scope,
    /// Who asks, for a person who reads `status`.
    pub holder: String,
    /// What brokers and stores run as; where absent, what [`RUNTIME_VARIABLE`] says, or processes.
    pub runtime: Option<Runtime>,
    /// Fetch nothing; say what is missing.
    pub offline: bool,
    /// How long the start may take.
    pub deadline: Duration,
    /// Wait for the consumers of somebody else's service too: what is sent before they have joined might be missed.
    pub awaits_consumers: bool,
}

impl Default for StartOptions {
    fn default() -> Self {
        Self {
            scope: Scope::Everything,
            holder: format!("process {}", std::process::id()),
            runtime: None,
            offline: false,
            deadline: START_DEADLINE,
            awaits_consumers: true,
        }
    }
}

impl Environment {
    /// Starts an environment; `step` hears of every event until it is ready.
    ///
    /// # Errors
    /// It did not start; nothing of it is left then but the logs that the error names.
    pub async fn start(spec: Spec, options: StartOptions, step: impl FnMut(&Event)) -> Result<Self, EnvironmentError> {
        let StartOptions { scope, holder, runtime, offline, deadline, awaits_consumers } = options;
        let runtime = runtime.map_or_else(chosen_runtime, Ok)?;
        let preparing = tokio::task::spawn_blocking(move || {
            let binaries = binaries::built()?;
            let toolchain = artifacts::prepare(&PrepareOptions { offline, runtime }, &mut |_| {})?;
            Ok::<_, EnvironmentError>((binaries, toolchain))
        });
        let (binaries, mut toolchain) = preparing.await??;
        let workspace = Workspace::here()?;
        if runtime == Runtime::Docker {
            toolchain.images = pinned::chosen(&workspace.root)?;
            toolchain.kafka.start = docker::brokers::begin(&docker::host(), &toolchain, |_| {}).await?;
        }
        let binary = binaries.join(GREENROOM);
        let order = Order {
            spec: spec.clone(),
            of_somebody_else: spec.is_of_somebody_else(),
            scope,
            runtime,
            engine: docker::host(),
            toolchain,
            binaries,
            inherited: inherited(),
            evidence: kept_directory(&workspace).join("failures"),
            holder,
            deadline_ms: u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX),
        };
        let lease = client::lease(&workspace, &binary, order, step).await?;
        let audit = Audit::begin(&lease.plan, &spec);
        let (absent, unasked) = (Vec::new(), Vec::new());
        let mut environment =
            Self { spec, lease, calls: Calls::default(), audit, ended: BTreeSet::new(), absent, unasked };
        if awaits_consumers && environment.spec.is_of_somebody_else() && scope == Scope::Everything {
            environment.absent = environment.groups_without_members().await;
        }
        Ok(environment)
    }

    /// What should exist.
    #[must_use]
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Everything that runs.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.lease.plan
    }

    /// From the request until it was ready.
    #[must_use]
    pub fn took(&self) -> Duration {
        self.lease.took
    }

    /// What clients are told: the variables of the description, filled in.
    #[must_use]
    pub fn variables(&self) -> &BTreeMap<String, String> {
        &self.lease.plan.variables
    }

    /// Base URL of a program's instance, such as `shop` or `shop-2`.
    #[must_use]
    pub fn url(&self, program: &str) -> Option<String> {
        let part = self.lease.plan.part(program)?;
        Some(format!("http://{}", part.addresses.first()?))
    }

    /// The counter of calls in flight, for a driver.
    #[must_use]
    pub fn calls(&self) -> Calls {
        self.calls.clone()
    }

    /// Where everything can be observed.
    #[must_use]
    pub fn endpoints(&self) -> Endpoints {
        let plan = &self.lease.plan;
        let brokers = plan.brokers().iter().map(ToString::to_string).collect();
        let mut endpoints = Endpoints { brokers, postgres_url: plan.database_url(), ..Endpoints::default() };
        for part in &plan.parts {
            let Some(address) = part.addresses.first() else { continue };
            match &part.kind {
                Kind::Kafka | Kind::Postgres { .. } => {}
                Kind::Redis => endpoints.redis_url = Some(format!("redis://{address}")),
                Kind::Program { .. } => {
                    endpoints.programs.insert(part.name.clone(), format!("http://{address}"));
                }
            }
        }
        endpoints
    }

    /// Waits until the system is at rest.
    ///
    /// # Errors
    /// It was not by the deadline; the error says what it still did.
    pub async fn settle(&self, deadline: Duration) -> Result<(), EnvironmentError> {
        let in_flight = || self.calls.0.load(Ordering::Acquire);
        Ok(observe::settle(&self.endpoints(), &self.spec.settle, &in_flight, deadline).await?)
    }

    /// Reads everything that happened, without waiting for rest.
    ///
    /// # Errors
    /// A part cannot be read.
    pub async fn observe(&self) -> Result<Observation, EnvironmentError> {
        Ok(observe::collect(&self.endpoints(), &self.spec.observe).await?)
    }

    /// Waits for rest and writes down what happened, redacted, for review.
    ///
    /// # Errors
    /// The system did not come to rest, or cannot be read.
    pub async fn document(&self) -> Result<String, EnvironmentError> {
        self.settle(SETTLE_DEADLINE).await?;
        Ok(snapshot::document(&self.observe().await?, &self.spec.observe))
    }

    /// Sends a signal to a part.
    ///
    /// # Errors
    /// There is no such running part.
    pub async fn signal(&mut self, part: &str, signal: PartSignal) -> Result<(), EnvironmentError> {
        self.act(Action::Signal { part: part.to_owned(), signal }).await
    }

    /// Starts a part again; one that runs is killed first.
    ///
    /// # Errors
    /// There is no such part, or it did not become ready.
    pub async fn restart(&mut self, part: &str) -> Result<(), EnvironmentError> {
        self.act(Action::Restart { part: part.to_owned() }).await
    }

    /// Expects complaints in a part's log that contain this text: the story provokes them.
    pub fn expect_complaint(&mut self, part: &str, text: &str) {
        self.audit.expect(part, text);
    }

    /// Looks through the logs for complaints that nobody expected.
    ///
    /// # Errors
    /// There is one.
    pub fn audit(&self) -> Result<(), Unexpected> {
        self.audit.verdict()
    }

    /// Complaints that nobody expected, whether or not they are a failure: in the logs, and of groups that nobody of
    /// somebody else's service had joined when it was waited for.
    #[must_use]
    pub fn complaints(&self) -> Vec<Complaint> {
        self.absent.iter().cloned().chain(self.audit.complaints()).collect()
    }

    /// The story goes no further with somebody else's service: this it cannot be asked, which stands beside its verdict.
    pub fn leave_unasked(&mut self, what: impl Into<String>) {
        self.unasked.push(what.into());
    }

    /// What was [left unasked](Environment::leave_unasked).
    #[must_use]
    pub fn unasked(&self) -> &[String] {
        &self.unasked
    }

    /// Whether a part only stands in for a service that runs elsewhere.
    fn is_elsewhere(&self, part: &str) -> bool {
        self.spec.programs.iter().any(|program| program.elsewhere && program.name == part)
    }

    async fn act(&mut self, action: Action) -> Result<(), EnvironmentError> {
        if let Action::Signal { part, .. } | Action::Restart { part } = &action
            && self.is_elsewhere(part)
        {
            return Err(EnvironmentError::Elsewhere(part.clone()));
        }
        // Before it is done: what fails half-way, as a restart that killed and did not start, has disturbed it too.
        match &action {
            Action::Signal { part, .. } | Action::Restart { part } | Action::Ask { part, .. } => {
                self.audit.disturb(part);
            }
            Action::Link { routes, .. } => routes.iter().for_each(|route| self.audit.disturb(&route.to)),
        }
        let is_under_test = match &action {
            Action::Signal { part, .. } | Action::Restart { part } => self.is_under_test(part),
            Action::Link { .. } | Action::Ask { .. } => false,
        };
        let done = self.lease.act(action.clone()).await;
        match (action, done.is_ok()) {
            (Action::Restart { part }, true) => drop(self.ended.remove(&part)),
            // It may have been killed and not started.
            (Action::Restart { part }, false)
            | (Action::Signal { part, signal: PartSignal::Kill | PartSignal::Stop }, true) => {
                self.ended.insert(part);
            }
            _ => {}
        }
        done.map_err(|error| if is_under_test { error.into() } else { EnvironmentError::Fault(error) })
    }

    /// Whether a part is the system under test, or an instance of it.
    fn is_under_test(&self, part: &str) -> bool {
        matches!(self.plan().part(part), Some(Part { kind: Kind::Program { under_test: true, .. }, .. }))
    }

    /// Looks whether every part runs but for those that the story has ended or has seen end.
    ///
    /// # Errors
    /// One does not, or the connection broke.
    pub async fn all_run_on(&mut self) -> Result<(), EnvironmentError> {
        for PartSummary { name, state, .. } in self.summary().await?.parts {
            if let (PartState::Exited(status), false) = (state, self.ended.contains(&name)) {
                let is_under_test = self.is_under_test(&name) && !self.is_elsewhere(&name);
                return Err(EnvironmentError::Ended { part: name, status, is_under_test });
            }
        }
        Ok(())
    }

    /// How every part is.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn summary(&mut self) -> Result<Summary, EnvironmentError> {
        Ok(self.lease.summary().await?)
    }

    /// Keeps logs, plan and description for a person, and says where.
    ///
    /// # Errors
    /// They cannot be written.
    pub async fn keep(&mut self) -> Result<PathBuf, EnvironmentError> {
        Ok(self.lease.keep().await?)
    }

    /// Waits for what nobody asked for: a part that ends, or the environment that somebody else ends.
    ///
    /// # Errors
    /// The supervisor died, and the environment with it.
    pub async fn news(&mut self) -> Result<News, EnvironmentError> {
        Ok(self.lease.news().await?)
    }

    /// Gives the environment back; returns when its end is certain.
    ///
    /// # Errors
    /// The connection broke, which ends the environment too.
    pub async fn release(self) -> Result<(), EnvironmentError> {
        Ok(self.lease.release().await?)
    }
}

impl Calls {
    /// A call begins.
    pub fn begin(&self) -> Call {
        self.0.fetch_add(1, Ordering::AcqRel);
        Call(Arc::clone(&self.0))
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What [`RUNTIME_VARIABLE`] says.
///
/// # Errors
/// It says something that nothing runs as.
pub fn chosen_runtime() -> Result<Runtime, EnvironmentError> {
    match std::env::var(RUNTIME_VARIABLE) {
        Err(_) => Ok(Runtime::default()),
        Ok(name) => clap::ValueEnum::from_str(&name, false).ok().ok_or(EnvironmentError::Runtime(name)),
    }
}

/// Where what outlives an environment is kept for a person: `target/greenroom`.
#[must_use]
pub fn kept_directory(workspace: &Workspace) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.root.join("target"), PathBuf::from);
    // A relative one is meant from where the command runs, as Cargo has it.
    std::path::absolute(&target).unwrap_or(target).join("greenroom")
}
