//! Bodies and paths that are wrong in one place, and right bodies with every number as a text.

use fixtures::Stage;
use fixtures::concert::{self, Buyer, Concert, PRICE, SeatStatus, Show};
use greenroom::scenario::{Failure, Verdict};
use serde_json::{Map, Value, json};

use crate::books;
use crate::sales::POINTS;

/// Nothing of these is an object with the fields that a route asks for.
const NO_OBJECTS: [&[u8]; 7] = [b"", b"[]", b"null", b"7", b"\"userId\"", b"{\"userId\":", b"\xff\xfe"];

/// A route with a right body for it.
struct Route {
    path: &'static str,
    /// Its numbers are texts, which the contract allows.
    body: Map<String, Value>,
    /// Numbers that the answer has: where, and which.
    told: Vec<(&'static str, i64)>,
}

/// Every route that takes a body, in an order in which they can be used.
fn routes(show: &Show, buyer: &Buyer) -> Vec<Route> {
    let (concert, seat, user) = (show.concert.0, show.seats[0].id.0, buyer.id.0);
    let id = |id: i64| id.to_string();
    let route = |path, body: Value, told: &[(&'static str, i64)]| Route {
        path,
        body: body.as_object().cloned().unwrap_or_default(),
        told: told.to_vec(),
    };
    vec![
        route("/user/create", json!({"userId": "2", "name": "Wilhelm"}), &[("/id", 2), ("/balance", 0)]),
        route("/user/charge", json!({"userId": id(user), "point": "500"}), &[("/balance", POINTS + 500)]),
        route("/user/use", json!({"userId": id(user), "point": "500"}), &[("/balance", POINTS)]),
        route("/concert/create", json!({"concertName": "Schwanengesang", "location": "Great Hall"}), &[]),
        route(
            "/concert/schedule/create",
            json!({"concertId": id(concert), "performanceDate": "2030-05-02T19:00:00.000Z"}),
            &[("/concertId", concert)],
        ),
        route(
            "/concert/seat/create",
            json!({"concertId": id(concert), "performanceDate": show.date, "seatNumber": "2", "price": id(PRICE)}),
            &[("/concertId", concert), ("/seatNumber", 2), ("/price", PRICE)],
        ),
        route(
            "/reservation/seat",
            json!({"userId": id(user), "concertId": id(concert), "performanceDate": show.date, "seatNumber": "1"}),
            &[("/user/id", user), ("/seat/id", seat)],
        ),
        route("/reservation/payment", json!({"userId": id(user), "seatId": id(seat)}), &[]),
    ]
}

/// What may stand in the place of a right value and is none, whatever it is that stands there.
fn wrong_values(name: &str) -> Vec<Value> {
    let mut wrong = vec![Value::Null, json!([1]), json!({})];
    wrong.extend(match name {
        "name" | "concertName" | "location" => vec![json!(7)],
        "performanceDate" => vec![json!("tomorrow"), json!("2030-13-01T19:00:00.000Z"), json!("")],
        "point" => vec![json!("many"), json!(""), json!(true), json!(0), json!(-50), json!("-50")],
        "price" => vec![json!("dear"), json!(""), json!(true)],
        _ => vec![json!("one"), json!(""), json!(true), json!(1.5), json!("1.5")],
    });
    wrong
}

/// A body spoilt in each of its places, and in each way.
fn spoilt(body: &Map<String, Value>) -> Vec<Map<String, Value>> {
    let with = |name: &str, value: Value| {
        let mut body = body.clone();
        body.insert(name.to_owned(), value);
        body
    };
    let mut spoilt = vec![with("nobodyKnowsThis", json!(1))];
    for name in body.keys() {
        let mut without = body.clone();
        without.remove(name);
        spoilt.push(without);
        spoilt.extend(wrong_values(name).into_iter().map(|value| with(name, value)));
    }
    spoilt
}

/// Goal: a body with a field too many, too few or of the wrong type is refused by every route and changes nothing.
/// Numbers may be texts. A schedule is asked for by a number, and seats by a date.
/// Method: everything wrong; then the right body for each route, and the payment that comes of them.
#[test]
fn wrong_bodies_and_paths_are_refused() -> Verdict {
    concert::scenario(async |stage| {
        let show = stage.concert.put_on_show(1, PRICE).await?;
        let buyer = stage.concert.buyer(1, POINTS).await?;
        let before = everything(stage).await?;
        let no_date = format!("/concert/seat/{}/tomorrow", show.concert);
        for path in ["/concert/schedule/winterreise", &no_date] {
            assert_eq!(stage.concert.get(path).refused().await?.code(), (400, "COMMON_400"), "{path}");
        }
        for Route { path, body, .. } in routes(&show, &buyer) {
            let bodies = spoilt(&body).into_iter().map(|body| serde_json::to_vec(&body));
            let mut bodies = bodies.collect::<Result<Vec<_>, _>>()?;
            bodies.extend(NO_OBJECTS.map(<[u8]>::to_vec));
            for body in bodies {
                let what = format!("{path} {}", String::from_utf8_lossy(&body));
                let answer = stage.concert.post(path).token(&buyer.token).body(body).send().await?;
                let refused = answer.refusal().map_err(|error| Failure::new(format!("{what}: {error}")))?;
                assert_eq!(refused.code(), (400, "COMMON_400"), "{what}");
            }
        }
        assert_eq!(everything(stage).await?, before);

        for Route { path, body, told } in routes(&show, &buyer) {
            let answer = stage.concert.post(path).token(&buyer.token).json(body).send().await?;
            assert_eq!(answer.status(), 201, "{path}: {}", answer.text());
            for (place, number) in told {
                let found = answer.json()?.pointer(place).and_then(Value::as_f64);
                assert_eq!(found, Some(number as f64), "{place} of {path}");
            }
        }
        stage.settle().await?;
        let seat = stage.concert.seat(&show, 1).await?.expect("the seat exists");
        assert_eq!(seat.status, SeatStatus::Reserved);
        books::balance(stage, &[(buyer.id, POINTS)]).await
    })
}

/// Every row that there is.
async fn everything(stage: &Stage<'_, Concert>) -> Result<Vec<String>, Failure> {
    let seen = Box::pin(stage.observe()).await?;
    Ok(seen.tables.iter().map(|table| format!("{}: {:?}", table.name, table.rows)).collect())
}
