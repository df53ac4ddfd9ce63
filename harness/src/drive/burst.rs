//! Many requests at once.
//!
//! All run on the caller's task: what is measured is the system, which has the other cores to itself.

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream;

/// The answers to a burst and how long all of it took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Burst<R> {
    /// What the action gave for each item, in the order of the items.
    pub answers: Vec<R>,
    /// From the first request's beginning to the last answer.
    pub took: Duration,
}

impl<R> Burst<R> {
    /// Answers per second, 0 for an empty burst.
    #[must_use]
    pub fn per_second(&self) -> f64 {
        // A count of requests is far below 2^52, where a float stops being exact.
        let answers = u32::try_from(self.answers.len()).unwrap_or(u32::MAX);
        if answers == 0 { 0.0 } else { f64::from(answers) / self.took.as_secs_f64().max(f64::MIN_POSITIVE) }
    }
}

/// Takes `action` for every item, at most `at_once` of them at a time (0 counts as 1), and always as many as that while
/// items are left: a slow answer holds up nobody but itself.
///
/// Actions begin in the order of the items. Dropping the burst drops the actions in flight.
pub async fn burst<T, R>(at_once: usize, items: impl IntoIterator<Item = T>, action: impl AsyncFn(T) -> R) -> Burst<R> {
    let began = Instant::now();
    let action = &action;
    let actions = items.into_iter().enumerate().map(|(index, item)| async move { (index, action(item).await) });
    // Not `buffered`, which counts an answer that waits for an earlier one as in flight.
    let mut answers: Vec<_> = stream::iter(actions).buffer_unordered(at_once.max(1)).collect().await;
    let took = began.elapsed();
    answers.sort_by_key(|(index, _)| *index);
    Burst { answers: answers.into_iter().map(|(_, answer)| answer).collect(), took }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::sync::{Barrier, Notify};

    use super::*;

    /// Goal: no more than allowed at a time, and exactly as many as allowed where there is enough to do.
    /// Method: each action waits for seven others, which only comes to an end when eight run at once.
    #[tokio::test]
    async fn as_many_run_at_once_as_may() {
        let (running, most) = (Cell::new(0), Cell::new(0));
        let together = Barrier::new(8);
        let burst = burst(8, 0..64, async |item| {
            running.set(running.get() + 1);
            most.set(most.get().max(running.get()));
            together.wait().await;
            running.set(running.get() - 1);
            item * 2
        })
        .await;
        assert_eq!(most.get(), 8);
        assert_eq!(burst.answers, (0..64).map(|item| item * 2).collect::<Vec<_>>());
        assert!(burst.per_second() > 0.0);
    }

    /// Goal: the first item may be the last to answer, and is still the first in the answers.
    #[tokio::test]
    async fn a_slow_answer_holds_up_nobody() {
        let (left, all_others) = (Cell::new(9), Notify::new());
        let burst = burst(2, 0..10, async |item| {
            if item == 0 {
                all_others.notified().await;
            } else {
                left.set(left.get() - 1);
                if left.get() == 0 {
                    all_others.notify_one();
                }
            }
            item
        })
        .await;
        assert_eq!(burst.answers, (0..10).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn none_at_once_counts_as_one_and_no_items_as_no_burst() {
        assert_eq!(burst(0, [1, 2], async |item| item).await.answers, [1, 2]);
        assert!(burst(5, [], async |item: u8| item).await.per_second().abs() < f64::EPSILON);
    }
}
