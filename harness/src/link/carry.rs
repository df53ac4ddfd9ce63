//! One link's listener and its connections.
//!
//! A part that does not answer shows through: a connection that cannot be made behind the link is reset in front of it.

use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::conditions::Conditions;
use super::line::pump;
use super::{OUTSIDE, Shared};

/// Pause before a connection is accepted again after that has failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// One proxy.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) to: String,
    pub(super) front: SocketAddrV4,
    pub(super) back: SocketAddrV4,
    pub(super) shared: Arc<Shared>,
}

/// A client's end of a connection, and whose it is once that was asked.
struct Client {
    stream: TcpStream,
    peer: SocketAddr,
    name: Option<String>,
}

impl Link {
    /// Accepts connections until it is aborted; its connections end with it.
    pub(super) async fn accept(self: Arc<Self>, listener: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => {
                        let link = Arc::clone(&self);
                        connections.spawn(async move { link.carry(Client { stream, peer, name: None }).await });
                    }
                    // Out of file descriptors: others must end before there is one.
                    Err(_) => pass(ACCEPT_PAUSE).await,
                },
                Some(_) = connections.join_next() => {}
            }
        }
    }

    async fn carry(&self, mut client: Client) {
        let mut changes = self.shared.changes.subscribe();
        let first = self.conditions(&mut client);
        let conditions = watch::Sender::new(first);
        // Both ends learn that it ended badly; what a good end needs was passed on by then.
        let Client { mut stream, peer, name } = client;
        let mut known = name;
        let follow = async {
            while changes.changed().await.is_ok() {
                conditions.send_replace(self.conditions_of(peer, &mut known));
            }
        };
        let mut seen = conditions.subscribe();
        let cut = async {
            let _ = seen.wait_for(|conditions| conditions.cut).await;
        };
        let ended = tokio::select! {
            ended = self.connect_and_copy(&mut stream, &conditions) => ended,
            () = cut => Err(io::ErrorKind::ConnectionReset.into()),
            () = follow => Ok(()),
        };
        if ended.is_err() {
            let _ = stream.set_zero_linger();
        }
    }

    async fn connect_and_copy(&self, client: &mut TcpStream, conditions: &watch::Sender<Conditions>) -> io::Result<()> {
        // A request to connect is the first thing that a blackhole swallows.
        let _ = conditions.subscribe().wait_for(|conditions| !conditions.requests.blackhole).await;
        let mut part = TcpStream::connect(self.back).await?;
        client.set_nodelay(true)?;
        part.set_nodelay(true)?;
        let copied = {
            let (from_client, to_client) = client.split();
            let (from_part, to_part) = part.split();
            let requests = pump(from_client, to_part, conditions.subscribe(), |conditions| conditions.requests);
            let answers = pump(from_part, to_client, conditions.subscribe(), |conditions| conditions.answers);
            tokio::try_join!(requests, answers)
        };
        if copied.is_err() {
            let _ = part.set_zero_linger();
        }
        copied.map(|((), ())| ())
    }

    fn conditions(&self, client: &mut Client) -> Conditions {
        self.conditions_of(client.peer, &mut client.name)
    }

    /// What this client meets; asks whose connection it is only where somebody's way is broken.
    fn conditions_of(&self, peer: SocketAddr, name: &mut Option<String>) -> Conditions {
        if !self.shared.breaks(&self.to) {
            return Conditions::default();
        }
        let name = name.get_or_insert_with(|| {
            let found = self.shared.sources.of(peer, self.front);
            found.unwrap_or_else(|| OUTSIDE.to_owned())
        });
        self.shared.conditions(name, &self.to)
    }
}

#[expect(clippy::disallowed_methods, reason = "a length of time that is meant, not a wait for a state")]
async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}
