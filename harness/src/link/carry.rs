//! One link's listener and its connections.
//!
//! A part that does not answer shows through: a connection that cannot be made behind the link is reset in front of it.

use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Instant;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::conditions::Conditions;
use super::line::pump;
use super::{OUTSIDE, SUPERVISOR, Shared};
use crate::accept::accept;

/// One proxy.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) to: String,
    pub(super) front: SocketAddrV4,
    pub(super) back: SocketAddrV4,
    pub(super) shared: Arc<Shared>,
}

/// Whose a connection is, as far as that was asked.
struct Client {
    peer: SocketAddr,
    name: Option<String>,
}

impl Link {
    /// Accepts connections until it is aborted; its connections end with it.
    pub(super) async fn accept(self: Arc<Self>, listener: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                (stream, peer) = accept(|| listener.accept()) => {
                    let link = Arc::clone(&self);
                    connections.spawn(async move { link.carry(stream, peer).await });
                }
                Some(_) = connections.join_next() => {}
            }
        }
    }

    async fn carry(&self, stream: TcpStream, peer: SocketAddr) {
        let mut client = Client { peer, name: None };
        // Dropped after both ends: whoever waits for this connection to heed a fault is told by that too.
        let heeded = self.shared.open_to(&self.to);
        let (mut stream, mut part) = (stream, None);
        let mut changes = self.shared.changes.subscribe();
        let change = *changes.borrow_and_update();
        let conditions = watch::Sender::new(self.conditions(&mut client).await);
        if !conditions.borrow().cut {
            heeded.send_replace(change);
        }
        let follow = async {
            while changes.changed().await.is_ok() {
                let change = *changes.borrow_and_update();
                let now = self.conditions(&mut client).await;
                conditions.send_if_modified(|before| std::mem::replace(before, now) != now);
                if now.cut {
                    return;
                }
                heeded.send_replace(change);
            }
        };
        let cut_at_once = conditions.borrow().cut;
        let ended = tokio::select! {
            // A change is heeded before any byte that comes after it.
            biased;
            () = std::future::ready(()), if cut_at_once => Err(io::ErrorKind::ConnectionReset.into()),
            () = follow => Err(io::ErrorKind::ConnectionReset.into()),
            ended = self.connect_and_copy(&mut stream, &mut part, &conditions) => ended,
        };
        // Both ends learn that it ended badly; what a good end needs was passed on by then.
        if ended.is_err() {
            for end in [Some(stream), part].into_iter().flatten() {
                let _ = end.set_zero_linger();
            }
        }
    }

    /// Copies until one end has nothing more to say or breaks; the connection to the part stays in `part`.
    async fn connect_and_copy(
        &self,
        client: &mut TcpStream,
        part: &mut Option<TcpStream>,
        conditions: &watch::Sender<Conditions>,
    ) -> io::Result<()> {
        // A request to connect is the first thing that a blackhole swallows.
        let _ = conditions.subscribe().wait_for(|conditions| !conditions.requests.blackhole).await;
        let part = part.insert(TcpStream::connect(self.back).await?);
        client.set_nodelay(true)?;
        part.set_nodelay(true)?;
        let (from_client, to_client) = client.split();
        let (from_part, to_part) = part.split();
        let requests = pump(from_client, to_part, conditions.subscribe(), |conditions| conditions.requests);
        let answers = pump(from_part, to_client, conditions.subscribe(), |conditions| conditions.answers);
        tokio::try_join!(requests, answers).map(|((), ())| ())
    }

    /// What this client meets; asks whose connection it is only where somebody's way is broken.
    async fn conditions(&self, client: &mut Client) -> Conditions {
        if !self.shared.breaks(&self.to) {
            return Conditions::default();
        }
        if client.name.is_none() {
            let (shared, peer, front, asked) = (Arc::clone(&self.shared), client.peer, self.front, Instant::now());
            // It reads much of `/proc`, and others want to go on meanwhile.
            let found = tokio::task::spawn_blocking(move || shared.sources.of(peer, front, asked)).await;
            client.name = found.ok().flatten();
        }
        // Where nobody was found it is asked again the next time: a process may have been about to begin.
        match client.name.as_deref().unwrap_or(OUTSIDE) {
            // What the supervisor asks is no part of the story.
            SUPERVISOR => Conditions::default(),
            name => self.shared.conditions(name, &self.to),
        }
    }
}
