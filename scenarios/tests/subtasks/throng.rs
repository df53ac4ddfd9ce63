//! A thousand uploads in flight.

use fixtures::subtasks::{self, Behaviour, Pattern, WORKER};
use greenroom::drive::burst;
use greenroom::scenario::{Failure, Verdict};

use crate::ledger::{most_outcomes, tally, uploading};

const UPLOADS: usize = 1_000;

/// Goal: every one of a thousand uploads that are in flight at the same time ends, once, as it should.
/// Method: the worker is paused until all are accepted, so that a thousand are open at once; half are requests, half
/// events, and every tenth fails.
#[test]
fn a_thousand_uploads_in_flight_all_end() -> Verdict {
    // However long that takes, no upload is to be given up meanwhile.
    subtasks::adjusted().variable("UPLOAD_TIMEOUT", "1h").scenario(async |stage| {
        let mut subtasks = Vec::new();
        for number in 0..50 {
            subtasks.push(stage.api.create(&format!("Result {number}")).await?);
        }
        stage.part(WORKER).pause().await?;
        let (fails, works) = (Behaviour::fails("disk full"), Behaviour::works(5));
        let accepted = burst(64, 0..UPLOADS, async |number| {
            let pattern = if number % 2 == 0 { Pattern::Request } else { Pattern::Event };
            let behaviour = if number % 10 < 1 { &fails } else { &works };
            Ok::<_, Failure>(stage.api.upload(pattern, subtasks[number % subtasks.len()], behaviour).await?)
        });
        accepted.await.answers.into_iter().collect::<Result<Vec<_>, _>>()?;
        let database = stage.database().await?;
        assert_eq!(tally(&database).await?, [format!("open {UPLOADS}")]);
        stage.part(WORKER).resume().await?;
        stage.settle().await?;

        assert_eq!(tally(&database).await?, ["done 900", "failed 100"]);
        assert_eq!(most_outcomes(&database).await?, 1);
        assert_eq!(uploading(&database).await?, 0);
        Ok(())
    })
}
