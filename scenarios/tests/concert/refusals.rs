//! What the service refuses, with the status and code of the contract.

mod bodies;
mod codes;
mod tokens;

use fixtures::Refusal;
use fixtures::concert::{self, PRICE, UserId};
use greenroom::scenario::Verdict;
use serde_json::json;

use crate::books;

/// Goal: without the header nobody reserves or pays.
#[test]
fn reserving_and_paying_need_the_header() -> Verdict {
    concert::scenario(async |stage| {
        let show = stage.concert.put_on_show(1, PRICE).await?;
        let user = stage.concert.funded_user(1, PRICE).await?;
        let wish = serde_json::to_value(show.wish(user, 1))?;
        let reserved = stage.concert.post("/reservation/seat").json(wish).refused().await?;
        assert_eq!(reserved.code(), (401, "COMMON_401"));
        let body = json!({ "userId": user, "seatId": show.seats[0].id });
        let paid = stage.concert.post("/reservation/payment").json(body).refused().await?;
        assert_eq!(paid.code(), (401, "COMMON_401"));
        books::balance(stage, &[(user, PRICE)]).await
    })
}

/// Goal: nobody charges less than one point.
#[test]
fn a_negative_charge_is_refused() -> Verdict {
    concert::scenario(async |stage| {
        let user = stage.concert.funded_user(1, 0).await?;
        assert_eq!(stage.concert.charge(user, -50).await.refused()?.code(), (400, "COMMON_400"));
        assert_eq!(stage.concert.points(user).await?, "0");
        books::balance(stage, &[]).await
    })
}

/// Goal: nobody has the points of an unknown user.
#[test]
fn an_unknown_user_has_no_points() -> Verdict {
    concert::scenario(async |stage| {
        assert_eq!(stage.concert.points(UserId(4_711)).await.refused()?.code(), (400, "USER_001"));
        Ok(())
    })
}

/// Goal: a schedule is asked for by a number.
#[test]
fn a_schedule_with_a_bad_id_is_refused() -> Verdict {
    concert::scenario(async |stage| {
        let refusal = stage.concert.get("/concert/schedule/winterreise").refused().await?;
        assert_eq!(refusal.code(), (400, "COMMON_400"));
        Ok(())
    })
}

/// Goal: seats are asked for by a date.
#[test]
fn seats_with_a_bad_date_are_refused() -> Verdict {
    concert::scenario(async |stage| {
        let show = stage.concert.put_on_show(1, PRICE).await?;
        let path = format!("/concert/seat/{}/tomorrow", show.concert);
        let refusal = stage.concert.get(path).refused().await?;
        assert_eq!(refusal.code(), (400, "COMMON_400"));
        Ok(())
    })
}
