//! Asking again until the answer is good: the only waiting that this module does.

use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior, interval, timeout_at};

use super::error::WireError;

/// How often a cluster that is still starting is asked: nothing is listening for most of that time,
/// so an attempt costs a refused connection.
pub(super) const STARTING: Duration = Duration::from_millis(10);
/// How often a running cluster is asked for a state that it reaches within some tens of milliseconds.
///
/// They are busy reaching it, often on the same cores: asking every 3 ms cost them more and gained nothing.
pub(super) const RUNNING: Duration = Duration::from_millis(10);

/// Repeated attempts at one thing, at most until a deadline.
///
/// The caller writes the loop. A function that took an async closure would be shorter to call,
/// but its future could not be spawned: the compiler cannot yet prove it `Send`.
pub(super) struct Until<'a> {
    awaited: &'a str,
    began: Instant,
    deadline: Instant,
    ticks: Interval,
    last: Option<Box<WireError>>,
}

impl<'a> Until<'a> {
    pub(super) fn new(awaited: &'a str, period: Duration, deadline: Instant) -> Self {
        let mut ticks = interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { awaited, began: Instant::now(), deadline, ticks, last: None }
    }

    /// Makes one attempt when it is due. Nothing comes back from one that failed and may be repeated.
    ///
    /// # Errors
    /// A failure for good; at the deadline an error that names what was awaited and carries the last failure.
    pub(super) async fn attempt<T>(
        &mut self,
        attempt: impl Future<Output = Result<T, WireError>>,
    ) -> Result<Option<T>, WireError> {
        let ticks = &mut self.ticks;
        let round = async {
            ticks.tick().await;
            attempt.await
        };
        match timeout_at(self.deadline, round).await {
            Ok(Ok(reached)) => Ok(Some(reached)),
            Ok(Err(error)) if error.is_transient() => {
                self.last = Some(Box::new(error));
                Ok(None)
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(WireError::Deadline {
                awaited: self.awaited.to_owned(),
                waited_ms: self.began.elapsed().as_millis(),
                source: self.last.take(),
            }),
        }
    }
}
