//! A plain TCP server plays the program, so that the tests decide where a chunk ends.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::*;

const SOON: Duration = Duration::from_secs(60);
const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\nconnection: close\r\n\r\n";

/// Answers one request with `head` and then each of `chunks`; the task gives the request's head.
async fn serve(head: &'static str, chunks: Vec<Vec<u8>>) -> (String, JoinHandle<(String, TcpStream)>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/events", listener.local_addr().unwrap());
    let served = tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        client.set_nodelay(true).unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(client.read_u8().await.unwrap());
        }
        client.write_all(head.as_bytes()).await.unwrap();
        for chunk in chunks {
            client.write_all(&chunk).await.unwrap();
            tokio::task::yield_now().await;
        }
        (String::from_utf8(request).unwrap(), client)
    });
    (url, served)
}

/// Everything that a stream of these bytes announces until it ends, sent in pieces of `size` bytes.
async fn events_of(text: &[u8], size: usize) -> Result<Vec<Event>, EventError> {
    let (url, served) = serve(HEAD, text.chunks(size).map(<[u8]>::to_vec).collect()).await;
    let mut stream = EventStream::open(&url, None).await.unwrap();
    drop(served.await.unwrap());
    let mut events = Vec::new();
    loop {
        match stream.next(SOON).await {
            Ok(event) => events.push(event),
            Err(EventError::Ended) => return Ok(events),
            Err(error) => return Err(error),
        }
    }
}

fn event(id: &str, event: &str, data: &str) -> Event {
    Event { id: id.to_owned(), event: event.to_owned(), data: data.to_owned() }
}

/// Goal: every rule of the standard, wherever the network cuts the bytes.
#[tokio::test]
async fn every_rule_holds_at_every_size_of_chunk() {
    let text = concat!(
        "\u{feff}: a comment first\n",
        "data: 안녕 ☕\n\n",
        "event: ready\r\nid: 7\r\ndata: first\r\ndata:second\r\ndata\r\n\r\n",
        "data: keeps the id\r\r",
        "id: 8\n\n",
        ": only a comment\n\n",
        "event: dropped, it has no data\n\n",
        "retry: 250\nretry: soon\nunknown: field\ndata:  one blank stays\n\n",
        "id\ndata\n\n",
        "data: cut off by the end\n",
    );
    let expected = [
        event("", "message", "안녕 ☕"),
        event("7", "ready", "first\nsecond\n"),
        event("7", "message", "keeps the id"),
        event("8", "message", " one blank stays"),
        event("", "message", ""),
    ];
    for size in [1, 2, 3, 5, 64, text.len()] {
        assert_eq!(events_of(text.as_bytes(), size).await.unwrap(), expected, "in chunks of {size}");
    }
}

#[tokio::test]
async fn text_that_is_not_utf8_is_an_error() {
    let error = events_of(b"data: \xff\n\n", 64).await.unwrap_err();
    assert!(matches!(error, EventError::Broken(_)), "{error:?}");
}

/// Goal: a wait that ends without an event loses nothing of what came so far.
#[tokio::test]
async fn an_event_that_comes_in_two_waits_is_whole() {
    let (url, served) = serve(HEAD, vec![b"retry: 1500\n\nid: 3\ndata: fir".to_vec()]).await;
    let mut stream = EventStream::open(&url, Some("2")).await.unwrap();
    let (request, mut program) = served.await.unwrap();
    assert!(request.contains("\r\nlast-event-id: 2\r\n"), "{request}");
    assert!(request.contains("\r\naccept: text/event-stream\r\n"), "{request}");

    // Until what was sent has come.
    while stream.retry().is_none() {
        let silent = stream.next(Duration::from_millis(50)).await.unwrap_err();
        assert_eq!(silent.to_string(), "no event came within 50 ms");
    }
    assert_eq!((stream.last_event_id(), stream.retry()), ("2", Some(Duration::from_millis(1500))));

    program.write_all(b"st\n\n").await.unwrap();
    assert_eq!(stream.next(SOON).await.unwrap(), event("3", "message", "first"));
    assert_eq!(stream.last_event_id(), "3");
    drop(program);
    assert!(matches!(stream.next(SOON).await, Err(EventError::Ended)));
}

#[tokio::test]
async fn only_an_event_stream_opens() {
    let (url, _served) = serve("HTTP/1.1 204 No Content\r\n\r\n", Vec::new()).await;
    let error = EventStream::open(&url, None).await.unwrap_err();
    assert_eq!(error.to_string(), format!("{url} answered 204 No Content instead of events"));

    let head = "HTTP/1.1 400 Bad Request\r\ncontent-length: 12\r\n\r\n";
    let (url, _served) = serve(head, vec![b"no such id 7".to_vec()]).await;
    let error = EventStream::open(&url, None).await.unwrap_err();
    assert_eq!(error.to_string(), format!("{url} answered 400 Bad Request instead of events: no such id 7"));

    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 0\r\n\r\n";
    let (url, _served) = serve(head, Vec::new()).await;
    let error = EventStream::open(&url, None).await.unwrap_err();
    assert_eq!(error.to_string(), format!("{url} answered with \"application/json\" instead of text/event-stream"));

    let error = EventStream::open("http://127.0.0.1:1/", None).await.unwrap_err();
    assert!(matches!(error, OpenError::Unanswered { .. }), "{error:?}");
}
