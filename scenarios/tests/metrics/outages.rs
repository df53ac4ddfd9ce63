//! Brokers go away and come back, and the sender ends while they are away.

use fixtures::metrics::{self, Call, Route, SENDER};
use greenroom::scenario::{Verdict, eventually};
use greenroom::spec::Layout;

/// Goal: a broker's death and return lose nothing and double nothing.
/// Method: a broker is killed while calls are made, more are made and taken without it, and more after its restart.
#[test]
fn a_broker_restart_loses_nothing() -> Verdict {
    metrics::adjusted().layout(Layout::Separate).scenario(async |stage| {
        // Where the brokers need long to miss one another, an attempt ends before they have.
        stage.environment().expect_complaint("sender", "metrics not acknowledged, sending them again");
        // A named member whose coordinator is lost may have a commit of its own arrive late.
        stage.environment().expect_complaint("store", "shut out of the consumer group");
        let calls: Vec<_> =
            (1..=90).flat_map(|text_length| Route::ALL.map(|route| Call { route, text_length })).collect();
        let (before, rest) = calls.split_at(90);
        let (without, after) = rest.split_at(90);
        let sender = stage.sender.clone();
        let (ended, called) = tokio::join!(stage.kafka().broker(2).kill(), sender.call_all(4, before));
        ended?;
        called?;
        stage.sender.call_all(16, without).await?;
        eventually(async || match sender.status().await {
            Ok(status) if status.acknowledged > before.len() => Ok(()),
            Ok(status) => Err(format!("nothing was taken without the broker: {status:?}")),
            Err(error) => Err(error.to_string()),
        })
        .await?;
        stage.kafka().broker(2).restart().await?;
        stage.sender.call_all(16, after).await?;
        stage.settle().await?;

        stage.each_stored_once(&calls).await?;
        Ok(())
    })
}

/// Goal: while Kafka is away memory is bounded and the caller is told; what was accepted is stored once when Kafka is
/// back, even if it was sent more than once. A sender that has to end meanwhile ends in time, and does not pretend that all
/// is well.
/// Method: all brokers are paused, so that nothing is acknowledged and what was sent may still be taken afterwards; and
/// once more, with five metrics waiting when SIGTERM comes.
#[test]
fn a_full_buffer_is_told_and_nothing_accepted_is_lost() -> Verdict {
    let adjustments = metrics::adjusted().variable("BUFFER_METRICS_MAX", 30).variable("DELIVERY_TIMEOUT", "1s");
    adjustments.variable("STOP_DEADLINE", "500ms").scenario(async |stage| {
        stage.environment().expect_complaint("store", "shut out of the consumer group");
        stage.environment().expect_complaint("sender", "no place for another metric");
        stage.environment().expect_complaint("sender", "metrics not acknowledged, sending them again");
        stage.pause_brokers().await?;
        let mut calls: Vec<_> = Route::ALL.into_iter().flat_map(|route| Call::each(route, 1..=10)).collect();
        stage.sender.call_all(10, &calls).await?;
        for route in Route::ALL {
            let refused = stage.sender.refused(route, r#"{"text":"one too many"}"#).await?;
            assert_eq!(refused.code(), (503, "METRICS_001"));
        }
        let sender = stage.sender.clone();
        eventually(async || match sender.status().await {
            Ok(status) if status.failed_attempts >= 1 => Ok(()),
            Ok(status) => Err(format!("no attempt has failed: {status:?}")),
            Err(error) => Err(error.to_string()),
        })
        .await?;
        let status = stage.sender.status().await?;
        assert_eq!((status.waiting, status.acknowledged), (30, 0));

        stage.resume_brokers().await?;
        stage.settle().await?;
        stage.each_stored_once(&calls).await?;
        let mut on_the_wire = 0;
        for route in Route::ALL {
            on_the_wire += stage.batches(route.topic()).await?.iter().map(|batch| batch.records).sum::<usize>();
        }
        assert!(on_the_wire > 30, "nothing was taken twice, so that the store had nothing to recognise");
        let again = Call { route: Route::First, text_length: 11 };
        stage.sender.call(again.route, again.text_length).await?;
        calls.push(again);
        stage.settle().await?;
        stage.each_stored_once(&calls).await?;

        stage.environment().expect_complaint("sender", "not acknowledged in time and are lost");
        stage.pause_brokers().await?;
        stage.sender.call_all(5, &Call::each(Route::First, 12..=16)).await?;
        let ended = stage.part(SENDER).stop().await?;
        assert!(ended.ends_with(": 1"), "the sender ended as if nothing were lost: {ended}");
        Ok(())
    })
}
