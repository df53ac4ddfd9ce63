//! All keys of Redis with type and content.
//!
//! Bytes that are no UTF-8 stand in the texts as `<0x…>`, so that different bytes are different texts.
//! Whether a key expires is observed, when it does is not: that is a clock's business.
//! Absent: streams and module types, whose keys are named with their type alone.

use std::collections::{BTreeMap, BTreeSet};

use redis::AsyncConnectionConfig;
use redis::aio::MultiplexedConnection;

use super::ANSWER;

/// One key.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub content: Content,
    /// Whether it expires.
    pub expires: bool,
}

/// What a key holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// A string.
    Text(String),
    /// A hash.
    Hash(BTreeMap<String, String>),
    /// A sorted set in rank order: member and score.
    SortedSet(Vec<(String, f64)>),
    /// A set.
    Set(BTreeSet<String>),
    /// A list.
    List(Vec<String>),
    /// Another type, named.
    Other(String),
}

impl Content {
    fn is_empty(&self) -> bool {
        match self {
            Self::Hash(fields) => fields.is_empty(),
            Self::SortedSet(members) => members.is_empty(),
            Self::Set(members) => members.is_empty(),
            Self::List(items) => items.is_empty(),
            Self::Text(_) | Self::Other(_) => false,
        }
    }
}

/// Why keys could not be read.
#[derive(Debug, thiserror::Error)]
#[error("could not read the keys of redis")]
pub struct KeysError {
    #[from]
    source: redis::RedisError,
}

/// Reads every key, sorted by name.
pub(super) async fn read(url: &str) -> Result<Vec<Key>, KeysError> {
    let client = redis::Client::open(url)?;
    let patient = AsyncConnectionConfig::new().set_connection_timeout(Some(ANSWER)).set_response_timeout(Some(ANSWER));
    let mut connection = client.get_multiplexed_async_connection_with_config(&patient).await?;
    let mut names: BTreeSet<Vec<u8>> = BTreeSet::new();
    let mut cursor = 0_u64;
    loop {
        let (next, found): (u64, Vec<Vec<u8>>) =
            redis::cmd("SCAN").arg(cursor).arg("COUNT").arg(1000).query_async(&mut connection).await?;
        names.extend(found);
        cursor = next;
        if cursor == 0 {
            break;
        }
    }
    let mut keys = Vec::with_capacity(names.len());
    for name in names {
        // A key that expired since the scan is simply gone.
        if let Some(key) = read_one(&mut connection, &name).await? {
            keys.push(key);
        }
    }
    Ok(keys)
}

async fn read_one(connection: &mut MultiplexedConnection, name: &[u8]) -> Result<Option<Key>, KeysError> {
    let (kind, ttl_ms): (String, i64) =
        redis::pipe().cmd("TYPE").arg(name).cmd("PTTL").arg(name).query_async(connection).await?;
    let content = match kind.as_str() {
        "none" => return Ok(None),
        "string" => {
            let value: Option<Vec<u8>> = redis::cmd("GET").arg(name).query_async(connection).await?;
            match value {
                Some(value) => Content::Text(text(&value)),
                None => return Ok(None),
            }
        }
        "hash" => {
            let fields: Vec<(Vec<u8>, Vec<u8>)> = redis::cmd("HGETALL").arg(name).query_async(connection).await?;
            Content::Hash(fields.into_iter().map(|(field, value)| (text(&field), text(&value))).collect())
        }
        "zset" => {
            let members: Vec<(Vec<u8>, f64)> =
                redis::cmd("ZRANGE").arg(name).arg(0).arg(-1).arg("WITHSCORES").query_async(connection).await?;
            Content::SortedSet(members.into_iter().map(|(member, score)| (text(&member), score)).collect())
        }
        "set" => {
            let members: Vec<Vec<u8>> = redis::cmd("SMEMBERS").arg(name).query_async(connection).await?;
            Content::Set(members.iter().map(|member| text(member)).collect())
        }
        "list" => {
            let items: Vec<Vec<u8>> = redis::cmd("LRANGE").arg(name).arg(0).arg(-1).query_async(connection).await?;
            Content::List(items.iter().map(|item| text(item)).collect())
        }
        other => Content::Other(other.to_owned()),
    };
    // Redis keeps nothing that is empty: it expired between the two questions.
    if content.is_empty() {
        return Ok(None);
    }
    Ok(Some(Key { name: text(name), content, expires: ttl_ms >= 0 }))
}

/// Text as it is. Only what is no UTF-8 is written in hexadecimal, because the rest may hold ids and tokens: serialised
/// objects begin with such bytes and go on with text.
fn text(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        if !chunk.invalid().is_empty() {
            let digits: String = chunk.invalid().iter().map(|byte| format!("{byte:02x}")).collect();
            text.push_str(&format!("<0x{digits}>"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_bytes_are_different_texts() {
        let members: BTreeSet<String> = [&b"\xff"[..], b"\xfe", b"\xff\xfe", b"\xe2\x82"].map(text).into();
        assert_eq!(members.into_iter().collect::<Vec<_>>(), ["<0xe282>", "<0xfe>", "<0xff>", "<0xff><0xfe>"]);
    }

    #[test]
    fn text_stays_as_it_is() {
        assert_eq!(text("좌석 7".as_bytes()), "좌석 7");
        assert_eq!(text(b"\xac\xedqueue:1"), "<0xac><0xed>queue:1");
        assert_eq!(text(b""), "");
    }
}
