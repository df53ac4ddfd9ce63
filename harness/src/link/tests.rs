//! Links over real sockets: a part that echoes, and clients that break its link.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::*;

/// Longer than anything takes here that is not held back.
const SOON: Duration = Duration::from_secs(60);
/// Long enough to see that nothing comes.
const A_WHILE: Duration = Duration::from_millis(150);

struct Stand {
    links: Links,
    front: SocketAddrV4,
    echo: tokio::task::JoinHandle<()>,
    /// How the part's connections ended.
    ends: mpsc::UnboundedReceiver<std::io::Result<u64>>,
}

impl Stand {
    /// An echo behind a link at ports of its own on 127.0.0.1; every client is called by `name`.
    async fn new(name: &str) -> Self {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let SocketAddr::V4(back) = free.local_addr().expect("its address") else { unreachable!("IPv4 was asked for") };
        let (ended, ends) = mpsc::unbounded_channel();
        let echo = tokio::spawn(echo(free, ended));
        // On another address the echo's own port is free, because nobody else uses that address.
        let front = SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 77), back.port());
        let session = nix::unistd::getsid(None).expect("our session").as_raw();
        let name = name.to_owned();
        let sources = Sources::new(move || BTreeMap::from([(session, name.clone())]));
        let planned = PlannedLink { to: "shop".to_owned(), carries: Carries::Clients, front, back };
        Self { links: Links::open(&[planned], sources).await.expect("a link"), front, echo, ends }
    }

    async fn client(&self) -> TcpStream {
        TcpStream::connect(self.front).await.expect("the link accepts")
    }

    async fn change(&self, from: Option<&str>, change: Change) -> Result<(), LinkError> {
        let parts = ["till", "desk", "shop"].map(str::to_owned).into();
        self.links.change(&[Route { from: from.map(str::to_owned), to: "shop".to_owned() }], change, &parts).await
    }

    async fn broken(&self, from: Option<&str>, fault: Fault, flow: Flow) {
        self.change(from, Change::Break(fault, flow)).await.expect("a fault");
    }
}

async fn echo(listener: TcpListener, ended: mpsc::UnboundedSender<std::io::Result<u64>>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let ended = ended.clone();
        tokio::spawn(async move {
            let (mut from, mut to) = stream.split();
            // Nobody may want to know.
            let _ = ended.send(tokio::io::copy(&mut from, &mut to).await);
        });
    }
}

/// Sends a word and reads it back.
async fn said_back(client: &mut TcpStream, word: &[u8]) -> std::io::Result<Vec<u8>> {
    client.write_all(word).await?;
    let mut heard = vec![0; word.len()];
    client.read_exact(&mut heard).await?;
    Ok(heard)
}

/// Goal: a link without faults is not there; an end is passed on.
#[tokio::test]
async fn an_idle_link_passes_bytes_and_ends() {
    let stand = Stand::new("till").await;
    let mut client = stand.client().await;
    let large: Vec<u8> = (0..=u8::MAX).cycle().take(3 << 20).collect();
    let (mut from, mut to) = client.split();
    let mut heard = Vec::new();
    let send = async {
        to.write_all(&large).await?;
        to.shutdown().await
    };
    tokio::try_join!(send, from.read_to_end(&mut heard)).expect("bytes go through");
    assert!(heard == large, "{} bytes came back of {}", heard.len(), large.len());
}

/// Goal: a cut resets what is open and what is new, for the client that is meant, until it is healed.
#[tokio::test]
async fn a_cut_resets_open_and_new_connections() {
    let mut stand = Stand::new("till").await;
    let mut client = stand.client().await;
    said_back(&mut client, b"before").await.expect("an echo");
    stand.broken(Some("desk"), Fault::Cut, Flow::Both).await;
    said_back(&mut client, b"another's").await.expect("an echo, because the desk is meant");
    stand.broken(Some("till"), Fault::Cut, Flow::Both).await;
    let reset = timeout(SOON, client.read(&mut [0; 1])).await.expect("told soon").expect_err("reset");
    assert_eq!(reset.kind(), std::io::ErrorKind::ConnectionReset);
    let parted = timeout(SOON, stand.ends.recv()).await.expect("told soon").expect("the part has heard");
    assert_eq!(parted.expect_err("reset for the part too").kind(), std::io::ErrorKind::ConnectionReset);
    let mut new = stand.client().await;
    assert!(timeout(SOON, said_back(&mut new, b"new")).await.expect("told soon").is_err());
    stand.change(Some("till"), Change::Heal).await.expect("healed");
    assert_eq!(said_back(&mut stand.client().await, b"after").await.expect("an echo"), b"after");
}

/// Goal: a blackhole says nothing and loses nothing; the other direction goes on.
#[tokio::test]
async fn a_blackhole_holds_one_direction_until_it_is_healed() {
    let stand = Stand::new("till").await;
    let mut client = stand.client().await;
    said_back(&mut client, b"before").await.expect("an echo");
    stand.broken(None, Fault::Blackhole, Flow::Answers).await;
    assert!(timeout(A_WHILE, said_back(&mut client, b"silence")).await.is_err());
    stand.change(None, Change::Heal).await.expect("healed");
    let mut heard = [0; 7];
    timeout(SOON, client.read_exact(&mut heard)).await.expect("it comes").expect("the bytes that were held");
    assert_eq!(&heard, b"silence");
}

/// Goal: a delay delays by what it says and no less, and does not add up over what is sent meanwhile.
#[tokio::test]
async fn a_delay_is_a_delay() {
    let stand = Stand::new("till").await;
    let mut client = stand.client().await;
    stand.broken(Some("till"), Fault::Delay { ms: 200 }, Flow::Requests).await;
    let begun = Instant::now();
    for _ in 0..100 {
        client.write_all(b"a").await.expect("sent");
        tokio::task::yield_now().await;
    }
    client.read_exact(&mut [0; 100]).await.expect("all of them");
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(200) && took < Duration::from_secs(15), "{took:?}");
}

/// Goal: what was held back goes at once when the link is healed, also when more comes in the same moment.
#[tokio::test]
async fn healing_is_never_missed() {
    let stand = Stand::new("till").await;
    for _ in 0..100 {
        let mut client = stand.client().await;
        said_back(&mut client, b"before").await.expect("an echo");
        stand.broken(None, Fault::Delay { ms: 60_000 }, Flow::Both).await;
        client.write_all(b"late").await.expect("sent");
        let (healed, sent) = tokio::join!(stand.change(None, Change::Heal), client.write_all(b"more"));
        healed.expect("healed");
        sent.expect("sent");
        let mut heard = [0; 8];
        timeout(SOON, client.read_exact(&mut heard)).await.expect("it comes").expect("all of it");
        assert_eq!(&heard, b"latemore");
    }
}

/// Goal: a fault is in force when its making returns, on connections that are open and busy.
#[tokio::test(flavor = "multi_thread")]
async fn a_fault_is_in_force_when_it_was_made() {
    let stand = Stand::new("till").await;
    for _ in 0..100 {
        let mut client = stand.client().await;
        said_back(&mut client, b"before").await.expect("an echo");
        stand.broken(Some("till"), Fault::Blackhole, Flow::Requests).await;
        client.write_all(b"held").await.expect("sent");
        let heard = timeout(Duration::from_millis(2), client.read(&mut [0; 4])).await;
        assert!(heard.is_err(), "{heard:?} came through a blackhole");
        stand.change(Some("till"), Change::Heal).await.expect("healed");
    }
}

/// Goal: a throttle lets through what it says.
#[tokio::test]
async fn a_throttle_is_a_throttle() {
    let stand = Stand::new("till").await;
    let mut client = stand.client().await;
    stand.broken(Some("till"), Fault::Throttle { bytes_per_s: 64 * 1024 }, Flow::Answers).await;
    let begun = Instant::now();
    said_back(&mut client, &[7; 16 * 1024]).await.expect("an echo");
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(240) && took < Duration::from_secs(10), "{took:?}");
}

/// Goal: what cannot be is refused with what could be.
#[tokio::test]
async fn wrong_routes_and_second_healings_are_told() {
    let stand = Stand::new("till").await;
    let said = async |from: Option<&str>, to: &str, change| {
        let route = Route { from: from.map(str::to_owned), to: to.to_owned() };
        let parts = ["till", "shop"].map(str::to_owned).into();
        stand.links.change(&[route], change, &parts).await.expect_err("refused").to_string()
    };
    let cut = Change::Break(Fault::Cut, Flow::Both);
    assert_eq!(
        said(None, "shp", cut).await,
        "there is no link to shp; links stand in front of shop (a way is named from its client to its part)"
    );
    assert_eq!(
        said(Some("til"), "shop", cut).await,
        "there is no client til; clients are shop, till, outside, everyone"
    );
    let whole = "the link from till to shop has no fault to take back; faults on the way to shop:";
    assert_eq!(said(Some("till"), "shop", Change::Heal).await, format!("{whole} none"));
    let everyone = Route { from: None, to: "shop".to_owned() };
    let parts = ["till", "shop"].map(str::to_owned).into();
    stand.links.change(&[everyone], cut, &parts).await.expect("it can be cut");
    assert_eq!(said(Some("till"), "shop", Change::Heal).await, format!("{whole} that of everyone"));
    assert!(said(Some("shop"), "shop", cut).await.contains("share one process"));
}

/// Goal: a part that is gone shows through its link, and closing frees the address.
#[tokio::test]
async fn a_dead_part_resets_and_a_closed_link_frees_its_address() {
    let stand = Stand::new("till").await;
    stand.echo.abort();
    let _ = stand.echo.await;
    let mut client = TcpStream::connect(stand.front).await.expect("the link accepts");
    assert!(timeout(SOON, client.read(&mut [0; 1])).await.expect("told soon").is_err());
    stand.links.close().await;
    TcpListener::bind(stand.front).await.expect("the address is free");
}
