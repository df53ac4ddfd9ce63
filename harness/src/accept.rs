//! Accepts connections, also when there is no file descriptor for one at the moment.

use std::io;
use std::time::Duration;

/// Pause before a connection is accepted again after that has failed.
const PAUSE: Duration = Duration::from_millis(20);

/// The next connection of a listener whose `accept` is called until it succeeds.
#[expect(clippy::disallowed_methods, reason = "others must end before there is a descriptor, and nobody tells when")]
pub(crate) async fn accept<T, F: Future<Output = io::Result<T>>>(next: impl Fn() -> F) -> T {
    loop {
        match next().await {
            Ok(accepted) => return accepted,
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}
