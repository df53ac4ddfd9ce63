//! Waits for a named state by a deadline: the only place that lets time pass.

use std::time::{Duration, Instant};

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
    let begun = Instant::now();
    loop {
        let remaining = deadline.saturating_duration_since(Instant::now());
        let missing = match tokio::time::timeout(remaining, condition()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(missing)) => missing,
            Err(_) => "no answer".to_owned(),
        };
        if Instant::now() + interval >= deadline {
            return Err(Waited { missing, waited: begun.elapsed() });
        }
        #[expect(clippy::disallowed_methods, reason = "the pause between two looks, bounded by the deadline")]
        tokio::time::sleep(interval).await;
    }
}
