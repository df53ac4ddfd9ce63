//! One broker's connection for the four questions that settling asks.
//!
//! It speaks the wire protocol, because librdkafka finds a group's coordinator in steps of up to a second, which made
//! each settling 0.3 to 1.3 s long; over the wire a look takes a few milliseconds.

use std::io;
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use kafka_protocol::messages::{
    ApiKey, FindCoordinatorRequest, FindCoordinatorResponse, ListOffsetsRequest, ListOffsetsResponse, MetadataRequest,
    MetadataResponse, OffsetFetchRequest, OffsetFetchResponse, RequestHeader, ResponseHeader,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Longest wait for an answer.
const ANSWER: Duration = Duration::from_secs(2);
/// Longest answer that is read.
const FRAME_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A request with the version in which it is asked (one that Kafka 4.0 and later accept, KIP-896) and its answer.
pub(super) trait Asked: Encodable + HeaderVersion {
    const KEY: ApiKey;
    const VERSION: i16;
    type Answer: Decodable + HeaderVersion;
}

impl Asked for MetadataRequest {
    const KEY: ApiKey = ApiKey::Metadata;
    const VERSION: i16 = 12;
    type Answer = MetadataResponse;
}

impl Asked for ListOffsetsRequest {
    const KEY: ApiKey = ApiKey::ListOffsets;
    const VERSION: i16 = 7;
    type Answer = ListOffsetsResponse;
}

impl Asked for FindCoordinatorRequest {
    const KEY: ApiKey = ApiKey::FindCoordinator;
    const VERSION: i16 = 4;
    type Answer = FindCoordinatorResponse;
}

impl Asked for OffsetFetchRequest {
    const KEY: ApiKey = ApiKey::OffsetFetch;
    const VERSION: i16 = 8;
    type Answer = OffsetFetchResponse;
}

/// An open connection. After an error it must not be used again: an answer may still be under way.
pub(super) struct Peer {
    stream: TcpStream,
    correlation: i32,
}

impl Peer {
    /// Connects to `host:port`.
    pub(super) async fn connect(address: &str) -> io::Result<Self> {
        let stream = within(TcpStream::connect(address)).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, correlation: 0 })
    }

    /// Asks and reads the answer.
    pub(super) async fn ask<R: Asked>(&mut self, request: &R) -> io::Result<R::Answer> {
        within(self.exchange(request)).await
    }

    async fn exchange<R: Asked>(&mut self, request: &R) -> io::Result<R::Answer> {
        self.correlation += 1;
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY as i16)
            .with_request_api_version(R::VERSION)
            .with_correlation_id(self.correlation)
            .with_client_id(Some(StrBytes::from_static_str("greenroom-observer")));
        let mut body = BytesMut::new();
        header.encode(&mut body, R::header_version(R::VERSION)).map_err(io::Error::other)?;
        request.encode(&mut body, R::VERSION).map_err(io::Error::other)?;
        let mut frame = BytesMut::with_capacity(body.len() + 4);
        frame.put_u32(u32::try_from(body.len()).map_err(io::Error::other)?);
        frame.extend_from_slice(&body);
        self.stream.write_all(&frame).await?;

        let length = usize::try_from(self.stream.read_u32().await?).map_err(io::Error::other)?;
        if !(4..=FRAME_BYTES_MAX).contains(&length) {
            return Err(io::Error::other(format!("an answer of {length} bytes is none of Kafka's")));
        }
        let mut answer = vec![0; length];
        self.stream.read_exact(&mut answer).await?;
        let mut answer = Bytes::from(answer);
        let correlation = (&answer[..4]).get_i32();
        if correlation != self.correlation {
            return Err(io::Error::other(format!("answer {correlation} to question {}", self.correlation)));
        }
        ResponseHeader::decode(&mut answer, <R::Answer as HeaderVersion>::header_version(R::VERSION))
            .map_err(io::Error::other)?;
        R::Answer::decode(&mut answer, R::VERSION).map_err(io::Error::other)
    }
}

async fn within<T>(answer: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match tokio::time::timeout(ANSWER, answer).await {
        Ok(answer) => answer,
        Err(_elapsed) => Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer in {} s", ANSWER.as_secs()))),
    }
}
