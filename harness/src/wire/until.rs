//! Asking again until the answer is good: the only waiting that this module does.

use std::time::Duration;

use tokio::time::Instant;

use super::error::WireError;
use crate::attempts::Attempts;

/// How often each broker of a cluster that is still starting is asked: nothing is listening for most of that time.
///
/// At 10 ms a start of three brokers had 760 refused connections, which took 0.09 s of CPU time.
pub(super) const STARTING: Duration = Duration::from_millis(25);
/// How often a running cluster is asked for a state that it reaches within some tens of milliseconds.
///
/// They are busy reaching it, often on the same cores: asking every 3 ms cost them more and gained nothing.
pub(super) const RUNNING: Duration = Duration::from_millis(10);

/// Attempts that end with the first error that does not pass by itself.
pub(super) struct Until<'a> {
    awaited: &'a str,
    attempts: Attempts,
    last: Option<Box<WireError>>,
}

impl<'a> Until<'a> {
    pub(super) fn new(awaited: &'a str, period: Duration, deadline: Instant) -> Self {
        Self { awaited, attempts: Attempts::new(period, deadline.into()), last: None }
    }

    /// Makes one attempt when it is due. Nothing comes back from one that failed and may be repeated.
    ///
    /// # Errors
    /// A failure for good; at the deadline an error that names what was awaited and carries the last failure.
    pub(super) async fn attempt<T>(
        &mut self,
        attempt: impl Future<Output = Result<T, WireError>>,
    ) -> Result<Option<T>, WireError> {
        match self.attempts.make(attempt).await {
            Some(Ok(reached)) => Ok(Some(reached)),
            Some(Err(error)) if error.is_transient() => {
                self.last = Some(Box::new(error));
                Ok(None)
            }
            Some(Err(error)) => Err(error),
            None => Err(WireError::Deadline {
                awaited: self.awaited.to_owned(),
                waited_ms: self.attempts.waited().as_millis(),
                source: self.last.take(),
            }),
        }
    }
}
