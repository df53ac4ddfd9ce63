//! Whose a connection is, asked of the kernel.
//!
//! `/proc/net/tcp` and `/proc/net/tcp6` (proc(5)) list every socket with its two addresses and its inode,
//! `/proc/PID/fd` the inodes that a process has open; a part's processes are those of its session. It is asked only for
//! connections that a fault may concern, because reading both takes a millisecond or more: much more on a machine where
//! many connections have ended, because the table lists those too for a minute. So one reading of it serves all who
//! asked before it, and what has ended is dropped before anything is parsed.
//!
//! Deliberately absent: a client that tells its name. A system under test knows nothing of links.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::{SocketAddr, SocketAddrV4};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use procfs::net::TcpNetEntries;
use procfs::process::{FDTarget, Process};
use procfs::{FromReadSI as _, current_system_info};

/// What the tables call a connection of which only the memory is left (`TCP_TIME_WAIT`).
const ENDED: &str = "06";

/// Tells which part's process has a connection open.
pub(crate) struct Sources {
    sessions: Box<dyn Fn() -> BTreeMap<i32, String> + Send + Sync>,
    seen: Mutex<Option<Sockets>>,
}

/// The open sockets at one moment.
struct Sockets {
    began: Instant,
    inodes: HashMap<(SocketAddr, SocketAddr), u64>,
}

impl Sources {
    /// `sessions` says which sessions belong to which parts now.
    pub(crate) fn new(sessions: impl Fn() -> BTreeMap<i32, String> + Send + Sync + 'static) -> Self {
        Self { sessions: Box::new(sessions), seen: Mutex::default() }
    }

    /// The part that connected from `peer` to `front`; nothing where it is no part's connection (any more). `asked` is
    /// a moment at which the connection existed.
    pub(super) fn of(&self, peer: SocketAddr, front: SocketAddrV4, asked: Instant) -> Option<String> {
        let own = self.socket(peer, SocketAddr::V4(front), asked)?;
        let sessions = (self.sessions)();
        // The process that leads the session first: nearly always it is the one.
        let leaders = sessions.keys().filter_map(|pid| Process::new(*pid).ok());
        let has = |process: &Process| has_socket(process, |inode| inode == own);
        let leader = leaders.into_iter().find(has);
        let found = leader.or_else(|| followers(&sessions).find(has))?;
        let session = found.stat().ok()?.session;
        sessions.get(&session).cloned()
    }

    /// The inode of the socket with these two addresses. Who waits here for another's reading is served by it.
    fn socket(&self, local: SocketAddr, remote: SocketAddr, asked: Instant) -> Option<u64> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.as_ref().is_none_or(|seen| seen.began < asked) {
            *seen = Some(Sockets::now());
        }
        seen.as_ref()?.inodes.get(&(local, remote)).copied()
    }
}

impl Sockets {
    fn now() -> Self {
        let began = Instant::now();
        let tables =
            ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| std::fs::read_to_string(table).unwrap_or_default());
        Self { began, inodes: tables.iter().flat_map(|table| open_sockets(table)).collect() }
    }
}

/// The sockets of one table by their two addresses. A JVM's sockets are IPv6 ones that carry IPv4.
fn open_sockets(table: &str) -> Vec<((SocketAddr, SocketAddr), u64)> {
    let plain = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    let open: Vec<_> = table.lines().filter(|line| line.split_whitespace().nth(3) != Some(ENDED)).collect();
    let rows = TcpNetEntries::from_read(open.join("\n").as_bytes(), current_system_info());
    let rows = rows.map(|rows| rows.0).unwrap_or_default().into_iter();
    rows.map(|row| ((plain(row.local_address), plain(row.remote_address)), row.inode)).collect()
}

/// Processes of the sessions that do not lead them.
fn followers(sessions: &BTreeMap<i32, String>) -> impl Iterator<Item = Process> {
    let all = procfs::process::all_processes().into_iter().flatten().flatten();
    all.filter(|process| {
        let session = process.stat().map(|stat| stat.session);
        session.is_ok_and(|session| session != process.pid && sessions.contains_key(&session))
    })
}

/// Whether a process has a socket open whose inode is a wanted one.
pub(crate) fn has_socket(process: &Process, is_wanted: impl Fn(u64) -> bool) -> bool {
    let open = process.fd().into_iter().flatten().flatten();
    open.into_iter().any(|descriptor| matches!(descriptor.target, FDTarget::Socket(inode) if is_wanted(inode)))
}

impl fmt::Debug for Sources {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Sources")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what has ended is left out, and a JVM's connection is found by its plain addresses.
    #[test]
    fn open_sockets_are_found_by_their_plain_addresses() {
        let rest = "00000000:00000000 00:00000000 00000000     0        0";
        let table = format!(
            "  sl  local_address rem_address   st\n\
             0: 0100007F:1F90 0200007F:2384 01 {rest} 77 1 0 20 0 0 10 -1\n\
             1: 0100007F:1F91 0200007F:2384 06 {rest} 0 3 0\n\
             2: 0000000000000000FFFF00000100007F:1F92 0000000000000000FFFF00000200007F:2384 01 {rest} 78 1 0 20 0 0 10 -1\n"
        );
        let plain = |ends: [&str; 2]| ends.map(|end| end.parse::<SocketAddr>().expect("an address")).into();
        let expected: Vec<((SocketAddr, SocketAddr), u64)> =
            vec![(plain(["127.0.0.1:8080", "127.0.0.2:9092"]), 77), (plain(["127.0.0.1:8082", "127.0.0.2:9092"]), 78)];
        assert_eq!(open_sockets(&table), expected);
    }
}
