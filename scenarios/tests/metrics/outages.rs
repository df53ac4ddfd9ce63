//! Brokers go away and come back, and the sender ends while they are away.

use fixtures::Refusal as _;
use fixtures::metrics::{self, Call, Route, SENDER, Status};
use greenroom::scenario::Verdict;
use greenroom::spec::Layout;

use crate::{called_until, of_each_route, on_the_wire, reached};

/// Goal: a broker's death and return lose nothing and double nothing.
/// Method: a broker is killed when the first metrics are acknowledged, and calls are made until it is dead; more are
/// made and taken without it, and more after its restart.
#[test]
fn a_broker_restart_loses_nothing() -> Verdict {
    let adjustments = metrics::adjusted().layout(Layout::Separate).variable("FLUSH_AGE", "20ms");
    adjustments.variable("KAFKA_DELIVERY_TIMEOUT", "5s").scenario(async |stage| {
        // Where the brokers need long to miss one another, an attempt ends before they have.
        stage.environment().expect_complaint("sender", "metrics not acknowledged, sending them again");
        // A named member whose coordinator is lost may have a commit of its own arrive late.
        stage.environment().expect_complaint("store", "shut out of the consumer group");
        let sender = stage.sender.clone();
        let killing = async {
            reached(&sender, "nothing is acknowledged", |status| status.acknowledged > 0).await?;
            Ok(stage.kafka().broker(2).kill().await?)
        };
        let mut calls = called_until(killing, &sender, &of_each_route(1..=2000)).await?;
        let made = calls.len();

        let (without, after) = (of_each_route(2001..=2030), of_each_route(2031..=2060));
        sender.call_all(16, &without).await?;
        reached(&sender, "nothing was taken without the broker", |status| status.acknowledged > made).await?;
        stage.kafka().broker(2).restart().await?;
        sender.call_all(16, &after).await?;
        stage.settle().await?;

        calls.extend([without, after].concat());
        stage.each_stored_once(&calls).await?;
        Ok(())
    })
}

/// Goal: while Kafka is away memory is bounded and the caller is told; what was accepted is stored once when Kafka is
/// back, even if it was sent more than once. A sender that has to end meanwhile ends in time, and says how many metrics
/// are lost.
/// Method: all brokers are paused, so that nothing is acknowledged and what was sent may still be taken afterwards, and
/// sixty calls come at once where thirty have room; and once more, with five metrics waiting when SIGTERM comes.
#[test]
fn a_full_buffer_is_told_and_nothing_accepted_is_lost() -> Verdict {
    let adjustments = metrics::adjusted().variable("BUFFER_METRICS_MAX", 30).variable("KAFKA_DELIVERY_TIMEOUT", "1s");
    adjustments.variable("STOP_DEADLINE", "500ms").scenario(async |stage| {
        stage.environment().expect_complaint("store", "shut out of the consumer group");
        stage.environment().expect_complaint("sender", "no place for another metric");
        stage.environment().expect_complaint("sender", "metrics not acknowledged, sending them again");
        // It has a connection to a leader from here on: over a new one nothing is sent to a paused broker.
        let mut calls = of_each_route(101..=110);
        stage.sender.call_all(16, &calls).await?;
        let warm = reached(&stage.sender, "not all are acknowledged", |status| status.acknowledged == 30).await?;
        let before: usize = on_the_wire(stage).await?.iter().sum();
        stage.pause_brokers().await?;
        let (mut accepted, mut refused) = (Vec::new(), 0);
        for (call, answer) in stage.sender.call_each(60, of_each_route(1..=20)).await {
            if answer.is_ok() {
                accepted.push(call);
            } else {
                assert_eq!(answer.refused()?.code(), (503, "METRICS_001"), "{call:?}");
                refused += 1;
            }
        }
        assert_eq!((accepted.len(), refused, stage.sender.status().await?.waiting), (30, 30, 30));
        calls.extend(accepted);
        for route in Route::ALL {
            let refused = stage.sender.refused(route, r#"{"text":"one too many"}"#).await?;
            assert_eq!(refused.code(), (503, "METRICS_001"));
        }
        // Each attempt goes to the next of three partitions, so one of three goes to that leader.
        let have_failed = |status: &Status| status.failed_attempts >= warm.failed_attempts + 3;
        let status = reached(&stage.sender, "three attempts have not failed", have_failed).await?;
        assert_eq!((status.waiting, status.acknowledged), (30, 30));

        stage.resume_brokers().await?;
        stage.settle().await?;
        stage.each_stored_once(&calls).await?;
        let after: usize = on_the_wire(stage).await?.iter().sum();
        assert!(
            after > before + 30,
            "{before} records, then {after}: nothing was taken twice, nothing had to be recognised"
        );
        let again = Call { route: Route::First, text_length: 21 };
        stage.sender.call(again.route, again.text_length).await?;
        calls.push(again);
        stage.settle().await?;
        stage.each_stored_once(&calls).await?;

        let lost = "5 metrics were not acknowledged in time and are lost";
        stage.environment().expect_complaint("sender", lost);
        stage.pause_brokers().await?;
        stage.sender.call_all(5, &Call::each(Route::First, 22..=26)).await?;
        let ended = stage.part(SENDER).stop().await?;
        assert!(ended.ends_with(": 1"), "the sender ended as if nothing were lost: {ended}");
        let log = stage.environment().plan().part(SENDER).expect("the plan has a sender").log.clone();
        let said = std::fs::read_to_string(log)?;
        assert!(said.contains(&format!("error: {lost}")), "the sender does not say what is lost:\n{said}");
        Ok(())
    })
}
