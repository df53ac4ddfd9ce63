//! A gate inside the database: the first who comes to a moment waits there until the story opens it.
//!
//! So a story decides what happens meanwhile, and rests on no lucky timing. Whoever comes later passes.

use greenroom::runtime::Waited;
use greenroom::scenario::{Verdict, eventually};
use sqlx::pool::PoolConnection;
use sqlx::{PgPool, Postgres};

/// The end of a transaction that writes an outbox row: what it did is done, and nobody sees it yet.
pub(crate) const COMMIT_OF_A_PAYMENT: &str = "CREATE CONSTRAINT TRIGGER gate AFTER INSERT ON payment_outbox
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION gate()";

/// A change of the status of an outbox row, before it touches the row. It holds no lock that was not held before.
pub(crate) const CHANGE_OF_STATUS: &str = "CREATE TRIGGER gate BEFORE UPDATE OF status ON payment_outbox
    FOR EACH STATEMENT EXECUTE FUNCTION gate()";

/// An attempt to send an outbox row is over, and not counted yet. Just our own service counts.
pub(crate) const COUNT_OF_ATTEMPTS: &str = "CREATE TRIGGER gate BEFORE UPDATE OF attempts ON payment_outbox
    FOR EACH STATEMENT EXECUTE FUNCTION gate()";

/// The end of a transaction that makes a concert.
pub(crate) const COMMIT_OF_A_CONCERT: &str = "CREATE CONSTRAINT TRIGGER gate AFTER INSERT ON concert
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION gate()";

/// Lock 8 is taken by the first who comes, until its transaction ends; lock 7 is the story's. Both are of a class of
/// their own, so that no lock of the service is taken for one of them.
const FUNCTION: &str = "CREATE FUNCTION gate() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF pg_try_advisory_xact_lock(1735552626, 8) THEN PERFORM pg_advisory_xact_lock_shared(1735552626, 7); END IF;
        RETURN NEW;
    END $$";

/// How many wait for the story's lock.
const HELD_UP: &str = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
    AND (classid, objid, objsubid) = (1735552626, 7, 2)";

/// A closed gate.
pub(crate) struct Gate {
    database: PgPool,
    key: PoolConnection<Postgres>,
}

impl Gate {
    /// Closes a gate at a moment.
    pub(crate) async fn at(moment: &'static str, database: PgPool) -> Result<Self, sqlx::Error> {
        let mut key = database.acquire().await?;
        sqlx::query("SELECT pg_advisory_lock(1735552626, 7)").execute(&mut *key).await?;
        sqlx::raw_sql(FUNCTION).execute(&database).await?;
        sqlx::raw_sql(moment).execute(&database).await?;
        Ok(Self { database, key })
    }

    /// Waits until somebody stands at the gate.
    pub(crate) async fn held_up(&self) -> Result<(), Waited> {
        eventually(async || match sqlx::query_scalar::<_, i64>(HELD_UP).fetch_one(&self.database).await {
            Ok(0) => Err("nobody has come to the gate".to_owned()),
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        })
        .await
    }

    /// Opens it, and returns when the transaction that waited there has ended.
    pub(crate) async fn open(mut self) -> Verdict {
        sqlx::query("SELECT pg_advisory_unlock(1735552626, 7)").execute(&mut *self.key).await?;
        eventually(async || {
            let ended =
                sqlx::query_scalar("SELECT pg_try_advisory_lock(1735552626, 8)").fetch_one(&mut *self.key).await;
            match ended {
                Ok(true) => Ok(()),
                Ok(false) => Err("the transaction that stood at the gate has not ended".to_owned()),
                Err(error) => Err(error.to_string()),
            }
        })
        .await?;
        sqlx::query("SELECT pg_advisory_unlock(1735552626, 8)").execute(&mut *self.key).await?;
        Ok(())
    }
}
