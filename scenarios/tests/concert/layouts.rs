//! The law that a scenario leaves the same document on both layouts.

use fixtures::concert::{self, PRICE};
use greenroom::scenario::{Failure, Verdict};
use greenroom::spec::Layout;

use crate::books;

/// One approved and one declined payment; `judged` gets what was written down of them.
fn written_down(layout: Layout, mut judged: impl FnMut(String)) -> Verdict {
    concert::adjusted().layout(layout).scenario(async |stage| {
        let show = stage.concert.put_on_show(2, PRICE).await?;
        let buyer = stage.concert.buyer(1, 100_000).await?;
        let declined = stage.concert.hold(&buyer, &show, 1).await?;
        let approved = stage.concert.hold(&buyer, &show, 2).await?;
        stage.payments.decline(declined.reservation.id, "card expired").await?;
        stage.concert.pay_for(&declined).await?;
        stage.settle().await?;
        stage.concert.pay_for(&approved).await?;
        stage.settle().await?;
        books::balance(stage, &[(buyer.id, 100_000)]).await?;
        if stage.is_of_somebody_else() {
            return Err(Failure::cannot_be_asked("what else it writes down may differ from one time to the next"));
        }
        judged(stage.document().await?);
        Ok(())
    })
}

/// Goal: both layouts leave the same document. It is compared while the second one's story is told, so that its verdict
/// holds the comparison.
#[test]
fn both_layouts_leave_the_same_document() -> Verdict {
    let mut colocated = String::new();
    written_down(Layout::Colocated, |document| colocated = document)?;
    written_down(Layout::Separate, |separate| {
        assert_eq!(colocated, separate);
        insta::assert_snapshot!(colocated);
    })
}
