//! Deaths: of a client, of the supervisor, of parts; by SIGKILL, at bad moments.
//!
//! These tests run beside others on two cores, so where a time is a goal of the project they allow about twice as much;
//! how far the goals are met is what `cargo xtask bench start` measures.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use greenroom::environment::chosen_runtime;
use greenroom::plan::Runtime;
use greenroom::runtime::{self, PartState};
use greenroom::supervisor::protocol::{Action, PartSignal};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::stand::{
    DEADLINE, GONE, INFRASTRUCTURE, POSTGRES_ONLY, REDIS_ONLY, Stand, becomes_empty, processes_of,
    processes_of_supervisor,
};

fn signal(part: &str, signal: PartSignal) -> Action {
    Action::Signal { part: part.to_owned(), signal }
}

fn restart(part: &str) -> Action {
    Action::Restart { part: part.to_owned() }
}

/// Goal: giving back returns at once, and all is gone within a second.
#[tokio::test]
async fn an_environment_given_back_is_gone() {
    let stand = Stand::new();
    let lease = stand.lease(stand.order(INFRASTRUCTURE)).await.expect("it starts");
    let plan = lease.plan.clone();
    assert!(processes_of(&plan).len() >= 3, "brokers, PostgreSQL and Redis run");
    let begun = Instant::now();
    lease.release().await.expect("it is given back");
    assert!(begun.elapsed() < Duration::from_millis(250), "giving back took {:?}", begun.elapsed());
    becomes_empty(Duration::from_secs(2), "processes", || processes_of(&plan)).await;
    let directory = || plan.site.directory.exists().then(|| plan.site.directory.clone()).into_iter().collect();
    becomes_empty(Duration::from_secs(2), "its directory", directory).await;
}

/// Goal: the law that a lease ends when its connection ends, in the middle of a start.
/// Method: the client is the real command line, killed as soon as it says that it has begun.
#[tokio::test]
async fn a_client_killed_during_start_leaves_nothing() {
    let stand = Stand::new();
    let description = stand.path().join("stand.toml");
    std::fs::write(&description, INFRASTRUCTURE).expect("a description");
    let mut client = Command::new(env!("CARGO_BIN_EXE_greenroom"))
        .args(["test-env", "up", "--description"])
        .arg(&description)
        .env("GREENROOM_STATE", stand.path())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the client starts");
    let output = BufReader::new(client.stderr.take().expect("its output"));
    let said: Vec<_> = output.lines().map_while(Result::ok).take_while(|line| !line.starts_with("starting")).collect();
    let pid = Pid::from_raw(i32::try_from(client.id()).expect("a process id"));
    kill(pid, Signal::SIGKILL).expect("the client is killed");
    client.wait().expect("the client is dead");
    let (identity, house) = (stand.identity(), stand.house());
    let left = || processes_of_supervisor(&identity, &house);
    becomes_empty(GONE, &format!("processes (it said {said:?})"), left).await;
    // The lease is given up last, after the directory is removed.
    let mut supervisor = stand.connection().await;
    let given_up = runtime::until(Instant::now() + GONE, Duration::from_millis(2), async || {
        let left = supervisor.status().await.expect("the supervisor lives");
        if left.is_empty() { Ok(()) } else { Err(format!("leases: {left:?}")) }
    });
    given_up.await.expect("no lease is left");
}

/// Goal: the law that nothing outlives the supervisor.
#[tokio::test]
async fn nothing_outlives_a_killed_supervisor() {
    let stand = Stand::new();
    let lease = stand.lease(stand.order(INFRASTRUCTURE)).await.expect("it starts");
    let (identity, house) = (stand.identity(), stand.house());
    assert!(processes_of_supervisor(&identity, &house).len() >= 3, "brokers, PostgreSQL and Redis run");
    kill(stand.supervisor_pid(), Signal::SIGKILL).expect("the supervisor is killed");
    becomes_empty(Duration::from_secs(2), "processes", || processes_of_supervisor(&identity, &house)).await;
    let directory = || house.path().exists().then(|| house.path().to_owned()).into_iter().collect();
    becomes_empty(Duration::from_secs(3), "its directory", directory).await;
    drop(lease);
    // The next client finds no supervisor and starts another.
    stand.lease(stand.order(REDIS_ONLY)).await.expect("the next one starts").release().await.expect("and ends");
}

/// Goal: the same of a database that stands still, which sees no signal before it goes on.
#[tokio::test]
async fn a_paused_database_does_not_outlive_a_killed_supervisor() {
    let stand = Stand::new();
    let mut lease = stand.lease(stand.order(POSTGRES_ONLY)).await.expect("it starts");
    let (identity, house) = (stand.identity(), stand.house());
    lease.act(signal("postgres", PartSignal::Pause)).await.expect("it stands still");
    let told = stand.connection().await.status().await.expect("it answers");
    assert_eq!(told[0].parts[0].state, PartState::Paused);
    let postmaster = told[0].parts[0].pid.expect("it runs");
    // A container's segments are its own, and go with it.
    let segments = if chosen_runtime().expect("a runtime") == Runtime::Process { 1 } else { 0 };
    assert_eq!(segments_made_by(postmaster).len(), segments);
    kill(stand.supervisor_pid(), Signal::SIGKILL).expect("the supervisor is killed");
    becomes_empty(GONE, "processes", || processes_of_supervisor(&identity, &house)).await;
    assert_eq!(segments_made_by(postmaster), [""; 0], "it was ended by SIGKILL");
}

/// The System V memory segments that a process has made and that are still there, which only SIGKILL leaves behind.
fn segments_made_by(pid: i32) -> Vec<String> {
    let segments = std::fs::read_to_string("/proc/sysvipc/shm").expect("the kernel lists them");
    let (head, lines) = segments.split_once('\n').expect("a head line");
    let column = head.split_whitespace().position(|name| name == "cpid").expect("their makers are listed");
    let maker = pid.to_string();
    lines.lines().filter(|line| line.split_whitespace().nth(column) == Some(&maker)).map(str::to_owned).collect()
}

/// Goal: what a dead supervisor left, because even its watcher was killed, is swept by the next one.
/// Method: a house with an identity, files and a process that carries it, and nobody who holds the lock.
#[tokio::test]
async fn stale_files_and_processes_of_a_dead_supervisor_are_swept() {
    let stand = Stand::new();
    let stale = stand.workspace.directory.join("0dead000");
    std::fs::create_dir_all(stale.join("stand-1-1").join("logs")).expect("stale files");
    std::fs::write(stale.join("identity"), "1-dead").expect("a stale identity");
    let mut orphan = Command::new("sleep").arg("600").env("GREENROOM_SUPERVISOR", "1-dead").spawn().expect("an orphan");
    let mut bystander = Command::new("sleep").arg("600").current_dir(&stale).spawn().expect("a bystander");
    stand.lease(stand.order(REDIS_ONLY)).await.expect("it starts").release().await.expect("and ends");
    assert!(!stale.exists(), "stale files are left");
    let killed = orphan.try_wait().expect("its state").or_else(|| orphan.wait().ok());
    assert!(killed.is_some_and(|status| !status.success()), "the orphan was not killed");
    assert!(bystander.try_wait().expect("its state").is_none(), "somebody else's process was ended");
    bystander.kill().expect("the bystander ends");
    bystander.wait().expect("the bystander has ended");
}

/// Goal: a client that comes while a dead supervisor's house is being removed gets an environment all the same, and
/// whoever removes the house leaves the successor's alone.
/// Method: on a disk, where removing takes its time (in memory it is done before anyone can look), several times.
#[tokio::test]
async fn a_client_that_comes_while_the_dead_are_swept_gets_its_environment() {
    let stand = Stand::on_disk();
    for _ in 0..8 {
        let lease = stand.lease(stand.order(REDIS_ONLY)).await.expect("it starts");
        kill(stand.supervisor_pid(), Signal::SIGKILL).expect("the supervisor is killed");
        drop(lease);
        let next = stand.lease(stand.order(REDIS_ONLY)).await.expect("the next one starts");
        let mut supervisor = stand.connection().await;
        assert_eq!(supervisor.status().await.expect("it answers").len(), 1, "it knows of its environment");
        assert!(next.plan.site.directory.is_dir(), "its directory was removed");
        next.release().await.expect("it ends");
    }
}

/// Goal: two environments at once have addresses of their own and do not notice one another.
#[tokio::test]
async fn two_environments_at_once() {
    let stand = Stand::new();
    let (one, other) = tokio::join!(stand.lease(stand.order(INFRASTRUCTURE)), stand.lease(stand.order(INFRASTRUCTURE)));
    let (one, other) = (one.expect("one starts"), other.expect("the other starts"));
    assert_ne!(one.plan.site.address, other.plan.site.address);
    let kept = other.plan.clone();
    one.release().await.expect("one ends");
    assert!(processes_of(&kept).len() >= 3, "the other still runs");
    other.release().await.expect("the other ends");
    becomes_empty(GONE, "processes", || processes_of(&kept)).await;
}

/// Goal: two clones on one machine do not notice one another, whatever happens to one of them.
/// Method: one of them starts environments, ends all of its own, loses its supervisor to SIGKILL, and sweeps after it.
#[tokio::test]
async fn two_clones_do_not_notice_one_another() {
    let stand = Stand::new();
    let clone = stand.another_clone();
    let (kept, mine) = tokio::join!(clone.lease(clone.order(INFRASTRUCTURE)), stand.lease(stand.order(REDIS_ONLY)));
    let (kept, mine) = (kept.expect("the clone's starts"), mine.expect("mine starts"));
    assert_ne!(kept.plan.site.address, mine.plan.site.address);
    assert_ne!(clone.supervisor_pid(), stand.supervisor_pid());
    let own = stand.connection().await.status().await.expect("it answers");
    assert_eq!(own.len(), 1, "it lists its own and no other: {own:?}");
    stand.connection().await.end(None).await.expect("all of mine end");

    let _mine = stand.lease(stand.order(REDIS_ONLY)).await.expect("mine starts");
    let (identity, house) = (stand.identity(), stand.house());
    kill(stand.supervisor_pid(), Signal::SIGKILL).expect("my supervisor is killed");
    becomes_empty(GONE, "processes", || processes_of_supervisor(&identity, &house)).await;
    stand.lease(stand.order(REDIS_ONLY)).await.expect("it sweeps and starts").release().await.expect("and ends");

    let others = clone.connection().await.status().await.expect("it answers");
    assert_eq!(others.len(), 1, "the clone's environment is gone");
    assert!(processes_of(&kept.plan).len() >= 3, "parts of the clone's environment are gone");
    assert!(others[0].parts.iter().all(|part| part.state == PartState::Ready), "{:?}", others[0].parts);
    kept.release().await.expect("it ends");
}

/// Whether Redis answers at an address. A container engine may accept for a dead one, and then reset.
fn answers(address: SocketAddrV4) -> bool {
    let asked = || {
        let mut connection = TcpStream::connect(address)?;
        connection.write_all(b"PING\r\n")?;
        connection.read(&mut [0; 7])
    };
    asked().is_ok_and(|bytes| bytes > 0)
}

/// Goal: a part can be killed, is told to be dead, and comes back at its address.
#[tokio::test]
async fn a_killed_part_comes_back_at_its_address() {
    let stand = Stand::new();
    let mut lease = stand.lease(stand.order(REDIS_ONLY)).await.expect("it starts");
    let address = lease.plan.part("redis").expect("it has Redis").addresses[0];
    lease.act(signal("redis", PartSignal::Kill)).await.expect("Redis is killed");
    let plan = lease.plan.clone();
    becomes_empty(GONE, "processes", || processes_of(&plan)).await;
    assert!(!answers(address), "somebody answers at {address}");
    lease.act(restart("redis")).await.expect("Redis comes back");
    assert!(answers(address), "nobody answers at the same address");
    let unknown = lease.act(signal("rabbit", PartSignal::Kill)).await.expect_err("there is no such part");
    assert_eq!(unknown.to_string(), "no running part rabbit; the parts are redis");
    lease.release().await.expect("it ends");
}

/// Goal: PostgreSQL comes back with what was stored, and a part that dies while it is started again is told at once.
#[tokio::test]
async fn a_restarted_database_has_its_rows_and_a_failed_restart_is_told() {
    let stand = Stand::new();
    let text = "name = \"stand\"\n[postgres]\ndatabase = \"shop\"\nuser = \"keeper\"\n";
    let mut lease = stand.lease(stand.order(text)).await.expect("it starts");
    let part = lease.plan.part("postgres").expect("it has PostgreSQL").clone();
    let url = format!("postgres://keeper@{}/shop?sslmode=disable", part.addresses[0]);
    let pool = sqlx::PgPool::connect(&url).await.expect("a connection");
    sqlx::query("CREATE TABLE kept AS SELECT 7 AS number").execute(&pool).await.expect("a table");
    pool.close().await;
    lease.act(signal("postgres", PartSignal::Stop)).await.expect("PostgreSQL is asked to end");
    let plan = lease.plan.clone();
    becomes_empty(GONE, "processes", || processes_of(&plan)).await;
    lease.act(restart("postgres")).await.expect("PostgreSQL comes back");
    let pool = sqlx::PgPool::connect(&url).await.expect("a connection");
    let kept: i32 = sqlx::query_scalar("SELECT number FROM kept").fetch_one(&pool).await.expect("the row");
    assert_eq!(kept, 7);
    pool.close().await;

    lease.act(signal("postgres", PartSignal::Stop)).await.expect("PostgreSQL is asked to end");
    becomes_empty(GONE, "processes", || processes_of(&plan)).await;
    std::fs::remove_file(part.directory.join("PG_VERSION")).expect("the data directory is broken");
    let begun = Instant::now();
    let said = lease.act(restart("postgres")).await.expect_err("it cannot start").to_string();
    assert!(begun.elapsed() < DEADLINE, "it took {:?}", begun.elapsed());
    assert!(said.contains("postgres ended while starting (exit status: 1)"), "{said}");
    lease.release().await.expect("it ends");
}

/// Goal: nobody's supervisor is ended by a client that goes away; an idle one answers the next client.
#[tokio::test]
async fn an_environment_ends_with_the_lease_that_holds_it_and_no_other() {
    let stand = Stand::new();
    let one = stand.lease(stand.order(REDIS_ONLY)).await.expect("one starts");
    let other = stand.lease(stand.order(REDIS_ONLY)).await.expect("another starts");
    let (gone, stays) = (one.plan.clone(), other.plan.clone());
    drop(one);
    becomes_empty(GONE, "processes", || processes_of(&gone)).await;
    assert_eq!(processes_of(&stays).len(), 1, "the other's Redis still runs");
    let mut supervisor = stand.connection().await;
    supervisor.end(None).await.expect("all end");
    assert!(processes_of(&stays).is_empty(), "`down --all` returned before all was gone");
    drop(other);
}
