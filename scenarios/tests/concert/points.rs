//! Points under concurrency: nothing is lost and nothing is made.

use fixtures::concert;
use greenroom::scenario::Verdict;

use crate::books;
use crate::ledger::both_balances;

/// Goal: three charges of 100 at the same time make 300.
#[test]
fn three_parallel_charges() -> Verdict {
    concert::scenario(async |stage| {
        let user = stage.concert.funded_user(1, 0).await?;
        let charge = || stage.concert.charge(user, 100);
        tokio::try_join!(charge(), charge(), charge())?;
        assert_eq!(stage.concert.points(user).await?, "300");
        assert_eq!(both_balances(stage, user).await?, ("300".to_owned(), "300".to_owned()));
        books::balance(stage, &[(user, 300)]).await
    })
}

/// Goal: five uses of 100 at the same time leave 1500 of 2000.
#[test]
fn five_parallel_uses() -> Verdict {
    concert::scenario(async |stage| {
        let user = stage.concert.funded_user(1, 2_000).await?;
        let spend = || stage.concert.use_points(user, 100);
        tokio::try_join!(spend(), spend(), spend(), spend(), spend())?;
        assert_eq!(stage.concert.points(user).await?, "1500");
        assert_eq!(both_balances(stage, user).await?, ("1500".to_owned(), "1500".to_owned()));
        books::balance(stage, &[(user, 1_500)]).await
    })
}
