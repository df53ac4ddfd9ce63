//! One broker's connection: sends one request, reads its answer.

use std::io;
use std::net::SocketAddrV4;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::error::ParseResponseErrorCode;
use kafka_protocol::messages::{RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, HeaderVersion, StrBytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::call::Call;
use super::error::{DecodeError, WireError};

/// The client id that brokers see in their request logs.
const CLIENT_ID: &str = "greenroom";
/// The longest answer that is read. Metadata of a test cluster is a few kilobytes.
const FRAME_BYTES_MAX: i32 = 16 * 1024 * 1024;
/// How long one answer is awaited, also on a machine where several clusters start at once.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a broker may work on a request that carries a timeout: short of `ANSWER_TIMEOUT`, so that it is
/// the broker that says what took too long. In milliseconds.
pub(super) const BROKER_TIMEOUT_MS: i32 = 4_000;

/// A broker and, once something was asked, the open connection to it.
///
/// A request that fails or is cancelled half-way drops the connection, so that the next one
/// cannot read the answer of the last.
#[derive(Debug)]
pub(crate) struct Peer {
    address: SocketAddrV4,
    stream: Option<TcpStream>,
    correlation: i32,
}

impl Peer {
    pub(crate) fn new(address: SocketAddrV4) -> Self {
        Self { address, stream: None, correlation: 0 }
    }

    pub(super) fn address(&self) -> SocketAddrV4 {
        self.address
    }

    /// Sends `request`, connecting first where necessary, and reads the answer.
    pub(crate) async fn ask<C: Call>(&mut self, request: &C) -> Result<C::Answer, WireError> {
        let began = Instant::now();
        let exchange = self.exchange(request);
        match timeout_at(began + ANSWER_TIMEOUT, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(WireError::Unanswered {
                broker: self.address,
                request: C::NAME,
                waited_ms: began.elapsed().as_millis(),
            }),
        }
    }

    async fn exchange<C: Call>(&mut self, request: &C) -> Result<C::Answer, WireError> {
        let broker = self.address;
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => connect(broker).await?,
        };
        self.correlation = self.correlation.wrapping_add(1);
        let unreadable = |source| WireError::Unreadable { broker, request: C::NAME, source };
        let cut_off = |source| WireError::CutOff { broker, request: C::NAME, source };
        let frame = encode(request, self.correlation).map_err(unreadable)?;
        stream.write_all(&frame).await.map_err(cut_off)?;
        let length = stream.read_i32().await.map_err(cut_off)?;
        if !(4..=FRAME_BYTES_MAX).contains(&length) {
            return Err(unreadable(DecodeError::FrameLength(length)));
        }
        let mut body = vec![0; length.unsigned_abs() as usize];
        stream.read_exact(&mut body).await.map_err(cut_off)?;
        let answer = decode::<C>(body.into(), self.correlation).map_err(unreadable)?;
        self.stream = Some(stream);
        Ok(answer)
    }

    /// Turns an error code in an answer of this broker into an error.
    pub(crate) fn check<C: Call>(&self, code: i16, subject: &str) -> Result<(), WireError> {
        match code.err() {
            None => Ok(()),
            Some(code) => {
                Err(WireError::Refused { broker: self.address, request: C::NAME, subject: subject.to_owned(), code })
            }
        }
    }

    /// Unwraps the entry about `subject` that an answer must contain.
    pub(super) fn entry<C: Call, T>(&self, entry: Option<T>, subject: &str) -> Result<T, WireError> {
        entry.ok_or_else(|| WireError::Unreadable {
            broker: self.address,
            request: C::NAME,
            source: DecodeError::Absent(subject.to_owned()),
        })
    }
}

async fn connect(broker: SocketAddrV4) -> Result<TcpStream, WireError> {
    let unreachable = |source: io::Error| WireError::Unreachable { broker, source };
    let stream = TcpStream::connect(broker).await.map_err(unreachable)?;
    stream.set_nodelay(true).map_err(unreachable)?;
    Ok(stream)
}

/// Frames a request: length, header, body (KIP-482 for the header's version).
fn encode<C: Call>(request: &C, correlation: i32) -> Result<BytesMut, DecodeError> {
    let malformed = |source: anyhow::Error| DecodeError::Malformed(source.into());
    let header = RequestHeader::default()
        .with_request_api_key(C::KEY as i16)
        .with_request_api_version(C::VERSION)
        .with_correlation_id(correlation)
        .with_client_id(Some(StrBytes::from_static_str(CLIENT_ID)));
    let mut frame = BytesMut::new();
    frame.put_i32(0);
    kafka_protocol::protocol::Encodable::encode(&header, &mut frame, C::header_version(C::VERSION))
        .map_err(malformed)?;
    request.encode(&mut frame, C::VERSION).map_err(malformed)?;
    let length = i32::try_from(frame.len() - 4)
        .ok()
        .filter(|length| *length <= FRAME_BYTES_MAX)
        .ok_or(DecodeError::FrameLength(i32::MAX))?;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    Ok(frame)
}

fn decode<C: Call>(mut body: Bytes, correlation: i32) -> Result<C::Answer, DecodeError> {
    let malformed = |source: anyhow::Error| DecodeError::Malformed(source.into());
    let found = (&body[..]).get_i32();
    if found != correlation {
        return Err(DecodeError::Correlation { expected: correlation, found });
    }
    let header_version = <C::Answer as HeaderVersion>::header_version(C::VERSION);
    ResponseHeader::decode(&mut body, header_version).map_err(malformed)?;
    C::Answer::decode(&mut body, C::VERSION).map_err(malformed)
}
