//! The invariants of every story about the concert service, as one check: what was bought was paid for, once.
//!
//! [`balance`] is called when a story has settled. It looks at everything and tells all that is wrong, so that a
//! defect shows its whole trace.

use std::collections::BTreeMap;

use fixtures::Stage;
use fixtures::concert::{Concert, UserId};
use greenroom::observe::Observation;
use greenroom::observe::history::Transition;
use greenroom::observe::topics::Record;
use greenroom::scenario::{Failure, Verdict};
use serde_json::Value;
use sqlx::PgPool;

/// Each query finds what breaks one law.
const LAWS: [&str; 6] = [
    // Both tables of points agree.
    r#"SELECT format('user %s has %s points in one table and %s in the other', u.id, trim_scale(u.balance),
           trim_scale(b.balance))
       FROM "user" u LEFT JOIN balance b ON b."userId" = u.id WHERE u.balance IS DISTINCT FROM b.balance"#,
    // A taken seat has one reservation, a free one none.
    "SELECT format('seat %s is %s and has %s reservations', s.id, s.status, count(r.id))
     FROM seat s LEFT JOIN reservation r ON r.seat_id = s.id
     GROUP BY s.id HAVING count(r.id) <> CASE s.status WHEN 'AVAILABLE' THEN 0 ELSE 1 END",
    // A seat that is sold has one payment that was made or is under way, any other none.
    "SELECT format('seat %s is %s and has %s payments made or under way', s.id, s.status, count(o.id))
     FROM seat s LEFT JOIN payment_outbox o
         ON (o.metadata ->> 'seatId')::int = s.id AND o.status IN ('INIT', 'PUBLISHED', 'SUCCESS')
     GROUP BY s.id HAVING count(o.id) <> CASE s.status WHEN 'RESERVED' THEN 1 ELSE 0 END",
    // Nothing waits.
    "SELECT format('outbox row %s is left in %s', id, status) FROM payment_outbox
     WHERE status NOT IN ('SUCCESS', 'FAIL') ORDER BY id",
    // What was made is written down once, at its price; what was not made is not.
    "SELECT format('outbox row %s is %s and has %s payments of its price', o.id, o.status, count(p.id))
     FROM payment_outbox o LEFT JOIN payment p ON p.reservation_id = (o.metadata ->> 'reservationId')::int
         AND p.price = (o.metadata ->> 'price')::numeric
     GROUP BY o.id HAVING count(p.id) <> CASE o.status WHEN 'SUCCESS' THEN 1 ELSE 0 END",
    // A payment is one that an outbox row asks for.
    "SELECT format('payment %s of %s points has no outbox row', p.id, trim_scale(p.price)) FROM payment p
     WHERE NOT EXISTS (SELECT FROM payment_outbox o WHERE (o.metadata ->> 'reservationId')::int = p.reservation_id
         AND (o.metadata ->> 'price')::numeric = p.price)",
];

/// What a user was charged is what it has and what its payments cost.
const POINTS: &str = r#"
    SELECT format('user %s was given %s points and has %s, and its payments cost %s', had.id, had.given,
        trim_scale(had.kept), trim_scale(paid.points))
    FROM (SELECT coalesce(u.id, g.id) AS id, coalesce(g.points, 0) AS given, coalesce(u.balance, 0) AS kept
        FROM "user" u FULL JOIN unnest($1::bigint[], $2::bigint[]) AS g (id, points) ON g.id = u.id) AS had,
    LATERAL (SELECT coalesce(sum((metadata ->> 'price')::numeric), 0) AS points FROM payment_outbox
        WHERE (metadata ->> 'userId')::int = had.id AND status = 'SUCCESS') AS paid
    WHERE had.kept + paid.points <> had.given ORDER BY had.id"#;

/// What a story sends to topic `payment` itself, and nobody can read.
pub(crate) const NO_PAYMENT: &str = "pay me";

/// No other transition exists (contract 1.5).
const TRANSITIONS: [(Option<&str>, &str); 4] =
    [(None, "INIT"), (Some("INIT"), "PUBLISHED"), (Some("PUBLISHED"), "SUCCESS"), (Some("PUBLISHED"), "FAIL")];

/// Checks that the books balance; `given` is what each user was charged, in points.
///
/// # Errors
/// They do not; the error tells all that is wrong.
pub(crate) async fn balance(stage: &Stage<'_, Concert>, given: &[(UserId, i64)]) -> Verdict {
    let database = stage.database().await?;
    let seen = Box::pin(stage.observe()).await?;
    let mut wrong = forbidden_transitions(&seen);
    wrong.extend(phantoms(&seen, &database).await?);
    // Somebody else's service may make its table anew, and nobody records it then.
    if !stage.is_of_somebody_else() {
        wrong.extend(unrecorded(&seen, &database).await?);
    }
    for law in LAWS {
        wrong.extend(sqlx::query_scalar::<_, String>(law).fetch_all(&database).await?);
    }
    let (users, points): (Vec<i64>, Vec<i64>) = given.iter().map(|(user, points)| (user.0, *points)).unzip();
    wrong.extend(sqlx::query_scalar::<_, String>(POINTS).bind(users).bind(points).fetch_all(&database).await?);
    all_is_well(wrong)
}

/// Checks the history alone, which may be done at any moment.
///
/// # Errors
/// An outbox row went where it may not; the error names both writers.
pub(crate) async fn no_forbidden_transition(stage: &Stage<'_, Concert>) -> Verdict {
    all_is_well(forbidden_transitions(&Box::pin(stage.observe()).await?))
}

fn all_is_well(wrong: Vec<String>) -> Verdict {
    if wrong.is_empty() { Ok(()) } else { Err(Failure::new(format!("the books do not balance: {}", wrong.join("; ")))) }
}

fn forbidden_transitions(seen: &Observation) -> Vec<String> {
    let mut before: BTreeMap<&str, &Transition> = BTreeMap::new();
    let mut wrong = Vec::new();
    for transition in seen.history.iter().filter(|transition| transition.table == "payment_outbox") {
        let (from, to) = (transition.from.as_deref(), transition.to.as_deref().unwrap_or("nothing"));
        if !TRANSITIONS.contains(&(from, to)) {
            let (from, row) = (from.unwrap_or("nothing"), &transition.key);
            let earlier = before.get(row.as_str()).map_or("nobody", |earlier| &earlier.writer);
            let writer = &transition.writer;
            wrong
                .push(format!("outbox row {row} went from {from}, written by {earlier}, to {to}, written by {writer}"));
        }
        before.insert(&transition.key, transition);
    }
    wrong
}

/// Outbox rows of which not everything was recorded: what is forbidden might be what is missing.
async fn unrecorded(seen: &Observation, database: &PgPool) -> Result<Vec<String>, sqlx::Error> {
    let of_outbox = seen.history.iter().filter(|transition| transition.table == "payment_outbox");
    let last: BTreeMap<_, _> = of_outbox.map(|step| (step.key.as_str(), step.to.as_deref())).collect();
    let rows = "SELECT id::text, status::text FROM payment_outbox ORDER BY id";
    let rows: Vec<(String, String)> = sqlx::query_as(rows).fetch_all(database).await?;
    let unrecorded = rows.iter().filter(|(id, status)| last.get(id.as_str()) != Some(&Some(status.as_str())));
    Ok(unrecorded.map(|(id, status)| format!("outbox row {id} is {status}, and nobody recorded how")).collect())
}

/// Records of payments that were never asked for, or that nobody can tell from such.
async fn phantoms(seen: &Observation, database: &PgPool) -> Result<Vec<String>, sqlx::Error> {
    let rows = "SELECT id::text, 'payment_reservation_' || (metadata ->> 'reservationId') FROM payment_outbox";
    let rows: Vec<(String, Option<String>)> = sqlx::query_as(rows).fetch_all(database).await?;
    let keys: BTreeMap<_, _> = rows.into_iter().collect();
    let wrong = |record: &Record| {
        let value = record.value.as_deref().unwrap_or_default();
        let key = String::from_utf8_lossy(record.key.as_deref().unwrap_or_default());
        let event = serde_json::from_slice::<Value>(value).ok().and_then(|value| match value.get("eventId")? {
            Value::String(id) => Some(id.clone()),
            id => Some(id.to_string()),
        });
        let wrong = match event.as_deref().map(|id| (id, keys.get(id))) {
            None if value == NO_PAYMENT.as_bytes() => return None,
            None => format!("that names no event: {:?}", String::from_utf8_lossy(value)),
            Some((id, None)) => format!("of event {id}, which has no outbox row"),
            Some((_, Some(right))) if right.as_deref() == Some(&key) => return None,
            Some((id, Some(right))) => format!("of event {id} with the key {key}, and its row is of {right:?}"),
        };
        Some(format!("topic payment has a record {wrong}"))
    };
    Ok(seen.records("payment").iter().filter_map(wrong).collect())
}
