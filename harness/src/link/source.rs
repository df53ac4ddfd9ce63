//! Whose a connection is, asked of the kernel.
//!
//! `/proc/net/tcp` and `/proc/net/tcp6` (proc(5)) list every socket with its two addresses and its inode,
//! `/proc/PID/fd` the inodes that a process has open; a part's processes are those of its session. It is asked only for
//! connections that a fault may concern, because reading both takes some milliseconds, and more on a machine where many
//! connections have ended: the table lists those too for a minute, and they are dropped before anything is parsed.
//! Clients that get no answer connect again and again, and each of these connections asks. So there is one reading at a
//! time, and it serves all who asked before it: otherwise the readings themselves keep a busy machine from answering.
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
    seen: Mutex<Option<Reading>>,
}

/// The open sockets at one moment, and whose they are.
struct Reading {
    began: Instant,
    inodes: HashMap<(SocketAddr, SocketAddr), u64>,
    sessions: BTreeMap<i32, String>,
    /// By inode, the parts of the sockets of processes that lead a session: nearly every connection is one of those.
    of_leaders: HashMap<u64, String>,
    /// Those of all others, once somebody has asked for one.
    of_others: Option<HashMap<u64, String>>,
}

impl Sources {
    /// `sessions` says which sessions belong to which parts now.
    pub(crate) fn new(sessions: impl Fn() -> BTreeMap<i32, String> + Send + Sync + 'static) -> Self {
        Self { sessions: Box::new(sessions), seen: Mutex::default() }
    }

    /// The part that connected from `peer` to `front`; nothing where it is no part's connection (any more). `asked` is
    /// a moment at which the connection existed.
    pub(super) fn of(&self, peer: SocketAddr, front: SocketAddrV4, asked: Instant) -> Option<String> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // Who has waited here while another one read is served by that.
        if seen.as_ref().is_none_or(|seen| seen.began < asked) {
            *seen = Some(Reading::now(&self.sessions));
        }
        seen.as_mut()?.part(peer, SocketAddr::V4(front)).map(str::to_owned)
    }
}

impl Reading {
    fn now(sessions: impl Fn() -> BTreeMap<i32, String>) -> Self {
        let began = Instant::now();
        let tables =
            ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| std::fs::read_to_string(table).unwrap_or_default());
        let inodes = tables.iter().flat_map(|table| open_sockets(table)).collect();
        // After the sockets: a process that had one then is among them.
        let sessions = sessions();
        let leaders = sessions.iter().filter_map(|(pid, part)| Some((Process::new(*pid).ok()?, part.as_str())));
        Self { began, inodes, of_leaders: owners(leaders), of_others: None, sessions }
    }

    /// The part that has the socket with these two addresses open.
    fn part(&mut self, local: SocketAddr, remote: SocketAddr) -> Option<&str> {
        // A connection that its process has given up has no inode any more.
        let inode = self.inodes.get(&(local, remote)).filter(|inode| **inode != 0)?;
        let leader = self.of_leaders.get(inode);
        let found = match leader {
            Some(part) => Some(part),
            None => self.of_others.get_or_insert_with(|| owners(others(&self.sessions))).get(inode),
        };
        found.map(String::as_str)
    }
}

/// The parts of the sockets that these processes have open, by inode.
fn owners<'p>(processes: impl Iterator<Item = (Process, &'p str)>) -> HashMap<u64, String> {
    let of_one =
        |(process, part): (Process, &'p str)| socket_inodes(&process).map(move |inode| (inode, part.to_owned()));
    processes.flat_map(of_one).collect()
}

/// The sockets of one table by their two addresses. A JVM's sockets are IPv6 ones that carry IPv4.
fn open_sockets(table: &str) -> Vec<((SocketAddr, SocketAddr), u64)> {
    let plain = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    let open: Vec<_> = table.lines().filter(|line| line.split_whitespace().nth(3) != Some(ENDED)).collect();
    let rows = TcpNetEntries::from_read(open.join("\n").as_bytes(), current_system_info());
    let rows = rows.map(|rows| rows.0).unwrap_or_default().into_iter();
    rows.map(|row| ((plain(row.local_address), plain(row.remote_address)), row.inode)).collect()
}

/// Processes of the sessions that do not lead them, each with its part.
fn others(sessions: &BTreeMap<i32, String>) -> impl Iterator<Item = (Process, &str)> {
    let all = procfs::process::all_processes().into_iter().flatten().flatten();
    all.filter_map(|process| {
        let session = process.stat().ok()?.session;
        let part = sessions.get(&session).filter(|_| session != process.pid)?;
        Some((process, part.as_str()))
    })
}

/// The inodes of the sockets that a process has open.
pub(crate) fn socket_inodes(process: &Process) -> impl Iterator<Item = u64> + use<> {
    let open = process.fd().into_iter().flatten().flatten();
    open.filter_map(|descriptor| match descriptor.target {
        FDTarget::Socket(inode) => Some(inode),
        _ => None,
    })
}

impl fmt::Debug for Sources {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Sources")
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener, TcpStream};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Goal: however many ask at once, the kernel is asked once.
    #[test]
    fn one_reading_serves_all_who_asked_before_it() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let SocketAddr::V4(front) = listener.local_addr().expect("its address") else {
            unreachable!("IPv4 was asked for")
        };
        let clients = [(); 32].map(|()| TcpStream::connect(front).expect("the listener accepts"));
        let asked = Instant::now();
        let session = nix::unistd::getsid(None).expect("our session").as_raw();
        let readings = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&readings);
        let sources = Sources::new(move || {
            counted.fetch_add(1, Ordering::Relaxed);
            BTreeMap::from([(session, "till".to_owned())])
        });
        std::thread::scope(|scope| {
            for client in &clients {
                let peer = client.local_addr().expect("its address");
                scope.spawn({
                    let sources = &sources;
                    move || assert_eq!(sources.of(peer, front, asked).as_deref(), Some("till"))
                });
            }
        });
        assert_eq!(readings.load(Ordering::Relaxed), 1);
    }

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
