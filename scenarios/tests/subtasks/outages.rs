//! A broker dies and comes back, or all of them stand still: every upload ends, and as its asker was told.

use fixtures::Refusal;
use fixtures::subtasks::{self, Behaviour, Outcome, Pattern, WORKER};
use greenroom::drive::burst;
use greenroom::scenario::Verdict;
use greenroom::spec::Layout;

use crate::ledger::{most_outcomes, tally, uploading};

/// Goal: a broker that dies while uploads are in flight leaves none of them open: what was accepted is done, once.
/// Method: twenty uploads are in the worker's hands when a broker is killed, twenty are asked for at that moment,
/// twenty without it and twenty when it is back. What the brokers do not take in time is refused, and has failed then:
/// for certain the last two, which are asked for while all brokers stand still.
/// There is no snapshot: what is sent a second time is a matter of timing.
#[test]
fn a_broker_outage_leaves_no_upload_open() -> Verdict {
    // However long brokers need, no upload is to be given up meanwhile.
    let patient = subtasks::adjusted().variable("UPLOAD_TIMEOUT", "1h").variable_of(WORKER, "WORK_TIMEOUT", "1h");
    // And an attempt that they do not take is over soon.
    let attempts = patient.variable("KAFKA_DELIVERY_TIMEOUT", "5s").variable_of(WORKER, "KAFKA_DELIVERY_TIMEOUT", "5s");
    attempts.layout(Layout::Separate).scenario(async |stage| {
        stage.environment().expect_complaint("subtask-api", "not published");
        stage.environment().expect_complaint("subtask-worker", "shut out of the consumer group");
        stage.environment().expect_complaint("subtask-worker", "answer not acknowledged, trying again");
        let mut subtasks = Vec::new();
        for number in 0..12 {
            subtasks.push(stage.api.create(&format!("Result {number}")).await?);
        }
        let (api, waits) = (stage.api.clone(), Behaviour::waits());
        let upload = async |number: usize| {
            let pattern = if number.is_multiple_of(2) { Pattern::Request } else { Pattern::Event };
            api.upload(pattern, subtasks[number % subtasks.len()], &waits).await
        };
        let mut told = burst(8, 0..20, upload).await.answers;
        stage.in_hand(20).await?;
        let (killed, meanwhile) = tokio::join!(stage.kafka().broker(2).kill(), burst(4, 20..40, upload));
        killed?;
        told.extend(meanwhile.answers);
        stage.open_gate().await?;
        told.extend(burst(8, 40..60, upload).await.answers);
        stage.kafka().broker(2).restart().await?;
        told.extend(burst(8, 60..80, upload).await.answers);
        stage.settle().await?;
        stage.pause_brokers().await?;
        let unheard = burst(2, 80..82, upload).await.answers;
        assert!(unheard.iter().all(Result::is_err), "accepted, and no broker took it: {unheard:?}");
        told.extend(unheard);
        stage.resume_brokers().await?;
        stage.settle().await?;

        let mut refused = 0;
        for told in told {
            if let Ok(accepted) = &told {
                assert_eq!(stage.api.upload_state(accepted).await?.outcome, Some(Outcome::Done));
            } else {
                assert_eq!(told.refused()?.code(), (502, "COMMON_502"));
                refused += 1;
            }
        }
        let database = stage.database().await?;
        let expected = vec![format!("done {}", 82 - refused), format!("failed {refused}")];
        assert_eq!(tally(&database).await?, expected);
        assert_eq!((most_outcomes(&database).await?, uploading(&database).await?), (1, 0));
        Ok(())
    })
}
