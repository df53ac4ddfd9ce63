//! Broken parts and broken ground: a broker that dies or hangs, a port that is taken, paths with blanks.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Instant;

use greenroom::supervisor::client;
use greenroom::supervisor::protocol::{Event, Order};
use greenroom::toolchain::{Checkpoint, Start};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, socket};
use sqlx::{Connection as _, Executor as _, PgConnection};
use tokio::sync::mpsc;

use crate::stand::{
    DEADLINE, GONE, INFRASTRUCTURE, POSTGRES_ONLY, REDIS_ONLY, Stand, becomes_empty, complaint, processes_of_supervisor,
};

/// Brokers begin cold, on a JDK whose `java` is this shell script.
fn fake_java(order: &mut Order, stand: &Stand, script: &str) {
    let home = stand.path().join("fake-jdk");
    std::fs::create_dir_all(home.join("bin")).expect("a directory");
    program(&home.join("bin/java"), script);
    order.toolchain.jdk.home = home;
    order.toolchain.kafka.start = Start::Cold { because: "its JVM is none".to_owned() };
}

/// Makes a program of this shell script.
fn program(path: &Path, script: &str) {
    std::fs::write(path, format!("#!/bin/sh\n{script}\n")).expect("a script");
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).expect("it may run");
}

async fn nothing_runs(stand: &Stand) {
    let (identity, house) = (stand.identity(), stand.house());
    becomes_empty(GONE, "processes", || processes_of_supervisor(&identity, &house)).await;
}

/// Goal: a broker that exits fails the start at once, with its last 20 lines and where the rest is kept.
#[tokio::test]
async fn a_broker_that_exits_at_once_fails_the_start_with_its_last_lines() {
    let stand = Stand::new();
    let mut order = stand.order(INFRASTRUCTURE);
    let script = "i=1; while [ $i -le 30 ]; do echo \"line $i of the broker\"; i=$((i+1)); done; exit 3";
    fake_java(&mut order, &stand, script);
    let begun = Instant::now();
    let said = complaint(stand.lease(order).await);
    assert!(begun.elapsed() < DEADLINE, "it took {:?}", begun.elapsed());
    assert!(said.contains("kafka ended while starting (exit status: 3)"), "{said}");
    let shown: Vec<_> = said.lines().filter(|line| line.ends_with("of the broker")).collect();
    assert_eq!((shown.len(), shown[0], shown[19]), (20, "line 11 of the broker", "line 30 of the broker"), "{said}");
    let kept = stand.evidence();
    let log = std::fs::read_dir(&kept).expect("evidence").next().expect("one environment").expect("readable").path();
    let log = std::fs::read_to_string(log.join("logs/kafka.log")).expect("the whole log is kept");
    assert_eq!(log.lines().count(), 30);
    assert!(said.contains(&kept.display().to_string()), "the message says where: {said}");
    nothing_runs(&stand).await;
}

/// Goal: brokers that cannot be restored fail the start at once, with what was said of it.
#[tokio::test]
async fn brokers_that_cannot_be_restored_are_told() {
    let stand = Stand::new();
    let mut order: Order = stand.order("name = \"stand\"\n[kafka]\n");
    let unshare = stand.path().join("unshare");
    program(&unshare, "echo namespaces are forbidden here; exit 1");
    let [criu, script, images, mount] = ["criu", "restore.sh", "images", "mount"].map(|name| stand.path().join(name));
    order.toolchain.kafka.start = Start::Restored(Checkpoint { image: None, unshare, criu, script, images, mount });
    let begun = Instant::now();
    let said = complaint(stand.lease(order).await);
    assert!(begun.elapsed() < DEADLINE, "it took {:?}", begun.elapsed());
    assert!(said.contains("kafka ended while starting (exit status: 1)"), "{said}");
    assert!(said.contains("namespaces are forbidden here"), "{said}");
    nothing_runs(&stand).await;
}

/// Goal: a broker that never becomes ready ends the start at its deadline and says what was missing.
#[tokio::test]
async fn a_broker_that_never_becomes_ready_is_told_at_the_deadline() {
    let stand = Stand::new();
    // Nothing else that could be late, and time for a shell to say a word.
    let mut order: Order = stand.order("name = \"stand\"\n[kafka]\n");
    fake_java(&mut order, &stand, "echo waiting for nothing; exec sleep 600");
    order.deadline_ms = 6_000;
    let said = complaint(stand.lease(order).await);
    assert!(said.contains("Kafka was not ready in time"), "{said}");
    assert!(said.contains("does not accept connections") || said.contains("gave no metadata"), "{said}");
    assert!(said.contains("waiting for nothing"), "its last lines are shown: {said}");
    nothing_runs(&stand).await;
}

/// Goal: a port that somebody holds on every address is named, with what to do.
/// Method: the port is bound on the wildcard address without listening, so nothing is reachable from outside.
#[tokio::test]
async fn a_port_taken_on_every_address_is_named() {
    let stand = Stand::new();
    let holder = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).expect("a socket");
    let any = SockaddrIn::from(std::net::SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));
    bind(std::os::fd::AsRawFd::as_raw_fd(&holder), &any).expect("any free port");
    let name: SockaddrIn = nix::sys::socket::getsockname(std::os::fd::AsRawFd::as_raw_fd(&holder)).expect("its port");
    let port = name.port();
    let said = complaint(stand.lease(stand.order(&format!("name = \"stand\"\n[redis]\nport = {port}\n"))).await);
    assert!(said.contains(&format!("port {port} is taken on 64 loopback addresses")), "{said}");
    assert!(said.contains("hint: end what holds the port"), "{said}");
    nothing_runs(&stand).await;
}

/// Goal: blanks in paths are no matter, for any part.
#[tokio::test]
async fn a_state_directory_with_blanks_is_no_matter() {
    let stand = Stand::named("greenroom test with blanks ");
    assert!(stand.path().display().to_string().contains(' '));
    let lease = stand.lease(stand.order(INFRASTRUCTURE)).await.expect("it starts");
    lease.release().await.expect("it ends");
}

/// Goal: a program that cannot be run is named.
#[tokio::test]
async fn a_program_that_does_not_exist_is_named() {
    let stand = Stand::new();
    let mut text = REDIS_ONLY.to_owned();
    write!(text, "[[programs]]\nname = \"shop\"\ncommand = [\"/nowhere/shop\"]\nport = 3000\n").expect("a text");
    let said = complaint(stand.lease(stand.order(&text)).await);
    assert!(said.contains("the program of shop does not exist: /nowhere/shop"), "{said}");
    assert!(!said.contains("are kept in"), "nothing has run of which anything could be kept: {said}");
    nothing_runs(&stand).await;
}

/// Holds a lock on a table of its own as soon as the database is there, and lets the program become ready then.
async fn hold_a_lock(mut events: mpsc::UnboundedReceiver<Event>, held: &Path) -> sqlx::Result<()> {
    let mut address = None;
    while let Some(event) = events.recv().await {
        match event {
            Event::Planned(plan) => address = plan.part("postgres").map(|part| part.addresses[0]),
            Event::Ready { part, .. } if part == "postgres" => break,
            _ => {}
        }
    }
    let url = format!("postgres://postgres@{}/shop?sslmode=disable", address.expect("a plan comes first"));
    let mut connection = PgConnection::connect(&url).await?;
    connection.execute("CREATE TABLE goods (id bigint PRIMARY KEY, status text)").await?;
    connection.execute("BEGIN; LOCK TABLE goods").await?;
    std::fs::write(held, "").expect("there is room");
    std::future::pending().await
}

/// Goal: a lock that somebody holds on a table whose transitions are to be recorded ends the start at its deadline, and
/// is told of.
#[tokio::test]
async fn a_lock_in_the_way_of_the_recording_is_told_at_the_deadline() {
    let stand = Stand::new();
    let held = stand.path().join("held");
    let server = r#"
        use IO::Socket::INET;
        my ($host, $held) = @ARGV;
        select(undef, undef, undef, 0.01) until -e $held;
        my $server = IO::Socket::INET->new(LocalAddr => $host, LocalPort => 3000, Listen => 9, ReuseAddr => 1) or die $!;
        while (my $client = $server->accept) {
            1 while <$client> =~ /\S/;
            print $client "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        }"#;
    let server = server.replace('{', "{{").replace('}', "}}");
    let text = format!(
        "{POSTGRES_ONLY}[[programs]]\nname = \"shop\"\nport = 3000\nunder_test = true\n\
         command = [\"perl\", \"-e\", '''{server}''', \"{{bind}}\", \"{}\"]\n\
         [observe]\nhistory = [{{ table = \"goods\", key = \"id\", column = \"status\" }}]\n",
        held.display()
    );
    let mut order = stand.order(&text);
    order.deadline_ms = 15_000;
    let (told, events) = mpsc::unbounded_channel();
    let step = |event: &Event| drop(told.send(event.clone()));
    let said = tokio::select! {
        lease = client::lease(&stand.workspace, Path::new(env!("CARGO_BIN_EXE_greenroom")), order, step) => complaint(lease),
        ended = hold_a_lock(events, &held) => panic!("nothing ends it: {ended:?}"),
    };
    assert!(said.contains("the recording of transitions was not installed in PostgreSQL in time"), "{said}");
    assert!(said.contains("a lock on goods"), "{said}");
    nothing_runs(&stand).await;
}
