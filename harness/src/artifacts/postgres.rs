//! PostgreSQL's programs, unpacked, and a data directory as `initdb` leaves it, made once.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::time::Duration;

use nix::unistd::{Uid, User};

use super::child::{self, Program};
use super::error::at;
use super::maven::{Jars, pinned, pinned_hash};
use super::store::{Key, Store};
use super::{PrepareError, Reporter, open_mode};
use crate::toolchain::{Postgres, UNPRIVILEGED_ID};

/// The data directory's properties. The collation is PostgreSQL's own, so that text sorts by code point on every
/// machine and in every image; small WAL segments make a directory of 25 MB instead of 40, which is copied for each
/// environment; nothing is worth a sync, because an interrupted build is thrown away.
const INITDB: [&str; 9] = [
    "--username=postgres",
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--auth=trust",
    "--wal-segsize=1",
    "--no-sync",
    "--no-instructions",
];

/// Who may connect: anyone on this machine's loopback addresses, whichever the environment has. The server listens on
/// no other.
const HOST_BASED_ACCESS: &str = "\
# Written by greenroom: every environment has a loopback address of its own.
local all         all             trust
host  all         all 127.0.0.0/8 trust
host  replication all 127.0.0.0/8 trust
";

const LIMIT: Duration = Duration::from_secs(120);

/// The server of this machine.
pub(super) fn prepare(store: &Store, jars: &Jars, reporter: &mut Reporter<'_>) -> Result<Postgres, PrepareError> {
    let root = nix::unistd::geteuid().is_root();
    let owner = if root { "nobody" } else { "self" };
    let version = pinned("postgres.version").trim_end_matches(".0");
    let inputs = [version, pinned_hash(&jars.postgres), &INITDB.join(" "), HOST_BASED_ACCESS, owner];
    let key = Key::new("postgres", &inputs);
    let entry = store.entry(&key, &format!("PostgreSQL {version}"), reporter, |directory| {
        let home = directory.join("home");
        unpack(&jars.postgres, &home)?;
        let log = store.log(&key)?;
        initialise(&home, &directory.join("data"), root, &log)
    })?;
    let home = entry.path.join("home");
    Ok(Postgres { home, version: version.to_owned(), data_template: entry.path.join("data") })
}

/// Unpacks the one `.txz` of the jar.
fn unpack(jar: &Path, home: &Path) -> Result<(), PrepareError> {
    let broken = |error: zip::result::ZipError| PrepareError::io("read", jar, error.into());
    let mut zip = zip::ZipArchive::new(File::open(jar).map_err(at("open", jar))?).map_err(broken)?;
    let name = zip.file_names().find(|name| name.ends_with(".txz")).map(str::to_owned);
    let name = name.ok_or_else(|| PrepareError::new(format!("{} holds no .txz", jar.display())))?;
    let packed = zip.by_name(&name).map_err(broken)?;
    fs::create_dir(home).map_err(at("make the directory", home))?;
    tar::Archive::new(liblzma::read::XzDecoder::new(packed)).unpack(home).map_err(at("unpack into", home))?;
    open_tree(home)
}

/// Gives all of a tree its [`open_mode`].
fn open_tree(path: &Path) -> Result<(), PrepareError> {
    let data = fs::symlink_metadata(path).map_err(at("read", path))?;
    if data.is_symlink() {
        return Ok(());
    }
    let mode = open_mode(data.permissions().mode());
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(at("set the mode of", path))?;
    if data.is_dir() {
        for entry in fs::read_dir(path).map_err(at("read", path))? {
            open_tree(&entry.map_err(at("read", path))?.path())?;
        }
    }
    Ok(())
}

fn initialise(home: &Path, data: &Path, root: bool, log: &Path) -> Result<(), PrepareError> {
    let user = if root { Uid::from_raw(UNPRIVILEGED_ID) } else { Uid::effective() };
    // `initdb` asks for the name of whoever runs it, whatever name it is given.
    if let Ok(None) = User::from_uid(user) {
        let message = format!("user {user} has no entry in /etc/passwd, for which PostgreSQL's `initdb` asks");
        let entry = format!("greenroom:x:{user}:{user}::/:/bin/sh");
        return Err(PrepareError::new(message).hint(format!("add one: `echo {entry} >> /etc/passwd`, as root")));
    }
    fs::create_dir(data).map_err(at("make the directory", data))?;
    fs::set_permissions(data, fs::Permissions::from_mode(0o700)).map_err(at("set the mode of", data))?;
    let mut command = child::command(&home.join("bin/initdb"));
    command.args(INITDB).arg("--pgdata").arg(data).current_dir(home).env_clear().env("PATH", "/usr/bin:/bin");
    if root {
        chown(data, Some(UNPRIVILEGED_ID), Some(UNPRIVILEGED_ID)).map_err(at("change the owner of", data))?;
        command.uid(UNPRIVILEGED_ID).gid(UNPRIVILEGED_ID);
    }
    Program::start("initdb", command, log)?.succeed(LIMIT)?;
    let access = data.join("pg_hba.conf");
    fs::write(&access, HOST_BASED_ACCESS).map_err(at("write", &access))
}
