//! A program dies in the middle: nothing is lost, and no upload gets a second outcome.

use fixtures::Stage;
use fixtures::subtasks::{self, API, Behaviour, Outcome, Pattern, REPLY_TOPIC, Subtasks, WORKER};
use greenroom::scenario::Verdict;

use crate::ledger::{most_outcomes, tally, uploading};

/// Goal: a program that ends in the middle, asked to or not, loses no upload and gives none a second outcome.
/// Method: [`an_answer_waits_for_a_server_that_was_killed`], then [`a_worker_that_ends_in_the_middle_loses_nothing`].
#[test]
fn programs_that_end_in_the_middle() -> Verdict {
    subtasks::scenario(async |stage| {
        an_answer_waits_for_a_server_that_was_killed(stage).await?;
        a_worker_that_ends_in_the_middle_loses_nothing(stage).await?;
        insta::assert_snapshot!(stage.document().await?);
        Ok(())
    })
}

/// Goal: an answer that comes while the API server is away is found when it is back.
/// Method: the server is killed while the worker works, and comes back when the answer lies there.
async fn an_answer_waits_for_a_server_that_was_killed(stage: &mut Stage<'_, Subtasks>) -> Verdict {
    let subtask = stage.api.create("Result").await?;
    stage.api.upload(Pattern::Request, subtask, &Behaviour::waits()).await?;
    stage.in_hand(1).await?;
    stage.part(API).kill().await?;
    stage.open_gate().await?;
    stage.in_hand(0).await?;
    let database = stage.database().await?;
    assert_eq!(tally(&database).await?, ["open 1"]);
    stage.part(API).restart().await?;
    stage.settle().await?;
    assert_eq!(stage.api.subtask(subtask).await?.outcome, Some(Outcome::Done));
    Ok(())
}

/// Goal: a worker that is told to end finishes what it has in hand, and its successor does it no second time; what it had
/// in hand when it was killed is done after its restart, once.
/// Method: one request is worked on when SIGTERM comes; then three requests and three events wait in the worker's hands
/// when it is killed, and its successor lets them through.
async fn a_worker_that_ends_in_the_middle_loses_nothing(stage: &mut Stage<'_, Subtasks>) -> Verdict {
    let subtask = stage.api.create("Result").await?;
    stage.api.upload(Pattern::Request, subtask, &Behaviour::works(300)).await?;
    stage.in_hand(1).await?;
    stage.part(WORKER).stop().await?;
    stage.part(WORKER).restart().await?;
    stage.settle().await?;
    assert_eq!(stage.api.subtask(subtask).await?.outcome, Some(Outcome::Done));
    assert_eq!(stage.records(REPLY_TOPIC).await?.len(), 2);

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
    assert_eq!(tally(&database).await?, ["done 8"]);
    assert_eq!(most_outcomes(&database).await?, 1);
    assert_eq!(uploading(&database).await?, 0);
    Ok(())
}
