//! What happened in an environment, read from outside through the same doors that anyone has:
//! SQL, the Kafka protocol, the Redis protocol and HTTP.
//!
//! Start with [`settle()`], which waits until the system is at rest, then [`collect`], which reads everything
//! into one typed [`Observation`]. [`history::install`] must have run before the system's first write.
//! [`batches()`] shows how the records of one topic lie on the brokers.
//!
//! Deliberately absent: any word of a system under test (the description says what to look at), and every decision
//! about what is shown, which is [`crate::snapshot`]'s.

mod batches;
mod brokers;
pub mod history;
pub mod journal;
pub mod keys;
mod lag;
mod rows;
pub mod settle;
pub mod tables;
pub mod topics;
mod topology;
pub mod value;

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgPoolOptions;

use crate::spec::ObserveSpec;
use crate::wire::WireError;

pub use batches::{BatchesError, Codec, StoredBatch, batches};
pub use settle::{SettleError, Waiting, settle};

/// Longest wait for one connection or answer: parts may stand still for many seconds where the machine does.
const ANSWER: Duration = Duration::from_secs(30);
/// Longest wait for everything that the database holds.
const READING: Duration = Duration::from_secs(45);

/// Where the parts of an environment are reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoints {
    /// `postgres://…` of the system's database.
    pub postgres_url: Option<String>,
    /// `redis://…`.
    pub redis_url: Option<String>,
    /// `host:port` of each broker.
    pub brokers: Vec<String>,
    /// Base URL of each program instance. The instances of a program `p` are named `p`, `p-2`, `p-3`… .
    pub programs: BTreeMap<String, String>,
}

/// Everything that was found, as it was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// When it was taken: what lies near it is a clock reading.
    pub taken_at: DateTime<Utc>,
    /// `host:port` of every part, with the name of the part.
    pub addresses: BTreeMap<String, String>,
    /// Recorded transitions in order.
    pub history: Vec<history::Transition>,
    /// Topics by name.
    pub topics: Vec<topics::Topic>,
    /// Redis keys by name.
    pub keys: Vec<keys::Key>,
    /// Journals by program.
    pub journals: Vec<journal::Journal>,
    /// Tables in the order of the description.
    pub tables: Vec<tables::Table>,
}

impl Observation {
    /// The records of a topic by partition and offset; none of a topic that does not exist.
    #[must_use]
    pub fn records(&self, topic: &str) -> &[topics::Record] {
        self.topics.iter().find(|found| found.name == topic).map_or(&[], |found| &found.records)
    }
}

/// Why an observation could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// History.
    #[error(transparent)]
    History(#[from] history::HistoryError),
    /// Rows.
    #[error(transparent)]
    Tables(#[from] tables::TablesError),
    /// Records.
    #[error(transparent)]
    Topics(#[from] topics::TopicsError),
    /// No broker says who leads what.
    #[error("could not read the topics")]
    Brokers(#[source] WireError),
    /// Redis.
    #[error(transparent)]
    Keys(#[from] keys::KeysError),
    /// Journals.
    #[error(transparent)]
    Journal(#[from] journal::JournalError),
    /// The database could not be reached, or a client could not be made.
    #[error("could not observe: {action}")]
    Client {
        /// What was being done.
        action: &'static str,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl ObserveError {
    /// Whether a part that is not under test could not be read.
    pub(crate) fn is_of_the_environment(&self) -> bool {
        use topics::TopicsError::{Hole, Kafka, Stuck, Truncated};
        match self {
            Self::Keys(_) | Self::Brokers(_) | Self::Client { .. } | Self::Topics(Kafka { .. } | Stuck { .. }) => true,
            // What they lack, the system has not made or has not kept.
            Self::History(_) | Self::Tables(_) | Self::Journal(_) | Self::Topics(Hole { .. } | Truncated { .. }) => {
                false
            }
        }
    }
}

/// Reads everything that the description names; the parts are read side by side. What the environment does not have
/// (no Redis, no Kafka) is empty.
///
/// # Errors
/// The first part that could not be read, with its cause.
pub async fn collect(endpoints: &Endpoints, spec: &ObserveSpec) -> Result<Observation, ObserveError> {
    let (rows, topics, keys, journals) = tokio::try_join!(
        in_time("read the database", read_database(endpoints, spec)),
        read_topics(endpoints, spec),
        read_keys(endpoints),
        read_journals(endpoints, spec),
    )?;
    let (history, tables) = rows;
    Ok(Observation { taken_at: Utc::now(), addresses: addresses(endpoints), history, topics, keys, journals, tables })
}

/// What is read within [`READING`]: a table may be locked, and a server may stand still.
async fn in_time<T>(
    action: &'static str,
    read: impl Future<Output = Result<T, ObserveError>>,
) -> Result<T, ObserveError> {
    let read = tokio::time::timeout(READING, read).await;
    read.unwrap_or_else(|late| Err(ObserveError::Client { action, source: Box::new(late) }))
}

async fn read_database(
    endpoints: &Endpoints,
    spec: &ObserveSpec,
) -> Result<(Vec<history::Transition>, Vec<tables::Table>), ObserveError> {
    let Some(url) = &endpoints.postgres_url else {
        return Ok((Vec::new(), Vec::new()));
    };
    let failed = |action| move |source: sqlx::Error| ObserveError::Client { action, source: Box::new(source) };
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(ANSWER)
        .connect(url)
        .await
        .map_err(failed("connect to postgres"))?;
    let mut transaction = pool.begin().await.map_err(failed("connect to postgres"))?;
    // One view of the database for all tables, and one notation of times whatever the role is set to.
    sqlx::raw_sql(
        "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY; \
         SET LOCAL TimeZone = 'UTC'; SET LOCAL DateStyle = 'ISO'; SET LOCAL search_path = \"$user\", public",
    )
    .execute(&mut *transaction)
    .await
    .map_err(failed("read the database"))?;
    let history = history::read(&mut transaction).await?;
    let tables = tables::read(&mut transaction, &spec.tables).await?;
    transaction.rollback().await.map_err(failed("read the database"))?;
    pool.close().await;
    Ok((history, tables))
}

async fn read_topics(endpoints: &Endpoints, spec: &ObserveSpec) -> Result<Vec<topics::Topic>, ObserveError> {
    if endpoints.brokers.is_empty() {
        return Ok(Vec::new());
    }
    // A client that begins at a broker which is parted from the others would believe it.
    let mut addresses: Vec<_> = endpoints.brokers.iter().filter_map(|broker| broker.parse().ok()).collect();
    let newest = topology::ask(&mut addresses, &mut topology::Peers::new()).await.map_err(ObserveError::Brokers)?;
    let brokers: Vec<_> = newest.told_by.iter().map(ToString::to_string).collect();
    let gaps = spec.gaps.clone();
    let read = tokio::task::spawn_blocking(move || topics::read(&brokers, &gaps)).await;
    Ok(read.map_err(|source| ObserveError::Client { action: "read the topics", source: Box::new(source) })??)
}

async fn read_keys(endpoints: &Endpoints) -> Result<Vec<keys::Key>, ObserveError> {
    match &endpoints.redis_url {
        Some(url) => Ok(keys::read(url).await?),
        None => Ok(Vec::new()),
    }
}

async fn read_journals(endpoints: &Endpoints, spec: &ObserveSpec) -> Result<Vec<journal::Journal>, ObserveError> {
    let client = crate::http::client()
        .timeout(ANSWER)
        .build()
        .map_err(|source| ObserveError::Client { action: "make an http client", source: Box::new(source) })?;
    let mut journals = Vec::new();
    for (program, path) in &spec.journals {
        let urls: Vec<_> = instances(&endpoints.programs, program).into_iter().map(|(_, url)| url).collect();
        journals.push(journal::read(&client, program, &urls, path).await?);
    }
    Ok(journals)
}

/// The instances of `program`: itself, `program-2`, `program-3`…, each with its base URL.
fn instances<'a>(programs: &'a BTreeMap<String, String>, program: &str) -> Vec<(&'a str, &'a str)> {
    programs
        .iter()
        .filter(|(name, _)| match name.strip_prefix(program) {
            Some("") => true,
            Some(rest) => rest
                .strip_prefix('-')
                .is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())),
            None => false,
        })
        .map(|(name, url)| (name.as_str(), url.as_str()))
        .collect()
}

/// `host:port` of every part by the name of the part.
fn addresses(endpoints: &Endpoints) -> BTreeMap<String, String> {
    let mut addresses = BTreeMap::new();
    for (index, broker) in endpoints.brokers.iter().enumerate() {
        addresses.insert(broker.clone(), format!("broker-{}", index + 1));
    }
    let stores = [("postgres", &endpoints.postgres_url), ("redis", &endpoints.redis_url)];
    let stores = stores.into_iter().filter_map(|(name, url)| Some((name, url.as_deref()?)));
    let programs = endpoints.programs.iter().map(|(name, url)| (name.as_str(), url.as_str()));
    for (name, url) in stores.chain(programs) {
        if let Some(address) = authority(url) {
            addresses.insert(address.to_owned(), name.to_owned());
        }
    }
    addresses
}

/// `host:port` of a URL.
fn authority(url: &str) -> Option<&str> {
    let rest = url.split_once("://")?.1;
    let authority = rest.split(['/', '?']).next()?;
    Some(authority.rsplit_once('@').map_or(authority, |(_, address)| address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_of_a_program_are_found_by_name_and_number_only() {
        let programs: BTreeMap<_, _> = ["shop", "shop-2", "shop-api", "shopping", "shop-10"]
            .map(|name| (name.to_owned(), format!("http://{name}")))
            .into();
        let names: Vec<_> = instances(&programs, "shop").into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["shop", "shop-10", "shop-2"]);
    }

    #[test]
    fn the_address_of_a_part_is_cut_from_its_url() {
        assert_eq!(authority("postgres://a:b@127.9.0.1:5432/shop?x=y"), Some("127.9.0.1:5432"));
        assert_eq!(authority("http://127.9.0.1:80"), Some("127.9.0.1:80"));
        assert_eq!(authority("nonsense"), None);
    }
}
