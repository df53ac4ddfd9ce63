//! The container of a part, where it runs in one: its image, and what of this machine it sees.
//!
//! Deliberately absent: what runs in it, which is the part's command wherever it runs.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Runtime, Site};
use crate::docker::images::Image;

/// The container of a part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedContainer {
    /// Its image.
    pub image: String,
    /// What the image must hold, as `sha256:…`; anything, where absent.
    pub digest: Option<String>,
    /// Whose the image is.
    pub kind: ImageKind,
    /// Directories and files of this machine that it reads at the same paths, beside the environment's own, which it
    /// writes too.
    pub reads: Vec<PathBuf>,
    /// The id of its image where a checkpoint is restored that was made in just that one. What restores it makes
    /// namespaces of its own, which an engine forbids where it is not told otherwise.
    pub restores_in: Option<String>,
}

/// Whose an image is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImageKind {
    /// Built here, of what this machine has prepared.
    Built,
    /// Made by others; a broker or a store runs in it as the plan says.
    Others,
    /// Somebody else's service: the image says by itself what runs, as whom and where.
    Service,
}

impl PlannedContainer {
    /// Of this image, whichever bears its name; it reads nothing beside the environment's directory.
    pub(super) fn of(image: String, kind: ImageKind) -> Self {
        Self { image, digest: None, kind, reads: Vec::new(), restores_in: None }
    }

    /// Of an image that is built here.
    pub(super) fn built(image: Image) -> Self {
        Self::of(image.name, ImageKind::Built)
    }
}

impl Site {
    /// The container of a broker or a store.
    pub(crate) fn contained(&self, image: Image) -> Option<PlannedContainer> {
        let container = PlannedContainer::built(image);
        (self.runtime == Runtime::Docker).then_some(container)
    }
}
