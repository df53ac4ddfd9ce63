//! Whose a connection is, asked of the kernel.
//!
//! `/proc/net/tcp` and `/proc/net/tcp6` (proc(5)) list every socket with its two addresses and its inode, `/proc/PID/fd` the inodes that a
//! process has open; a part's processes are those of its session. It is asked only for connections that a fault may
//! concern, because reading both takes a millisecond or more.
//!
//! Deliberately absent: a client that tells its name. A system under test knows nothing of links.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{SocketAddr, SocketAddrV4};

use procfs::process::{FDTarget, Process};

/// Tells which part's process has a connection open.
pub(crate) struct Sources(Box<dyn Fn() -> BTreeMap<i32, String> + Send + Sync>);

impl Sources {
    /// `sessions` says which sessions belong to which parts now.
    pub(crate) fn new(sessions: impl Fn() -> BTreeMap<i32, String> + Send + Sync + 'static) -> Self {
        Self(Box::new(sessions))
    }

    /// The part that connected from `peer` to `front`; nothing where it is no part's connection (any more).
    pub(super) fn of(&self, peer: SocketAddr, front: SocketAddrV4) -> Option<String> {
        let own = socket(peer, SocketAddr::V4(front))?;
        let sessions = (self.0)();
        // The process that leads the session first: nearly always it is the one.
        let leaders = sessions.keys().filter_map(|pid| Process::new(*pid).ok());
        let leader = leaders.into_iter().find(|process| has(process, own));
        let found = leader.or_else(|| followers(&sessions).find(|process| has(process, own)))?;
        let session = found.stat().ok()?.session;
        sessions.get(&session).cloned()
    }
}

/// The inode of the socket with these two addresses. A JVM's sockets are IPv6 ones that carry IPv4.
fn socket(local: SocketAddr, remote: SocketAddr) -> Option<u64> {
    let plain = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    let tables = [procfs::net::tcp, procfs::net::tcp6];
    let mut rows = tables.into_iter().flat_map(|table| table().unwrap_or_default());
    let own = rows.find(|row| plain(row.local_address) == local && plain(row.remote_address) == remote)?;
    Some(own.inode)
}

/// Processes of the sessions that do not lead them.
fn followers(sessions: &BTreeMap<i32, String>) -> impl Iterator<Item = Process> {
    let all = procfs::process::all_processes().into_iter().flatten().flatten();
    all.filter(|process| {
        let session = process.stat().map(|stat| stat.session);
        session.is_ok_and(|session| session != process.pid && sessions.contains_key(&session))
    })
}

fn has(process: &Process, inode: u64) -> bool {
    let open = process.fd().into_iter().flatten().flatten();
    open.into_iter().any(|descriptor| matches!(descriptor.target, FDTarget::Socket(found) if found == inode))
}

impl fmt::Debug for Sources {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Sources")
    }
}
