//! Whose a connection is, asked of the kernel.
//!
//! `/proc/net/tcp` (proc(5)) lists every socket with its two addresses and its inode, `/proc/PID/fd` the inodes that a
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
        let sockets = procfs::net::tcp().ok()?;
        let front = SocketAddr::V4(front);
        let own = sockets.into_iter().find(|row| row.local_address == peer && row.remote_address == front)?;
        let sessions = (self.0)();
        // The process that leads the session first: nearly always it is the one.
        let leaders = sessions.keys().filter_map(|pid| Process::new(*pid).ok());
        let leader = leaders.into_iter().find(|process| has(process, own.inode));
        let found = leader.or_else(|| followers(&sessions).find(|process| has(process, own.inode)))?;
        let session = found.stat().ok()?.session;
        sessions.get(&session).cloned()
    }
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
