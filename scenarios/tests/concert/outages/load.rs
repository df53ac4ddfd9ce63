//! Many buyers at once, in an outage.

use fixtures::CallError;
use fixtures::concert::{self, PRICE, UserId};
use greenroom::drive::burst;
use greenroom::scenario::{Verdict, eventually};
use greenroom::spec::Layout;
use tokio::sync::watch;

use super::brokers_are_missed;
use crate::books;
use crate::ledger::outbox;
use crate::sales::POINTS;

const BUYERS: i64 = 200;
const SEATS: u32 = 50;
/// Those who buy while all brokers live: the first twenty seats are theirs.
const EARLY_BUYERS: i64 = 80;

/// What somebody is told whose seat is taken.
const TAKEN: [(u16, &str); 2] = [(400, "CONCERT_007"), (503, "RESERVATION_003")];

/// Goal: under load and with a broker lost, every seat is sold once, and money adds up to the last unit.
/// Method: four buyers ask for each seat, and who has it pays. A broker is killed when ten payments were asked for; the
/// buyers of the last thirty seats come when it is dead. There is no snapshot: who gets a seat is a race.
#[test]
fn every_seat_is_sold_once_while_a_broker_is_lost() -> Verdict {
    concert::adjusted().missing_brokers().layout(Layout::Separate).variable("NUMBER_OF_PROCESS", BUYERS).scenario(
        async |stage| {
            brokers_are_missed(stage);
            let show = stage.concert.put_on_show(SEATS, PRICE).await?;
            let client = stage.concert.clone();
            let (dead, is_dead) = watch::channel(false);
            let buy = async |number: i64| {
                if number > EARLY_BUYERS {
                    // Where it could not be killed, the story tells that.
                    let _ = is_dead.clone().wait_for(|dead| *dead).await;
                }
                let buyer = client.buyer(number, POINTS).await?;
                let seat = u32::try_from((number - 1) / 4 + 1).unwrap_or(SEATS);
                match client.hold(&buyer, &show, seat).await {
                    Ok(held) => client.pay_for(&held).await.map(|()| true),
                    Err(CallError::Refused { source, .. }) if TAKEN.contains(&source.code()) => Ok(false),
                    Err(error) => Err(error),
                }
            };
            let lost = async {
                // It ends with this, so that nobody waits for what has failed.
                let dead = dead;
                eventually(async || match outbox(stage).await {
                    Ok(rows) if rows.len() >= 10 => Ok(()),
                    other => Err(format!("ten payments were not asked for: {other:?}")),
                })
                .await?;
                stage.kafka().broker(2).kill().await?;
                dead.send_replace(true);
                Ok::<_, greenroom::scenario::Failure>(stage.kafka().broker(2).restart().await?)
            };
            let (lost, bought) = tokio::join!(lost, burst(8, 1..=BUYERS, buy));
            lost?;
            let bought = bought.answers.into_iter().collect::<Result<Vec<_>, CallError>>()?;
            assert_eq!(bought.iter().filter(|bought| **bought).count(), 50);
            stage.kafka().in_sync(3, &[1, 2, 3]).await?;
            stage.settle().await?;

            assert_eq!(outbox(stage).await?, vec!["SUCCESS"; 50]);
            let given: Vec<_> = (1..=BUYERS).map(|number| (UserId(number), POINTS)).collect();
            books::balance(stage, &given).await
        },
    )
}
