//! A program dies in the middle: nothing is lost, and no upload gets a second outcome.

use fixtures::Stage;
use fixtures::subtasks::{self, API, Behaviour, Outcome, Pattern, REPLY_TOPIC, Subtasks, WORKER};
use greenroom::scenario::Verdict;

use crate::ledger::{most_outcomes, tally, uploading};

/// Goal: a program that ends in the middle, asked to or not, loses no upload and gives none a second outcome.
/// Method: [`a_worker_that_is_told_to_end_answers_first`], then [`a_killed_worker_loses_nothing`].
#[test]
fn programs_that_end_in_the_middle() -> Verdict {
    subtasks::scenario(async |stage| {
        a_worker_that_is_told_to_end_answers_first(stage).await?;
        a_killed_worker_loses_nothing(stage).await?;
        insta::assert_snapshot!(stage.document().await?);
        Ok(())
    })
}

/// Goal: a worker that is told to end finishes what it has in hand, and its successor does it no second time; an answer
/// that comes while the API server is away is found when it is back.
/// Method: a request waits in the worker's hands when the server is killed and the worker gets SIGTERM, which opens its
/// gate too. Both come back when the worker has ended and the answer lies there.
async fn a_worker_that_is_told_to_end_answers_first(stage: &mut Stage<'_, Subtasks>) -> Verdict {
    let subtask = stage.api.create("Result").await?;
    stage.api.upload(Pattern::Request, subtask, &Behaviour::waits()).await?;
    stage.in_hand(1).await?;
    stage.part(API).kill().await?;
    let ended = stage.part(WORKER).stop().await?;
    assert!(ended.ends_with(": 0"), "the worker did not end in good order: {ended}");
    assert_eq!(stage.records(REPLY_TOPIC).await?.len(), 1, "what it had in hand was not answered");
    assert_eq!(tally(&stage.database().await?).await?, ["open 1"]);

    stage.part(WORKER).restart().await?;
    stage.part(API).restart().await?;
    stage.settle().await?;
    assert_eq!(stage.api.subtask(subtask).await?.outcome, Some(Outcome::Done));
    assert_eq!(stage.records(REPLY_TOPIC).await?.len(), 1, "its successor did it a second time");
    Ok(())
}

/// Goal: what a worker had in hand when it was killed is done after its restart, once.
/// Method: three requests and three events wait in the worker's hands, and its successor lets them through.
async fn a_killed_worker_loses_nothing(stage: &mut Stage<'_, Subtasks>) -> Verdict {
    for number in 0..6 {
        let pattern = if number < 3 { Pattern::Request } else { Pattern::Event };
        let subtask = stage.api.create(&format!("Result {number}")).await?;
        stage.api.upload(pattern, subtask, &Behaviour::waits()).await?;
    }
    stage.in_hand(6).await?;
    stage.part(WORKER).kill().await?;
    stage.part(WORKER).restart().await?;
    stage.open_gate().await?;
    stage.settle().await?;
    let database = stage.database().await?;
    assert_eq!(tally(&database).await?, ["done 7"]);
    assert_eq!(most_outcomes(&database).await?, 1);
    assert_eq!(uploading(&database).await?, 0);
    Ok(())
}
