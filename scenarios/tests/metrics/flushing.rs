//! When batches go: by size, by age and at the end, and what arrives meanwhile.

use std::ops::RangeInclusive;

use fixtures::metrics::{self, Call, Metrics, Route, SENDER, STORE};
use fixtures::{Adjustments, Stage};
use greenroom::observe::Codec;
use greenroom::scenario::{Failure, Verdict, eventually};

/// Goal: ten groups of ten make one GZIP-compressed batch across topics, and fewer make none.
/// Method: without a flush by age, 99 calls leave one group incomplete; the hundredth completes the batch.
async fn ten_groups_of_ten_go_as_one_compressed_batch(stage: &Stage<'_, Metrics>) -> Result<Vec<Call>, Failure> {
    let mut calls = Call::each(Route::First, 1..=40);
    calls.extend(Call::each(Route::Second, 1..=30));
    calls.extend(Call::each(Route::Decorated, 1..=29));
    stage.sender.call_all(16, &calls).await?;
    let status = stage.sender.status().await?;
    assert_eq!((status.waiting, status.acknowledged, status.batches), (99, 0, 0));

    let last = Call { route: Route::Decorated, text_length: 30 };
    stage.sender.call(last.route, last.text_length).await?;
    calls.push(last);
    stage.settle().await?;

    stage.each_stored_once(&calls).await?;
    let status = stage.sender.status().await?;
    assert_eq!((status.waiting, status.acknowledged, status.batches), (0, 100, 1));
    for (route, groups) in [(Route::First, 4), (Route::Second, 3), (Route::Decorated, 3)] {
        let batches = stage.batches(route.topic()).await?;
        let stored: Vec<_> = batches.iter().map(|batch| (batch.codec, batch.records)).collect();
        assert_eq!(stored, vec![(Codec::Gzip, 10); groups], "{}", route.topic());
    }
    Ok(calls)
}

/// What is left waits for the end: twenty-three metrics of one topic and four of another, two groups complete and two
/// not, when SIGTERM comes.
fn story_of_an_end(adjustments: Adjustments<Metrics>) -> Verdict {
    adjustments.variable("FLUSH_AGE", "1h").scenario(async |stage| {
        let mut calls = ten_groups_of_ten_go_as_one_compressed_batch(stage).await?;
        let mut left = Call::each(Route::First, 41..=63);
        left.extend(Call::each(Route::Second, 31..=34));
        stage.sender.call_all(9, &left).await?;
        assert_eq!(stage.sender.status().await?.waiting, 27);
        calls.extend(left);

        let ended = stage.part(SENDER).stop().await?;
        assert!(ended.ends_with(": 0"), "the sender did not end in good order: {ended}");
        stage.part(SENDER).restart().await?;
        stage.settle().await?;
        stage.each_stored_once(&calls).await?;
        Ok(())
    })
}

/// Goal: what completes a batch goes at once, and a sender that is asked to end loses nothing.
/// Method: [`story_of_an_end`].
#[test]
fn batches_go_by_size_and_at_the_end() -> Verdict {
    story_of_an_end(metrics::adjusted())
}

/// Goal: the same story catches a sender that forgets its incomplete groups when it ends.
/// Method: the broken variant plays it, and must be caught by the seven metrics that it lost.
#[test]
fn a_lost_partial_batch_is_caught() -> Verdict {
    let broken = metrics::adjusted().forgetting_incomplete_groups();
    let caught = story_of_an_end(broken).expect_err("the defect went unnoticed");
    let caught = format!("{caught:?}");
    let lost = "the store lost 7 metrics: FIRST_TOPIC ";
    assert!(caught.contains(lost), "caught for another reason: {caught}");
    Ok(())
}

/// Goal: no metric waits long for more, and each is stored once, whatever arrives during a flush and whatever becomes of
/// the store.
/// Method: a sender that flushes what is 20 ms old: [`a_few_go_by_age`], [`what_arrives_during_a_flush_is_stored_once`],
/// [`a_killed_store_catches_up`].
#[test]
fn batches_go_by_age() -> Verdict {
    metrics::adjusted().variable("FLUSH_AGE", "20ms").scenario(async |stage| {
        let mut calls = a_few_go_by_age(stage).await?;
        insta::assert_snapshot!(stage.document().await?);
        what_arrives_during_a_flush_is_stored_once(stage, &mut calls).await?;
        a_killed_store_catches_up(stage, calls).await
    })
}

/// Goal: a few metrics do not wait for more, and their work was measured.
/// Method: two calls of each route, and one each with the shortest and the longest text.
async fn a_few_go_by_age(stage: &Stage<'_, Metrics>) -> Result<Vec<Call>, Failure> {
    let mut calls = of_each_route(501..=502);
    calls.extend([0, 10_000].map(|text_length| Call { route: Route::First, text_length }));
    stage.sender.call_all(6, &calls).await?;
    stage.settle().await?;
    stage.each_stored_once(&calls).await?;
    // The work took a hundredth of 500, 600 and 700 ms.
    let least = |topic: &str| match topic {
        "TXT_ELAPSED" => 5.0,
        "FIRST_TOPIC" => 6.0,
        _ => 7.0,
    };
    let stored = stage.stored().await?;
    assert!(stored.iter().all(|row| row.response_time >= least(&row.topic)), "{stored:?}");
    Ok(calls)
}

/// Goal: what arrives while a batch is being sent is neither lost nor doubled, and no group has more than ten.
/// Method: 600 calls, 32 at a time, so that batches go by size as well as by age.
async fn what_arrives_during_a_flush_is_stored_once(stage: &Stage<'_, Metrics>, calls: &mut Vec<Call>) -> Verdict {
    let more = of_each_route(1..=200);
    stage.sender.call_all(32, &more).await?;
    stage.settle().await?;

    calls.extend(more);
    stage.each_stored_once(calls).await?;
    let status = stage.sender.status().await?;
    assert_eq!((status.acknowledged, status.failed_attempts), (calls.len(), 0));
    assert!(status.batches > 1, "everything went in one batch, so nothing arrived during a flush");
    for route in Route::ALL {
        let batches = stage.batches(route.topic()).await?;
        assert!(batches.iter().all(|batch| batch.records <= 10), "a group has more than ten: {batches:?}");
        let called = calls.iter().filter(|call| call.route == route).count();
        assert_eq!(batches.iter().map(|batch| batch.records).sum::<usize>(), called, "{}", route.topic());
    }
    Ok(())
}

/// Goal: a store that dies takes nothing with it and stores nothing twice.
/// Method: it is killed while metrics arrive, more arrive while it is away, and it is started again.
async fn a_killed_store_catches_up(stage: &mut Stage<'_, Metrics>, mut calls: Vec<Call>) -> Verdict {
    let (during, without) = (of_each_route(201..=260), of_each_route(261..=290));
    let (sender, before) = (stage.sender.clone(), calls.len());
    let (killed, called) = tokio::join!(
        async {
            eventually(async || match stage.stored().await {
                Ok(stored) if stored.len() >= before + 20 => Ok(()),
                Ok(stored) => Err(format!("only {} metrics are stored", stored.len())),
                Err(error) => Err(error.to_string()),
            })
            .await?;
            stage.part(STORE).kill().await
        },
        sender.call_all(4, &during)
    );
    killed?;
    called?;
    sender.call_all(16, &without).await?;
    let stored = stage.stored().await?.len();
    assert!(stored < before + during.len(), "the store was killed when all {stored} metrics were stored");
    stage.part(STORE).restart().await?;
    stage.settle().await?;

    calls.extend(during);
    calls.extend(without);
    stage.each_stored_once(&calls).await?;
    Ok(())
}

/// One call of each route for each of these lengths.
fn of_each_route(text_lengths: RangeInclusive<usize>) -> Vec<Call> {
    text_lengths.flat_map(|text_length| Route::ALL.map(|route| Call { route, text_length })).collect()
}
