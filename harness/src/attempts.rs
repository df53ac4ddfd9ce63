//! Attempts at one thing, again and again at most until a deadline: where the harness lets time pass while it waits.
//!
//! What a failed attempt means is the caller's: [`runtime::until`](crate::runtime::until) says what was missing, the
//! wire client tells passing errors from final ones, settling compares each look with the one before. [`look_until`]
//! is for code that blocks.
//!
//! Deliberately absent: a growing pause. What is waited for here takes milliseconds, on this machine.

use std::thread;
use std::time::{Duration, Instant};

use tokio::time::{Interval, MissedTickBehavior, interval, timeout_at};

/// Attempts that are made one after the other.
///
/// The caller writes the loop. A function that took an async closure would be shorter to call,
/// but its future could not be spawned: the compiler cannot yet prove it `Send`.
pub(crate) struct Attempts {
    began: Instant,
    deadline: Instant,
    ticks: Interval,
    last_began: Option<Instant>,
}

impl Attempts {
    /// An attempt begins `period` after the one before, or when that has ended; the last one begins when the deadline
    /// has passed, also where this process stood still until then.
    pub(crate) fn new(period: Duration, deadline: Instant) -> Self {
        let mut ticks = interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { began: Instant::now(), deadline, ticks, last_began: None }
    }

    /// Makes an attempt when it is due. `None`: the deadline has passed, and an attempt under way was dropped; one that
    /// begins after it has no time at all, and is good for what is seen at once.
    pub(crate) async fn make<T>(&mut self, attempt: impl Future<Output = T>) -> Option<T> {
        let deadline = self.deadline;
        if self.last_began.is_some_and(|began| began >= deadline) {
            return None;
        }
        let _due_or_late = timeout_at(deadline.into(), self.ticks.tick()).await;
        self.last_began = Some(Instant::now());
        timeout_at(deadline.into(), attempt).await.ok()
    }

    /// How long attempts have been made.
    pub(crate) fn waited(&self) -> Duration {
        self.began.elapsed()
    }
}

/// Blocks this thread and looks every `period` until there is something to see. `Ok(None)`: `limit` has passed.
///
/// # Errors
/// The first look that fails.
pub(crate) fn look_until<T, E>(
    limit: Duration,
    period: Duration,
    mut look: impl FnMut() -> Result<Option<T>, E>,
) -> Result<Option<T>, E> {
    let deadline = Instant::now() + limit;
    loop {
        let began = Instant::now();
        if let Some(seen) = look()? {
            return Ok(Some(seen));
        }
        if began >= deadline {
            return Ok(None);
        }
        #[expect(clippy::disallowed_methods, reason = "the pause between two looks, bounded by the deadline")]
        thread::sleep(period);
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::{pending, ready};

    use super::*;

    const PERIOD: Duration = Duration::from_millis(1);

    #[tokio::test]
    async fn one_attempt_is_made_after_the_deadline_and_no_second() {
        let mut attempts = Attempts::new(PERIOD, Instant::now());
        assert_eq!(attempts.make(ready(1)).await, Some(1));
        assert_eq!(attempts.make(ready(2)).await, None);
    }

    /// Goal: whoever stands still in the middle of an attempt until the deadline has passed looks once more.
    #[tokio::test]
    async fn what_stood_still_looks_once_more() {
        let mut attempts = Attempts::new(PERIOD, Instant::now());
        attempts.last_began = Some(attempts.deadline - PERIOD);
        assert_eq!(attempts.make(ready(1)).await, Some(1));
        assert_eq!(attempts.make(ready(2)).await, None);
    }

    #[tokio::test]
    async fn an_attempt_that_never_ends_is_dropped_at_the_deadline() {
        let mut attempts = Attempts::new(PERIOD, Instant::now() + Duration::from_millis(20));
        assert_eq!(attempts.make(ready(1)).await, Some(1));
        assert_eq!(attempts.make(pending::<i32>()).await, None);
        assert!(attempts.waited() >= Duration::from_millis(20));
    }

    #[test]
    fn a_blocking_look_ends_with_what_it_sees_or_at_its_limit() {
        let mut looks = 0;
        let third = look_until(Duration::from_secs(10), PERIOD, || {
            looks += 1;
            Ok::<_, Infallible>((looks == 3).then_some(looks))
        });
        assert_eq!(third, Ok(Some(3)));
        assert_eq!(look_until(PERIOD, PERIOD, || Ok::<Option<()>, Infallible>(None)), Ok(None));
        assert_eq!(look_until(PERIOD, PERIOD, || Err::<Option<()>, _>("broken")), Err("broken"));
    }
}
