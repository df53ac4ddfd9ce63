//! Waits for a named state by a deadline.

use std::time::{Duration, Instant};

use crate::attempts::Attempts;

/// A state was not reached in time; says what was missing.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{missing} after {:.1} s", waited.as_secs_f64())]
pub struct Waited {
    /// What the condition said last.
    pub missing: String,
    /// How long it was waited for.
    pub waited: Duration,
}

/// Asks `condition` every `interval` until it is met or `deadline` has passed.
///
/// # Errors
/// The deadline passed; the error carries what the condition said was missing.
pub async fn until<T>(
    deadline: Instant,
    interval: Duration,
    mut condition: impl AsyncFnMut() -> Result<T, String>,
) -> Result<T, Waited> {
    let mut attempts = Attempts::new(interval, deadline);
    let mut missing = "no answer".to_owned();
    loop {
        match attempts.make(condition()).await {
            Some(Ok(met)) => return Ok(met),
            Some(Err(said)) => missing = said,
            None => return Err(Waited { missing, waited: attempts.waited() }),
        }
    }
}
