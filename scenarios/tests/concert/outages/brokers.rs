//! Brokers die and come back.

use fixtures::Stage;
use fixtures::concert::{self, Concert};
use greenroom::scenario::{Verdict, eventually};
use greenroom::spec::Layout;

use super::{brokers_are_missed, each_paid_once};
use crate::ledger::{an_attempt_has_failed, outbox, outbox_is};
use crate::sales::held_seats;

/// Goal: with one broker of three away, payments go on; with it back, all is as before.
/// Method: it leads the partition of `payment` in which the first of three seats lies. That seat is paid at the moment
/// of its death, one without it, and one when it has come back.
#[test]
fn one_broker_lost_and_back() -> Verdict {
    concert::adjusted().missing_brokers().layout(Layout::Separate).scenario(async |stage| {
        brokers_are_missed(stage);
        let held = held_seats(stage, 3).await?;
        let client = stage.concert.clone();
        let leader = stage.kafka().leader_of("payment", 0).await?;
        let (killed, asked) = tokio::join!(stage.kafka().broker(leader).kill(), client.pay_for(&held[0]));
        killed?;
        asked?;
        stage.concert.pay_for(&held[1]).await?;
        outbox_is(stage, &["SUCCESS", "SUCCESS"]).await?;
        stage.kafka().broker(leader).restart().await?;
        stage.kafka().in_sync(3, &[1, 2, 3]).await?;
        stage.concert.pay_for(&held[2]).await?;
        each_paid_once(stage, &held).await?;
        let first = stage.payments.journal_of(held[0].reservation.id).await?;
        let met = first.iter().all(|entry| entry.partition == Some(0)) || stage.is_of_somebody_else();
        assert!(met, "the payment did not meet the broker that was lost: {first:?}");
        Ok(())
    })
}

/// Goal: with two brokers of three away, nothing can be acknowledged, and nothing is lost that was; what was asked for
/// meanwhile is paid when they are back, and nobody has to help. Until then it is tried with growing pauses.
#[test]
fn two_brokers_lost_and_back() -> Verdict {
    concert::adjusted().missing_brokers().layout(Layout::Separate).scenario(async |stage| {
        brokers_are_missed(stage);
        let held = held_seats(stage, 2).await?;
        stage.concert.pay_for(&held[0]).await?;
        stage.settle().await?;
        let before = stage.observe().await?;
        stage.kafka().broker(2).kill().await?;
        stage.kafka().broker(3).kill().await?;
        sqlx::raw_sql(NOTE_PAUSES).execute(&stage.database().await?).await?;
        stage.concert.pay_for(&held[1]).await?;
        an_attempt_has_failed(stage).await?;
        assert_eq!(outbox(stage).await?, ["SUCCESS", "INIT"]);
        pauses_grow(stage).await?;

        stage.kafka().broker(2).restart().await?;
        stage.kafka().broker(3).restart().await?;
        stage.kafka().in_sync(3, &[1, 2, 3]).await?;
        each_paid_once(stage, &held).await?;
        let after = stage.observe().await?;
        for topic in ["payment", "payment.success"] {
            let (before, after) = (before.records(topic), after.records(topic));
            assert_eq!(before.len(), 1);
            assert!(before.iter().all(|record| after.contains(record)), "{topic} has lost {before:?}: {after:?}");
        }
        Ok(())
    })
}

/// Writes down how long the relay of our own service means to pause with a row that could not be sent.
const NOTE_PAUSES: &str = "CREATE TABLE pauses (seconds float8 NOT NULL);
    CREATE FUNCTION note_pause() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO pauses VALUES (extract(epoch FROM NEW.retry_at - clock_timestamp()));
        RETURN NULL;
    END $$;
    CREATE TRIGGER note_pause AFTER UPDATE OF attempts ON payment_outbox
        FOR EACH ROW WHEN (NEW.last_error IS NOT NULL) EXECUTE FUNCTION note_pause()";

/// Waits until a pause is half as long again as the first, which is 300 ms here.
async fn pauses_grow(stage: &Stage<'_, Concert>) -> Verdict {
    let database = stage.database().await?;
    let grown = eventually(async || {
        let longest =
            sqlx::query_scalar::<_, Option<f64>>("SELECT max(seconds) FROM pauses").fetch_one(&database).await;
        match longest {
            Ok(Some(longest)) if longest > 0.45 => Ok(()),
            other => Err(format!("pauses do not grow; the longest was {other:?} s")),
        }
    });
    Ok(grown.await?)
}

/// Goal: the death of the broker that leads the quorum is a death like any other: the others elect, and payments go on.
#[test]
fn the_quorum_leader_killed() -> Verdict {
    concert::adjusted().missing_brokers().layout(Layout::Separate).scenario(async |stage| {
        brokers_are_missed(stage);
        let held = held_seats(stage, 3).await?;
        let leader = stage.kafka().quorum_leader().await?;
        stage.kafka().broker(leader).kill().await?;
        for held in &held {
            stage.concert.pay_for(held).await?;
        }
        outbox_is(stage, &["SUCCESS"; 3]).await?;
        assert_ne!(stage.kafka().quorum_leader().await?, leader, "nobody else was elected");
        stage.kafka().broker(leader).restart().await?;
        stage.kafka().in_sync(3, &[1, 2, 3]).await?;
        each_paid_once(stage, &held).await
    })
}
