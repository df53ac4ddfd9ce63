//! The law that a scenario leaves the same document on both layouts.

use fixtures::concert::{self, PRICE};
use greenroom::scenario::Verdict;
use greenroom::spec::Layout;

/// One approved and one declined payment, written down.
fn document_on(layout: Layout) -> Result<String, greenroom::scenario::Failure> {
    let mut document = String::new();
    concert::adjusted().layout(layout).scenario(async |stage| {
        let show = stage.concert.put_on_show(2, PRICE).await?;
        let buyer = stage.concert.buyer(1, 100_000).await?;
        let declined = stage.concert.hold(&buyer, &show, 1).await?;
        let approved = stage.concert.hold(&buyer, &show, 2).await?;
        stage.payments.decline(declined.reservation.id, "card expired").await?;
        stage.concert.pay_for(&declined).await?;
        stage.settle().await?;
        stage.concert.pay_for(&approved).await?;
        document = stage.document().await?;
        Ok(())
    })?;
    Ok(document)
}

#[test]
fn both_layouts_leave_the_same_document() -> Verdict {
    let (colocated, separate) = (document_on(Layout::Colocated)?, document_on(Layout::Separate)?);
    assert_eq!(colocated, separate);
    insta::assert_snapshot!(colocated);
    Ok(())
}
