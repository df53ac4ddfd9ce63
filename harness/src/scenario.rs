//! Runs a story in an environment of its own.
//!
//! A scenario is a plain test function: it calls [`run`] with a description and an async closure. On failure the
//! error names the line of the `?`, the evidence is kept, and the message says where it is and how to start the
//! same environment again. On success nothing is left.
//!
//! Deliberately absent: procedural macros and retries.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::panic::{AssertUnwindSafe, Location, resume_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::FutureExt;

use crate::audit::Complaint;
use crate::drive::{ProducerError, SendError};
use crate::environment::{Environment, EnvironmentError, START_DEADLINE, StartOptions};
use crate::report;
use crate::runtime::{self, Waited};
use crate::service::elsewhere;
use crate::snapshot;
use crate::spec::Spec;

/// How long the reading of evidence may take: longer than any part of it, so that what was silent is named.
const EVIDENCE_DEADLINE: Duration = Duration::from_secs(60);

/// How long the system may take to reach a state by itself.
const STATE_DEADLINE: Duration = Duration::from_secs(90);

/// What a scenario returns.
pub type Verdict = Result<(), Failure>;

/// An error and the line of the scenario that met it. Prints as text, so that a test's output is readable.
pub struct Failure {
    message: String,
    location: &'static Location<'static>,
    evidence: Option<String>,
    concern: Concern,
}

/// What a failure speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Concern {
    /// The system under test: as far as anyone can tell, its law does not hold.
    System,
    /// Nothing: the story asks for what this service cannot be asked.
    CannotBeAsked,
    /// The environment: it was lost, or could not be used, so nothing is known of the system.
    Environment,
}

impl Failure {
    /// A failure told in words, at the caller's line.
    #[must_use]
    #[track_caller]
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), location: Location::caller(), evidence: None, concern: Concern::System }
    }

    /// Nothing that went wrong: the story asks for what somebody else's service cannot be asked, and why.
    #[must_use]
    #[track_caller]
    pub fn cannot_be_asked(reason: impl Into<String>) -> Self {
        Self { concern: Concern::CannotBeAsked, ..Self::new(reason) }
    }

    /// What went wrong, without where.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What it speaks of.
    #[must_use]
    pub fn concern(&self) -> Concern {
        self.concern
    }
}

impl<E: Error + 'static> From<E> for Failure {
    #[track_caller]
    fn from(error: E) -> Self {
        let any: &dyn Any = &error;
        let concern = match any.downcast_ref::<EnvironmentError>() {
            Some(EnvironmentError::Elsewhere(_)) => Concern::CannotBeAsked,
            Some(error) if error.is_of_the_environment() => Concern::Environment,
            None if any.is::<ProducerError>() || any.is::<SendError>() => Concern::Environment,
            _ => Concern::System,
        };
        Self { concern, ..Self::new(report::chain(&error)) }
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}: {}", self.location.file(), self.location.line(), self.message)?;
        match &self.evidence {
            Some(evidence) => write!(formatter, "\n{evidence}"),
            None => Ok(()),
        }
    }
}

/// Waits until the system has reached a state that it reaches by itself, such as after a timer: asks every 20 ms, for
/// a minute and a half at most.
///
/// # Errors
/// It did not; the error says what the condition found missing last.
pub async fn eventually<T>(state: impl AsyncFnMut() -> Result<T, String>) -> Result<T, Waited> {
    runtime::until(Instant::now() + STATE_DEADLINE, Duration::from_millis(20), state).await
}

/// What came of a story, whatever came of it.
pub struct Told {
    /// Its verdict, or the panic that ended it.
    pub outcome: Result<Verdict, Box<dyn Any + Send>>,
    /// Whether its environment was there.
    pub begun: bool,
    /// What became of the environment, where it was lost meanwhile: then nothing is known of the system.
    pub lost: Option<String>,
    /// Complaints in the logs that nobody expected.
    pub complaints: Vec<Complaint>,
    /// What it did not ask of somebody else's service.
    pub unasked: Vec<String>,
}

/// Starts an environment, plays the story in it and takes the environment away.
///
/// # Errors
/// The environment did not start, or the story failed.
///
/// # Panics
/// The story panicked (an assertion failed): the panic goes on after the evidence is kept.
#[track_caller]
pub fn run(spec: Spec, story: impl AsyncFnOnce(&mut Environment) -> Verdict) -> Verdict {
    match tell(spec, story).outcome {
        Ok(verdict) => verdict,
        Err(panic) => resume_unwind(panic),
    }
}

/// The same for whoever wants to know more than the verdict; a panic is told and not passed on.
#[track_caller]
pub fn tell(spec: Spec, story: impl AsyncFnOnce(&mut Environment) -> Verdict) -> Told {
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Told::not_begun(error.into()),
    };
    let told = runtime.block_on(play(spec, story, Location::caller()));
    // Blocking readers of topics may still be closing; a test does not wait for them.
    runtime.shutdown_background();
    told
}

impl Told {
    fn not_begun(failure: Failure) -> Self {
        Self { outcome: Ok(Err(failure)), begun: false, lost: None, complaints: Vec::new(), unasked: Vec::new() }
    }
}

async fn play(
    spec: Spec,
    story: impl AsyncFnOnce(&mut Environment) -> Verdict,
    begun_at: &'static Location<'static>,
) -> Told {
    let name = std::thread::current().name().unwrap_or("scenario").to_owned();
    // A person needs longer than a program.
    let is_elsewhere = spec.programs.iter().any(|program| program.elsewhere);
    let options = StartOptions {
        holder: format!("scenario {name}, process {}", std::process::id()),
        deadline: if is_elsewhere { elsewhere::START_DEADLINE } else { START_DEADLINE },
        ..Default::default()
    };
    let mut environment = match Environment::start(spec, options, |_| {}).await {
        Ok(environment) => environment,
        Err(error) => return Told::not_begun(error.into()),
    };
    let outcome = AssertUnwindSafe(story(&mut environment)).catch_unwind().await;
    let runs_on = environment.all_run_on().await;
    let lost = runs_on.as_ref().err().filter(|error| error.is_of_the_environment()).map(|error| report::chain(error));
    // A story that fails meets what follows from such an end, and seldom the end itself.
    let meanwhile = match (&outcome, &runs_on) {
        (Ok(Ok(())), _) | (_, Ok(())) => String::new(),
        (_, Err(error)) => format!("meanwhile: {}\n", report::chain(error)),
    };
    let outcome = match outcome {
        Ok(Ok(())) => {
            Ok(passed_over(&environment, runs_on).map_err(|failure| Failure { location: begun_at, ..failure }))
        }
        told => told,
    };
    let (complaints, unasked) = (environment.complaints(), environment.unasked().to_vec());
    let outcome = match outcome {
        Ok(Ok(())) => Ok(environment.release().await.map_err(Failure::from)),
        Ok(Err(failure)) if failure.concern == Concern::CannotBeAsked => {
            environment.release().await.map_or_else(|error| Ok(Err(error.into())), |()| Ok(Err(failure)))
        }
        Ok(Err(mut failure)) => {
            let kept = keep(environment, &name, &format!("{failure:?}\n{meanwhile}")).await;
            failure.evidence = Some(meanwhile + &kept);
            Ok(Err(failure))
        }
        Err(panic) => {
            let panicked = format!("the scenario panicked; see its output\n{meanwhile}");
            let evidence = meanwhile + &keep(environment, &name, &panicked).await;
            #[expect(clippy::print_stderr, reason = "a panic has no other way to say where its evidence is")]
            {
                eprintln!("{evidence}");
            }
            Err(panic)
        }
    };
    Told { outcome, begun: true, lost, complaints, unasked }
}

/// A story that passes over the end of a part, or over its complaint, has not passed. The end comes first: others
/// complain of it.
fn passed_over(environment: &Environment, runs_on: Result<(), EnvironmentError>) -> Verdict {
    runs_on?;
    Ok(environment.audit()?)
}

/// Keeps everything that explains a failure and says where it is.
async fn keep(mut environment: Environment, name: &str, error: &str) -> String {
    let kept = match environment.keep().await {
        Ok(kept) => kept,
        Err(cause) => return format!("the evidence could not be kept: {}", report::chain(&cause)),
    };
    let observed = tokio::time::timeout(EVIDENCE_DEADLINE, environment.observe()).await;
    let document = match observed {
        Ok(Ok(observation)) => snapshot::document(&observation, &environment.spec().observe),
        Ok(Err(cause)) => format!("what happened could not be read: {}", report::chain(&cause)),
        Err(_) => format!("what happened could not be read within {} s", EVIDENCE_DEADLINE.as_secs()),
    };
    let _ = environment.release().await;
    let written = write(&kept, &[("error.txt", error), ("document.txt", &document)]);
    let lost = written.err().map_or_else(String::new, |cause| format!("\n(not all could be written: {cause})"));
    format!(
        "scenario {name} failed; its logs, plan and document are in {directory}{lost}\n\
         start the same environment again: cargo xtask test-env up --description {directory}/environment.toml",
        directory = kept.display()
    )
}

fn write(directory: &Path, files: &[(&str, &str)]) -> std::io::Result<()> {
    files.iter().try_for_each(|(name, content)| std::fs::write(directory.join(name), content))
}
