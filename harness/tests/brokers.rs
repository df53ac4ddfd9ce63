//! What is read from and sent to real brokers without a system under test.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use futures_util::future::try_join_all;
use greenroom::drive::{NewRecord, Position, Producer};
use greenroom::environment::{Environment, SETTLE_DEADLINE};
use greenroom::observe::{self, Codec};
use greenroom::report;
use greenroom::scenario::{self, Verdict};
use greenroom::spec::{self, Spec};
use greenroom::wire;
use rdkafka::ClientConfig;
use rdkafka::consumer::{Consumer as _, StreamConsumer};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};

const DEADLINE: Duration = Duration::from_secs(10);

fn brokers() -> Spec {
    let text = "name = \"brokers\"\n[kafka]\ntopics = [{ name = \"mixed\", partitions = 2 }]";
    spec::read_str(Path::new("brokers.toml"), text).expect("a right description")
}

/// A client that sends ten records as one batch.
fn batching(environment: &Environment, settings: &[(&str, &str)]) -> FutureProducer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", environment.endpoints().brokers.join(","));
    config.set("batch.num.messages", "10").set("linger.ms", "2000");
    for (name, value) in settings {
        config.set(*name, *value);
    }
    config.create().expect("a producer")
}

async fn ten_records(producer: &FutureProducer) {
    let value = "compressible ".repeat(20);
    let sent =
        (0..10).map(|_| producer.send(FutureRecord::<(), _>::to("mixed").partition(0).payload(&value), DEADLINE));
    try_join_all(sent).await.map_err(|(error, _)| error).expect("acknowledged");
}

/// Goal: the header of every batch says what its producer chose, also where the observer could not decompress it.
/// Method: one batch of ten with each compression that the client library has, then a transaction.
#[test]
fn stored_batches_tell_their_compression() -> Verdict {
    scenario::run(brokers(), async |environment| {
        let codecs = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4];
        for codec in codecs {
            ten_records(&batching(environment, &[("compression.type", &codec.to_string())])).await;
        }
        let transactional = batching(environment, &[("transactional.id", "one"), ("compression.type", "gzip")]);
        transactional.init_transactions(DEADLINE)?;
        transactional.begin_transaction()?;
        ten_records(&transactional).await;
        transactional.commit_transaction(DEADLINE)?;

        // The transaction's end is written after its producer has been told of it.
        let batches = scenario::eventually(async || {
            let batches = observe::batches(&environment.endpoints(), "mixed").await;
            let batches = batches.map_err(|error| report::chain(&error))?;
            if batches.iter().any(|batch| batch.control) { Ok(batches) } else { Err("no control batch".to_owned()) }
        })
        .await?;
        let read: Vec<_> = batches.iter().map(|batch| (batch.base_offset, batch.records, batch.codec)).collect();
        let plain = codecs.into_iter().zip([0, 10, 20, 30]).map(|(codec, offset)| (offset, 10, codec));
        let expected: Vec<_> = plain.chain([(40, 10, Codec::Gzip), (50, 1, Codec::None)]).collect();
        assert_eq!(read, expected);
        let kinds: Vec<_> = batches[3..].iter().map(|batch| (batch.transactional, batch.control)).collect();
        assert_eq!(kinds, [(false, false), (true, false), (true, true)]);
        assert!(batches[1].bytes < batches[0].bytes, "gzip makes it smaller: {batches:?}");
        assert!(batches.iter().all(|batch| batch.partition == 0));
        Ok(())
    })
}

/// Goal: what is sent lies where the acknowledgement says; what cannot be sent says so soon, and names the topic.
#[test]
fn a_sent_record_lies_where_its_acknowledgement_says() -> Verdict {
    scenario::run(brokers(), async |environment| {
        let producer = Producer::of(environment)?;
        let whole = NewRecord::to("mixed").partition(1).key([0, 1]).value("v").header("h", "1").header("h", "2");
        assert_eq!(producer.send(whole).await?, Position { partition: 1, offset: 0 });
        producer.send(NewRecord::to("mixed").partition(1).key("tombstone")).await?;

        let seen = environment.observe().await?;
        let [record, tombstone] = seen.records("mixed") else { panic!("two records: {seen:?}") };
        assert_eq!((record.partition, record.offset), (1, 0));
        assert_eq!((record.key.as_deref(), record.value.as_deref()), (Some(&[0, 1][..]), Some(&b"v"[..])));
        let headers: Vec<_> = record.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
        assert_eq!(headers, [("h", Some(&b"1"[..])), ("h", Some(&b"2"[..]))]);
        assert_eq!((tombstone.key.as_deref(), &tombstone.value), (Some(&b"tombstone"[..]), &None));
        assert!(seen.records("nowhere").is_empty());

        let refused = producer.send(NewRecord::to("nowhere").value("v")).await.expect_err("there is no such topic");
        let said = report::chain(&refused);
        assert!(said.starts_with("no acknowledgement for a record to topic nowhere: "), "{said}");
        // Which is not that its time was over.
        assert!(said.contains("UnknownTopic"), "{said}");
        let unknown = observe::batches(&environment.endpoints(), "nowhere").await.expect_err("there is no such topic");
        assert_eq!(unknown.to_string(), "there is no topic nowhere");
        Ok(())
    })
}

/// Somebody who consumes until it is dropped.
struct Consuming(tokio::task::JoinHandle<()>);

impl Consuming {
    fn from(environment: &Environment, protocol: &str) -> Self {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", environment.endpoints().brokers.join(","));
        config.set("group.id", format!("by-{protocol}")).set("group.protocol", protocol);
        let consumer: StreamConsumer = config.create().expect("a consumer");
        consumer.subscribe(&["mixed"]).expect("a subscription");
        // An error passes; what it consumes is no matter.
        Self(tokio::spawn(async move {
            loop {
                let _ = consumer.recv().await;
            }
        }))
    }
}

impl Drop for Consuming {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Goal: who shares a group's partitions is waited for, whichever way its members use to agree, and what was seen
/// instead is told.
#[test]
fn members_of_a_group_are_waited_for() -> Verdict {
    let consumers =
        ["classic", "consumer"].map(|protocol| format!("{{ group = \"by-{protocol}\", topics = [\"mixed\"] }}"));
    let settle = format!("\n[settle]\nconsumers = [{}]", consumers.join(", "));
    let text = format!("name = \"brokers\"\n[kafka]\ntopics = [{{ name = \"mixed\", partitions = 2 }}]{settle}");
    let spec = spec::read_str(Path::new("brokers.toml"), &text).expect("a right description");
    scenario::run(spec, async |environment| {
        let topics = BTreeMap::from([("mixed".to_owned(), 2)]);
        // The coordinators of both groups answer from now on.
        environment.settle(SETTLE_DEADLINE).await?;
        for protocol in ["classic", "consumer"] {
            let group = format!("by-{protocol}");
            // Time for one look at least.
            let soon = tokio::time::Instant::now() + Duration::from_secs(6);
            let brokers = environment.plan().brokers();
            let nobody =
                wire::group_shared(&brokers, &group, &topics, &(1..), soon).await.expect_err("nobody is there");
            let said = report::chain(&nobody);
            assert!(
                said.starts_with(&format!("a group {group} of 1.. members that share its topics not reached")),
                "{said}"
            );
            assert!(said.contains(&format!("sees group {group} in the state Empty")), "{said}");

            let one = Consuming::from(environment, protocol);
            environment.kafka().shared_by(&group, 1..=1).await?;
            let other = Consuming::from(environment, protocol);
            environment.kafka().shared_by(&group, 2..=2).await?;
            drop(one);
            environment.kafka().shared_by(&group, 1..=1).await?;
            drop(other);
        }
        let unknown = environment.kafka().shared_by("nobody's", 1..).await.expect_err("nobody has described it");
        let said = "the description names no consumer group nobody's; those that it names: by-classic, by-consumer";
        assert_eq!(unknown.to_string(), said);

        // Brokers are asked last, and their answer is told also where something else is not at rest.
        let call = environment.calls().begin();
        Producer::of(environment)?.send(NewRecord::to("mixed").partition(0).value("unread")).await?;
        let lags = |protocol| format!("group by-{protocol} lags 1 on mixed[0]");
        let all = ["HTTP calls in flight: 1".to_owned(), lags("classic"), lags("consumer")];
        // On full cores brokers stand still for longer than they are waited for.
        scenario::eventually(async || {
            let error = environment.settle(Duration::from_millis(100)).await.expect_err("a call is in flight");
            let said = report::chain(&error);
            if all.iter().all(|waiting| said.contains(waiting)) { Ok(()) } else { Err(said) }
        })
        .await?;
        drop(call);
        Ok(())
    })
}
