//! Goal: every way in which brokers can fail to answer ends by the deadline, with an error that names the broker.
//! Method: scripted TCP peers answer with hand-made bytes; nothing here needs Kafka.

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use super::connection::ANSWER_TIMEOUT;
use super::{Broker, InternalTopics, Topic, WireError};
use super::{acknowledge, cluster_listed, create_topics, first_record_through_new_group, prepare};

/// Reads one request and returns its correlation id.
async fn request(stream: &mut TcpStream) -> Option<i32> {
    let length = stream.read_u32().await.ok()?;
    let mut body = vec![0; length as usize];
    stream.read_exact(&mut body).await.ok()?;
    Some(i32::from_be_bytes(body[4..8].try_into().ok()?))
}

/// A Metadata answer (version 12) that lists `brokers`.
fn metadata(correlation: i32, brokers: &[SocketAddrV4], controller: i32) -> BytesMut {
    let mut body = BytesMut::new();
    body.put_i32(correlation);
    body.put_u8(0); // header: no tagged fields
    body.put_i32(0); // throttle time
    body.put_u8(brokers.len() as u8 + 1);
    for (node, broker) in (1..).zip(brokers) {
        let host = broker.ip().to_string();
        body.put_i32(node);
        body.put_u8(host.len() as u8 + 1);
        body.put_slice(host.as_bytes());
        body.put_i32(i32::from(broker.port()));
        body.put_u8(0); // no rack
        body.put_u8(0); // no tagged fields
    }
    body.put_u8(3);
    body.put_slice(b"id"); // cluster id
    body.put_i32(controller);
    body.put_u8(1); // no topics
    body.put_u8(0); // no tagged fields
    let mut frame = BytesMut::new();
    frame.put_i32(body.len() as i32);
    frame.put(body);
    frame
}

async fn listener() -> (TcpListener, SocketAddrV4) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    match listener.local_addr().expect("its address") {
        SocketAddr::V4(address) => (listener, address),
        SocketAddr::V6(address) => panic!("bound {address}"),
    }
}

/// Answers every request on every connection with what `answer` makes of its correlation id;
/// closes the connection where it makes nothing.
fn serve(listener: TcpListener, mut answer: impl FnMut(i32) -> Option<BytesMut> + Send + 'static) {
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            while let Some(correlation) = request(&mut stream).await {
                let Some(frame) = answer(correlation) else {
                    break;
                };
                stream.write_all(&frame).await.expect("the client reads");
            }
        }
    });
}

/// A deadline that is waited for.
fn soon() -> Instant {
    Instant::now() + Duration::from_secs(1)
}

/// A deadline that nothing waits for.
fn far() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

/// The whole chain in one line, as a person sees it.
fn chain(error: &WireError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

#[tokio::test]
async fn all_listed() {
    let ((a, first), (b, second)) = (listener().await, listener().await);
    let both = [first, second];
    serve(a, move |id| Some(metadata(id, &both, 1)));
    serve(b, move |id| Some(metadata(id, &both, 2)));
    let view = cluster_listed(&both, far()).await.expect("a listing");
    assert_eq!(view.cluster_id, "id");
    let expected = [(1, first), (2, second)].map(|(node_id, address)| Broker { node_id, address });
    assert_eq!(view.brokers, expected);
}

#[tokio::test]
async fn listed_only_after_a_while() {
    let (a, only) = listener().await;
    let mut asked = 0;
    serve(a, move |id| {
        asked += 1;
        match asked {
            1 => Some(metadata(id, &[], -1)),
            2 => None,
            3 => Some(metadata(id, &[only], -1)),
            _ => Some(metadata(id, &[only], 1)),
        }
    });
    let view = cluster_listed(&[only], far()).await.expect("a listing");
    assert_eq!(view.brokers.len(), 1);
}

#[tokio::test]
async fn the_error_says_who_misses_whom() {
    let ((a, first), (b, second)) = (listener().await, listener().await);
    serve(a, move |id| Some(metadata(id, &[first], 1)));
    serve(b, move |id| Some(metadata(id, &[first, second], -1)));
    let error = cluster_listed(&[first, second], soon()).await.expect_err("it cannot succeed");
    let text = chain(&error);
    assert!(text.contains("a cluster of 2 brokers that know one another not reached after"), "{text}");
    assert!(text.contains(&format!("broker {first} does not list {second}")), "{text}");
    assert!(text.contains(&format!("broker {second} names no controller")), "{text}");
}

#[tokio::test]
async fn nothing_listens() {
    let (unused, address) = listener().await;
    drop(unused);
    let began = Instant::now();
    let error = cluster_listed(&[address], soon()).await.expect_err("it cannot succeed");
    let text = chain(&error);
    assert!(text.contains(&format!("broker {address} gave no metadata (Connection refused")), "{text}");
    assert!(began.elapsed() < ANSWER_TIMEOUT, "took {:?}", began.elapsed());
}

#[tokio::test]
async fn connections_that_close_and_never_answer() {
    let ((a, closing), (b, half)) = (listener().await, listener().await);
    serve(a, |_| None);
    serve(b, |id| {
        let mut frame = metadata(id, &[], 1);
        frame.truncate(9);
        Some(frame)
    });
    let (_mute, silent) = listener().await;
    let brokers = [closing, half, silent];
    let error = cluster_listed(&brokers, soon()).await.expect_err("it cannot succeed");
    let text = chain(&error);
    let cut_off = format!("broker {closing} gave no metadata (Metadata to broker {closing} was cut off)");
    assert!(text.contains(&cut_off), "{text}");
    for broker in [half, silent] {
        assert!(text.contains(&format!("broker {broker} gave no metadata (no answer)")), "{text}");
    }
}

#[tokio::test]
async fn nonsense_ends_the_wait_at_once() {
    let (a, http) = listener().await;
    serve(a, |_| Some(BytesMut::from("HTTP/1.1 400 Bad Request\r\n\r\n")));
    let error = cluster_listed(&[http], far()).await.expect_err("it cannot succeed");
    let expected = format!("the answer of broker {http} to Metadata cannot be read: frame of 1213486160 bytes");
    assert_eq!(chain(&error), expected);

    let (b, other) = listener().await;
    serve(b, move |id| Some(metadata(id + 7, &[other], 1)));
    let error = cluster_listed(&[other], far()).await.expect_err("it cannot succeed");
    assert!(chain(&error).ends_with("correlation id 8 instead of 1"), "{}", chain(&error));

    let (c, short) = listener().await;
    serve(c, |id| {
        let mut frame = BytesMut::new();
        frame.put_i32(6);
        frame.put_i32(id);
        frame.put_u16(0);
        Some(frame)
    });
    let error = cluster_listed(&[short], far()).await.expect_err("it cannot succeed");
    assert!(chain(&error).contains("malformed message"), "{}", chain(&error));
}

#[tokio::test]
async fn every_operation_ends_by_its_deadline() {
    let (_mute, silent) = listener().await;
    let topic = Topic::new("orders", 1, 1);
    let began = Instant::now();
    let errors = [
        create_topics(&[silent], std::slice::from_ref(&topic), soon()).await.expect_err("it cannot succeed"),
        acknowledge(&[silent], "orders", soon()).await.expect_err("it cannot succeed"),
        first_record_through_new_group(&[silent], "orders", "group", soon()).await.expect_err("it cannot succeed"),
    ];
    for error in errors {
        assert!(matches!(error, WireError::Deadline { .. }), "{error:?}");
    }
    assert!(began.elapsed() < ANSWER_TIMEOUT, "took {:?}", began.elapsed());
}

/// A supervisor runs these on a multi-threaded runtime.
#[test]
fn operations_can_be_spawned() {
    fn sendable<T: Send>(_: T) {}
    let deadline = Instant::now();
    let internal =
        InternalTopics { replication: 3, min_insync_replicas: 2, offsets_partitions: 1, transaction_partitions: 1 };
    sendable(prepare(&[], &[], &internal, deadline));
    sendable(first_record_through_new_group(&[], "", "", deadline));
}

#[test]
fn errors_use_kafkas_names() {
    let code = kafka_protocol::error::ResponseError::CoordinatorNotAvailable;
    let error = WireError::Refused {
        broker: SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9092),
        request: "FindCoordinator",
        subject: "payout-group".to_owned(),
        code,
    };
    let expected = "broker 127.0.0.1:9092 answered FindCoordinator of payout-group with COORDINATOR_NOT_AVAILABLE";
    assert_eq!(error.to_string(), expected);
}
