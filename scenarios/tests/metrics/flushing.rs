//! When batches go: by size, by age and at the end, and what arrives meanwhile.

use std::cell::Cell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fixtures::metrics::{self, Call, Metrics, Route, SENDER, STORE};
use fixtures::{Adjustments, CallError, Refusal as _, Stage};
use greenroom::drive::burst;
use greenroom::observe::Codec;
use greenroom::scenario::{Failure, Verdict, eventually};
use greenroom::supervisor::protocol::PartSignal;

use crate::{called_until, of_each_route, on_the_wire, reached};

/// Goal: ten groups of ten make one GZIP-compressed batch across topics, and fewer make none.
/// Method: without a flush by age, 99 calls leave one group incomplete; the hundredth completes the batch.
async fn ten_groups_of_ten_go_as_one_compressed_batch(stage: &Stage<'_, Metrics>) -> Result<Vec<Call>, Failure> {
    let mut calls = Call::each(Route::First, 1..=40);
    calls.extend(Call::each(Route::Second, 1..=30));
    calls.extend(Call::each(Route::Decorated, 1..=29));
    stage.sender.call_all(99, &calls).await?;
    let status = stage.sender.status().await?;
    assert_eq!((status.waiting, status.acknowledged, status.batches), (99, 0, 0));
    assert_eq!(on_the_wire(stage).await?, Vec::<usize>::new(), "something went before ten groups were complete");

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

/// What is left waits for the end: two complete groups, and seven calls in progress when SIGTERM comes, whose metrics
/// make two incomplete ones. An environment whose calls were over before SIGTERM came shows nothing, and makes way for
/// one with more work.
fn story_of_an_end(adjusted: impl Fn() -> Adjustments<Metrics>) -> Verdict {
    for work_time_scale in [3, 8, 24] {
        let mut shown = false;
        let adjustments = adjusted().variable("FLUSH_AGE", "1h").variable("WORK_TIME_SCALE", work_time_scale);
        // How soon it ends is not the question: work in progress alone may take longer than it has by default.
        adjustments.variable("STOP_DEADLINE", "1m").scenario(async |stage| {
            let mut calls = ten_groups_of_ten_go_as_one_compressed_batch(stage).await?;
            let complete = Call::each(Route::First, 41..=60);
            stage.sender.call_all(20, &complete).await?;
            calls.extend(complete);
            let Some(taken) = an_end_with_calls_in_progress(stage).await? else { return Ok(()) };
            calls.extend(taken);
            stage.part(SENDER).restart().await?;
            stage.settle().await?;
            stage.each_stored_once(&calls).await?;
            shown = true;
            Ok(())
        })?;
        if shown {
            return Ok(());
        }
    }
    Err(Failure::new("in no environment were all calls in progress when SIGTERM came"))
}

/// Goal: a sender that is asked to end answers the calls in progress, and takes no other.
/// Method: seven callers have a call in progress when SIGTERM comes, and make another one when that is answered.
///
/// Gives the calls that were answered 201. No other was promised anything. Gives nothing where not all seven were in
/// progress.
async fn an_end_with_calls_in_progress(stage: &mut Stage<'_, Metrics>) -> Result<Option<Vec<Call>>, Failure> {
    let mut in_progress = Call::each(Route::First, 61..=63);
    in_progress.extend(Call::each(Route::Second, 31..=34));
    let too_late = Call::each(Route::Decorated, 31..=37);
    let (sender, answered) = (stage.sender.clone(), Cell::new(0));
    let waiting = sender.status().await?.waiting + in_progress.len();
    let end = async {
        reached(&sender, "not all calls are in progress", |status| status.waiting >= waiting).await?;
        stage.environment().signal(SENDER, PartSignal::Stop).await?;
        let in_progress = answered.get() == 0;
        Ok::<_, Failure>((in_progress, stage.part(SENDER).ended().await?))
    };
    let callers = burst(in_progress.len(), in_progress.iter().chain(&too_late), async |call: &Call| {
        let answer = sender.call(call.route, call.text_length).await;
        answered.set(answered.get() + 1);
        (*call, answer)
    });
    let (ended, calls) = tokio::join!(end, callers);
    let (all_in_progress, ended) = ended?;
    assert!(ended.ends_with(": 0"), "the sender did not end in good order: {ended}");
    if !all_in_progress {
        return Ok(None);
    }

    let mut taken = Vec::new();
    for (call, answer) in calls.answers {
        match answer {
            Ok(()) => taken.push(call),
            Err(CallError::Unanswered(_)) => {}
            refused => assert_eq!(refused.refused()?.code(), (503, "METRICS_002"), "{call:?}"),
        }
    }
    assert_eq!(taken, in_progress, "calls in progress are taken, and no others");
    Ok(Some(taken))
}

/// Goal: what completes a batch goes at once, and a sender that is asked to end loses nothing that it has answered for.
/// Method: [`story_of_an_end`].
#[test]
fn batches_go_by_size_and_at_the_end() -> Verdict {
    story_of_an_end(metrics::adjusted)
}

/// Goal: the same story catches a sender that forgets its incomplete groups when it ends.
/// Method: the broken variant plays it, and must be caught by the seven metrics that it lost, and no others.
#[test]
fn a_lost_partial_batch_is_caught() -> Verdict {
    let broken = || metrics::adjusted().forgetting_incomplete_groups();
    let caught = story_of_an_end(broken).expect_err("the defect went unnoticed");
    let caught = format!("{caught:?}");
    let lost = "the store lost 7 metrics: FIRST_TOPIC 61, FIRST_TOPIC 62, FIRST_TOPIC 63, \
        SECOND_TOPIC 31, SECOND_TOPIC 32, SECOND_TOPIC 33, SECOND_TOPIC 34";
    assert!(caught.contains(lost), "caught for another reason: {caught}");
    Ok(())
}

/// Goal: no metric waits long for more, and each is stored once, whatever arrives during a flush and whatever becomes
/// of the store.
/// Method: a sender that flushes what is 20 ms old: [`a_few_go_by_age`],
/// [`what_arrives_during_a_flush_is_stored_once`], [`a_killed_store_catches_up`].
#[test]
fn batches_go_by_age() -> Verdict {
    metrics::adjusted().variable("FLUSH_AGE", "20ms").scenario(async |stage| {
        let mut calls = a_few_go_by_age(stage).await?;
        insta::assert_snapshot!(stage.document().await?);
        what_arrives_during_a_flush_is_stored_once(stage, &mut calls).await?;
        a_killed_store_catches_up(stage, calls).await
    })
}

/// Goal: a few metrics do not wait for more once they are as old as `FLUSH_AGE` says, and their work was measured.
/// Method: two calls of each route, and one each with the shortest and the longest text; the first goes sooner than any
/// does in the story of `refusals`, whose `FLUSH_AGE` is 4 s.
async fn a_few_go_by_age(stage: &Stage<'_, Metrics>) -> Result<Vec<Call>, Failure> {
    let mut calls = of_each_route(501..=502);
    calls.extend([0, 10_000].map(|text_length| Call { route: Route::First, text_length }));
    let went_after = first_went_after(stage, &calls).await?;
    let expected = Duration::from_millis(20)..Duration::from_secs(4);
    assert!(expected.contains(&went_after), "the first metric went after {went_after:?}");
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

/// Goal: what arrives while a batch is being sent is neither lost nor doubled, goes in groups and batches again, and no
/// group has more than ten; incomplete groups are compressed as complete ones are.
/// Method: the brokers are paused until a batch is being sent and 315 more metrics wait behind it: 105 of each route
/// and what is left of the first four, so that the last group of each has from five to nine. Then 300 more come, 32 at
/// a time, with the brokers at work.
async fn what_arrives_during_a_flush_is_stored_once(stage: &mut Stage<'_, Metrics>, calls: &mut Vec<Call>) -> Verdict {
    // A commit that comes late, because the brokers stand still, shuts the store out.
    stage.environment().expect_complaint("store", "shut out of the consumer group");
    let (first, meanwhile, more) = (of_each_route(1..=4), of_each_route(5..=109), of_each_route(110..=209));
    let (sender, before) = (stage.sender.clone(), stage.sender.status().await?);
    stage.pause_brokers().await?;
    sender.call_all(12, &first).await?;
    let sending = reached(&sender, "no batch is being sent", |status| status.sending > 0).await?.sending;
    sender.call_all(32, &meanwhile).await?;
    let status = sender.status().await?;
    let waiting = first.len() + meanwhile.len();
    assert_eq!((status.sending, status.waiting, status.acknowledged), (sending, waiting, before.acknowledged));
    stage.resume_brokers().await?;
    stage.settle().await?;
    // One was being sent; behind it were at most 30 complete groups and 3 incomplete ones.
    let batches = sender.status().await?.batches - before.batches;
    assert!(batches <= 1 + 4, "what had waited went in {batches} batches");
    // What brokers took just before they stood still, they may have been given once more.
    let before_more = on_the_wire(stage).await?;
    assert!(before_more.iter().any(|records| (2..10).contains(records)), "no group was incomplete: {before_more:?}");
    sender.call_all(32, &more).await?;
    stage.settle().await?;

    let came = more.len();
    calls.extend([first, meanwhile, more].concat());
    stage.each_stored_once(calls).await?;
    let status = sender.status().await?;
    assert_eq!((status.acknowledged, status.failed_attempts), (calls.len(), 0));
    let after_more = on_the_wire(stage).await?;
    assert_eq!(after_more.iter().sum::<usize>(), before_more.iter().sum::<usize>() + came);
    Ok(())
}

/// Goal: a store that dies takes nothing with it and stores nothing twice.
/// Method: it is killed while metrics arrive, which go on until it is dead; more arrive while it is away, and it is
/// started again.
async fn a_killed_store_catches_up(stage: &mut Stage<'_, Metrics>, mut calls: Vec<Call>) -> Verdict {
    let (sender, before) = (stage.sender.clone(), calls.len());
    let killing = async {
        eventually(async || match stage.stored().await {
            Ok(stored) if stored.len() >= before + 20 => Ok(()),
            Ok(stored) => Err(format!("only {} metrics are stored", stored.len())),
            Err(error) => Err(error.to_string()),
        })
        .await?;
        Ok(stage.part(STORE).kill().await?)
    };
    let during = Box::pin(called_until(killing, &sender, &of_each_route(211..=2200))).await?;
    let without = of_each_route(2201..=2230);
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

/// Makes these calls at once, waits for rest, and says how long after they began the first of their records was made,
/// by the record's own time. Both times are cut to milliseconds, so a bound in whole milliseconds that was kept is
/// never undercut.
pub(crate) async fn first_went_after(stage: &Stage<'_, Metrics>, calls: &[Call]) -> Result<Duration, Failure> {
    let begun_ms = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    stage.sender.call_all(calls.len(), calls).await?;
    stage.settle().await?;
    let observed = Box::pin(stage.observe()).await?;
    let records = Route::ALL.into_iter().flat_map(|route| observed.records(route.topic()));
    let since = records.filter_map(|record| record.timestamp_ms).filter(|made_ms| *made_ms >= begun_ms);
    let first_ms = since.min().ok_or_else(|| Failure::new("no record was made since the calls began"))?;
    Ok(Duration::from_millis(u64::try_from(first_ms - begun_ms)?))
}
