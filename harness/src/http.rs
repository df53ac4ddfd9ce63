//! How this crate, drivers and stories ask programs over HTTP: straight, and nobody else's answer is taken for theirs.
//!
//! Absent: an answer's meaning, which is the caller's.

/// A client to be built: no proxy, which would not reach an environment's loopback address, and no redirect, because
/// what a program answers is judged and not what it leads to.
pub fn client() -> reqwest::ClientBuilder {
    reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none())
}
