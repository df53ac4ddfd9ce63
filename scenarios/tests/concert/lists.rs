//! What is offered: lists, most of them cached, and never older than what was answered last.

use std::slice::from_ref;

use fixtures::concert::{self, Concert, ConcertId, ConcertInfo, NewSeat, PRICE, SHOW_TIME, SeatStatus, ShowTime};
use fixtures::{Refusal, Stage};
use greenroom::scenario::Verdict;

/// An hour after the usual time of a show, in seconds since 1970.
const LATE_SHOW: i64 = SHOW_TIME + 3_600;

/// Goal: lists show what there is, whoever has read and cached them before; what is deleted is in none of them.
/// Method: each list is read, changed, and read again. A concert is put on with two dates and seats, and deleted beside
/// another one that stays.
#[test]
fn lists_are_as_new_as_the_last_change() -> Verdict {
    concert::scenario(async |stage| {
        assert_eq!(stage.concert.concerts().await?, []);
        let stays = stage.concert.create_concert("Die schöne Müllerin", "Great Hall").await?;
        assert_eq!(stage.concert.concerts().await?, from_ref(&stays));
        let goes = stage.concert.create_concert("Winterreise", "Small Hall").await?;
        assert_eq!(names(stage).await?, ["Die schöne Müllerin", "Winterreise"]);

        let [early, late] = [SHOW_TIME, LATE_SHOW].map(ShowTime::at);
        for concert in [&stays, &goes] {
            has_no_dates(stage, concert.id).await?;
            stage.concert.create_date(concert.id, early).await?;
            assert_eq!(dates(stage, concert.id).await?, [early]);
            stage.concert.create_date(concert.id, late).await?;
            assert_eq!(dates(stage, concert.id).await?, [early, late]);
            has_seats(stage, concert, early).await?;
        }
        assert_eq!(stage.concert.seats(goes.id, late).await.refused()?.code(), (404, "CONCERT_004"));
        is_cached(stage, &["concerts".to_owned(), format!("concert/schedule/{}", goes.id)]).await?;

        stage.concert.delete_concert(goes.id).await?;
        assert_eq!(stage.concert.concerts().await?, from_ref(&stays));
        has_no_dates(stage, goes.id).await?;
        assert_eq!(stage.concert.seats(goes.id, early).await.refused()?.code(), (404, "CONCERT_004"));
        assert_eq!(dates(stage, stays.id).await?, [early, late]);
        assert_eq!(stage.concert.seats(stays.id, early).await?.len(), 2);
        insta::assert_snapshot!(stage.document().await?);
        Ok(())
    })
}

async fn names(stage: &Stage<'_, Concert>) -> Result<Vec<String>, fixtures::CallError> {
    let mut names: Vec<_> = stage.concert.concerts().await?.into_iter().map(|concert| concert.name).collect();
    names.sort();
    Ok(names)
}

async fn dates(stage: &Stage<'_, Concert>, concert: ConcertId) -> Result<Vec<ShowTime>, fixtures::CallError> {
    let dates = stage.concert.schedule(concert).await?;
    assert!(dates.iter().all(|date| date.concert_id == concert), "{dates:?}");
    let mut dates: Vec<_> = dates.into_iter().map(|date| date.performance_date).collect();
    dates.sort();
    Ok(dates)
}

async fn has_no_dates(stage: &Stage<'_, Concert>, concert: ConcertId) -> Verdict {
    assert_eq!(stage.concert.schedule(concert).await.refused()?.code(), (404, "CONCERT_002"));
    Ok(())
}

/// Two seats are made, and listed as they are: the list is never older than the seats.
async fn has_seats(stage: &Stage<'_, Concert>, concert: &ConcertInfo, date: ShowTime) -> Verdict {
    let concert = concert.id;
    assert_eq!(stage.concert.seats(concert, date).await.refused()?.code(), (404, "CONCERT_004"));
    let mut made = Vec::new();
    for seat_number in [1, 2] {
        let seat = NewSeat { concert_id: concert, performance_date: date, seat_number, price: PRICE.into() };
        let seat = stage.concert.create_seat(&seat).await?;
        assert_eq!((seat.concert_id, seat.performance_date, seat.seat_number), (concert, date, seat_number));
        assert_eq!((seat.price, seat.status, seat.release_at), (PRICE.into(), SeatStatus::Available, None));
        made.push(seat);
        let mut listed = stage.concert.seats(concert, date).await?;
        listed.sort_by_key(|seat| seat.seat_number);
        assert_eq!(listed, made);
    }
    Ok(())
}

/// The answers are kept in Redis under their keys (contract 1.8).
async fn is_cached(stage: &Stage<'_, Concert>, keys: &[String]) -> Verdict {
    let seen = Box::pin(stage.observe()).await?;
    for key in keys {
        let found = seen.keys.iter().find(|found| found.name == *key);
        assert!(found.is_some_and(|found| found.expires), "{key} is not cached for a time: {:?}", seen.keys);
    }
    Ok(())
}
