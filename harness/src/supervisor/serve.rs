//! The supervisor's life: takes its house, sweeps what dead ones left, serves clients, ends when nobody needs it.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::Mode;
use tokio::net::UnixListener;
use tokio::sync::{self, Notify, Semaphore};

use super::addresses::Addresses;
use super::state::{House, StateError, Workspace};
use super::tenancy::{Tenancy, log_line};
use super::watch;
use crate::accept::accept;
use crate::docker::Engine;
use crate::runtime::{SpawnLoop, Spawner};

/// Without an environment for this long, the supervisor ends.
const IDLE_LIMIT: Duration = Duration::from_secs(60);

/// Time between two looks at whether clients can find it.
const HOME_EVERY: Duration = Duration::from_secs(1);
/// How many files a supervisor wants to have open at most.
const FILES_MAX: u64 = 65_536;
/// What a supervisor says when it listens.
pub(super) const LISTENS: &str = "ready";
/// What it says when another one lives in its house, or is just leaving it.
pub(super) const IS_TAKEN: &str = "taken";

/// Why a supervisor could not begin.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Its directories cannot be used, or another supervisor lives there.
    #[error("failed to take the supervisor's directory")]
    State(#[from] StateError),
    /// Something that it needs at the beginning failed.
    #[error("failed to {what}")]
    Begin {
        /// What.
        what: &'static str,
        /// The cause.
        source: std::io::Error,
    },
    /// The machine's addresses cannot be used.
    #[error("failed to allocate addresses")]
    Addresses(#[source] Box<dyn std::error::Error + Send + Sync>),
}

pub(super) struct Server {
    pub(super) house: House,
    pub(super) identity: String,
    pub(super) addresses: Arc<Addresses>,
    pub(super) spawner: Spawner,
    /// Those that environments were asked for in, by where they listen.
    pub(super) engines: sync::Mutex<BTreeMap<String, Engine>>,
    /// Starting is bound by CPU: more at once than cores makes each of them slower than one after the other.
    pub(super) starts: Semaphore,
    pub(super) environments: Mutex<BTreeMap<String, Arc<Tenancy>>>,
    pub(super) changed: Notify,
    pub(super) conversations: AtomicUsize,
    pub(super) retired: AtomicBool,
    /// Set when it ends: no environment is admitted from then on.
    pub(super) leaves: AtomicBool,
    pub(super) numbers: AtomicU32,
    /// Inode of the socket on which it listens.
    socket: u64,
}

/// Runs a supervisor in `house` until nobody needs it. Must be called on the main thread: it spawns from there.
///
/// # Errors
/// It could not begin; nothing was started then.
pub fn serve(workspace: &Workspace, house: House) -> Result<(), ServeError> {
    let begin = |what| move |source| ServeError::Begin { what, source };
    // Signals to the client's process group are not for the supervisor.
    let _ = nix::unistd::setsid();
    // Whoever starts it may keep others out of all that is made, and PostgreSQL, which under root is `nobody`, with
    // them.
    nix::sys::stat::umask(Mode::from_bits_truncate(0o022));
    raise_file_limit();
    house.make()?;
    let _lock = match house.lock() {
        Err(StateError::Lock { source, .. }) if is_of_another(&source) => {
            return tell(IS_TAKEN).map_err(begin("tell the client"));
        }
        lock => lock?,
    };
    let identity = format!("{}-{}", std::process::id(), started_at());
    sweep_the_dead(workspace, &house)?;
    std::fs::write(house.identity(), &identity).map_err(begin("write the identity"))?;
    let _watcher = start_watcher(&house, &identity).map_err(begin("start the watcher"))?;
    let addresses = Addresses::open(std::process::id().wrapping_mul(7919))
        .map_err(|error| ServeError::Addresses(Box::new(error)))?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(begin("start the runtime"))?;
    let (spawner, spawn_loop) = Spawner::new();
    let _context = runtime.enter();
    let _ = std::fs::remove_file(house.socket());
    let listener = UnixListener::bind(house.socket()).map_err(begin("listen on the socket"))?;
    std::fs::set_permissions(house.socket(), PermissionsExt::from_mode(0o600)).map_err(begin("guard the socket"))?;
    let socket = std::fs::metadata(house.socket()).map_err(begin("find the socket"))?.ino();
    let server = Arc::new(Server::new(house, identity, addresses, spawner, socket));
    tell(LISTENS).map_err(begin("tell the client"))?;
    // One thread serves all clients: the futures of a start borrow, and so stay where they are.
    let served = std::thread::spawn({
        let handle = runtime.handle().clone();
        move || {
            let left = handle.block_on(tokio::task::LocalSet::new().run_until(async { server.live(listener).await }));
            // The process ends here: the main thread waits for things to spawn, which never come now.
            if left == Left::InOrder {
                watch::demolish(&server.house);
            }
            std::process::exit(0)
        }
    });
    SpawnLoop::serve(spawn_loop);
    let _ = served.join();
    Ok(())
}

/// Lets this process have as many files as it may: each connection over a link takes two, and whoever starts it may have
/// few. Parts begin with the same limit.
fn raise_file_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // Some programs look at every number up to the limit.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, soft.max(hard.min(FILES_MAX)), hard);
    }
}

/// Whether a lock could not be taken for somebody who lives there, or has just left with the file.
fn is_of_another(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotFound)
}

/// Tells the client that waits on our standard output, and closes it.
fn tell(how: &str) -> std::io::Result<()> {
    let mut output = std::io::stdout();
    writeln!(output, "{how}")?;
    output.flush()?;
    let nothing = std::fs::OpenOptions::new().write(true).open("/dev/null")?;
    nix::unistd::dup2_stdout(nothing)?;
    Ok(())
}

fn started_at() -> u128 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_millis()
}

/// Sweeps dead supervisors of this workspace and asks living ones of other builds to retire.
fn sweep_the_dead(workspace: &Workspace, own: &House) -> Result<(), StateError> {
    for house in workspace.houses()? {
        if house.path() != own.path() && !watch::sweep(&house) {
            super::client::retire(&house);
        }
    }
    watch::clear(own);
    watch::clear_ruins(workspace);
    Ok(())
}

/// Starts the process whose input closes when this one ends in any way. It is told our identity: the file that holds it
/// may be taken away.
fn start_watcher(house: &House, identity: &str) -> std::io::Result<std::process::Child> {
    let mut command = std::process::Command::new(std::env::current_exe()?);
    command.arg("watch").arg(house.path()).arg(identity);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
}

/// How a supervisor has left its house.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Left {
    /// By its own will: the house can go.
    InOrder,
    /// It was taken away; what stands in its place is perhaps another one's, whose watcher or successor sees to it.
    WithoutIt,
}

impl Server {
    pub(super) fn new(
        house: House,
        identity: String,
        addresses: Arc<Addresses>,
        spawner: Spawner,
        socket: u64,
    ) -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Self {
            house,
            identity,
            addresses,
            spawner,
            engines: sync::Mutex::default(),
            starts: Semaphore::new(cores),
            environments: Mutex::default(),
            changed: Notify::new(),
            conversations: AtomicUsize::new(0),
            retired: AtomicBool::new(false),
            leaves: AtomicBool::new(false),
            numbers: AtomicU32::new(1),
            socket,
        }
    }

    async fn live(self: &Arc<Self>, listener: UnixListener) -> Left {
        let signals = async {
            let kind = tokio::signal::unix::SignalKind::terminate();
            match tokio::signal::unix::signal(kind) {
                Ok(mut terminate) => drop(terminate.recv().await),
                Err(_) => std::future::pending().await,
            }
        };
        let accepting = async {
            loop {
                let (stream, _) = accept(|| listener.accept()).await;
                let server = Arc::clone(self);
                let conversation = Conversation::begin(&server);
                tokio::task::spawn_local(async move {
                    server.converse(stream).await;
                    drop(conversation);
                });
            }
        };
        tokio::select! {
            () = signals => log_line("asked to end"),
            () = accepting => {}
            () = self.unneeded() => log_line("nobody needs this supervisor"),
            () = self.unreachable() => log_line("its socket has gone, so nobody can reach this supervisor"),
        }
        let left = if self.is_at_home() { Left::InOrder } else { Left::WithoutIt };
        if left == Left::InOrder {
            // A client that connects now finds no socket and starts another supervisor.
            let _ = std::fs::remove_file(self.house.socket());
        }
        self.leaves.store(true, Ordering::Release);
        self.end_all().await;
        left
    }

    /// Whether its socket is where clients look for it. Who logs out may lose all files in memory (`RemoveIPC` of
    /// logind.conf(5)), and a new supervisor may stand in their place.
    fn is_at_home(&self) -> bool {
        match std::fs::metadata(self.house.socket()) {
            Ok(socket) => socket.ino() == self.socket,
            // Whatever keeps it from being looked at may pass.
            Err(error) => error.kind() != std::io::ErrorKind::NotFound,
        }
    }

    /// Returns when no client could find this supervisor any more.
    async fn unreachable(&self) {
        let mut looks = tokio::time::interval(HOME_EVERY);
        while self.is_at_home() {
            looks.tick().await;
        }
    }

    /// Returns when there has been no environment and no client for a while, or none is left after retirement.
    async fn unneeded(&self) {
        loop {
            let empty = self.lock().is_empty() && self.conversations.load(Ordering::Acquire) == 0;
            let limit = if self.retired.load(Ordering::Acquire) { Duration::from_millis(1) } else { IDLE_LIMIT };
            tokio::select! {
                () = self.changed.notified() => {}
                () = pass(limit), if empty => return,
            }
        }
    }
}

/// A client that is connected; while there is one, the supervisor stays.
struct Conversation(Arc<Server>);

impl Conversation {
    fn begin(server: &Arc<Server>) -> Self {
        server.conversations.fetch_add(1, Ordering::AcqRel);
        server.changed.notify_one();
        Self(Arc::clone(server))
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        self.0.conversations.fetch_sub(1, Ordering::AcqRel);
        self.0.changed.notify_one();
    }
}

#[expect(clippy::disallowed_methods, reason = "a length of time that is meant, not a wait for a state")]
async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}
