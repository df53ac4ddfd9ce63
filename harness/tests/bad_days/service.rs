//! Somebody else's service on its bad days: it is named, with what it said and where its log is kept, and nothing
//! hangs.

use std::path::Path;
use std::time::{Duration, Instant};

use greenroom::service::{Runs, Service};
use greenroom::supervisor::client;
use greenroom::supervisor::protocol::{Event, Order};

use crate::stand::{GONE, POSTGRES_ONLY, REDIS_ONLY, Stand, becomes_empty, complaint, processes_of_supervisor};

/// How long a service that never becomes ready may take here: Redis comes before it, and it says a word.
const READY_WITHIN: Duration = Duration::from_secs(10);
/// How long one that ends may take, which nobody waits for.
const LONG: Duration = Duration::from_secs(120);

/// What is said of a service that is started by this command, what its log holds afterwards, and how long it took.
async fn said_of(command: &str, deadline: Duration) -> (String, String, Duration) {
    let stand = Stand::new();
    let contract = "contract = { ready = \"/goods\", variables = [] }";
    let mut order = stand
        .order(&format!("{REDIS_ONLY}[[programs]]\nname = \"shop\"\nbinary = \"shop\"\nport = 3000\n{contract}\n"));
    let runs = Runs::Command { command: command.to_owned(), directory: stand.path().to_owned() };
    Service { runs, port: None }.take_the_place(&mut order.spec).expect("there is a place");
    order.deadline_ms = u64::try_from(deadline.as_millis()).expect("some seconds");
    let begun = Instant::now();
    let said = complaint(stand.lease(order).await);
    let took = begun.elapsed();

    let (identity, house) = (stand.identity(), stand.house());
    becomes_empty(GONE, "processes", || processes_of_supervisor(&identity, &house)).await;
    let kept =
        std::fs::read_dir(stand.evidence()).expect("evidence").next().expect("one environment").expect("readable");
    assert!(said.contains(&kept.path().display().to_string()), "the message says where: {said}");
    let log = std::fs::read_to_string(kept.path().join("logs/shop.log")).expect("its log is kept");
    (said, log, took)
}

#[tokio::test]
async fn a_service_that_never_listens_is_told_at_the_deadline() {
    let (said, log, took) = said_of("echo still loading; exec sleep 600", READY_WITHIN).await;
    assert!(took >= READY_WITHIN && took < READY_WITHIN + GONE, "it took {took:?}");
    assert!(said.contains("shop was not ready in time"), "{said}");
    assert!(said.contains(":3000/goods") && said.contains("still loading"), "{said}");
    assert_eq!(log, "still loading\n");
}

#[tokio::test]
async fn a_service_that_exits_is_told_at_once() {
    let (said, log, took) = said_of("echo no licence; exit 3", LONG).await;
    assert!(took < LONG, "it took {took:?}");
    assert!(said.contains("shop ended while starting (exit status: 3)"), "{said}");
    assert!(said.contains("no licence"), "{said}");
    assert_eq!(log, "no licence\n");
}

/// Goal: a service that runs and lacks the route by which its contract says that it is ready is told which one.
/// Method: a server in Perl, which every Debian has, answers 404 to whatever is asked.
#[tokio::test]
async fn a_service_that_lacks_its_route_is_told_which() {
    let server = r#"
        use IO::Socket::INET;
        my ($host, $port) = @ARGV;
        my $server = IO::Socket::INET->new(LocalAddr => $host, LocalPort => $port, Listen => 9, ReuseAddr => 1) or die $!;
        while (my $client = $server->accept) {
            1 while <$client> =~ /\S/;
            print $client "HTTP/1.1 404 Not Found\r\nContent-Length: 10\r\nConnection: close\r\n\r\nno /goods\n";
        }"#;
    // A command is a template, in which a brace is written twice.
    let server = server.replace('{', "{{").replace('}', "}}");
    let (said, ..) = said_of(&format!("exec perl -e '{server}' {{bind}} {{port}}"), READY_WITHIN).await;
    assert!(said.contains("shop was not ready in time"), "{said}");
    assert!(said.contains("/goods answers 404 Not Found: no /goods"), "{said}");
}

/// Goal: an environment with somebody else's service begins when the one before it has gone: such a service may listen at
/// every address.
/// Method: the plan of the second one is made when nothing is left of the first, whose end takes longer than giving it
/// back.
#[tokio::test]
async fn a_service_of_others_begins_when_the_one_before_it_has_gone() {
    let stand = Stand::new();
    let order = || Order { of_somebody_else: true, ..stand.order(POSTGRES_ONLY) };
    let first = stand.lease(order()).await.expect("it starts");
    let directory = first.plan.site.directory.clone();
    first.release().await.expect("it is given back");
    let mut stood = None;
    let step = |event: &Event| {
        if matches!(event, Event::Planned(_)) {
            stood = Some(directory.exists());
        }
    };
    let binary = Path::new(env!("CARGO_BIN_EXE_greenroom"));
    let second = client::lease(&stand.workspace, binary, order(), step).await.expect("it starts");
    second.release().await.expect("it is given back");
    assert_eq!(stood, Some(false), "the first one was still there");
}
