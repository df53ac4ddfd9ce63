//! The images that parts run in: a base, and over it what this machine has prepared, at the same paths.
//!
//! The name of an image ends with a hash of what lies in it (the paths, of which those in the cache tell the content,
//! and the version), so one of another JDK or other jars is a missing one. By which base and Dockerfile it was built says
//! its label.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{Engine, EngineError};
use crate::artifacts::open_mode;
use crate::supervisor::state::short_hash;
use crate::toolchain::Toolchain;

/// Parts of a JDK that no broker needs, and that are large.
const LEFT_OUT: [&str; 3] = ["jmods", "src.zip", "demo"];
/// How many bytes go to the engine at once.
const CHUNK_BYTES: usize = 1 << 18;

/// One image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Its name and tag.
    pub name: String,
    /// What of this machine lies in it, at the same paths.
    pub contents: Vec<PathBuf>,
}

/// All images that environments made from this toolchain need.
#[must_use]
pub fn all(toolchain: &Toolchain) -> [Image; 3] {
    [kafka(toolchain), postgres(toolchain), redis(toolchain)]
}

/// The image of a program of this workspace.
#[must_use]
pub fn program(name: &str, binary: PathBuf) -> Image {
    Image { name: format!("greenroom/{name}:latest"), contents: vec![binary] }
}

/// The image of the brokers.
#[must_use]
pub fn kafka(toolchain: &Toolchain) -> Image {
    let kafka = &toolchain.kafka;
    let archives = [&kafka.colocated_archive, &kafka.separate_archive].into_iter().flatten();
    let files = kafka.classpath.iter().chain(archives.map(|archive| &archive.path));
    let mut contents: Vec<PathBuf> = files.filter_map(|file| Some(file.parent()?.to_owned())).collect();
    contents.push(toolchain.jdk.home.clone());
    image("kafka", &toolchain.jdk.version, contents)
}

/// PostgreSQL's image.
#[must_use]
pub fn postgres(toolchain: &Toolchain) -> Image {
    image("postgres", &toolchain.postgres.version, vec![toolchain.postgres.home.clone()])
}

/// The image of Redis.
#[must_use]
pub fn redis(toolchain: &Toolchain) -> Image {
    image("redis", &toolchain.redis.version, vec![toolchain.redis.binary.clone()])
}

fn image(part: &str, version: &str, mut contents: Vec<PathBuf>) -> Image {
    contents.sort();
    contents.dedup();
    let named: Vec<_> = contents.iter().map(|path| path.as_os_str()).chain([OsStr::new(version)]).collect();
    Image { name: format!("greenroom/{part}:{}", short_hash(&named.join(OsStr::new("\n")))), contents }
}

impl Image {
    /// Builds it by this Dockerfile, which reads these arguments; `step` hears what the engine says.
    ///
    /// # Errors
    /// Its contents cannot be read, or the engine refuses.
    pub async fn build(
        &self,
        engine: &Engine,
        dockerfile: &str,
        base: &str,
        arguments: &[(&str, &str)],
        step: impl FnMut(&str),
    ) -> Result<(), EngineError> {
        let recipe = engine.recipe(base, dockerfile).await?;
        let (chunks, context) = mpsc::channel(4);
        let (contents, dockerfile) = (self.contents.clone(), dockerfile.to_owned());
        tokio::task::spawn_blocking(move || {
            if let Err(error) = archive(&contents, &dockerfile, Chunks(chunks.clone())) {
                // The engine hears it as the end of the archive, and the caller as the engine's error.
                let _ = chunks.blocking_send(Err(error));
            }
        });
        let context = futures_util::stream::unfold(context, async |mut context| Some((context.recv().await?, context)));
        let arguments = arguments.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        engine.build(&self.name, &recipe, arguments, context, step).await
    }
}

/// Hands what is written to the engine.
struct Chunks(mpsc::Sender<io::Result<Bytes>>);

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes))).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes the context of a build: a Dockerfile, and beside it what is to be copied.
fn archive(contents: &[PathBuf], dockerfile: &str, to: impl Write) -> io::Result<()> {
    let mut tar = tar::Builder::new(io::BufWriter::with_capacity(CHUNK_BYTES, to));
    let mut header = tar::Header::new_gnu();
    header.set_size(u64::try_from(dockerfile.len()).unwrap_or_default());
    header.set_mode(0o644);
    tar.append_data(&mut header, "Dockerfile", dockerfile.as_bytes())?;
    contents.iter().try_for_each(|path| add(&mut tar, path))?;
    tar.into_inner()?.flush()
}

/// Adds a file, or a directory and all in it. A link is followed: what a distribution keeps in `/etc` is needed too.
fn add<W: Write>(tar: &mut tar::Builder<W>, path: &Path) -> io::Result<()> {
    // It does not say itself which one it is about.
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let metadata = match std::fs::metadata(path) {
        // A link to what this distribution leaves out.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        metadata => metadata.map_err(named)?,
    };
    let inside = Path::new("contents").join(path.strip_prefix("/").unwrap_or(path));
    let mut header = tar::Header::new_gnu();
    header.set_mode(open_mode(metadata.permissions().mode()));
    // A class archive is valid for jars of this age only.
    header.set_mtime(u64::try_from(metadata.mtime()).unwrap_or_default());
    if !metadata.is_dir() {
        header.set_size(metadata.len());
        return tar.append_data(&mut header, inside, std::fs::File::open(path).map_err(named)?);
    }
    header.set_entry_type(tar::EntryType::Directory);
    header.set_size(0);
    tar.append_data(&mut header, inside, io::empty())?;
    let entries = std::fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let mut entries = entries.map_err(named)?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    let wanted = entries.iter().filter(|entry| LEFT_OUT.iter().all(|name| entry.file_name() != *name));
    wanted.map(std::fs::DirEntry::path).try_for_each(|path| add(tar, &path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_has_the_dockerfile_and_what_links_lead_to() {
        let directory = tempfile::tempdir().expect("there is room");
        let jdk = directory.path().join("jdk");
        let elsewhere = directory.path().join("etc");
        std::fs::create_dir_all(jdk.join("bin")).expect("there is room");
        std::fs::create_dir_all(&elsewhere).expect("there is room");
        std::fs::write(jdk.join("bin/java"), "program").expect("there is room");
        std::fs::write(jdk.join("src.zip"), "sources").expect("there is room");
        std::fs::write(elsewhere.join("security"), "settings").expect("there is room");
        std::os::unix::fs::symlink(&elsewhere, jdk.join("conf")).expect("links can be made");
        std::os::unix::fs::symlink("/nowhere/at/all", jdk.join("broken")).expect("links can be made");
        let mut bytes = Vec::new();
        archive(std::slice::from_ref(&jdk), "FROM base\n", &mut bytes).expect("it can be read");
        let mut archive = tar::Archive::new(bytes.as_slice());
        let entries = archive.entries().expect("it is an archive");
        let files =
            entries.map(|entry| entry.expect("it is whole")).filter(|entry| entry.header().entry_type().is_file());
        let names: Vec<_> = files.map(|entry| entry.path().expect("it has a path").into_owned()).collect();
        let inside = Path::new("contents").join(jdk.strip_prefix("/").expect("it is absolute"));
        assert_eq!(names, [PathBuf::from("Dockerfile"), inside.join("bin/java"), inside.join("conf/security")]);
    }

    /// Goal: a part that runs as another user reads its files, however narrow the umask was when they were made.
    #[test]
    fn what_its_owner_can_read_others_can_read_in_an_image() {
        let directory = tempfile::tempdir().expect("there is room");
        let closed = directory.path().join("closed");
        std::fs::create_dir(&closed).expect("there is room");
        for (name, mode) in [("java", 0o700), ("jar", 0o600), ("aot", 0o400)] {
            std::fs::write(closed.join(name), name).expect("there is room");
            std::fs::set_permissions(closed.join(name), PermissionsExt::from_mode(mode)).expect("it is ours");
        }
        std::fs::set_permissions(&closed, PermissionsExt::from_mode(0o700)).expect("it is ours");
        let mut bytes = Vec::new();
        archive(std::slice::from_ref(&closed), "FROM base\n", &mut bytes).expect("it can be read");
        let mut archive = tar::Archive::new(bytes.as_slice());
        let entries = archive.entries().expect("it is an archive").skip(1);
        let modes: Vec<_> = entries.map(|it| it.expect("it is whole").header().mode().expect("a mode")).collect();
        assert_eq!(modes, [0o755, 0o444, 0o644, 0o755]);
    }
}
