//! Files that are written whole or not at all: whoever reads one may do so at any moment, and its writer may be killed.

use std::io::{self, Write as _};
use std::path::Path;

/// Begins the name of a file that is still being written, or was when its writer was killed.
pub(crate) const UNFINISHED: &str = ".unfinished-";

/// Writes a file, and makes its directory where that is absent.
pub(crate) fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(directory)?;
    let mut file = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(directory)?;
    file.write_all(content)?;
    file.persist(path)?;
    Ok(())
}
