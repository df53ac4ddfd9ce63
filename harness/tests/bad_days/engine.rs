//! A container engine on its bad days: it refuses, it goes away in the middle, it comes back and finds what others
//! left.
//!
//! Method: between the supervisor and the real engine stands a door of the test's own, which can answer in its place or
//! close. Where environments are processes there is no engine, and nothing to see: `cargo xtask test --runtime docker`.

mod checkpoints;
mod others;
mod own;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use greenroom::docker;
use greenroom::environment::chosen_runtime;
use greenroom::plan::Runtime;
use greenroom::runtime;
use greenroom::supervisor::protocol::{Action, Order, PartSignal};
use redis::AsyncConnectionConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

use crate::crowd::docker as engine_says;
use crate::stand::{GONE, REDIS_ONLY, Stand, becomes_empty, complaint, processes_of};

/// The way to the real engine.
struct Door {
    socket: PathBuf,
    /// Where it is false, what was asked ends without an answer, and nothing more is asked.
    open: watch::Sender<bool>,
    /// Whether a container's start is refused.
    refuses: Arc<AtomicBool>,
}

impl Door {
    /// In front of the engine, where there is one to stand in front of.
    fn before_the_engine(stand: &Stand) -> Option<Self> {
        if chosen_runtime().expect("a runtime") == Runtime::Process {
            return None;
        }
        let engine = docker::host().strip_prefix("unix://").expect("the tests' engine is at a socket").to_owned();
        let socket = stand.path().join("door.sock");
        let listener = UnixListener::bind(&socket).expect("a socket");
        let (open, opened) = watch::channel(true);
        let refuses = Arc::<AtomicBool>::default();
        let refusing = Arc::clone(&refuses);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if *opened.borrow() {
                    let (engine, refusing) = (engine.clone(), Arc::clone(&refusing));
                    tokio::spawn(let_through(client, engine, refusing, opened.clone()));
                }
            }
        });
        Some(Self { socket, open, refuses })
    }

    /// An order whose containers are asked for through the door.
    fn order(&self, stand: &Stand, text: &str) -> Order {
        Order { engine: format!("unix://{}", self.socket.display()), ..stand.order(text) }
    }
}

/// Hands on what is said on one connection, but for a start that is to be refused, until the door is closed. The input
/// and output of a container that runs already stay: those are not the engine's but of a program beside it.
async fn let_through(mut client: UnixStream, engine: String, refuses: Arc<AtomicBool>, open: watch::Receiver<bool>) {
    let mut said = vec![0; 65_536];
    let Ok(length) = client.read(&mut said).await else { return };
    let first = said.get(..length).unwrap_or_default();
    let line = String::from_utf8_lossy(first).lines().next().unwrap_or_default().to_owned();
    if line.contains("/start") && refuses.load(Ordering::Acquire) {
        let body = r#"{"message":"write /var/lib/docker/overlay2: no space left on device"}"#;
        let head = "HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/json\r\nConnection: close\r\n";
        let _ = client.write_all(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes()).await;
        return;
    }
    let Ok(mut engine) = UnixStream::connect(engine).await else { return };
    if engine.write_all(first).await.is_err() {
        return;
    }
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_engine, mut to_engine) = engine.into_split();
    let (mut closed, mut opened) = (open.clone(), open);
    let asked = async {
        let _ = copy(&mut from_client, &mut to_engine).await;
        // Nor is an engine that is away told that its client has gone.
        let _ = opened.wait_for(|open| *open).await;
        let _ = to_engine.shutdown().await;
    };
    let told = async {
        let _ = copy(&mut from_engine, &mut to_client).await;
        let _ = to_client.shutdown().await;
    };
    let both = async { tokio::join!(asked, told) };
    if line.contains("/attach") {
        both.await;
    } else {
        tokio::select! {
            _ = both => {}
            _ = closed.wait_for(|open| !open) => {}
        }
    }
}

/// Containers that bear the label of this stand's supervisors, whether they run or not.
fn containers_of(stand: &Stand) -> Vec<String> {
    let label = format!("label=greenroom.house={}", stand.house().path().display());
    engine_says(&["ps", "--all", "--quiet", "--filter", &label]).lines().map(str::to_owned).collect()
}

/// Goal: a container that was made and cannot be started is told of, with what to do, and is not left.
#[tokio::test]
async fn a_refused_start_is_told_and_leaves_nothing() {
    let stand = Stand::new();
    let Some(door) = Door::before_the_engine(&stand) else { return };
    door.refuses.store(true, Ordering::Release);
    let said = complaint(stand.lease(door.order(&stand, REDIS_ONLY)).await);
    assert!(said.contains("the container engine failed to start a container"), "{said}");
    assert!(said.contains("no space left on device"), "{said}");
    assert!(said.contains("its disk is full: make room"), "{said}");
    becomes_empty(GONE, "containers", || containers_of(&stand)).await;
}

/// Goal: an image that is missing is named, with how to get it.
#[tokio::test]
async fn a_missing_image_is_named() {
    let stand = Stand::new();
    let Some(door) = Door::before_the_engine(&stand) else { return };
    let mut order = door.order(&stand, REDIS_ONLY);
    // The name of an image tells what lies in it.
    order.toolchain.redis.version = "0.0.0".to_owned();
    let named = docker::images::redis(&order.toolchain).name;
    let said = complaint(stand.lease(order).await);
    assert!(said.contains(&format!("there is no image {named}")), "{said}");
    assert!(said.contains("`cargo xtask images build` makes those named greenroom/"), "{said}");
    becomes_empty(GONE, "containers", || containers_of(&stand)).await;
}

/// What Redis answers.
async fn ping(redis: &redis::Client) -> redis::RedisResult<String> {
    let patient = AsyncConnectionConfig::new().set_connection_timeout(Some(GONE)).set_response_timeout(Some(GONE));
    let mut connection = redis.get_multiplexed_async_connection_with_config(&patient).await?;
    redis::cmd("PING").query_async(&mut connection).await
}

/// Goal: an engine that goes away in the middle takes nothing with it; what is asked of it then is told to be
/// impossible; and the environment's end ends all of it all the same.
#[tokio::test]
async fn an_environment_ends_without_its_engine() {
    let stand = Stand::new();
    let Some(door) = Door::before_the_engine(&stand) else { return };
    let mut lease = stand.lease(door.order(&stand, REDIS_ONLY)).await.expect("it starts");
    let plan = lease.plan.clone();
    let redis = redis::Client::open(format!("redis://{}", plan.parts[0].addresses[0])).expect("an address");
    door.open.send_replace(false);
    assert_eq!(ping(&redis).await.expect("Redis lives without the engine"), "PONG");
    assert_eq!(processes_of(&plan).len(), 1, "Redis goes on");

    let kill = Action::Signal { part: "redis".to_owned(), signal: PartSignal::Kill };
    lease.act(kill).await.expect("a process needs no engine to be killed");
    becomes_empty(GONE, "processes", || processes_of(&plan)).await;
    let restart = Action::Restart { part: "redis".to_owned() };
    let said = lease.act(restart).await.expect_err("nobody can start it").to_string();
    assert!(said.contains("the container engine failed to make a container"), "{said}");
    lease.release().await.expect("it is given back");
    // The kernel has ended what shared the first one's process ids, and the engine hears of it.
    becomes_empty(GONE, "containers", || containers_of(&stand)).await;
}

/// Goal: a container that a dead supervisor has made and not started, which nothing ends by itself, is swept by the
/// next one in the same house; and one of a living supervisor is not.
#[tokio::test]
async fn what_a_dead_supervisor_made_is_swept() {
    let stand = Stand::new();
    let Some(door) = Door::before_the_engine(&stand) else { return };
    let house = format!("greenroom.house={}", stand.house().path().display());
    let image = docker::images::redis(&stand.toolchain).name;
    engine_says(&[
        "create",
        "--pull",
        "never",
        "--label",
        &house,
        "--label",
        "greenroom.supervisor=1-dead",
        &image,
        "true",
    ]);
    assert_eq!(containers_of(&stand).len(), 1);
    let lease = stand.lease(door.order(&stand, REDIS_ONLY)).await.expect("it starts");
    // Its own first one and Redis.
    let swept = runtime::until(std::time::Instant::now() + GONE, Duration::from_millis(20), async || {
        let left = containers_of(&stand);
        if left.len() == 2 { Ok(()) } else { Err(format!("containers: {left:?}")) }
    });
    swept.await.expect("the dead one's is gone");
    // Another supervisor comes to the same engine, and leaves the living one's alone.
    let clone = stand.another_clone();
    let others = clone.lease(door.order(&clone, REDIS_ONLY)).await.expect("it starts");
    assert_eq!(containers_of(&stand).len(), 2);
    for of in [&stand, &clone] {
        // It returns when all is gone; until then the supervisor needs the door.
        of.connection().await.end(None).await.expect("all end");
        assert_eq!(containers_of(of), Vec::<String>::new());
    }
    drop((lease, others));
}

/// Goal: nothing outlives a supervisor that is killed while its engine is away.
#[tokio::test]
async fn nothing_outlives_a_supervisor_whose_engine_is_away() {
    let stand = Stand::new();
    let Some(door) = Door::before_the_engine(&stand) else { return };
    let lease = stand.lease(door.order(&stand, REDIS_ONLY)).await.expect("it starts");
    let plan = lease.plan.clone();
    door.open.send_replace(false);
    nix::sys::signal::kill(stand.supervisor_pid(), nix::sys::signal::Signal::SIGKILL).expect("it is killed");
    becomes_empty(GONE, "processes", || processes_of(&plan)).await;
    becomes_empty(GONE, "containers", || containers_of(&stand)).await;
    drop(lease);
}
