//! Many at once: exactly as many coupons as there are, and one for each.

use fixtures::coupon::{self, Outcome};
use greenroom::drive::burst;
use greenroom::scenario::{Failure, Verdict};

use crate::ledger::{owners, remembered};

const AT_ONCE: usize = 32;

/// Goal: of a thousand users a hundred get a coupon; who is told so has one, who is told otherwise leaves no trace.
/// Method: a thousand applications, 32 at a time; then a loser and a winner ask again.
#[test]
fn a_thousand_users_share_a_hundred_coupons() -> Verdict {
    coupon::scenario(async |stage| {
        let told = burst(AT_ONCE, 1..=1000, async |user| (user, stage.coupons.apply(user).await)).await;
        let (mut winners, mut losers) = (Vec::new(), Vec::new());
        for (user, outcome) in told.answers {
            match outcome? {
                Outcome::Won => winners.push(user),
                Outcome::SoldOut => losers.push(user),
                Outcome::AlreadyWon => panic!("user {user} asked once"),
            }
        }
        assert_eq!((winners.len(), losers.len()), (100, 900));
        stage.settle().await?;
        assert_eq!(owners(stage).await?, winners);
        assert_eq!(remembered(stage).await?, (winners.clone(), "100".to_owned()));

        assert_eq!(stage.coupons.apply(losers[0]).await?, Outcome::SoldOut);
        assert_eq!(stage.coupons.apply(winners[0]).await?, Outcome::AlreadyWon);
        stage.settle().await?;
        assert_eq!(owners(stage).await?, winners);
        assert_eq!(stage.observe().await?.records("coupon_create").len(), 100, "a winner was sent more than once");
        Ok(())
    })
}

/// Goal: one user gets one coupon, however often and fast it asks.
/// Method: a thousand applications of one user, 32 at a time.
#[test]
fn a_thousand_requests_of_one_user_get_one_coupon() -> Verdict {
    coupon::scenario(async |stage| {
        let told = burst(AT_ONCE, 0..1000, async |_| stage.coupons.apply(7).await).await;
        let told = told.answers.into_iter().collect::<Result<Vec<_>, _>>()?;
        assert_eq!(told.iter().filter(|outcome| **outcome == Outcome::Won).count(), 1);
        assert_eq!(told.iter().filter(|outcome| **outcome == Outcome::AlreadyWon).count(), 999);
        stage.settle().await?;
        assert_eq!(owners(stage).await?, [7]);
        insta::assert_snapshot!(stage.document().await?);
        Ok(())
    })
}

/// Goal: two instances give out a hundred coupons together, not a hundred each, and agree on who has one.
/// Method: each of five hundred users applies at both instances, 32 applications at a time.
#[test]
fn two_instances_share_a_hundred_coupons() -> Verdict {
    coupon::adjusted().instances(2).scenario(async |stage| {
        let instances = [stage.instance(1)?, stage.instance(2)?];
        let applications = (1..=500).flat_map(|user| [(user, &instances[0]), (user, &instances[1])]);
        let told = burst(AT_ONCE, applications, async |(user, instance)| {
            Ok::<_, Failure>((user, instance.apply(user).await?))
        });
        let told = told.await.answers.into_iter().collect::<Result<Vec<_>, _>>()?;
        let mut winners = Vec::new();
        for both in told.chunks(2) {
            let user = both[0].0;
            match [both[0].1, both[1].1] {
                [Outcome::Won, Outcome::AlreadyWon] | [Outcome::AlreadyWon, Outcome::Won] => winners.push(user),
                [Outcome::SoldOut, Outcome::SoldOut] => {}
                otherwise => panic!("user {user} was told {otherwise:?}"),
            }
        }
        assert_eq!(winners.len(), 100);
        stage.settle().await?;
        assert_eq!(owners(stage).await?, winners);
        assert_eq!(remembered(stage).await?, (winners, "100".to_owned()));
        Ok(())
    })
}
