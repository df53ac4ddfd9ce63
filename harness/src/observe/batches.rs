//! How records lie on the brokers: the batches in which producers sent them, with each batch's own attributes.
//!
//! A client library decompresses and takes the batches apart before anyone sees them, so they are fetched over the
//! wire protocol and only their headers are read.
//! Format: "Record Batch" in Kafka's documentation of its implementation (message format 2, KIP-98). A header's
//! checksum is verified.
//!
//! Deliberately absent: the records themselves, see [`super::topics`], and message formats before 2, which Kafka 4 no
//! longer stores (KIP-724).

use std::fmt;
use std::net::{AddrParseError, SocketAddrV4};

use bytes::{Buf as _, Bytes};
use kafka_protocol::messages::FetchRequest;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::records::{Compression, RecordBatchDecoder};

use super::Endpoints;
use super::topology::{self, Peers};
use crate::wire::{Peer, WireError, topic_name};

/// Most bytes of one answer; a larger first batch is sent whole regardless (KIP-74).
const FETCH_BYTES_MAX: i32 = 4 * 1024 * 1024;
/// Bytes of a batch before what its length counts: base offset and length.
const PREFIX_BYTES: usize = 12;
/// Where a batch says how far its last offset is from its first.
const LAST_OFFSET_DELTA: std::ops::Range<usize> = 23..27;

/// One batch as a broker stores it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBatch {
    /// The partition that it lies in.
    pub partition: i32,
    /// Offset of its first record.
    pub base_offset: i64,
    /// Offset of its last record, also where compaction has removed that since.
    pub last_offset: i64,
    /// How many records it holds. Compaction may leave 0.
    pub records: usize,
    /// Its length in the log, header and compressed records together, in bytes.
    pub bytes: usize,
    /// How its records are compressed.
    pub codec: Codec,
    /// Part of a transaction.
    pub transactional: bool,
    /// Written by the broker to end a transaction; no consumer gets its records.
    pub control: bool,
}

/// Kafka's compressions, named as in its setting `compression.type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Codec {
    /// Not compressed.
    None,
    /// RFC 1952.
    Gzip,
    /// Snappy.
    Snappy,
    /// LZ4.
    Lz4,
    /// Zstandard (KIP-110).
    Zstd,
}

/// Why the batches of a topic could not be read.
#[derive(Debug, thiserror::Error)]
pub enum BatchesError {
    /// A broker's address is not `IPv4:port`.
    #[error("could not use the address of a broker")]
    Address(#[from] AddrParseError),
    /// No broker answered, or one refused.
    #[error("could not ask for the batches of {topic}")]
    Wire {
        /// The topic.
        topic: String,
        /// What the broker said, or why it said nothing.
        source: WireError,
    },
    /// There is no such topic.
    #[error("there is no topic {topic}")]
    NoTopic {
        /// What was asked for.
        topic: String,
    },
    /// A partition has no leader, so nobody can say what it holds.
    #[error("{topic}[{partition}] has no leader")]
    NoLeader {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
    },
    /// The broker gave nothing although there is more.
    #[error("no batch came for {topic}[{partition}] at offset {at} of {end}")]
    Stuck {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The offset asked for.
        at: i64,
        /// The partition's end.
        end: i64,
    },
    /// Bytes that are no record batch of format 2.
    #[error("what {topic}[{partition}] holds at offset {at} is not a record batch")]
    Malformed {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The offset asked for.
        at: i64,
        /// What is wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Reads the header of every batch of `topic`, partition by partition, from the first offset that is still there to the
/// end as it was when the partition was first asked. Batches of open and aborted transactions are among them.
///
/// # Errors
/// See [`BatchesError`]; each answer is awaited for 5 s.
pub async fn batches(endpoints: &Endpoints, topic: &str) -> Result<Vec<StoredBatch>, BatchesError> {
    let mut brokers: Vec<SocketAddrV4> =
        endpoints.brokers.iter().map(|address| address.parse()).collect::<Result<_, _>>()?;
    let mut peers = Peers::new();
    let topology = topology::ask(&mut brokers, &mut peers).await;
    let topology = topology.map_err(|source| BatchesError::Wire { topic: topic.to_owned(), source })?;
    let mut leaders = topology.leaders.into_iter().filter(|((name, _), _)| name == topic).peekable();
    if leaders.peek().is_none() {
        return Err(BatchesError::NoTopic { topic: topic.to_owned() });
    }
    let mut batches = Vec::new();
    for ((_, partition), leader) in leaders {
        let leader = leader.address.ok_or_else(|| BatchesError::NoLeader { topic: topic.to_owned(), partition })?;
        let peer = peers.entry(leader).or_insert_with(|| Peer::new(leader));
        batches.extend(read_partition(peer, topic, partition).await?);
    }
    Ok(batches)
}

async fn read_partition(peer: &mut Peer, topic: &str, partition: i32) -> Result<Vec<StoredBatch>, BatchesError> {
    let wire = |source| BatchesError::Wire { topic: topic.to_owned(), source };
    let mut batches = Vec::new();
    // Asked for: a broker that refuses an offset before the first one does not say which is the first.
    let mut at = peer.earliest(topic, partition).await.map_err(wire)?;
    let mut end = None;
    loop {
        let answer = fetch(peer, topic, partition, at).await?;
        peer.check::<FetchRequest>(answer.error_code, &format!("{topic}[{partition}]")).map_err(wire)?;
        let end = *end.get_or_insert(answer.high_watermark);
        if at >= end {
            return Ok(batches);
        }
        let malformed = |source| BatchesError::Malformed { topic: topic.to_owned(), partition, at, source };
        let read = headers(partition, answer.records.unwrap_or_default()).map_err(malformed)?;
        let Some(last) = read.last() else {
            return Err(BatchesError::Stuck { topic: topic.to_owned(), partition, at, end });
        };
        at = last.last_offset + 1;
        batches.extend(read.into_iter().filter(|batch| batch.base_offset < end));
    }
}

/// Fetches once, without waiting for more to come.
async fn fetch(peer: &mut Peer, topic: &str, partition: i32, offset: i64) -> Result<PartitionData, BatchesError> {
    let wire = |source| BatchesError::Wire { topic: topic.to_owned(), source };
    let asked = FetchPartition::default()
        .with_partition(partition)
        .with_fetch_offset(offset)
        .with_partition_max_bytes(FETCH_BYTES_MAX);
    let request = FetchRequest::default()
        .with_max_bytes(FETCH_BYTES_MAX)
        .with_topics(vec![FetchTopic::default().with_topic(topic_name(topic)).with_partitions(vec![asked])]);
    let answer = peer.ask(&request).await.map_err(wire)?;
    peer.check::<FetchRequest>(answer.error_code, topic).map_err(wire)?;
    let answered = answer.responses.into_iter().flat_map(|topic| topic.partitions).next();
    // An answer without the partition holds nothing of it either.
    Ok(answered.unwrap_or_default())
}

/// The headers of the whole batches in `stored`. A broker cuts its answer off at the size asked for, so the last one
/// may be incomplete; it comes again with the next fetch.
fn headers(partition: i32, mut stored: Bytes) -> Result<Vec<StoredBatch>, Box<dyn std::error::Error + Send + Sync>> {
    let mut batches = Vec::new();
    while let Some(bytes) = whole_batch(&stored)? {
        let mut batch = stored.split_to(bytes);
        let delta = batch.get(LAST_OFFSET_DELTA).map(|mut delta| delta.get_i32());
        let info = RecordBatchDecoder::decode_batch_info(&mut batch)?;
        let (Some(info), Some(delta)) = (info.into_iter().next(), delta) else {
            return Err("an older message format".into());
        };
        batches.push(StoredBatch {
            partition,
            base_offset: info.min_offset,
            last_offset: info.min_offset + i64::from(delta),
            records: usize::try_from(info.record_count)?,
            bytes,
            codec: info.compression.into(),
            transactional: info.transactional,
            control: info.control,
        });
    }
    Ok(batches)
}

/// How many bytes the first batch in `stored` has, if it is all there.
fn whole_batch(stored: &Bytes) -> Result<Option<usize>, std::num::TryFromIntError> {
    let Some(mut length) = stored.get(PREFIX_BYTES - 4..PREFIX_BYTES) else {
        return Ok(None);
    };
    let bytes = PREFIX_BYTES + usize::try_from(length.get_i32())?;
    Ok((bytes <= stored.len()).then_some(bytes))
}

impl From<Compression> for Codec {
    fn from(compression: Compression) -> Self {
        match compression {
            Compression::None => Self::None,
            Compression::Gzip => Self::Gzip,
            Compression::Snappy => Self::Snappy,
            Compression::Lz4 => Self::Lz4,
            Compression::Zstd => Self::Zstd,
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        })
    }
}

#[cfg(test)]
mod tests;
