//! Server-sent events as a client receives them.
//!
//! The blocks of the stream are read by `sse-stream`; what a client makes of them is here, after the section
//! ["Server-sent events"](https://html.spec.whatwg.org/multipage/server-sent-events.html) of the HTML standard: an id
//! holds until the next one comes, a block without data is no event, an event without a type is a `message`.
//! An event that the end of the stream cut off is none.
//!
//! Stricter than the standard: text that is not UTF-8 is an error, because a scenario should see it.
//! Deliberately absent: connecting again by itself. A scenario opens the next stream with the id that it wants.

use std::fmt;
use std::time::Duration;

use futures_util::StreamExt as _;
use reqwest::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use reqwest::{Body, StatusCode};
use sse_stream::{Sse, SseStream};

use crate::http;

/// How long a program may take to answer the request for its events.
const ANSWER: Duration = Duration::from_secs(30);
/// What a client sends when it comes back.
const LAST_EVENT_ID: &str = "last-event-id";
/// The media type of an event stream.
const MEDIA_TYPE: &str = "text/event-stream";

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The last id that the stream has set, with this event or before it; empty if there was none.
    pub id: String,
    /// Its type; `message` where the stream names none.
    pub event: String,
    /// Its lines of data, joined with line feeds.
    pub data: String,
}

/// An open stream of events.
pub struct EventStream {
    blocks: SseStream<Body>,
    last: Last,
}

/// What holds from one block to the next.
#[derive(Debug, Default)]
struct Last {
    id: String,
    retry: Option<Duration>,
}

/// Why a stream did not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Not connected, or cut off.
    #[error("could not ask for the events of {url}")]
    Unanswered {
        /// The address asked.
        url: String,
        /// The cause.
        source: reqwest::Error,
    },
    /// Connected, and no answer.
    #[error("{url} did not answer the request for its events within {} s", ANSWER.as_secs())]
    Silent {
        /// The address asked.
        url: String,
    },
    /// Another status than 200.
    #[error("{url} answered {status} instead of events{}{body}", if body.is_empty() { "" } else { ": " })]
    Refused {
        /// The address asked.
        url: String,
        /// The status.
        status: StatusCode,
        /// What the program says about it; empty where it says nothing, or not in time.
        body: String,
    },
    /// An answer of another media type.
    #[error("{url} answered with {found:?} instead of {MEDIA_TYPE}")]
    OtherMedia {
        /// The address asked.
        url: String,
        /// The media type of the answer, empty if it has none.
        found: String,
    },
}

/// Why there was no next event.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    /// None came in time; one that is half received is not lost.
    #[error("no event came within {} ms", .0.as_millis())]
    Silent(Duration),
    /// The program ended the stream.
    #[error("the stream of events has ended")]
    Ended,
    /// The connection broke, or what came is not UTF-8. The stream has ended.
    #[error("the stream of events broke")]
    Broken(#[from] sse_stream::Error),
}

impl EventStream {
    /// Asks `url` for its events; `last_event_id` is what a client sends that has been there before.
    /// Returns when the program has accepted: what it announces after that is not missed.
    ///
    /// # Errors
    /// No answer within 5 s, another status than 200, another media type than `text/event-stream`.
    pub async fn open(url: &str, last_event_id: Option<&str>) -> Result<Self, OpenError> {
        let unanswered = |source| OpenError::Unanswered { url: url.to_owned(), source };
        // A read timeout would end a stream that is silent for a while, so only the answer's head is timed.
        let client = http::client().connect_timeout(ANSWER).build().map_err(unanswered)?;
        let mut request = client.get(url).header(ACCEPT, MEDIA_TYPE).header(CACHE_CONTROL, "no-store");
        if let Some(id) = last_event_id {
            request = request.header(LAST_EVENT_ID, id);
        }
        let request = request.build().map_err(unanswered)?;
        let answer = match tokio::time::timeout(ANSWER, client.execute(request)).await {
            Ok(answer) => answer.map_err(unanswered)?,
            Err(_) => return Err(OpenError::Silent { url: url.to_owned() }),
        };
        if answer.status() != StatusCode::OK {
            let status = answer.status();
            let body = tokio::time::timeout(ANSWER, answer.text()).await;
            let body = body.ok().and_then(Result::ok).unwrap_or_default();
            return Err(OpenError::Refused { url: url.to_owned(), status, body });
        }
        let media = answer.headers().get(CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()));
        let media = media.unwrap_or_default();
        if !media.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(MEDIA_TYPE) {
            return Err(OpenError::OtherMedia { url: url.to_owned(), found: media.into_owned() });
        }
        let last = Last { id: last_event_id.unwrap_or_default().to_owned(), retry: None };
        Ok(Self { blocks: SseStream::new(Body::from(answer)), last })
    }

    /// The next event, awaited for `deadline` at most.
    ///
    /// # Errors
    /// None came in time, or none will come any more.
    pub async fn next(&mut self, deadline: Duration) -> Result<Event, EventError> {
        let next = async {
            loop {
                let block = self.blocks.next().await.ok_or(EventError::Ended)??;
                if let Some(event) = self.last.take(block) {
                    return Ok(event);
                }
            }
        };
        tokio::time::timeout(deadline, next).await.unwrap_or(Err(EventError::Silent(deadline)))
    }

    /// What a client would send as `Last-Event-ID` now; empty if nothing has set one.
    #[must_use]
    pub fn last_event_id(&self) -> &str {
        &self.last.id
    }

    /// How long the program asked its clients to wait before they connect again.
    #[must_use]
    pub fn retry(&self) -> Option<Duration> {
        self.last.retry
    }
}

impl Last {
    /// The event that a block makes, if it makes one.
    fn take(&mut self, block: Sse) -> Option<Event> {
        let Sse { event, data, id, retry } = block;
        if let Some(id) = id {
            self.id = id;
        }
        if let Some(retry_ms) = retry {
            self.retry = Some(Duration::from_millis(retry_ms));
        }
        let event = event.filter(|name| !name.is_empty()).unwrap_or_else(|| "message".to_owned());
        Some(Event { id: self.id.clone(), event, data: data? })
    }
}

impl fmt::Debug for EventStream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("EventStream").field("last", &self.last).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
