//! `docker/images.toml`: the one list of what containers are made of, and of images that others have made.
//!
//! Deliberately absent: asking an engine; see [`Engine::holds`](super::Engine::holds).

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::toolchain::{PartImage, PartImages};

/// Names another list than the workspace's `docker/images.toml`, by its path from the workspace's root.
pub const IMAGES_VARIABLE: &str = "GREENROOM_IMAGES";

/// Where Apache's own image has Kafka's jars.
const APACHE_JARS: &str = "/opt/kafka/libs";

/// What the list says.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pinned {
    /// What the images that are made here are built over.
    pub base: Option<Base>,
    /// An image of others for the brokers.
    pub kafka: Option<Listed>,
    /// An image of others for PostgreSQL.
    pub postgres: Option<Listed>,
    /// An image of others for Redis.
    pub redis: Option<Listed>,
}

/// What the images that are made here are built over.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Base {
    /// Its repository, such as `debian`.
    pub image: String,
    /// Its tag.
    pub version: String,
    /// What it must hold.
    pub digest: Option<String>,
}

/// An image that others have made.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listed {
    /// Its repository, such as `postgres` or `127.0.0.1:5000/postgres`.
    pub image: String,
    /// Its tag.
    pub version: String,
    /// What it must hold: the digest that its registry gives it, or its id.
    pub digest: Option<String>,
    /// Whether the part runs in it, and not in the one that is built here.
    #[serde(default = "yes", rename = "use")]
    pub used: bool,
    /// Where Kafka's jars lie in it, if not where Apache's own image has them.
    pub jars: Option<PathBuf>,
}

/// Why the list cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PinnedError {
    /// It cannot be read.
    #[error("failed to read the list of images {}", path.display())]
    Read {
        /// The list.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// It says something else than such a list does.
    #[error("the list of images {} is wrong in line {line}: {what}", path.display())]
    Syntax {
        /// The list.
        path: PathBuf,
        /// The line.
        line: usize,
        /// What is wrong with it.
        what: String,
    },
    /// Jars are named where none are read, or not as an image has them.
    #[error(
        "the list of images {} names jars for {part}; expected an absolute path, for kafka only",
        path.display()
    )]
    Jars {
        /// The list.
        path: PathBuf,
        /// The part.
        part: &'static str,
    },
    /// A digest is none.
    #[error(
        "the list of images {} gives {part} the digest {digest:?}; expected `sha256:` and 64 hexadecimal digits",
        path.display()
    )]
    Digest {
        /// The list.
        path: PathBuf,
        /// The part.
        part: &'static str,
        /// What stands there.
        digest: String,
    },
}

/// The images of others that parts of this workspace's environments run in.
///
/// # Errors
/// As [`Pinned::of`].
pub fn chosen(root: &Path) -> Result<PartImages, PinnedError> {
    Ok(Pinned::of(root)?.map(|pinned| pinned.chosen()).unwrap_or_default())
}

impl Pinned {
    /// Reads the list of the workspace at `root`, or the one that [`IMAGES_VARIABLE`] names. `None` where the workspace
    /// has no list, as one that only uses this crate.
    ///
    /// # Errors
    /// It cannot be read, or is wrong.
    pub fn of(root: &Path) -> Result<Option<Self>, PinnedError> {
        match std::env::var_os(IMAGES_VARIABLE).filter(|path| !path.is_empty()) {
            Some(path) => Self::read(&root.join(path)).map(Some),
            None => {
                let path = root.join("docker/images.toml");
                if path.exists() { Self::read(&path).map(Some) } else { Ok(None) }
            }
        }
    }

    fn read(path: &Path) -> Result<Self, PinnedError> {
        let read = std::fs::read_to_string(path);
        let text = read.map_err(|source| PinnedError::Read { path: path.to_owned(), source })?;
        let pinned: Self = toml::from_str(&text).map_err(|error| {
            let before = text.get(..error.span().map_or(0, |span| span.start)).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            PinnedError::Syntax { path: path.to_owned(), line, what: error.message().to_owned() }
        })?;
        let of_base = pinned.base.iter().filter_map(|base| Some(("base", base.digest.as_ref()?)));
        let digests = pinned.listed().filter_map(|(part, listed)| Some((part, listed.digest.as_ref()?)));
        if let Some((part, digest)) = digests.chain(of_base).find(|(_, digest)| !is_digest(digest)) {
            return Err(PinnedError::Digest { path: path.to_owned(), part, digest: digest.clone() });
        }
        for (part, listed) in pinned.listed() {
            if listed.jars.as_ref().is_some_and(|jars| part != "kafka" || !jars.is_absolute()) {
                return Err(PinnedError::Jars { path: path.to_owned(), part });
            }
        }
        Ok(pinned)
    }

    /// The images of others, with their parts.
    pub fn listed(&self) -> impl Iterator<Item = (&'static str, &Listed)> {
        let parts = [("kafka", &self.kafka), ("postgres", &self.postgres), ("redis", &self.redis)];
        parts.into_iter().filter_map(|(part, listed)| Some((part, listed.as_ref()?)))
    }

    /// Those that parts run in.
    #[must_use]
    pub fn chosen(&self) -> PartImages {
        let chosen = |listed: &Option<Listed>| {
            let listed = listed.as_ref().filter(|listed| listed.used)?;
            let jars = listed.jars.clone().unwrap_or_else(|| APACHE_JARS.into());
            Some(PartImage { name: listed.name(), digest: listed.digest.clone(), jars })
        };
        PartImages { kafka: chosen(&self.kafka), postgres: chosen(&self.postgres), redis: chosen(&self.redis) }
    }
}

impl Base {
    /// Its repository, and its digest or else its tag.
    #[must_use]
    pub fn name(&self) -> String {
        match &self.digest {
            Some(digest) => format!("{}@{digest}", self.image),
            None => format!("{}:{}", self.image, self.version),
        }
    }
}

impl Listed {
    /// Its repository and its tag.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}:{}", self.image, self.version)
    }
}

fn yes() -> bool {
    true
}

fn is_digest(text: &str) -> bool {
    let hash = text.strip_prefix("sha256:");
    hash.is_some_and(|hash| hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Pinned, PinnedError> {
        let directory = tempfile::tempdir().expect("there is room");
        let path = directory.path().join("images.toml");
        std::fs::write(&path, format!("base = {{ image = \"debian\", version = \"13-slim\" }}\n{text}"))
            .expect("there is room");
        Pinned::read(&path)
    }

    #[test]
    fn a_part_runs_in_a_listed_image_unless_the_list_says_otherwise() {
        let pinned = read(concat!(
            "[kafka]\nimage = \"apache/kafka\"\nversion = \"4.3.1\"\nuse = false\n",
            "[redis]\nimage = \"localhost:5000/redis\"\nversion = \"8\"\n",
        ));
        let pinned = pinned.expect("it is right");
        assert_eq!(pinned.base.as_ref().expect("it has one").name(), "debian:13-slim");
        assert_eq!(
            pinned.listed().map(|(part, listed)| (part, listed.name())).collect::<Vec<_>>(),
            [("kafka", "apache/kafka:4.3.1".to_owned()), ("redis", "localhost:5000/redis:8".to_owned()),]
        );
        let chosen = pinned.chosen();
        assert_eq!((chosen.kafka, chosen.postgres), (None, None));
        assert_eq!(chosen.redis.expect("it is chosen").name, "localhost:5000/redis:8");
    }

    #[test]
    fn everything_in_the_list_of_this_workspace_has_a_digest() {
        let pinned = Pinned::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../docker/images.toml"));
        let pinned = pinned.expect("it is right");
        assert!(pinned.base.as_ref().is_some_and(|base| base.digest.is_some()));
        let with_digest = pinned.listed().filter(|(_, listed)| listed.digest.is_some()).map(|(part, _)| part);
        assert_eq!(with_digest.collect::<Vec<_>>(), ["kafka", "postgres", "redis"]);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let said = |text| crate::report::chain(&read(text).expect_err("it is wrong"));
        let misspelt = said("[kafak]\nimage = \"apache/kafka\"\nversion = \"4.3.1\"\n");
        assert!(misspelt.contains("images.toml is wrong in line 2: unknown field `kafak`"), "{misspelt}");
        let other = said("[redis]\nimage = \"redis\"\nversion = \"8\"\nuse = \"perhaps\"\n");
        assert!(other.contains("is wrong in line 5: invalid type: string \"perhaps\", expected a boolean"), "{other}");
        let digest = said("[redis]\nimage = \"redis\"\nversion = \"8\"\ndigest = \"8d5f\"\n");
        assert!(digest.contains("gives redis the digest \"8d5f\"; expected `sha256:` and 64 hexadecimal"), "{digest}");
        let jars = said("[redis]\nimage = \"redis\"\nversion = \"8\"\njars = \"/opt/redis\"\n");
        assert!(jars.contains("names jars for redis; expected an absolute path, for kafka only"), "{jars}");
    }
}
