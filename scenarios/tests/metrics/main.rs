//! Stories of the batched metrics. Each has an environment of its own and its law as plain assertions; and a snapshot
//! of everything that happened where that is the same in every run, and short enough to be reviewed: hundreds of
//! metrics, which a test counts better, are not.

mod flushing;
mod outages;
mod refusals;

use std::cell::Cell;
use std::ops::RangeInclusive;

use fixtures::Stage;
use fixtures::metrics::{Call, Metrics, Route, SenderClient, Status};
use greenroom::observe::Codec;
use greenroom::runtime::Waited;
use greenroom::scenario::{Failure, eventually};

/// One call of each route for each of these lengths.
fn of_each_route(text_lengths: RangeInclusive<usize>) -> Vec<Call> {
    text_lengths.flat_map(|text_length| Route::ALL.map(|route| Call { route, text_length })).collect()
}

/// Waits until the sender has reached a state, by what it says of itself; `missing` is said where it has not.
async fn reached(sender: &SenderClient, missing: &str, state: impl Fn(&Status) -> bool) -> Result<Status, Waited> {
    eventually(async || match sender.status().await {
        Ok(status) if state(&status) => Ok(status),
        Ok(status) => Err(format!("{missing}: {status:?}")),
        Err(error) => Err(error.to_string()),
    })
    .await
}

/// Makes calls, four at a time, until `killing` is done, which tells of a part's death; gives those that were made.
async fn called_until(
    killing: impl Future<Output = Result<(), Failure>>,
    sender: &SenderClient,
    calls: &[Call],
) -> Result<Vec<Call>, Failure> {
    let alive = Cell::new(true);
    let killing = async {
        let killed = killing.await;
        alive.set(false);
        killed
    };
    let calling = sender.call_each(4, calls.iter().copied().take_while(|_| alive.get()));
    let (killed, answers) = tokio::join!(killing, calling);
    killed?;
    let called = answers.into_iter().map(|(call, answer)| answer.map(|()| call));
    let called = called.collect::<Result<Vec<_>, _>>()?;
    assert!(called.len() < calls.len(), "the calls ran out before the part was dead");
    Ok(called)
}

/// The law of record batches: one holds ten at most, and is compressed unless it holds a single record, which the
/// client leaves as it is where compressing makes it longer. Gives how many records each one in all topics holds.
async fn on_the_wire(stage: &Stage<'_, Metrics>) -> Result<Vec<usize>, Failure> {
    let mut records = Vec::new();
    for route in Route::ALL {
        let batches = stage.batches(route.topic()).await?;
        assert!(batches.iter().all(|batch| batch.records <= 10), "a group has more than ten: {batches:?}");
        let compressed = batches.iter().all(|batch| batch.records == 1 || batch.codec == Codec::Gzip);
        assert!(compressed, "several records lie there as they are: {batches:?}");
        records.extend(batches.iter().map(|batch| batch.records));
    }
    Ok(records)
}
