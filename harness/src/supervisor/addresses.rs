//! Loopback addresses, one for each environment: the lock is the allocator.
//!
//! Every environment on the machine, whoever's it is, locks one byte of one file for as long as it lives
//! (an open-file-description lock, fcntl(2)); the kernel lets go of it when the supervisor dies.
//! Linux answers on all of 127.0.0.0/8, so the usual ports are free on an address of one's own.
//!
//! Deliberately absent: machines that have 127.0.0.1 only.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::ops::RangeInclusive;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

/// Second octets in use: 127.16.0.1 to 127.127.255.254, away from 127.0.0.1 and its neighbours.
const SECOND_OCTETS: RangeInclusive<u8> = 16..=127;
/// As many again, for what stands behind the links.
const SECOND_OCTETS_BACKSTAGE: RangeInclusive<u8> = 128..=239;
/// Addresses tried before the allocator gives up.
const TRIES_MAX: u32 = 64;

/// Hands out addresses.
#[derive(Debug)]
pub(super) struct Addresses {
    file: File,
    held: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    next: u32,
    indices: BTreeSet<u32>,
}

/// An address that is nobody else's until this is dropped.
#[derive(Debug)]
pub(super) struct Claim {
    addresses: Arc<Addresses>,
    index: u32,
}

/// Why no address could be claimed.
#[derive(Debug, thiserror::Error)]
pub(super) enum AddressError {
    /// The lock file cannot be used.
    #[error("failed to use the address lock {}", path.display())]
    Lock {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A port is taken on every address that was tried.
    #[error(
        "port {port} is taken on {tried} loopback addresses, last on {address}; \
         a program that listens on 0.0.0.0:{port} takes it on all of them"
    )]
    PortTaken {
        /// The port.
        port: u16,
        /// How many addresses were tried.
        tried: u32,
        /// The last one.
        address: Ipv4Addr,
        /// What the operating system said.
        source: io::Error,
    },
    /// Nobody may listen there, whatever the address.
    #[error("failed to listen on port {port} of {address}")]
    Listen {
        /// The port.
        port: u16,
        /// The address.
        address: Ipv4Addr,
        /// What the operating system said.
        source: io::Error,
    },
    /// Every address that was tried belongs to another environment.
    #[error("{TRIES_MAX} loopback addresses in a row belong to other environments")]
    Exhausted,
}

impl AddressError {
    /// What a person can do about it, where that is known.
    pub(super) fn advice(&self) -> Option<&'static str> {
        match self {
            Self::PortTaken { .. } => {
                Some("end what holds the port, or give the part another `port` in the description")
            }
            Self::Listen { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => Some(
                "ports below 1024 are root's: give the part another `port` in the description, or a service another by \
                 `--service-port`",
            ),
            Self::Lock { .. } => Some("let everybody who uses this machine read and write it"),
            Self::Exhausted => Some("end environments that nobody needs: `cargo xtask test-env status` shows yours"),
            Self::Listen { .. } => None,
        }
    }
}

impl Addresses {
    /// Opens the machine's lock file; `seed` spreads the supervisors over the range.
    pub(super) fn open(seed: u32) -> Result<Arc<Self>, AddressError> {
        // Not `$TMPDIR`: two users with different ones share the machine's addresses all the same.
        let path = PathBuf::from("/tmp/greenroom-addresses.lock");
        // Without O_CREAT first: a sticky directory forbids it for a file of another user's (proc_sys_fs(5)).
        let open = |create: bool| {
            std::fs::OpenOptions::new()
                .read(true)
                .write(true)
                .create(create)
                .truncate(false)
                .mode(0o666)
                .custom_flags(libc::O_NOFOLLOW)
                .open(&path)
        };
        let file =
            open(false).or_else(|_| open(true)).map_err(|source| AddressError::Lock { path: path.clone(), source })?;
        // The mode above is subject to the umask; whoever made the file opens it to all.
        let _ = file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let held = Mutex::new(Held { next: seed % count(), indices: BTreeSet::new() });
        Ok(Arc::new(Self { file, held }))
    }

    /// Claims an address on which all of `ports` are free, and on its backstage all of `ports_backstage`.
    pub(super) fn claim(self: &Arc<Self>, ports: &[u16], ports_backstage: &[u16]) -> Result<Claim, AddressError> {
        self.claim_where(ports, ports_backstage, |at| TcpListener::bind(at).map(drop))
    }

    /// Like [`Addresses::claim`], where `bind` says whether a port is free.
    fn claim_where(
        self: &Arc<Self>,
        ports: &[u16],
        ports_backstage: &[u16],
        bind: impl Fn(SocketAddrV4) -> io::Result<()>,
    ) -> Result<Claim, AddressError> {
        let mut last = AddressError::Exhausted;
        for tried in 1..=TRIES_MAX {
            let Some(claim) = self.lock_next() else { continue };
            let at = |address: Ipv4Addr, ports: &[u16]| -> Vec<_> {
                ports.iter().map(|port| SocketAddrV4::new(address, *port)).collect()
            };
            let wanted = [at(claim.address(), ports), at(claim.backstage(), ports_backstage)].concat();
            let refused = wanted.into_iter().find_map(|at| bind(at).err().map(|source| (at, source)));
            match refused {
                None => return Ok(claim),
                Some((at, source)) if source.kind() == io::ErrorKind::AddrInUse => {
                    last = AddressError::PortTaken { port: at.port(), tried, address: *at.ip(), source };
                }
                Some((at, source)) => {
                    return Err(AddressError::Listen { port: at.port(), address: *at.ip(), source });
                }
            }
        }
        Err(last)
    }

    fn lock_next(self: &Arc<Self>) -> Option<Claim> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let index = held.next;
        held.next = (index + 1) % count();
        // Locks of one open file do not exclude one another, so this supervisor's own are kept in the set.
        if held.indices.contains(&index) || !self.byte(index, libc::F_WRLCK) {
            return None;
        }
        held.indices.insert(index);
        Some(Claim { addresses: Arc::clone(self), index })
    }

    /// Locks or unlocks one byte; `false` where another supervisor holds it.
    fn byte(&self, index: u32, kind: libc::c_int) -> bool {
        let lock = libc::flock {
            l_type: i16::try_from(kind).unwrap_or_default(),
            l_whence: i16::try_from(libc::SEEK_SET).unwrap_or_default(),
            l_start: i64::from(index),
            l_len: 1,
            l_pid: 0,
        };
        fcntl(&self.file, FcntlArg::F_OFD_SETLK(&lock)).is_ok()
    }
}

impl Claim {
    /// The address that clients know.
    pub(super) fn address(&self) -> Ipv4Addr {
        self.at(SECOND_OCTETS)
    }

    /// The address that parts listen on behind their links; claimed with the other one.
    pub(super) fn backstage(&self) -> Ipv4Addr {
        self.at(SECOND_OCTETS_BACKSTAGE)
    }

    fn at(&self, second_octets: RangeInclusive<u8>) -> Ipv4Addr {
        let (high, low) = (self.index / 254, self.index % 254);
        let second = u32::from(*second_octets.start()) + high / 256;
        Ipv4Addr::from((127 << 24) | (second << 16) | ((high % 256) << 8) | (low + 1))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.addresses.byte(self.index, libc::F_UNLCK);
        self.addresses.held.lock().unwrap_or_else(PoisonError::into_inner).indices.remove(&self.index);
    }
}

fn count() -> u32 {
    (u32::from(*SECOND_OCTETS.end()) - u32::from(*SECOND_OCTETS.start()) + 1) * 256 * 254
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Goal: a port that is taken is looked for at other addresses; one that may not be had is told of at once.
    #[test]
    fn only_what_is_taken_is_looked_for_elsewhere() {
        let addresses = Addresses::open(std::process::id()).expect("the lock file");
        let asked = Cell::new(0);
        let refused = |kind: io::ErrorKind| {
            asked.set(0);
            let refuse = |_| {
                asked.set(asked.get() + 1);
                Err(kind.into())
            };
            addresses.claim_where(&[80], &[], refuse).expect_err("it is refused")
        };
        let taken = refused(io::ErrorKind::AddrInUse);
        assert!(matches!(taken, AddressError::PortTaken { port: 80, .. }), "{taken}");
        assert!(asked.get() > 1);
        let forbidden = refused(io::ErrorKind::PermissionDenied);
        assert_eq!(asked.get(), 1);
        assert!(forbidden.to_string().starts_with("failed to listen on port 80 of 127."), "{forbidden}");
    }
}
