//! Where a supervisor and its environments lie on disk.
//!
//! ```text
//! <base>/<workspace>/start.lock                  held by a client while it starts a supervisor
//! <base>/<workspace>/last.log                    log of the last supervisor that died
//! <base>/<workspace>/<build>/lock                held by the supervisor as long as it lives
//! <base>/<workspace>/<build>/{identity,socket,log}
//! <base>/<workspace>/<build>/<environment>/      data and logs of one environment
//! ```
//! The base is `$GREENROOM_STATE`, else a directory of the user's in memory (`/dev/shm`) where that is large enough,
//! else in the temporary directory.

use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::statvfs::{FsFlags, statvfs};
use sha2::{Digest, Sha256};

/// Names the base directory.
pub const STATE_VARIABLE: &str = "GREENROOM_STATE";
/// A smaller `/dev/shm` is left alone (containers often have 64 MiB). Its size counts and not what is free of it: two
/// commands one after the other must find the same place.
const MEMORY_BYTES_MIN: u64 = 1 << 30;
/// Others may pass through (PostgreSQL runs as `nobody` under root), not look around.
const MODE: u32 = 0o711;
/// What `/<workspace>/<build>/socket` leaves of the 107 bytes of a socket's path (unix(7)).
const BASE_BYTES_MAX: usize = 107 - "/01234567/01234567/socket".len();

/// The directories of one workspace.
#[derive(Clone, Debug)]
pub struct Workspace {
    /// Root of the workspace's sources.
    pub root: PathBuf,
    /// `<base>/<workspace>`.
    pub directory: PathBuf,
}

/// The directory of one supervisor.
#[derive(Clone, Debug)]
pub struct House(PathBuf);

/// Why the directories cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A directory could not be made or read.
    #[error("failed to use the state directory {}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The directory is somebody else's.
    #[error("the state directory {} belongs to user {owner}; set GREENROOM_STATE to a directory of yours", path.display())]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// Something could not live there.
    #[error("the state directory {} {why}; set GREENROOM_STATE to another one", path.display())]
    Unusable {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The current directory lies in no workspace.
    #[error("no workspace (a Cargo.lock) in {} or above it; run this inside the project", from.display())]
    NoWorkspace {
        /// Where the search began.
        from: PathBuf,
    },
    /// A lock could not be taken.
    #[error("failed to lock {}", path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl Workspace {
    /// The workspace around the current directory.
    ///
    /// # Errors
    /// There is none, or its state directory cannot be used.
    pub fn here() -> Result<Self, StateError> {
        let from =
            std::env::current_dir().map_err(|source| StateError::Directory { path: PathBuf::from("."), source })?;
        let root = from.ancestors().find(|path| path.join("Cargo.lock").is_file());
        let root = root.ok_or_else(|| StateError::NoWorkspace { from: from.clone() })?.to_owned();
        Self::with_base(root, &base()?)
    }

    /// The workspace at `root`, its state kept below `base`.
    ///
    /// # Errors
    /// The state directory cannot be used.
    pub fn with_base(root: PathBuf, base: &Path) -> Result<Self, StateError> {
        make(base)?;
        let directory = usable(base)?.join(short_hash(root.as_os_str()));
        make(&directory)?;
        Ok(Self { root, directory })
    }

    /// What [`Workspace::with_base`] got, without links.
    #[must_use]
    pub fn base(&self) -> &Path {
        self.directory.parent().unwrap_or(&self.directory)
    }

    /// The house of supervisors of the build that `binary` is.
    ///
    /// # Errors
    /// The binary cannot be read.
    pub fn house(&self, binary: &Path) -> Result<House, StateError> {
        let failed = |source| StateError::Directory { path: binary.to_owned(), source };
        let metadata = std::fs::metadata(binary).map_err(failed)?;
        let build = format!("{}/{}/{}/{}", binary.display(), metadata.len(), metadata.mtime(), metadata.mtime_nsec());
        Ok(House(self.directory.join(short_hash(OsStr::new(&build)))))
    }

    /// The houses of all supervisors of this workspace, living or dead.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn houses(&self) -> Result<Vec<House>, StateError> {
        let failed = |source| StateError::Directory { path: self.directory.clone(), source };
        let mut houses = Vec::new();
        for entry in std::fs::read_dir(&self.directory).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.is_dir() && !is_ruin(&path) {
                houses.push(House(path));
            }
        }
        houses.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(houses)
    }

    /// Houses of which somebody has begun to remove the remains.
    pub(super) fn ruins(&self) -> impl Iterator<Item = PathBuf> {
        let entries = std::fs::read_dir(&self.directory).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(|path| is_ruin(path))
    }

    /// Waits for the lock that serialises the starting of supervisors.
    ///
    /// # Errors
    /// The lock file cannot be made.
    pub fn lock_start(&self) -> Result<Flock<std::fs::File>, StateError> {
        let path = self.directory.join("start.lock");
        lock(&path, FlockArg::LockExclusive)
    }
}

impl House {
    /// Begins the name of a house that is being removed.
    pub(super) const DYING: &'static str = ".dying-";

    /// The house at a path.
    #[must_use]
    pub fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// Its directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The Unix socket on which its supervisor listens.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.0.join("socket")
    }

    /// The supervisor's own log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.0.join("log")
    }

    /// Where its log is kept when its supervisor has died: beside the house, which goes then.
    #[must_use]
    pub fn last_log(&self) -> PathBuf {
        self.0.with_file_name("last.log")
    }

    /// Whether nobody lives in it any more.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        !self.0.exists() || self.lock().is_ok()
    }

    /// The file that says what the processes of its supervisor carry.
    #[must_use]
    pub fn identity(&self) -> PathBuf {
        self.0.join("identity")
    }

    /// Makes the directory.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn make(&self) -> Result<(), StateError> {
        make(&self.0)
    }

    /// Takes the lock that a living supervisor holds; fails at once where one lives.
    ///
    /// # Errors
    /// A supervisor lives there, or the file cannot be made.
    pub fn lock(&self) -> Result<Flock<std::fs::File>, StateError> {
        let path = self.0.join("lock");
        let held = lock(&path, FlockArg::LockExclusiveNonblock)?;
        // A sweep removes the file while it holds the lock: then this lock is of a file that is gone.
        let inode = |metadata: io::Result<std::fs::Metadata>| metadata.ok().map(|metadata| metadata.ino());
        if inode(held.metadata()) == inode(std::fs::metadata(&path)) {
            Ok(held)
        } else {
            Err(StateError::Lock { path, source: io::Error::new(io::ErrorKind::NotFound, "it was removed meanwhile") })
        }
    }
}

fn is_ruin(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(House::DYING.as_bytes()))
}

/// A text for a name: the first 8 hexadecimal digits of its SHA-256.
#[must_use]
pub fn short_hash(text: &OsStr) -> String {
    let digest = Sha256::digest(text.as_encoded_bytes());
    digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

fn lock(path: &Path, how: FlockArg) -> Result<Flock<std::fs::File>, StateError> {
    let failed = |source| StateError::Lock { path: path.to_owned(), source };
    let file = std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(path).map_err(failed)?;
    Flock::lock(file, how).map_err(|(_, errno)| failed(errno.into()))
}

fn base() -> Result<PathBuf, StateError> {
    let uid = nix::unistd::geteuid().as_raw();
    let base = match std::env::var_os(STATE_VARIABLE) {
        Some(path) => {
            std::path::absolute(&path).map_err(|source| StateError::Directory { path: PathBuf::from(path), source })?
        }
        None if memory_has_room() => PathBuf::from(format!("/dev/shm/greenroom-{uid}")),
        None => std::env::temp_dir().join(format!("greenroom-{uid}")),
    };
    make(&base)?;
    let metadata = std::fs::metadata(&base).map_err(|source| StateError::Directory { path: base.clone(), source })?;
    if metadata.uid() != uid {
        return Err(StateError::Foreign { path: base, owner: metadata.uid() });
    }
    Ok(base)
}

/// Whether environments may live in memory: there is room, and brokers may load the libraries that they unpack there to
/// compress records. In a container it is often mounted otherwise.
fn memory_has_room() -> bool {
    let room = statvfs("/dev/shm");
    room.is_ok_and(|room| {
        !room.flags().contains(FsFlags::ST_NOEXEC) && room.blocks() * room.fragment_size() >= MEMORY_BYTES_MIN
    })
}

/// A base directory under the name that the kernel has for it, by which what works below it is found.
fn usable(base: &Path) -> Result<PathBuf, StateError> {
    let base = std::fs::canonicalize(base).map_err(|source| StateError::Directory { path: base.to_owned(), source })?;
    let why = match base.to_str() {
        None => "has a character that is not UTF-8 in its path".to_owned(),
        Some(path) if path.contains(',') => "has a comma in its path, where Kafka would split it".to_owned(),
        Some(path) if path.len() > BASE_BYTES_MAX => {
            format!("has a path of {} bytes, and a socket's leaves room for {BASE_BYTES_MAX}", path.len())
        }
        Some(_) => return Ok(base),
    };
    Err(StateError::Unusable { path: base, why })
}

/// Makes a directory, and those above it that are missing; others may pass through what it has made, whatever the
/// umask.
fn make(path: &Path) -> Result<(), StateError> {
    let failed = |source| StateError::Directory { path: path.to_owned(), source };
    let missing: Vec<_> = path.ancestors().take_while(|path| !path.exists()).collect();
    std::fs::DirBuilder::new().recursive(true).mode(MODE).create(path).map_err(failed)?;
    for made in missing {
        match std::fs::set_permissions(made, PermissionsExt::from_mode(MODE)) {
            // Somebody sweeps after a dead supervisor, and whoever made it finds that out.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            set => set.map_err(failed)?,
        }
    }
    Ok(())
}
