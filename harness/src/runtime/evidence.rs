//! The last lines of a part's log, for the message of a failed start.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// Lines that a message shows of a log.
const LINES_SHOWN: usize = 20;
/// A log's end that is read to find them, in bytes.
const BYTES_READ: u64 = 64 * 1024;

/// The last 20 lines of a log; says so where there are none.
#[must_use]
pub fn last_lines(log: &Path) -> String {
    told(File::open(log).and_then(|mut log| tail(&mut log)))
}

/// The same of a log that is open, wherever it lies by now.
pub(crate) fn last_lines_of(log: &mut File) -> String {
    told(tail(log))
}

fn told(tail: std::io::Result<String>) -> String {
    match tail {
        Ok(text) if text.trim().is_empty() => "(it logged nothing)".to_owned(),
        Ok(text) => {
            let lines: Vec<_> = text.lines().collect();
            lines[lines.len().saturating_sub(LINES_SHOWN)..].join("\n")
        }
        Err(error) => format!("(its log cannot be read: {error})"),
    }
}

fn tail(file: &mut File) -> std::io::Result<String> {
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(BYTES_READ)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
