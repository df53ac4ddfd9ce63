//! Kafka's jars as brokers run them: relinked, so that a class archive holds the lambdas of their Scala classes too.
//!
//! What is changed and why is said in `Relink.java`, which does it. Where `GREENROOM_KAFKA_JARS` is `published`, brokers
//! run the jars as they came.

use std::env;
use std::path::PathBuf;
use std::time::Duration;

use super::child::{self, Program};
use super::jdk::Choice;
use super::maven::{Jars, LAUNCHER_JAR};
use super::store::{Key, Store};
use super::{PrepareError, Reporter};

/// Which jars brokers run.
const VARIABLE: &str = "GREENROOM_KAFKA_JARS";

/// Reading 50 jars and writing four takes some three seconds of CPU.
const LIMIT: Duration = Duration::from_secs(180);

/// What brokers run.
#[derive(Debug)]
pub(super) struct Relinked {
    /// Class path of a node, in order.
    pub(super) classpath: Vec<PathBuf>,
    /// Differs whenever one of them was made anew.
    pub(super) build: String,
}

/// The jars with those replaced that hold lambdas of Scala.
pub(super) fn prepare(
    store: &Store,
    jdk: &Choice,
    jars: Jars,
    reporter: &mut Reporter<'_>,
) -> Result<Relinked, PrepareError> {
    let Jars { kafka: published, asm, build, .. } = jars;
    if !is_wanted(env::var(VARIABLE).ok().as_deref())? {
        return Ok(Relinked { classpath: published, build });
    }
    let key = Key::new("relinked", &[&build]);
    let entry = store.entry(&key, "Kafka's jars, relinked for class archives", reporter, |directory| {
        let log = store.log(&key)?;
        let launcher = published.iter().find(|jar| jar.ends_with(LAUNCHER_JAR)).expect("the launcher was made");
        let mut command = child::command(&jdk.found.home.join("bin/java"));
        command.arg("-cp").arg(format!("{}:{}", launcher.display(), asm.display()));
        command.arg("greenroom.Relink").arg(directory).args(&published);
        Program::start("the relinking of Kafka's jars", command, &log)?.succeed(LIMIT)
    })?;
    let runs = |jar: &PathBuf| {
        let relinked = entry.path.join(jar.file_name().unwrap_or_default());
        if relinked.is_file() { relinked } else { jar.clone() }
    };
    Ok(Relinked { classpath: published.iter().map(runs).collect(), build: build + &entry.build })
}

/// Whether jars are to be relinked, as the variable says.
fn is_wanted(value: Option<&str>) -> Result<bool, PrepareError> {
    match value {
        None | Some("" | "relinked") => Ok(true),
        Some("published") => Ok(false),
        Some(other) => Err(PrepareError::new(format!("{VARIABLE} is {other:?}"))
            .hint("set it to `published` for Kafka's jars as they came, or leave it unset")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jars_are_relinked_unless_the_published_ones_are_asked_for() {
        assert!(
            [None, Some(""), Some("relinked")].into_iter().all(|value| is_wanted(value).is_ok_and(|wanted| wanted))
        );
        assert_eq!(is_wanted(Some("published")).ok(), Some(false));
        let error = is_wanted(Some("apache")).unwrap_err();
        assert_eq!(error.message, "GREENROOM_KAFKA_JARS is \"apache\"");
    }
}
