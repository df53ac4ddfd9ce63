//! Why something could not be prepared, told so that a person can act.

use std::io;
use std::path::Path;

use nix::sys::statvfs::statvfs;

/// Preparing failed: what, where and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct PrepareError {
    /// What failed, as a fragment.
    pub message: String,
    /// What is known of it, possibly several lines.
    pub detail: Option<String>,
    /// What to do.
    pub hint: Option<String>,
    /// What the operating system said.
    #[source]
    pub source: Option<io::Error>,
}

impl PrepareError {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), detail: None, hint: None, source: None }
    }

    pub(super) fn detail(self, detail: impl Into<String>) -> Self {
        Self { detail: Some(detail.into()), ..self }
    }

    pub(super) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// An operation on a path that the operating system refused.
    pub(super) fn io(operation: &str, path: &Path, source: io::Error) -> Self {
        let hint = match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Some(FULL.to_owned()),
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Some("give yourself access to it, or set GREENROOM_CACHE to a directory that you can write".to_owned())
            }
            _ => None,
        };
        let message = format!("failed to {operation} {}", path.display());
        Self { message, detail: None, hint, source: Some(source) }
    }

    /// The hint of a full disk, where the text of a program says that it met one.
    pub(super) fn notice_full_disk(self, output: &str) -> Self {
        if output.contains("No space left on device") || output.contains("Disk quota exceeded") {
            return self.hint(FULL);
        }
        self
    }

    /// The hint of a full disk, where the disk of `directory` is as good as full and nothing better is known.
    pub(super) fn notice_full_disk_of(self, directory: &Path) -> Self {
        let available = statvfs(directory).map(|disk| disk.blocks_available() * disk.fragment_size());
        match available {
            Ok(available) if available < LARGEST_FILE && self.hint.is_none() => self.hint(FULL),
            _ => self,
        }
    }
}

/// Size of the largest single file that is written, a class archive, in bytes.
const LARGEST_FILE: u64 = 80 << 20;

const FULL: &str = "the disk is full: free about 1 GB there, or set GREENROOM_CACHE to a directory on another disk";

/// Turns the error of an operation on a path into a [`PrepareError`].
pub(super) fn at<'a>(operation: &'a str, path: &'a Path) -> impl FnOnce(io::Error) -> PrepareError + 'a {
    move |source| PrepareError::io(operation, path, source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_says_what_to_do() {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let error = PrepareError::io("write", Path::new("/cache/x"), full);
        assert_eq!(error.to_string(), "failed to write /cache/x");
        assert_eq!(error.hint.as_deref(), Some(FULL));
        let from_output = PrepareError::new("maven failed").notice_full_disk("x: No space left on device (y)");
        assert_eq!(from_output.hint.as_deref(), Some(FULL));
    }
}
