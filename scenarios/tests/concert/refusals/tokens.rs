//! Tokens that are none: missing, of somebody else, forged, or past their end; and what is in those that are.

use fixtures::concert::{self, Concert, PRICE, QueueToken};
use fixtures::{Refusal, Stage};
use greenroom::scenario::{Verdict, eventually};
use serde_json::{Value, json};

use crate::books;

/// A JWT's header that asks for no signature: `{"alg":"none","typ":"JWT"}`.
const UNSIGNED: &str = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0";

/// A part of a JWT as the text that it is (RFC 7515: base64 without padding, for URLs). The database can read it, so
/// that nothing here has to.
const DECODE: &str = "SELECT convert_from(decode(
    rpad(translate($1, '-_', '+/'), (length($1) + 3) / 4 * 4, '='), 'base64'), 'UTF8')";

/// Goal: a token is an HS256 JWT that names its place in the queue; what this service has not signed with its own key
/// is no token, nor is one whose time is over. Without one nobody reserves or pays.
/// Method: the first service is shown what is no token, and its own with another signature or none, while that lives.
/// The second has another key and tokens that live for a second: it is shown the token of the first, which lives on,
/// and its own when it has expired.
#[test]
fn only_a_token_of_its_own_is_valid() -> Verdict {
    let mut of_another = None;
    concert::adjusted().variable("JWT_SECRET", "the-key-of-somebody-else").scenario(async |stage| {
        one_is_needed(stage).await?;
        let own = stage.concert.issue_token().await?;
        names_its_place(stage, &own).await?;
        forged_tokens_are_invalid(stage, &own).await?;
        of_another = Some(own);
        Ok(())
    })?;
    // Where the service cannot be asked, there is none.
    let Some(of_another) = of_another else { return Ok(()) };
    concert::adjusted().variable("JWT_EXPIRES_IN", "1s").scenario(async |stage| {
        is_invalid(stage, &of_another, "signed with another key").await?;
        let own = stage.concert.issue_token().await?;
        eventually(async || match stage.concert.check_queue(&own).await.refused() {
            Ok(refused) if refused.code() == (401, "UNEXPECTED_ERROR") => Ok(()),
            other => Err(format!("it has not expired: {other:?}")),
        })
        .await?;
        is_invalid(stage, &own, "past its end").await
    })
}

/// Without a token nobody reserves or pays, and no points move.
async fn one_is_needed(stage: &Stage<'_, Concert>) -> Verdict {
    let show = stage.concert.put_on_show(1, PRICE).await?;
    let user = stage.concert.funded_user(1, PRICE).await?;
    let wish = serde_json::to_value(show.wish(user, 1))?;
    let payment = json!({ "userId": user, "seatId": show.seats[0].id });
    for (path, body) in [("/reservation/seat", wish), ("/reservation/payment", payment)] {
        assert_eq!(stage.concert.post(path).json(body).refused().await?.code(), (401, "COMMON_401"), "{path}");
    }
    books::balance(stage, &[(user, PRICE)]).await
}

/// Nothing is made valid by parts of a valid token, which is so until the end.
async fn forged_tokens_are_invalid(stage: &Stage<'_, Concert>, own: &QueueToken) -> Verdict {
    let second = stage.concert.issue_token().await?;
    let [header, payload, signature] = parts(own);
    let [.., other_signature] = parts(&second);
    for (what, jwt) in [
        ("signed as another token", format!("{header}.{payload}.{other_signature}")),
        ("without its signature", format!("{header}.{payload}.")),
        ("asking for no signature", format!("{UNSIGNED}.{payload}.")),
        ("asking for none and having one", format!("{UNSIGNED}.{payload}.{signature}")),
        ("not a token", "not.a.token".to_owned()),
    ] {
        is_invalid(stage, &QueueToken::new(jwt), what).await?;
    }
    stage.concert.check_queue(own).await?;
    Ok(())
}

/// Header, payload and signature.
fn parts(token: &QueueToken) -> [&str; 3] {
    let parts: Vec<_> = token.jwt().split('.').collect();
    parts.try_into().expect("a JWT has three parts")
}

/// The token says how it is signed and which place in the queue it is (contract 1.8).
async fn names_its_place(stage: &Stage<'_, Concert>, token: &QueueToken) -> Verdict {
    let database = stage.database().await?;
    let [header, payload, _] = parts(token);
    let mut read = Vec::new();
    for part in [header, payload] {
        let text: String = sqlx::query_scalar(DECODE).bind(part).fetch_one(&database).await?;
        read.push(serde_json::from_str::<Value>(&text)?);
    }
    assert_eq!(read[0]["alg"], "HS256");
    let uuid = read[1]["uuid"].as_str().expect("the payload has the uuid of its place");
    let seen = Box::pin(stage.observe()).await?;
    let place = format!("queue:{uuid}");
    assert!(seen.keys.iter().any(|key| key.name == place), "Redis has no {place}");
    Ok(())
}

/// Nobody reserves, pays or asks for a place with it.
async fn is_invalid(stage: &Stage<'_, Concert>, token: &QueueToken, what: &str) -> Verdict {
    let wish = json!({"userId": 1, "concertId": 1, "performanceDate": "2030-05-01T19:00:00.000Z", "seatNumber": 1});
    for asked in [
        stage.concert.get("/waiting-queue/check"),
        stage.concert.post("/reservation/seat").json(wish),
        stage.concert.post("/reservation/payment").json(json!({"userId": 1, "seatId": 1})),
    ] {
        let refused = asked.token(token).refused().await?;
        let told = (refused.code(), refused.message.as_str());
        assert_eq!(told, ((401, "UNEXPECTED_ERROR"), "Token is invalid"), "{what}");
    }
    Ok(())
}
