//! What a part runs in an image that others have made: the same settings as in ours, by the programs that are there.
//!
//! Programs are looked for when the container starts, where an image of that kind has them. A class archive fits only
//! the JDK and the jars it was made with, so brokers do without; PostgreSQL makes its data directory there, because the
//! prepared one is of another version, perhaps.
//!
//! Deliberately absent: entry points. Each image has its own, and none of them ends with an environment as ours do.

use std::path::PathBuf;

use super::{ImageKind, Part, PlannedContainer, Runtime, Site};
use crate::node;
use crate::spec::Layout;
use crate::toolchain::{PartImage, Toolchain};

/// Runs the JVM that the image names, else the one on its PATH.
const JAVA: &str = r#"exec "${JAVA_HOME:+$JAVA_HOME/bin/}java" "$@""#;
/// Runs PostgreSQL in the directory that is named first, which it makes at its first start.
const POSTGRES: &str = r#"set -e
for programs in /usr/lib/postgresql/*/bin /usr/pgsql-*/bin; do PATH="$PATH:$programs"; done
data=$1
shift
if [ ! -s "$data/PG_VERSION" ]; then
  initdb --pgdata="$data" --username=postgres --encoding=UTF8 --locale=C.UTF-8 --auth=trust --no-sync >/dev/null
fi
exec postgres -D "$data" "$@""#;
/// Jars of ours that brokers need beside an image's own, by how their names begin: the launcher, and what it logs with.
const JARS: [&str; 2] = ["greenroom-launcher", "slf4j-"];

/// The image for a part, where there is one and parts run in containers.
fn chosen<'a>(image: &'a Option<PartImage>, site: &Site) -> Option<&'a PartImage> {
    image.as_ref().filter(|_| site.runtime == Runtime::Docker)
}

/// Puts brokers of these properties files into the image for them, if there is one; `unpacks` says where native
/// libraries go.
pub(super) fn kafka(
    part: Part,
    unpacks: String,
    properties: Vec<String>,
    layout: Layout,
    toolchain: &Toolchain,
    site: &Site,
) -> Part {
    let Some(image) = chosen(&toolchain.images.kafka, site) else { return part };
    let is_ours = |jar: &&PathBuf| {
        let name = jar.file_name().unwrap_or_default().to_string_lossy();
        JARS.iter().any(|ours| name.starts_with(ours))
    };
    let ours: Vec<_> = toolchain.kafka.classpath.iter().filter(is_ours).cloned().collect();
    // Ours come first: an image's own logging would find another version of its interface.
    let classpath: Vec<_> = ours.iter().cloned().chain([image.jars.join("*")]).collect();
    let mut arguments = vec![unpacks];
    arguments.extend(node::jvm_flags(layout));
    arguments.extend(node::launcher_arguments(&classpath));
    arguments.extend(properties);
    into(part, image, shell(JAVA, "java", arguments), ours)
}

/// Puts PostgreSQL, with this data directory and these settings, into the image for it, if there is one.
pub(super) fn postgres(part: Part, data: PathBuf, settings: Vec<String>, toolchain: &Toolchain, site: &Site) -> Part {
    let Some(image) = chosen(&toolchain.images.postgres, site) else { return part };
    let mut arguments = vec![data.display().to_string()];
    arguments.extend(settings);
    let part = Part { copies: Vec::new(), directories: vec![data], ..part };
    into(part, image, shell(POSTGRES, "postgres", arguments), Vec::new())
}

/// Puts Redis, with these settings, into the image for it, if there is one.
pub(super) fn redis(part: Part, settings: Vec<String>, toolchain: &Toolchain, site: &Site) -> Part {
    let Some(image) = chosen(&toolchain.images.redis, site) else { return part };
    let command = ["redis-server".to_owned()].into_iter().chain(settings).collect();
    into(part, image, command, Vec::new())
}

fn into(part: Part, image: &PartImage, command: Vec<String>, reads: Vec<PathBuf>) -> Part {
    let of_others = PlannedContainer::of(image.name.clone(), ImageKind::Others);
    let container = PlannedContainer { digest: image.digest.clone(), reads, ..of_others };
    Part { version: image.name.clone(), container: Some(container), command, input: Vec::new(), ..part }
}

fn shell(script: &str, name: &str, arguments: Vec<String>) -> Vec<String> {
    let begin = ["/bin/sh", "-c", script, name].map(str::to_owned);
    begin.into_iter().chain(arguments).collect()
}
