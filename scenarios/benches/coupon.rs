//! How fast first-come coupons are given out: `cargo bench -p scenarios --bench coupon`.
//!
//! 20 000 users apply, 32 at a time, in an environment of their own for each run: once for a hundred coupons, as
//! the contract has it, and once for two thousand, which loads the whole chain down to the last row. The client shares
//! the machine with the system, so the numbers are lower bounds.

use std::time::{Duration, Instant};

use fixtures::coupon::{self, Outcome};
use greenroom::drive::burst;
use greenroom::scenario::{Verdict, eventually};

const USERS: i64 = 20_000;
const AT_ONCE: usize = 32;
const RUNS: usize = 5;

/// What one run showed.
#[derive(Clone, Copy, Debug)]
struct Run {
    requests_per_second: f64,
    /// From the first request to the last answer.
    answered: Duration,
    /// From the first request until the last coupon was seen in the database, which is looked at every 20 ms.
    stored: Duration,
}

fn main() -> Verdict {
    say(&format!("{USERS} users apply, {AT_ONCE} at a time; median of {RUNS} runs (lowest to highest)"));
    for coupons in [100, 2_000] {
        let mut runs = Vec::new();
        for _ in 0..RUNS {
            runs.push(run(coupons)?);
        }
        say(&format!("\n{coupons} coupons"));
        say(&format!("  requests per second        {}", spread(&runs, |run| run.requests_per_second)));
        say(&format!("  all answered after, s      {}", spread(&runs, |run| run.answered.as_secs_f64())));
        say(&format!("  last coupon stored after, s {}", spread(&runs, |run| run.stored.as_secs_f64())));
    }
    Ok(())
}

/// Applies for `coupons` coupons with all users.
fn run(coupons: i64) -> Result<Run, greenroom::scenario::Failure> {
    let mut measured = None;
    coupon::adjusted().variable("COUPON_LIMIT", coupons).variable("LOG_LEVEL", "warn").scenario(async |stage| {
        let database = stage.database().await?;
        let began = Instant::now();
        let stored = async {
            let stored = eventually(async || {
                let count = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM coupon").fetch_one(&database).await;
                match count {
                    Ok(count) if count == coupons => Ok(began.elapsed()),
                    Ok(count) => Err(format!("{count} of {coupons} coupons are stored")),
                    Err(error) => Err(error.to_string()),
                }
            });
            stored.await
        };
        let applying = burst(AT_ONCE, 1..=USERS, async |user| stage.coupons.apply(user).await);
        let (applied, stored) = tokio::join!(applying, stored);
        let requests_per_second = applied.per_second();
        let told = applied.answers.into_iter().collect::<Result<Vec<_>, _>>()?;
        let won = told.iter().filter(|outcome| **outcome == Outcome::Won).count();
        assert_eq!(i64::try_from(won)?, coupons);
        measured = Some(Run { requests_per_second, answered: applied.took, stored: stored? });
        stage.settle().await?;
        Ok(())
    })?;
    Ok(measured.expect("a story that succeeded has measured"))
}

/// Median, lowest and highest of one number.
fn spread(runs: &[Run], number: impl Fn(&Run) -> f64) -> String {
    let mut numbers: Vec<f64> = runs.iter().map(number).collect();
    numbers.sort_by(f64::total_cmp);
    let [lowest, median, highest] = [0, numbers.len() / 2, numbers.len() - 1].map(|index| numbers[index]);
    format!("{median:.2} ({lowest:.2} to {highest:.2})")
}

#[expect(clippy::print_stdout, reason = "a benchmark's result is its output")]
fn say(line: &str) {
    println!("{line}");
}
