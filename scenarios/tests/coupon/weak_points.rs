//! The weak points of "add, count, send, write": a crash or a refusal between any two of them.

use fixtures::coupon::{self, COUPON, CouponClient, Coupons, Outcome};
use fixtures::{Adjustments, Stage};
use greenroom::drive::burst;
use greenroom::scenario::{Failure, Verdict, eventually};

use crate::ledger::{failures, owners};

/// What the service says of a winner that the brokers do not take for half of its claim.
const NOT_ACKNOWLEDGED: &str = "winner not acknowledged by Kafka";

/// Goal: a crash between counting and sending loses no coupon.
/// Method: the brokers stand still, so that no winner can be acknowledged; a hundred win, the service is killed, the
/// brokers go on. What lies in the topic then is less than what was won; the restarted service sends the rest.
#[test]
fn a_crash_between_counting_and_sending_loses_no_coupon() -> Verdict {
    coupon::adjusted().variable("COUPON_CLAIM_DURATION", "4s").scenario(async |stage| {
        stage.environment().expect_complaint("coupon", NOT_ACKNOWLEDGED);
        stage.pause_brokers().await?;
        let told = burst(32, 1..=150, async |user| (user, stage.coupons.apply(user).await)).await;
        let mut winners = Vec::new();
        for (user, outcome) in told.answers {
            if outcome? == Outcome::Won {
                winners.push(user);
            }
        }
        assert_eq!(winners.len(), 100);
        assert_eq!(stage.coupons.pending().await?, 100, "counted, told, and not acknowledged");
        stage.part(COUPON).kill().await?;
        stage.resume_brokers().await?;
        let sent = stage.observe().await?.records("coupon_create").len();
        assert!(sent < 100, "all were sent before the crash: the story shows nothing");

        stage.part(COUPON).restart().await?;
        stage.settle().await?;
        assert_eq!(owners(stage).await?, winners);
        assert_eq!(stage.coupons.apply(1000).await?, Outcome::SoldOut);
        Ok(())
    })
}

/// Goal: what a dead instance has won for its users is sent and written by the one that lives.
/// Method: as before, but with a second instance, and nobody restarts the first. The second stands still until the
/// first is dead, so that it has none of the winners in hand.
#[test]
fn another_instance_sends_what_a_dead_one_won() -> Verdict {
    let two = coupon::adjusted().instances(2).variable("COUPON_CLAIM_DURATION", "4s").variable("COUPON_LIMIT", 10);
    // The dead one stays away, and the other takes its partitions when its session is over.
    let two = two.variable("KAFKA_SESSION_TIMEOUT", "6s");
    two.scenario(async |stage| {
        stage.environment().expect_complaint("coupon", NOT_ACKNOWLEDGED);
        stage.environment().expect_complaint("coupon", "shut out of the consumer group");
        stage.part("coupon-2").pause().await?;
        stage.pause_brokers().await?;
        for user in 1..=10 {
            assert_eq!(stage.coupons.apply(user).await?, Outcome::Won);
        }
        assert_eq!(stage.coupons.pending().await?, 10, "counted, told, and not acknowledged");
        stage.part(COUPON).kill().await?;
        stage.part("coupon-2").resume().await?;
        stage.resume_brokers().await?;
        // Nobody but the one that lives can tell of a winner that it is acknowledged.
        let living = stage.instance(2)?;
        eventually(async || nothing_pending(&living).await).await?;
        // Not settled, which would ask the dead one too.
        eventually(async || has_coupons(stage, 10).await).await?;
        assert_eq!(owners(stage).await?, (1..=10).collect::<Vec<_>>());
        assert_eq!(living.apply(11).await?, Outcome::SoldOut);
        Ok(())
    })
}

/// Goal: a redelivered record issues no second coupon.
#[test]
fn a_redelivery_issues_no_second_coupon() -> Verdict {
    one_coupon_each(&owners_after_a_redelivery(coupon::adjusted())?)
}

/// Goal: the scenario above finds a service without a unique user.
#[test]
fn a_service_without_a_unique_user_is_caught() -> Verdict {
    let broken = coupon::adjusted().without_unique_user();
    let caught = one_coupon_each(&owners_after_a_redelivery(broken)?).expect_err("nobody noticed");
    assert!(format!("{caught:?}").contains("user 7 has 2 coupons"), "{caught:?}");
    Ok(())
}

/// The owners of all coupons after the record of user 7 was delivered twice.
///
/// Method: the write of a coupon is held up inside the database and the service is killed there. The database ends what
/// it began, so the coupon is written; nobody commits the offset, so the restarted service gets the record again.
fn owners_after_a_redelivery(adjustments: Adjustments<Coupons>) -> Result<Vec<i64>, Failure> {
    let mut owners_after = Vec::new();
    adjustments.scenario(async |stage| {
        let database = stage.database().await?;
        sqlx::raw_sql(HOLD_UP).execute(&database).await?;
        let mut gate = database.acquire().await?;
        sqlx::query("SELECT pg_advisory_lock(7)").execute(&mut *gate).await?;
        assert_eq!(stage.coupons.apply(7).await?, Outcome::Won);
        eventually(async || held_up(&database).await).await?;
        // Else the restarted service would send the winner again, which is another story.
        eventually(async || nothing_pending(&stage.coupons).await).await?;
        stage.part(COUPON).kill().await?;
        sqlx::query("SELECT pg_advisory_unlock(7)").execute(&mut *gate).await?;
        eventually(async || has_coupons(stage, 1).await).await?;

        stage.part(COUPON).restart().await?;
        stage.settle().await?;
        assert_eq!(stage.observe().await?.records("coupon_create").len(), 1, "a redelivery, not a second record");
        owners_after = owners(stage).await?;
        Ok(())
    })?;
    Ok(owners_after)
}

/// Every coupon waits for a lock before it is written.
const HOLD_UP: &str = "
CREATE FUNCTION hold_up() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_advisory_xact_lock_shared(7); RETURN NEW; END $$;
CREATE TRIGGER hold_up BEFORE INSERT ON coupon FOR EACH ROW EXECUTE FUNCTION hold_up();
";

async fn held_up(database: &sqlx::PgPool) -> Result<(), String> {
    let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
    match sqlx::query_scalar::<_, i64>(waiting).fetch_one(database).await {
        Ok(0) => Err("no coupon is being written".to_owned()),
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

async fn nothing_pending(instance: &CouponClient) -> Result<(), String> {
    match instance.pending().await {
        Ok(0) => Ok(()),
        Ok(pending) => Err(format!("{pending} winners are not acknowledged by Kafka")),
        Err(error) => Err(error.to_string()),
    }
}

async fn has_coupons(stage: &Stage<'_, Coupons>, expected: usize) -> Result<(), String> {
    match owners(stage).await {
        Ok(owners) if owners.len() == expected => Ok(()),
        Ok(owners) => Err(format!("{} of {expected} coupons are written", owners.len())),
        Err(error) => Err(error.to_string()),
    }
}

/// The law.
fn one_coupon_each(owners: &[i64]) -> Verdict {
    for user in owners {
        let coupons = owners.iter().filter(|owner| *owner == user).count();
        if coupons != 1 {
            return Err(Failure::new(format!("user {user} has {coupons} coupons")));
        }
    }
    if owners.is_empty() { Err(Failure::new("nobody has a coupon")) } else { Ok(()) }
}

/// Goal: a coupon that the database refuses is noted, holds up nobody, and is written when the database takes it.
/// Method: a trigger refuses user 7 until a retry has failed too, while user 8 gets its coupon; then it is dropped.
#[test]
fn a_refused_write_is_noted_and_retried() -> Verdict {
    coupon::scenario(async |stage| {
        stage.environment().expect_complaint("postgres", "the printer is out of paper");
        stage.environment().expect_complaint("coupon", "the printer is out of paper");
        let database = stage.database().await?;
        sqlx::raw_sql(REFUSE_USER_7).execute(&database).await?;
        for user in [7, 8] {
            assert_eq!(stage.coupons.apply(user).await?, Outcome::Won);
        }
        eventually(async || match failures(&database).await {
            Ok(failed) if matches!(failed[..], [(7, 2..)]) => Ok(()),
            Ok(failed) => Err(format!("no retry of user 7 has failed: {failed:?}")),
            Err(error) => Err(error.to_string()),
        })
        .await?;
        eventually(async || has_coupons(stage, 1).await).await?;
        assert_eq!(owners(stage).await?, [8]);

        sqlx::raw_sql("DROP TRIGGER refuse ON coupon").execute(&database).await?;
        stage.settle().await?;
        assert_eq!(owners(stage).await?, [7, 8]);
        assert_eq!(failures(&database).await?, []);
        insta::assert_snapshot!(stage.document().await?);
        Ok(())
    })
}

const REFUSE_USER_7: &str = "
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'the printer is out of paper'; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON coupon FOR EACH ROW WHEN (NEW.user_id = 7) EXECUTE FUNCTION refuse();
";
