//! Between the event and the commit (defect 1).

use fixtures::Adjustments;
use fixtures::Refusal;
use fixtures::concert::{self, Concert, Defect, PRICE};
use greenroom::scenario::Verdict;

use super::{catches, law, something_broke};
use crate::books;
use crate::gate::{COMMIT_OF_A_PAYMENT, Gate};

/// Refuses the commit of every outbox row.
const REFUSE: &str = "
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'the ledger is full'; END $$;
CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON payment_outbox
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()";

/// A buyer pays, and the database takes its time over the commit: nobody may hear of the payment before it is done.
fn a_slow_commit(adjustments: Adjustments<Concert>) -> Verdict {
    adjustments.scenario(async |stage| {
        let show = stage.concert.put_on_show(1, PRICE).await?;
        let buyer = stage.concert.buyer(1, 100_000).await?;
        let held = stage.concert.hold(&buyer, &show, 1).await?;
        let gate = Gate::at(COMMIT_OF_A_PAYMENT, stage.database().await?).await?;
        let service = stage.concert.clone();
        let asked = tokio::spawn(async move { service.pay_for(&held).await });
        gate.held_up().await?;

        let early = stage.records("payment").await?;
        law(early.is_empty(), || format!("sent before the commit: {early:?}"))?;
        gate.open().await?;
        asked.await??;
        stage.settle().await?;
        books::balance(stage, &[(buyer.id, 100_000)]).await?;
        insta::assert_snapshot!(stage.document().await?);
        Ok(())
    })
}

/// Goal: no consumer sees a payment before it is committed.
/// Method: [`a_slow_commit`], which waits inside the database until the topic was read to its end.
#[test]
fn an_event_does_not_overtake_its_commit() -> Verdict {
    a_slow_commit(concert::adjusted())
}

/// Goal: the story above finds an event that is sent before the commit.
#[test]
fn an_event_that_overtakes_its_commit_is_caught() -> Verdict {
    catches(Defect::EventBeforeCommit, a_slow_commit, &["sent before the commit", r#"{\"eventId\":1}"#])
}

/// The database refuses the commit, and takes the next one.
fn a_refused_commit(adjustments: Adjustments<Concert>) -> Verdict {
    adjustments.scenario(async |stage| {
        let show = stage.concert.put_on_show(1, PRICE).await?;
        let buyer = stage.concert.buyer(1, 100_000).await?;
        let held = stage.concert.hold(&buyer, &show, 1).await?;
        for part in ["postgres", "concert"] {
            stage.environment().expect_complaint(part, "the ledger is full");
            // The service's library rolls back what could not be committed, and PostgreSQL has done so already.
            stage.environment().expect_complaint(part, "there is no transaction in progress");
        }
        let database = stage.database().await?;
        sqlx::raw_sql(REFUSE).execute(&database).await?;
        let refused = stage.concert.pay_for(&held).await.refused()?;
        something_broke(stage, &refused);
        stage.settle().await?;
        books::balance(stage, &[(buyer.id, 100_000)]).await?;

        sqlx::raw_sql("DROP TRIGGER refuse ON payment_outbox").execute(&database).await?;
        stage.concert.pay_for(&held).await?;
        stage.settle().await?;
        books::balance(stage, &[(buyer.id, 100_000)]).await?;
        insta::assert_snapshot!(stage.document().await?);
        Ok(())
    })
}

/// Goal: a payment that was rolled back never happened, and can be asked for again. Method: [`a_refused_commit`].
#[test]
fn a_rollback_leaves_no_payment() -> Verdict {
    a_refused_commit(concert::adjusted())
}

/// Goal: the story above finds the phantom that a rollback leaves where the event is sent first.
#[test]
fn a_phantom_payment_is_caught() -> Verdict {
    let phantom = "topic payment has a record of event 1, which has no outbox row";
    catches(Defect::EventBeforeCommit, a_refused_commit, &[phantom])
}
