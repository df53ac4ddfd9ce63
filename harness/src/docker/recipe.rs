//! By what an image of ours was built, as its label says it.

use std::fmt;

/// What an image is built by, apart from what lies in it.
pub(super) struct Recipe {
    /// The base's name.
    pub(super) base: String,
    /// A hash of the Dockerfile.
    pub(super) dockerfile: String,
    /// The base's id, by which one that was made anew is told from the one before; unknown as long as it is in its
    /// registry only.
    pub(super) base_id: Option<String>,
}

impl Recipe {
    /// Whether the image that bears this label was built by it.
    pub(super) fn made(&self, label: &str) -> bool {
        let mut words = label.split(' ');
        let same = (words.next(), words.next()) == (Some(&*self.base), Some(&*self.dockerfile));
        let other_base = words.next().zip(self.base_id.as_deref()).is_some_and(|(then, now)| then != now);
        same && !other_base
    }
}

impl fmt::Display for Recipe {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.base, self.dockerfile)?;
        self.base_id.iter().try_for_each(|id| write!(formatter, " {id}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_that_was_made_anew_makes_another_image() {
        let recipe = |base: &str, dockerfile: &str, id: Option<&str>| Recipe {
            base: base.to_owned(),
            dockerfile: dockerfile.to_owned(),
            base_id: id.map(str::to_owned),
        };
        let built = recipe("debian:13", "f1", Some("sha256:1")).to_string();
        assert!(recipe("debian:13", "f1", Some("sha256:1")).made(&built));
        assert!(recipe("debian:13", "f1", None).made(&built), "the base was removed after it");
        let unknown = recipe("debian:13", "f1", None).to_string();
        assert!(recipe("debian:13", "f1", Some("sha256:1")).made(&unknown), "the base was fetched by the build");
        for other in [
            recipe("debian:13", "f1", Some("sha256:2")),
            recipe("debian:13", "f2", Some("sha256:1")),
            recipe("debian:12", "f1", Some("sha256:1")),
        ] {
            assert!(!other.made(&built), "{other}");
        }
    }
}
