//! What clients ask and get: environments admitted, started, held and ended.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::UnixStream;
use tokio::sync::mpsc;

use super::actions::{self, advised, hinted};
use super::protocol::{Event, Incoming, MessageError, Order, Outgoing, Request, sides};
use super::serve::Server;
use super::state::House;
use super::taken_away::TakenAway;
use super::tenancy::Tenancy;
use crate::docker::{Containers, Engine, EngineError};
use crate::plan::{Network, Plan, Runtime, Site};
use crate::report::Problem;
use crate::runtime::StartError;
use crate::spec::Links;

/// How long a client that does not hear of the end can keep its environment from it.
const TOLD_LIMIT: Duration = Duration::from_millis(100);

/// What a client has said, or why it was not understood.
type Asked = Result<Request, Problem>;

impl Server {
    pub(super) async fn converse(self: &Arc<Self>, stream: UnixStream) {
        let (incoming, mut outgoing) = sides(stream);
        let mut requests = read_requests(incoming);
        while let Some(request) = requests.recv().await {
            let event = match request {
                Err(problem) => Event::Failed(problem),
                Ok(Request::Start(order)) => {
                    Box::pin(self.lend(*order, &mut requests, &mut outgoing)).await;
                    return;
                }
                Ok(Request::Status) => Event::Status(self.lock().values().map(|tenancy| tenancy.summary()).collect()),
                Ok(Request::End { environment }) => self.end(environment.as_deref()).await,
                Ok(Request::Retire) => {
                    self.retired.store(true, Ordering::Release);
                    self.changed.notify_one();
                    Event::Done
                }
                Ok(Request::Act { environment, action }) => match self.find(environment.as_deref()) {
                    Ok(tenancy) => actions::act(&tenancy, action, &self.spawner).await,
                    Err(problem) => Event::Failed(problem),
                },
                Ok(Request::Release | Request::Keep) => Event::Failed(Problem::new("this connection holds no lease")),
            };
            if outgoing.send(&event).await.is_err() {
                return;
            }
        }
    }

    /// Starts an environment and lends it until the connection ends, or it is released or ended.
    async fn lend(self: &Arc<Self>, order: Order, requests: &mut mpsc::Receiver<Asked>, outgoing: &mut Outgoing) {
        let begun = Instant::now();
        let limit = Duration::from_millis(order.deadline_ms);
        let late = || EngineError::Late { what: "anything".to_owned() };
        let engine = match tokio::time::timeout(limit, self.engine_for(&order)).await.unwrap_or_else(|_| Err(late())) {
            Ok(engine) => engine,
            Err(error) => {
                let problem = Problem::from_error(&error).hint(error.advice());
                return drop(outgoing.send(&Event::Failed(problem)).await);
            }
        };
        if order.of_somebody_else {
            // Such a service may listen at every address: the port is free when the one before it has gone.
            self.departed().await;
        }
        let tenancy = match self.admit(order, engine) {
            Ok(tenancy) => tenancy,
            // The client finds or starts another supervisor.
            Err(None) => return,
            Err(Some(problem)) => return drop(outgoing.send(&Event::Failed(problem)).await),
        };
        let _guard = TakenAway::in_the_end(self, &tenancy);
        let outcome = self.start(&tenancy, requests, outgoing).await;
        let mut last = Event::Done;
        if let Ok(()) = outcome {
            let took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
            if outgoing.send(&Event::Lent { took_ms }).await.is_ok() {
                last = self.hold(&tenancy, requests, outgoing).await;
            }
        }
        match outcome {
            Err(Some(problem)) => {
                tenancy.begin_end();
                // The client may look for what is left: it is told when nothing is.
                self.remove(&tenancy).await;
                let _ = outgoing.send(&Event::Failed(problem)).await;
            }
            Ok(()) | Err(None) => {
                // Told and heard first: the death of brokers takes the processors for a while, and nobody has to wait
                // for that. Whoever has heard it closes the connection.
                let told = async {
                    if outgoing.send(&last).await.is_ok() {
                        while requests.recv().await.is_some() {}
                    }
                };
                let _ = tokio::time::timeout(TOLD_LIMIT, told).await;
                tenancy.begin_end();
                self.remove(&tenancy).await;
            }
        }
    }

    /// The container engine, where an order needs one; what dead supervisors of this workspace have left in it is
    /// removed before the first container is made.
    async fn engine_for(&self, order: &Order) -> Result<Option<Engine>, EngineError> {
        if order.runtime == Runtime::Process {
            return Ok(None);
        }
        let mut engines = self.engines.lock().await;
        if let Some(engine) = engines.get(&order.engine) {
            return Ok(Some(engine.clone()));
        }
        let engine = Engine::at(&order.engine).await?;
        engine.shares_users().await?;
        let workspace = self.house.path().parent();
        let own = (self.house.path(), self.identity.as_str());
        let left_by_dead = |house: &Path, supervisor: &str| {
            house.parent() == workspace
                && (House::at(house.to_owned()).is_abandoned() || (house == own.0 && supervisor != own.1))
        };
        engine.sweep(left_by_dead).await?;
        engines.insert(order.engine.clone(), engine.clone());
        Ok(Some(engine))
    }

    /// Makes the plan at an address of its own, without starting anything yet.
    ///
    /// # Errors
    /// It cannot be planned, or has no place; nothing, where this supervisor is just ending.
    pub(super) fn admit(&self, order: Order, engine: Option<Engine>) -> Result<Arc<Tenancy>, Option<Problem>> {
        let ports = order.spec.ports(order.scope);
        let backstage: &[u16] = if order.spec.links == Links::None { &[] } else { &ports };
        let claim = self.addresses.claim(&ports, backstage);
        let claim = claim.map_err(|error| Some(hinted(Problem::from_error(&error), error.advice())))?;
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let environment = format!("{}-{}-{number}", order.spec.name, std::process::id());
        let site = Site {
            directory: self.house.path().join(&environment),
            environment: environment.clone(),
            supervisor: self.identity.clone(),
            address: claim.address(),
            backstage: claim.backstage(),
            network: Network::default(),
            binaries: order.binaries.clone(),
            runtime: order.runtime,
        };
        let plan = Plan::new(&order.spec, order.scope, &order.toolchain, site);
        let plan = plan.map_err(|error| Some(Problem::from_error(&error)))?;
        let containers = engine.map(|engine| Containers::new(engine, &plan, self.house.path()));
        let tenancy = Arc::new(Tenancy::new(plan, order, claim, containers));
        let mut environments = self.lock();
        if self.leaves.load(Ordering::Acquire) {
            return Err(None);
        }
        environments.insert(environment, Arc::clone(&tenancy));
        self.changed.notify_one();
        Ok(tenancy)
    }

    /// Starts it; `Err(None)` when nobody waits for it any more.
    async fn start(
        &self,
        tenancy: &Arc<Tenancy>,
        requests: &mut mpsc::Receiver<Asked>,
        outgoing: &mut Outgoing,
    ) -> Result<(), Option<Problem>> {
        let gone = |_| None;
        outgoing.send(&Event::Planned(Box::new(tenancy.plan.clone()))).await.map_err(gone)?;
        let (events, mut steps) = mpsc::unbounded_channel();
        let starting = async {
            // The semaphore is never closed.
            let permit = self.starts.acquire().await.ok();
            tenancy.start(&self.spawner, events, permit).await
        };
        let mut starting = Box::pin(starting);
        let started = loop {
            tokio::select! {
                biased;
                Some(step) = steps.recv() => outgoing.send(&step).await.map_err(gone)?,
                // Whatever the client says before it has its environment, it no longer wants it.
                _ = requests.recv() => return Err(None),
                () = tenancy.ending() => return Err(Some(Problem::new("the environment was ended by another command"))),
                started = &mut starting => break started,
            }
        };
        // The last steps were told in the same moment in which the start ended.
        while let Ok(step) = steps.try_recv() {
            outgoing.send(&step).await.map_err(gone)?;
        }
        started.map_err(|error| Some(failure(tenancy, &error)))
    }

    /// Serves the holder of a lease until it releases it or is gone, or somebody else ends the environment; what it is
    /// told last.
    async fn hold(
        &self,
        tenancy: &Arc<Tenancy>,
        requests: &mut mpsc::Receiver<Asked>,
        outgoing: &mut Outgoing,
    ) -> Event {
        let mut told = BTreeSet::new();
        loop {
            let request = tokio::select! {
                request = requests.recv() => request,
                () = tenancy.ending() => return Event::Ended,
                (part, status) = tenancy.processes.next_exit(&mut told) => {
                    let event = Event::PartEnded { part, status: status.to_string() };
                    if outgoing.send(&event).await.is_err() {
                        return Event::Done;
                    }
                    continue;
                }
            };
            let event = match request {
                None | Some(Ok(Request::Release)) => return Event::Done,
                Some(Err(problem)) => Event::Failed(problem),
                Some(Ok(Request::Act { environment: None, action })) => tokio::select! {
                    event = actions::act(tenancy, action, &self.spawner) => event,
                    // Whatever the client says before it has its answer, it no longer waits for it.
                    _ = requests.recv() => return Event::Done,
                    () = tenancy.ending() => return Event::Ended,
                },
                Some(Ok(Request::Keep)) => match tenancy.keep() {
                    Ok(directory) => Event::Kept { directory },
                    Err(error) => Event::Failed(Problem::from_error(&error)),
                },
                Some(Ok(Request::Status)) => Event::Status(vec![tenancy.summary()]),
                Some(Ok(Request::Start(_) | Request::End { .. } | Request::Act { .. } | Request::Retire)) => {
                    Event::Failed(Problem::new("this connection already holds a lease; use another one"))
                }
            };
            if outgoing.send(&event).await.is_err() {
                return Event::Done;
            }
        }
    }

    /// The environment of this id.
    fn find(&self, environment: Option<&str>) -> Result<Arc<Tenancy>, Problem> {
        let Some(id) = environment else {
            return Err(Problem::new("this connection holds no lease").hint("name an environment"));
        };
        let found = self.lock().get(id).cloned();
        found.ok_or_else(|| Problem::new(format!("there is no environment {id}")))
    }

    async fn end(&self, environment: Option<&str>) -> Event {
        let chosen: Vec<_> = {
            let environments = self.lock();
            let wanted = environments.iter().filter(|(id, _)| environment.is_none_or(|wanted| wanted == id.as_str()));
            wanted.map(|(_, tenancy)| Arc::clone(tenancy)).collect()
        };
        if let (Some(environment), true) = (environment, chosen.is_empty()) {
            return Event::Failed(Problem::new(format!("there is no environment {environment}")));
        }
        futures_util::future::join_all(chosen.iter().map(|tenancy| self.remove(tenancy))).await;
        Event::Done
    }

    pub(super) async fn end_all(&self) {
        self.end(None).await;
    }

    /// Returns when nothing is left of those environments whose end has begun.
    async fn departed(&self) {
        let ending: Vec<_> = self.lock().values().filter(|tenancy| tenancy.is_ending()).cloned().collect();
        futures_util::future::join_all(ending.iter().map(|tenancy| tenancy.complete_end())).await;
    }

    /// Ends an environment, whoever else does it at the same time, and forgets it when it is gone.
    pub(super) async fn remove(&self, tenancy: &Arc<Tenancy>) {
        tenancy.begin_end();
        tenancy.complete_end().await;
        self.lock().remove(&tenancy.plan.site.environment);
        self.changed.notify_one();
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Tenancy>>> {
        self.environments.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads requests until the client is gone.
fn read_requests(mut incoming: Incoming) -> mpsc::Receiver<Asked> {
    let (sender, receiver) = mpsc::channel(8);
    tokio::spawn(async move {
        loop {
            let asked = match incoming.next::<Request>().await {
                Ok(Some(request)) => Ok(request),
                Ok(None) | Err(MessageError::Broken(_)) => return,
                Err(error) => Err(Problem::from_error(&error).hint("this supervisor may be of another build")),
            };
            if sender.send(asked).await.is_err() {
                return;
            }
        }
    });
    receiver
}

/// Tells of a failed start, with the logs kept where the message says they are.
fn failure(tenancy: &Tenancy, error: &StartError) -> Problem {
    if error.is_of_the_description() {
        return advised(error);
    }
    let problem = Problem::from_error(error);
    match tenancy.keep() {
        Ok(kept) => {
            let moved = |directory: &std::path::Path| directory.join("logs").display().to_string();
            let message = problem.message.replace(&moved(tenancy.directory()), &moved(&kept));
            let advice = error.advice().map_or_else(String::new, |advice| format!("{advice}; "));
            Problem::new(message).hint(format!("{advice}logs, plan and description are kept in {}", kept.display()))
        }
        Err(keeping) => problem.hint(format!("the logs could not be kept: {keeping}")),
    }
}
