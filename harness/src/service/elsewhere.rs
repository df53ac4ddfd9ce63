//! A service that somebody starts by hand, such as in a debugger: what takes its place in the environment.
//!
//! A process of ours writes the variables of its environment to a file, waits until something listens at the service's
//! address that was started after that, and hands connections on. What was started before belongs to another
//! environment, and so does what was started anew with the variables of before: a verdict about it would be about
//! whatever happened there.
//!
//! Deliberately absent: services of other machines, of which nobody here could tell when they were started; and their
//! life: what would have to end or start such a service is told to be impossible.

use std::collections::{BTreeMap, HashSet};
use std::convert::Infallible;
use std::ffi::OsString;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use procfs::ProcError;
use procfs::net::TcpState;
use procfs::process::Process;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::accept::accept;
use crate::env_file::{self, Unwritable};
use crate::link::socket_inodes;
use crate::runtime::{self, ENVIRONMENT_VARIABLE, INHERITED, SUPERVISOR_VARIABLE, Waited};
use crate::whole_file;

/// How long an environment may take to start in which a person starts the service.
pub const START_DEADLINE: Duration = Duration::from_secs(600);
/// How long that person may take: less, so that the environment ends with the words of what was missing.
const PERSON_LIMIT: Duration = Duration::from_secs(580);
/// Pause between two looks at who listens.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Begins the file of variables.
const HEAD: &str = "# What a service has to be started with, written by Greenroom for the environment";
/// Variables of ours that mark a process.
const MARKS: [&str; 2] = [ENVIRONMENT_VARIABLE, SUPERVISOR_VARIABLE];

/// A service that runs elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elsewhere {
    /// Where it listens, on this machine.
    pub at: SocketAddr,
    /// The file that its variables are written to.
    pub variables: PathBuf,
}

/// Why nothing could be handed on to a service.
#[derive(Debug, thiserror::Error)]
pub enum ElsewhereError {
    /// The file of variables could not be written.
    #[error("failed to write {}", path.display())]
    Write {
        /// Where.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A variable cannot stand in the file.
    #[error(transparent)]
    Unwritable(#[from] Unwritable),
    /// This machine does not tell who listens.
    #[error("failed to read /proc")]
    Proc(#[from] ProcError),
    /// Nobody could listen in the service's place.
    #[error("failed to listen at {address}")]
    Listen {
        /// Where.
        address: SocketAddrV4,
        /// The cause.
        source: io::Error,
    },
    /// It was not started.
    #[error("failed to wait for the service")]
    Late(#[from] Waited),
}

/// The address that a text such as `127.0.0.1:3000` or `localhost:3000` names.
///
/// # Errors
/// It names none, or one of another machine; the error says what is expected.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    let expected = || "expected HOST:PORT of this machine, such as 127.0.0.1:3000".to_owned();
    let here = text.strip_prefix("localhost").map(|port| format!("{}{port}", Ipv4Addr::LOCALHOST));
    let address: SocketAddr = here.as_deref().unwrap_or(text).parse().map_err(|_not_an_address| expected())?;
    if address.ip().is_loopback() && address.port() > 0 { Ok(address) } else { Err(expected()) }
}

/// Who listens at an address.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Listens {
    Nobody,
    /// A process of another user, perhaps.
    Somebody,
    /// A process that was started so many clock ticks after this machine.
    Process {
        pid: i32,
        ticks: u64,
        variables: BTreeMap<String, String>,
    },
}

impl Elsewhere {
    /// Takes the place of the service at `place`: returns only when it cannot. `say` hears what a person has to do.
    ///
    /// # Errors
    /// The file cannot be written, the service was not started in time, or nobody can listen at `place`.
    pub async fn stand_in(&self, place: SocketAddrV4, say: impl Fn(&str)) -> Result<Infallible, ElsewhereError> {
        let since = Process::myself()?.stat()?.starttime;
        let variables = self.variables_of(std::env::vars_os());
        self.write(&variables)?;
        loop {
            let mut told = String::new();
            let waited = runtime::until(Instant::now() + PERSON_LIMIT, LOOK_EVERY, async || {
                let Some(missing) = self.missing(listens(self.at)?, since, &variables, place) else { return Ok(()) };
                if told != missing {
                    say(&missing);
                    told.clone_from(&missing);
                }
                Err(missing)
            });
            waited.await?;
            let listener = TcpListener::bind(place).await;
            let listener = listener.map_err(|source| ElsewhereError::Listen { address: place, source })?;
            say(&format!("what comes to {place} is handed on to {}", self.at));
            self.hand_on_while_it_listens(listener).await;
        }
    }

    /// Hands connections on until nobody takes one.
    async fn hand_on_while_it_listens(&self, listener: TcpListener) {
        let gone = Arc::<Notify>::default();
        loop {
            tokio::select! {
                (client, _) = accept(|| listener.accept()) => drop(tokio::spawn(hand_on(client, self.at, Arc::clone(&gone)))),
                () = gone.notified() => return,
            }
        }
    }

    /// What a person has to do before the service is the one of this environment, whose address is that of `place`.
    fn missing(
        &self,
        listens: Listens,
        since: u64,
        variables: &BTreeMap<String, String>,
        place: SocketAddrV4,
    ) -> Option<String> {
        let (at, file) = (self.at, self.variables.display());
        let start = format!("start it with the variables in {file}");
        let (pid, ticks, own) = match listens {
            Listens::Nobody => return Some(format!("nobody listens at {at}: {start}")),
            Listens::Somebody => {
                return Some(format!(
                    "since when somebody listens at {at} cannot be told, as it is not your process: end it and {start}"
                ));
            }
            Listens::Process { pid, ticks, variables } => (pid, ticks, variables),
        };
        if ticks < since {
            return Some(format!(
                "what listens at {at} (process {pid}) was started before this environment: end it and {start}"
            ));
        }
        // A variable that leads into this environment leads elsewhere; one that it reads from a file is not seen.
        let address = place.ip().to_string();
        let here = variables.iter().filter(|(_, value)| value.contains(&address));
        let other = here.filter_map(|(name, value)| Some((name, own.get(name).filter(|own| *own != value)?))).next();
        other.map(|(name, value)| {
            format!(
                "what listens at {at} (process {pid}) has {name}={value}, of another environment: end it and {start}"
            )
        })
    }

    /// Those of an environment's variables that are the service's, at its own address.
    fn variables_of(&self, all: impl Iterator<Item = (OsString, OsString)>) -> BTreeMap<String, String> {
        // What is planned is text; what is inherited need not be.
        let text = all.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        let mut variables: BTreeMap<_, _> = text.filter(|(name, _)| !INHERITED.contains(&name.as_str())).collect();
        for (name, value) in [("HOST", self.at.ip().to_string()), ("PORT", self.at.port().to_string())] {
            variables.entry(name.to_owned()).and_modify(|known| *known = value);
        }
        variables
    }

    fn write(&self, variables: &BTreeMap<String, String>) -> Result<(), ElsewhereError> {
        let environment = variables.get(ENVIRONMENT_VARIABLE).map_or("", String::as_str);
        let own = variables.iter().filter(|(name, _)| !MARKS.contains(&name.as_str()));
        let text = env_file::text(&format!("{HEAD} {environment}"), own)?;
        whole_file::write(&self.variables, text.as_bytes())
            .map_err(|source| ElsewhereError::Write { path: self.variables.clone(), source })
    }
}

async fn hand_on(mut client: TcpStream, to: SocketAddr, gone: Arc<Notify>) {
    let Ok(mut service) = TcpStream::connect(to).await else {
        // Whoever has ended shows as a reset, as behind a link.
        let _ = client.set_zero_linger();
        gone.notify_one();
        return;
    };
    let _ = (client.set_nodelay(true), service.set_nodelay(true));
    let _ = copy_bidirectional(&mut client, &mut service).await;
}

/// Who listens at an address.
fn listens(at: SocketAddr) -> Result<Listens, String> {
    let listening = listening_at(at).map_err(|error| error.to_string())?;
    if listening.is_empty() {
        return Ok(Listens::Nobody);
    }
    let all = procfs::process::all_processes().map_err(|error| error.to_string())?;
    let holders = all.flatten().filter(|process| socket_inodes(process).any(|inode| listening.contains(&inode)));
    // Of several that share it, as workers do, the first has listened for longest.
    let first =
        holders.filter_map(|process| Some((process.stat().ok()?.starttime, process))).min_by_key(|first| first.0);
    let Some((ticks, process)) = first else {
        // One that was just ending is not there any more.
        let now = listening_at(at).map_err(|error| error.to_string())?;
        return Ok(if now.is_disjoint(&listening) { Listens::Nobody } else { Listens::Somebody });
    };
    let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    let variables = process.environ().unwrap_or_default().into_iter().map(|(name, value)| (text(name), text(value)));
    Ok(Listens::Process { pid: process.pid, ticks, variables: variables.collect() })
}

/// The inodes of the sockets that listen at an address.
fn listening_at(at: SocketAddr) -> Result<HashSet<u64>, ProcError> {
    listeners(|address| {
        let ip = address.ip().to_canonical();
        // Who listens at every IPv6 address does so at every IPv4 one too, unless it was told otherwise.
        let everywhere = ip.is_unspecified() && (ip.is_ipv6() || at.is_ipv4());
        address.port() == at.port() && (everywhere || ip == at.ip())
    })
}

/// The inodes of the sockets that listen at addresses that `fit`.
fn listeners(fit: impl Fn(SocketAddr) -> bool) -> Result<HashSet<u64>, ProcError> {
    let entries = procfs::net::tcp()?.into_iter().chain(procfs::net::tcp6().unwrap_or_default());
    let listens = entries.filter(|entry| entry.state == TcpState::Listen && fit(entry.local_address));
    Ok(listens.map(|entry| entry.inode).collect())
}

/// Whether a process of this environment listens at every address of the machine, where another one of its port would be
/// in its way.
///
/// # Errors
/// This machine does not tell.
pub fn is_heard_everywhere(environment: &str) -> Result<bool, ProcError> {
    let heard = listeners(|address| address.ip().to_canonical().is_unspecified())?;
    let mut own =
        runtime::carriers(ENVIRONMENT_VARIABLE, environment).into_iter().filter_map(|pid| Process::new(pid).ok());
    Ok(own.any(|process| socket_inodes(&process).any(|inode| heard.contains(&inode))))
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt as _;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[test]
    fn an_address_is_one_of_this_machine() {
        assert_eq!(address("127.0.0.1:3000"), Ok("127.0.0.1:3000".parse().expect("an address")));
        assert_eq!(address("localhost:3000"), Ok("127.0.0.1:3000".parse().expect("an address")));
        assert_eq!(address("[::1]:3000"), Ok("[::1]:3000".parse().expect("an address")));
        for other in ["10.0.0.7:3000", "build.example:3000", "127.0.0.1", "127.0.0.1:0", ""] {
            assert_eq!(address(other), Err("expected HOST:PORT of this machine, such as 127.0.0.1:3000".to_owned()));
        }
    }

    fn elsewhere(at: SocketAddr, variables: PathBuf) -> Elsewhere {
        Elsewhere { at, variables }
    }

    fn named(variables: &[(&str, &str)]) -> BTreeMap<String, String> {
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    /// Goal: what was started before the environment, and what was started anew for another one, is not taken for its
    /// service.
    #[test]
    fn a_service_is_one_of_the_environment_or_is_not_taken_for_it() {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let at = listener.local_addr().expect("an address");
        let elsewhere = elsewhere(at, "/f".into());
        let place = "127.18.4.7:3000".parse().expect("an address");
        let wanted = named(&[("DB_HOST", "127.18.4.7"), ("NODE_ENV", "test")]);
        let found = listens(at).expect("/proc is there");
        let Listens::Process { pid, ticks, variables } = found.clone() else { panic!("{found:?}") };
        assert_eq!(pid, i32::try_from(std::process::id()).expect("an id"));
        assert_eq!(ticks, Process::myself().and_then(|own| own.stat()).expect("/proc is there").starttime);
        assert!(variables.contains_key("PATH"), "{variables:?}");
        let missing = |listens, since| elsewhere.missing(listens, since, &wanted, place);
        assert_eq!(missing(found.clone(), ticks), None);
        let old = missing(found, ticks + 1).expect("it is older than that");
        assert!(old.contains(&format!("(process {pid}) was started before this environment")), "{old}");
        let with = |variables| Listens::Process { pid, ticks, variables: named(variables) };
        assert_eq!(missing(with(&[("DB_HOST", "127.18.4.7"), ("NODE_ENV", "production")]), ticks), None);
        let other = missing(with(&[("DB_HOST", "127.18.4.6")]), ticks).expect("it is another one's");
        assert!(other.contains("has DB_HOST=127.18.4.6, of another environment"), "{other}");
        drop(listener);
        assert_eq!(listens(at), Ok(Listens::Nobody));
    }

    /// Goal: what comes is handed on as long as somebody takes it; when nobody does, it is told, and waited for again.
    #[tokio::test]
    async fn nothing_stands_in_for_a_service_that_has_ended() {
        let service = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let elsewhere = elsewhere(service.local_addr().expect("an address"), "/f".into());
        let place = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let at = place.local_addr().expect("an address");
        let stands = tokio::spawn(async move { elsewhere.hand_on_while_it_listens(place).await });
        let mut client = TcpStream::connect(at).await.expect("somebody stands in");
        client.write_all(b"asked").await.expect("it is taken");
        let (mut taken, _) = service.accept().await.expect("it is handed on");
        let mut said = [0; 5];
        taken.read_exact(&mut said).await.expect("what was said comes");
        assert_eq!(&said, b"asked");
        drop((service, taken));
        let mut late = TcpStream::connect(at).await.expect("nobody knows yet");
        late.read_exact(&mut said).await.expect_err("nobody takes it");
        tokio::time::timeout(Duration::from_secs(20), stands).await.expect("it is noticed").expect("it ends well");
        TcpStream::connect(at).await.expect_err("nothing stands in");
    }

    #[test]
    fn variables_are_those_of_the_service_at_its_own_address() {
        let directory = tempfile::tempdir().expect("there is room");
        let file = directory.path().join("below/service.env");
        let elsewhere = elsewhere("127.0.0.1:8080".parse().expect("an address"), file.clone());
        let all = [("PATH", "/bin"), (ENVIRONMENT_VARIABLE, "shop-1-1"), ("PORT", "3000"), ("DB_HOST", "127.18.4.7")];
        let all = named(&all).into_iter().map(|(name, value)| (name.into(), value.into()));
        let all = all.chain([("LANG".into(), OsString::from_vec(b"\xff".to_vec()))]);
        elsewhere.write(&elsewhere.variables_of(all)).expect("there is room");
        let text = std::fs::read_to_string(&file).expect("it is written");
        assert_eq!(text, format!("{HEAD} shop-1-1\nDB_HOST=127.18.4.7\nPORT=8080\n"));
    }
}
