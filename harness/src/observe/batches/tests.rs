//! The bytes are made here by the format's documentation, checksum included, and not by the library that reads them.

use bytes::{BufMut as _, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// CRC-32C (RFC 3720, appendix B.4), bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82F6_3B78 & 0u32.wrapping_sub(crc & 1)))
    })
}

/// A batch whose compressed records are `payload`.
fn batch(base_offset: i64, last_offset_delta: i32, records: i32, attributes: i16, payload: &[u8]) -> BytesMut {
    let mut summed = BytesMut::new();
    summed.put_i16(attributes);
    summed.put_i32(last_offset_delta);
    summed.put_i64(1_700_000_000_000); // base timestamp
    summed.put_i64(1_700_000_000_005); // max timestamp
    summed.put_i64(-1); // producer id
    summed.put_i16(-1); // producer epoch
    summed.put_i32(-1); // base sequence
    summed.put_i32(records);
    summed.put_slice(payload);
    let mut batch = BytesMut::new();
    batch.put_i64(base_offset);
    batch.put_i32(i32::try_from(4 + 1 + 4 + summed.len()).unwrap());
    batch.put_i32(0); // partition leader epoch
    batch.put_i8(2); // magic
    batch.put_u32(crc32c(&summed));
    batch.put(summed);
    batch
}

fn chain_of(stored: &[BytesMut]) -> Bytes {
    stored.concat().into()
}

#[test]
fn the_checksum_is_the_one_of_the_rfc() {
    assert_eq!(crc32c(b"123456789"), 0xE306_9283);
}

/// Goal: every attribute is told from the header alone: the payloads are no records, and none is compressed.
#[test]
fn attributes_of_each_batch_are_its_own() {
    let stored = chain_of(&[
        batch(5, 9, 10, 0b001, b"not gzip"),
        batch(15, 0, 1, 0b000, b"plain"),
        batch(16, 1, 2, 0b01_0011, b"not lz4"),
        batch(18, 0, 1, 0b11_0000, b"commit marker"),
        // Compaction removed all but one record and left the offsets.
        batch(19, 6, 1, 0b010, b""),
        batch(26, 0, 1, 0b100, b"zstd"),
    ]);
    let read = headers(2, stored).unwrap();
    let seen: Vec<_> = read.iter().map(|b| (b.base_offset, b.last_offset, b.records, b.codec)).collect();
    assert_eq!(
        seen,
        [
            (5, 14, 10, Codec::Gzip),
            (15, 15, 1, Codec::None),
            (16, 17, 2, Codec::Lz4),
            (18, 18, 1, Codec::None),
            (19, 25, 1, Codec::Snappy),
            (26, 26, 1, Codec::Zstd),
        ]
    );
    let kinds: Vec<_> = read.iter().map(|b| (b.transactional, b.control)).collect();
    assert_eq!(kinds[..4], [(false, false), (false, false), (true, false), (true, true)]);
    assert_eq!(read[0].bytes, 61 + "not gzip".len());
    assert!(read.iter().all(|b| b.partition == 2));
}

/// Goal: a batch that the broker cut off is left for the next fetch, wherever it is cut.
#[test]
fn a_batch_that_was_cut_off_does_not_count() {
    let (first, second) = (batch(0, 1, 2, 0, b"whole"), batch(2, 0, 1, 0, b"cut"));
    let whole = first.len();
    let stored = chain_of(&[first, second]);
    assert_eq!(headers(0, stored.clone()).unwrap().len(), 2);
    for cut in 0..stored.len() {
        assert_eq!(headers(0, stored.slice(..cut)).unwrap().len(), usize::from(cut >= whole), "cut at {cut}");
    }
}

#[test]
fn what_is_no_batch_is_an_error() {
    let mut flipped = batch(0, 0, 1, 0, b"payload");
    *flipped.last_mut().unwrap() ^= 1;
    assert!(headers(0, flipped.freeze()).unwrap_err().to_string().contains("redundancy check"));

    let mut older = batch(0, 0, 1, 0, b"payload");
    older[16] = 1;
    assert_eq!(headers(0, older.freeze()).unwrap_err().to_string(), "an older message format");

    let mut negative = batch(0, 0, 1, 0, b"payload");
    negative[8] = 0xFF;
    assert!(headers(0, negative.freeze()).is_err());

    assert!(headers(0, batch(0, 0, 1, 0b111, b"unknown codec").freeze()).is_err());
    assert!(headers(0, Bytes::new()).unwrap().is_empty());
}

/// `ListOffsets` in the protocol; everything else that is asked here is `Fetch`.
const LIST_OFFSETS: i16 = 2;
/// Where a Fetch request (version 12) of the client `greenroom` for a topic with a name of one letter has the offset.
const FETCH_OFFSET: usize = 57;

/// Reads one request: its key, its correlation id and all of it.
async fn request(stream: &mut TcpStream) -> Option<(i16, i32, Vec<u8>)> {
    let length = stream.read_u32().await.ok()?;
    let mut body = vec![0; length as usize];
    stream.read_exact(&mut body).await.ok()?;
    Some(((&body[..2]).get_i16(), (&body[4..8]).get_i32(), body))
}

/// An answer about partition 3 of the topic `t`: what stands before its partitions is `begin`, and `partition` what
/// follows the partition's number.
fn answer(correlation: i32, begin: &[u8], partition: &[u8]) -> BytesMut {
    let mut body = BytesMut::new();
    body.put_i32(correlation);
    body.put_u8(0); // header: no tagged fields
    body.put_slice(begin);
    body.put_slice(&[2, 2, b't', 2]); // one topic, its name, one partition
    body.put_i32(3);
    body.put_slice(partition);
    body.put_slice(&[0, 0, 0]); // no tagged fields of partition, topic and answer
    let mut frame = BytesMut::new();
    frame.put_i32(i32::try_from(body.len()).unwrap());
    frame.put(body);
    frame
}

/// The beginning of the partition (ListOffsets, version 7).
fn begins_at(correlation: i32, offset: i64) -> BytesMut {
    let mut partition = BytesMut::new();
    partition.put_i16(0); // no error
    partition.put_i64(-1); // timestamp
    partition.put_i64(offset);
    partition.put_i32(0); // leader epoch
    answer(correlation, &[0; 4], &partition) // throttle time
}

/// What is fetched (version 12). Every offset but the high watermark is -1, as it is in a broker's refusal.
fn fetched(correlation: i32, error: i16, high_watermark: i64, records: &[u8]) -> BytesMut {
    let mut partition = BytesMut::new();
    partition.put_i16(error);
    partition.put_i64(high_watermark);
    partition.put_i64(-1); // last stable offset
    partition.put_i64(-1); // log start offset
    partition.put_u8(0); // no list of aborted transactions
    partition.put_i32(-1); // no preferred replica
    partition.put_u8(u8::try_from(records.len()).unwrap() + 1);
    partition.put_slice(records);
    answer(correlation, &[0; 10], &partition) // throttle time, error, session
}

/// Goal: a partition whose first records were deleted is read from where it begins now.
/// Method: a broker that refuses, as Kafka does, every offset outside of 5 to 7 without saying where it begins.
#[tokio::test]
async fn a_partition_is_read_from_the_first_offset_that_is_still_there() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string().parse().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        while let Some((key, correlation, body)) = request(&mut stream).await {
            let frame = if key == LIST_OFFSETS {
                begins_at(correlation, 5)
            } else {
                match (&body[FETCH_OFFSET..]).get_i64() {
                    5 => fetched(correlation, 0, 7, &batch(5, 1, 2, 0, b"records")),
                    7 => fetched(correlation, 0, 7, b""),
                    _ => fetched(correlation, 1, -1, b""), // OFFSET_OUT_OF_RANGE
                }
            };
            stream.write_all(&frame).await.unwrap();
        }
    });
    let read = read_partition(&mut Peer::new(address), "t", 3).await.unwrap();
    let seen: Vec<_> = read.iter().map(|batch| (batch.partition, batch.base_offset, batch.last_offset)).collect();
    assert_eq!(seen, [(3, 5, 6)]);
}
