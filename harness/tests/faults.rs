//! Faults on real parts and on the ways to them, without a system under test.

use std::path::Path;
use std::pin::pin;
use std::time::{Duration, Instant, SystemTime};

use greenroom::drive::{NewRecord, Producer};
use greenroom::environment::{Environment, EnvironmentError};
use greenroom::link::OUTSIDE;
use greenroom::scenario::{self, Verdict, eventually};
use greenroom::spec::{self, Spec};
use greenroom::{http, report, wire};
use redis::AsyncConnectionConfig;
use sqlx::Connection as _;
use tokio::time::timeout;

/// Long enough to see that nothing is answered.
const SILENCE: Duration = Duration::from_millis(300);
/// Long enough for a part to be asked, and to see that it does not answer.
const ASKED: Duration = Duration::from_secs(1);
/// Longer than anything takes here that is not broken.
const SOON: Duration = Duration::from_secs(60);

/// Brokers that can be parted from one another.
const BROKERS_APART: &str = "name = \"faults\"\nlinks = \"all\"\n\
                             [kafka]\nlayout = \"separate\"\ntopics = [{ name = \"orders\", partitions = 3 }]\n";

fn spec(text: &str) -> Spec {
    spec::read_str(Path::new("faults.toml"), text).expect("a right description")
}

/// What Redis answers to PING over a new connection, or why it does not.
async fn ping(environment: &Environment, patience: Duration) -> Result<String, String> {
    let url = environment.endpoints().redis_url.expect("a cache");
    let client = redis::Client::open(url).map_err(|error| error.to_string())?;
    // Its own limits would come before ours.
    let patient = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
    let told = async {
        let mut connection = client.get_multiplexed_async_connection_with_config(&patient).await?;
        redis::cmd("PING").query_async::<String>(&mut connection).await
    };
    match timeout(patience, told).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err("silence".to_owned()),
    }
}

/// Threads of a process that do not stand still. What cannot be read has ended.
fn going_on(pid: i32) -> Vec<String> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let stats = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("stat")).ok());
    stats.filter(|stat| !stat.contains(") T ")).collect()
}

/// Goal: every verb does to a part and to the way to it what it says, until it is taken back.
#[test]
fn a_cache_can_be_paused_killed_restarted_and_cut_off() -> Verdict {
    scenario::run(spec("name = \"faults\"\nlinks = \"clients\"\n[redis]\n"), async |environment| {
        environment.redis().pause().await?;
        assert_eq!(ping(environment, SILENCE).await, Err("silence".to_owned()));
        environment.redis().resume().await?;
        assert_eq!(ping(environment, SOON).await, Ok("PONG".to_owned()));

        environment.link(OUTSIDE, "redis").cut().await?;
        assert!(ping(environment, SOON).await.expect_err("it is cut").contains("reset"));
        environment.link(OUTSIDE, "redis").heal().await?;
        environment.links_to("redis").answers().blackhole().await?;
        assert_eq!(ping(environment, SILENCE).await, Err("silence".to_owned()));
        environment.links_to("redis").heal().await?;
        environment.link(OUTSIDE, "redis").delay(Duration::from_millis(60)).await?;
        let begun = Instant::now();
        ping(environment, SOON).await.expect("late, but answered");
        assert!(begun.elapsed() >= Duration::from_millis(120), "{:?}", begun.elapsed());
        environment.link(OUTSIDE, "redis").heal().await?;

        environment.redis().kill().await?;
        assert!(ping(environment, SILENCE).await.is_err());
        let dead = report::chain(&environment.redis().pause().await.expect_err("it does not run"));
        assert!(dead.contains("redis does not run") && dead.contains("fault restart redis"), "{dead}");
        environment.redis().restart().await?;
        environment.redis().restart().await?;
        assert_eq!(ping(environment, SOON).await, Ok("PONG".to_owned()));
        Ok(())
    })
}

/// Milliseconds since 1970.
fn now_ms() -> u128 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("it is later").as_millis()
}

/// Breaks the way from outside to a part in each manner. `ask` has the part send so many KiB, and returns when the part
/// was asked, in milliseconds since 1970.
async fn every_fault_shows(
    environment: &mut Environment,
    to: &str,
    mut ask: impl AsyncFnMut(i32) -> Result<u128, String>,
) -> Verdict {
    ask(1).await.expect("nothing is broken");
    environment.link(OUTSIDE, to).cut().await?;
    for connection in ["one that is open", "a new one"] {
        let said = ask(1).await.expect_err("it is cut");
        assert!(said.contains("reset"), "{connection}: {said}");
    }
    environment.link(OUTSIDE, to).heal().await?;
    ask(1).await.expect("it is whole again");

    environment.link(OUTSIDE, to).answers().blackhole().await?;
    {
        let mut late = pin!(ask(1));
        assert_eq!(timeout(ASKED, &mut late).await.ok(), None, "no answer comes through");
        let silent_until = now_ms();
        environment.link(OUTSIDE, to).heal().await?;
        let asked = late.await.expect("late, but answered");
        assert!(asked <= silent_until, "what was sent came through {} ms late", asked - silent_until);
    }

    environment.link(OUTSIDE, to).delay(Duration::from_millis(150)).await?;
    let begun = Instant::now();
    ask(1).await.expect("late, but answered");
    assert!(begun.elapsed() >= Duration::from_millis(300), "there and back: {:?}", begun.elapsed());
    environment.link(OUTSIDE, to).heal().await?;

    environment.link(OUTSIDE, to).throttle(64 * 1024).await?;
    let begun = Instant::now();
    ask(32).await.expect("slow, but answered");
    assert!(begun.elapsed() >= Duration::from_millis(500), "half of a second's bytes: {:?}", begun.elapsed());
    environment.link(OUTSIDE, to).heal().await?;
    let much = timeout(SOON, ask(8 * 1024)).await;
    much.expect("as slow as before, it would take two minutes").expect("it is whole again");
    Ok(())
}

/// Goal: a way to PostgreSQL can be cut, silent in one direction, late and slow, and is whole again.
/// Method: one connection as long as it lives, so that faults meet an open one, with a statement that it has prepared.
#[test]
fn the_way_to_a_database_can_be_broken() -> Verdict {
    let text = "name = \"faults\"\nlinks = \"clients\"\n[postgres]\ndatabase = \"shop\"\n";
    scenario::run(spec(text), async |environment| {
        let url = environment.endpoints().postgres_url.expect("a database");
        let mut open = None;
        let ask = async |kib: i32| {
            let mut connection = match open.take() {
                Some(connection) => connection,
                None => sqlx::PgConnection::connect(&url).await.map_err(|error| report::chain(&error))?,
            };
            let sql = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint, repeat('x', $1 * 1024)";
            let row = sqlx::query_as::<_, (i64, String)>(sql).bind(kib).fetch_one(&mut connection).await;
            let (asked_ms, _) = row.map_err(|error| report::chain(&error))?;
            open = Some(connection);
            Ok(u128::try_from(asked_ms).expect("it is later than 1970"))
        };
        every_fault_shows(environment, "postgres", ask).await
    })
}

/// A program that answers every request with the time and as many KiB as the path says.
const CLOCK: &str = r#"
    use IO::Socket::INET;
    use Time::HiRes "time";
    $SIG{PIPE} = "IGNORE";
    my $server = IO::Socket::INET->new(LocalAddr => shift, LocalPort => 3000, Listen => 9, ReuseAddr => 1) or die $!;
    while (my $client = $server->accept) {
        my ($kib) = <$client> =~ m{^GET /(\d+)};
        my $body = int(time * 1000) . "x" x ($kib * 1024);
        1 while <$client> =~ /\S/;
        print $client "HTTP/1.1 200 OK\r\nContent-Length: ", length $body, "\r\nConnection: close\r\n\r\n", $body;
    }"#;

/// Goal: a way to a program that says `link = true` can be cut, silent in one direction, late and slow, and is whole
/// again.
#[test]
fn the_way_to_a_program_can_be_broken() -> Verdict {
    let clock = CLOCK.replace('{', "{{").replace('}', "}}");
    let text = format!(
        "name = \"faults\"\nlinks = \"clients\"\n[[programs]]\nname = \"clock\"\nport = 3000\nlink = true\n\
         command = [\"perl\", \"-e\", '''{clock}''', \"{{bind}}\"]\n"
    );
    scenario::run(spec(&text), async |environment| {
        let url = environment.url("clock").expect("a program");
        let client = http::client().build()?;
        let ask = async |kib: i32| {
            let answer = async { client.get(format!("{url}/{kib}")).send().await?.text().await };
            let body = answer.await.map_err(|error| report::chain(&error))?;
            Ok(body.trim_end_matches('x').parse().expect("a time"))
        };
        every_fault_shows(environment, "clock", ask).await
    })
}

/// Goal: a fault that cannot be says what is wrong and what could be.
#[test]
fn impossible_faults_are_told() -> Verdict {
    let text = "name = \"faults\"\nlinks = \"all\"\n[kafka]\n[redis]\n";
    scenario::run(spec(text), async |environment| {
        let said = |refused: Result<(), EnvironmentError>| report::chain(&refused.expect_err("refused"));
        let unknown = said(environment.link("till", "redis").cut().await);
        assert!(unknown.contains("there is no client till; clients are kafka, redis, outside"), "{unknown}");
        let whole = said(environment.link(OUTSIDE, "redis").heal().await);
        assert!(whole.contains("the link from outside to redis has no fault to take back"), "{whole}");
        let one_process = said(environment.kafka().isolate(1).await);
        assert!(one_process.contains("kafka-1 and kafka-2 share one process"), "{one_process}");
        assert!(one_process.contains("layout = \"separate\""), "{one_process}");
        let same = said(environment.link("kafka", "kafka-1").cut().await);
        assert!(same.contains("kafka and kafka-1 share one process"), "{same}");
        for refused in
            [said(environment.kafka().broker(2).kill().await), said(environment.kafka().broker(2).restart().await)]
        {
            assert!(refused.contains("the brokers share one process, so kafka-2 has none of its own"), "{refused}");
        }
        let unknown = said(environment.part("till").restart().await);
        assert!(unknown.contains("there is no part till; the parts are kafka, redis"), "{unknown}");
        let nobody = said(environment.kafka().in_sync(3, &[4]).await);
        assert!(nobody.contains("there is no broker kafka-4"), "{nobody}");
        Ok(())
    })
}

/// Goal: links stand where the description says, and whoever wants to break one that is not there is told what to ask
/// for.
#[test]
fn links_that_are_not_there_are_told() -> Verdict {
    scenario::run(spec("name = \"faults\"\n[redis]\n"), async |environment| {
        let refused = environment.links_to("redis").cut().await.expect_err("there is no link");
        let said = report::chain(&refused);
        assert!(said.contains("no links") && said.contains("--links clients"), "{said}");
        Ok(())
    })
}

/// Goal: PostgreSQL comes back with its rows, and ends in good order while clients are connected.
#[test]
fn a_database_that_is_restarted_has_its_rows() -> Verdict {
    let text = "name = \"faults\"\n[postgres]\ndatabase = \"shop\"\n";
    scenario::run(spec(text), async |environment| {
        let url = environment.endpoints().postgres_url.expect("a database");
        let pool = sqlx::postgres::PgPoolOptions::new().acquire_timeout(SOON).connect(&url).await?;
        sqlx::query("CREATE TABLE kept (id int)").execute(&pool).await?;
        sqlx::query("INSERT INTO kept VALUES (7)").execute(&pool).await?;
        environment.postgres().restart().await?;
        let rows = eventually(async || {
            let count = sqlx::query_scalar::<_, i32>("SELECT id FROM kept").fetch_one(&pool).await;
            count.map_err(|error| error.to_string())
        });
        assert_eq!(rows.await?, 7);
        // A paused server answers nobody, also on connections that it has; killed meanwhile, it has ended all the same.
        let mut open = pool.acquire().await?;
        environment.postgres().pause().await?;
        assert!(timeout(SILENCE, sqlx::query("SELECT 1").execute(&mut *open)).await.is_err());
        drop(open);
        environment.postgres().resume().await?;
        assert_eq!(sqlx::query_scalar::<_, i32>("SELECT id FROM kept").fetch_one(&pool).await?, 7);
        environment.postgres().pause().await?;
        environment.postgres().restart().await?;
        eventually(async || sqlx::query("SELECT 1").execute(&pool).await.map(drop).map_err(|error| error.to_string()))
            .await?;
        environment.postgres().pause().await?;
        environment.postgres().stop().await?;
        assert!(sqlx::PgConnection::connect(&url).await.is_err());
        Ok(())
    })
}

/// Goal: a broker that is parted from the others is missed by them and by nobody else, and comes back; a killed one
/// too, also where it stood still, and one that was asked to end.
/// Method: layout separate. The parted broker leaves every in-sync set, so `acks=all` goes on with the other two, and
/// the cluster is whole again when all brokers list all brokers and every replica is in sync.
#[test]
fn a_broker_can_be_parted_from_the_others_and_killed() -> Verdict {
    scenario::run(spec(BROKERS_APART), async |environment| {
        let producer = Producer::of(environment)?;
        producer.send(NewRecord::to("orders").value("before")).await?;
        // Of brokers that stood still, one may be alone in sync, in whose place nobody leads.
        environment.kafka().in_sync(3, &[1, 2, 3]).await?;
        environment.kafka().isolate(1).await?;
        environment.kafka().in_sync(2, &[2, 3]).await?;
        // A client that still reaches it would send to the leader that it was, and get no acknowledgement.
        environment.kafka().link(OUTSIDE, 1).cut().await?;
        producer.send(NewRecord::to("orders").value("with two")).await?;
        environment.kafka().link(OUTSIDE, 1).heal().await?;
        // The ways between the two were broken once, so the second healing finds only the others.
        environment.kafka().isolate(2).await?;
        environment.kafka().rejoin(1).await?;
        environment.kafka().rejoin(2).await?;
        assert!(environment.kafka().rejoin(2).await.is_err());
        environment.kafka().in_sync(3, &[1, 2, 3]).await?;

        // A paused broker stands still when that is answered, and not a little later.
        let parts = environment.summary().await?.parts;
        let second = parts.iter().find(|part| part.name == "kafka-2").and_then(|part| part.pid).expect("it runs");
        assert_ne!(going_on(second), [""; 0]);
        environment.kafka().broker(2).pause().await?;
        assert_eq!(going_on(second), [""; 0]);

        environment.kafka().broker(2).kill().await?;
        producer.send(NewRecord::to("orders").value("without the second")).await?;
        environment.kafka().broker(2).restart().await?;
        environment.kafka().in_sync(3, &[1, 2, 3]).await?;

        environment.kafka().broker(3).stop().await?;
        producer.send(NewRecord::to("orders").value("without the third")).await?;
        environment.kafka().broker(3).restart().await?;
        environment.kafka().in_sync(3, &[1, 2, 3]).await?;
        let records = environment.observe().await?;
        assert_eq!(records.records("orders").len(), 4);
        Ok(())
    })
}

/// Goal: a partition of the quorum takes its leader from it: the others elect another, and are whole with the first one
/// when it comes back.
/// Method: layout separate. Only the other two are asked who leads; the parted one may believe that it still does.
#[test]
fn the_leader_of_the_quorum_can_be_parted_from_it() -> Verdict {
    scenario::run(spec(BROKERS_APART), async |environment| {
        environment.kafka().in_sync(3, &[1, 2, 3]).await?;
        let leader = environment.kafka().quorum_leader().await?;
        let others: Vec<u16> = (1..=3).filter(|id| *id != leader).collect();
        let brokers = environment.plan().brokers();
        let asked: Vec<_> = others.iter().map(|id| brokers[usize::from(*id) - 1]).collect();
        environment.kafka().isolate(leader).await?;
        let elected = eventually(async || {
            let named = wire::quorum_leader(&asked, tokio::time::Instant::now() + SOON).await;
            match named.map_err(|error| report::chain(&error))? {
                still if still == i32::from(leader) => Err(format!("kafka-{still} still leads the quorum")),
                elected => Ok(elected),
            }
        });
        let elected = elected.await?;
        assert!(others.iter().any(|id| i32::from(*id) == elected), "kafka-{elected} is none of {others:?}");
        // The new one leads: by its word the parted broker is missed, and nobody else.
        environment.kafka().in_sync(2, &others).await?;
        environment.kafka().rejoin(leader).await?;
        environment.kafka().in_sync(3, &[1, 2, 3]).await?;
        Ok(())
    })
}

/// Goal: faults are over when a story ends: the next environment is as new.
/// Method: a story breaks all that can be broken and takes nothing back. In the next one, made from the same
/// description, no way has a fault, every part answers, and the brokers are whole and empty.
#[test]
fn the_next_environment_is_as_new() -> Verdict {
    let text = format!("{BROKERS_APART}[redis]\n");
    scenario::run(spec(&text), async |environment| {
        Producer::of(environment)?.send(NewRecord::to("orders").value("the first story's")).await?;
        environment.kafka().isolate(1).await?;
        environment.kafka().link(OUTSIDE, 1).cut().await?;
        environment.links_to("kafka-2").delay(SOON).await?;
        environment.links_to("redis").blackhole().await?;
        environment.kafka().broker(2).kill().await?;
        environment.kafka().broker(3).pause().await?;
        environment.redis().pause().await?;
        Ok(())
    })?;
    scenario::run(spec(&text), async |environment| {
        for part in ["kafka-1", "kafka-2", "redis"] {
            let whole = report::chain(&environment.links_to(part).heal().await.expect_err("it is whole"));
            assert!(whole.contains("has no fault to take back"), "{whole}");
        }
        let whole = report::chain(&environment.kafka().rejoin(1).await.expect_err("it is not isolated"));
        assert!(whole.contains("has no fault to take back"), "{whole}");
        assert_eq!(ping(environment, SOON).await, Ok("PONG".to_owned()));
        environment.kafka().in_sync(3, &[1, 2, 3]).await?;
        Producer::of(environment)?.send(NewRecord::to("orders").value("the second's")).await?;
        let seen = environment.observe().await?;
        let values: Vec<_> = seen.records("orders").iter().map(|record| record.value.as_deref()).collect();
        assert_eq!(values, [Some(&b"the second's"[..])]);
        Ok(())
    })
}

/// Goal: a query of the description that waits for a lock is named, and rest is found once the lock has gone.
#[test]
fn a_count_that_waits_for_a_lock_is_named() -> Verdict {
    let text = "name = \"faults\"\n[postgres]\ndatabase = \"goods\"\n\
                [settle.empty]\n\"goods waiting\" = \"SELECT count(*) FROM goods WHERE waiting\"\n";
    scenario::run(spec(text), async |environment| {
        let url = environment.endpoints().postgres_url.expect("a database");
        let pool = sqlx::PgPool::connect(&url).await?;
        sqlx::raw_sql("CREATE TABLE goods (waiting bool)").execute(&pool).await?;
        let mut lock = pool.begin().await?;
        sqlx::raw_sql("LOCK TABLE goods IN ACCESS EXCLUSIVE MODE").execute(&mut *lock).await?;
        let error = environment.settle(Duration::from_secs(12)).await.expect_err("the table is locked");
        let said = report::chain(&error);
        assert!(said.ends_with("no answer from postgres within 2s: goods waiting"), "{said}");
        lock.rollback().await?;
        Ok(environment.settle(SOON).await?)
    })
}
