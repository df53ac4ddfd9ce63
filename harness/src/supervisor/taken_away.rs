//! An environment is taken away also where whoever lends it ends by a panic: nobody else would know of it.

use std::sync::Arc;

use tokio::runtime::Handle;

use super::serve::Server;
use super::tenancy::Tenancy;

/// Takes an environment away when this is dropped, unless that was done before.
pub(super) struct TakenAway {
    server: Arc<Server>,
    tenancy: Arc<Tenancy>,
}

impl TakenAway {
    /// For an environment of this server.
    pub(super) fn in_the_end(server: &Arc<Server>, tenancy: &Arc<Tenancy>) -> Self {
        Self { server: Arc::clone(server), tenancy: Arc::clone(tenancy) }
    }
}

impl Drop for TakenAway {
    fn drop(&mut self) {
        if self.tenancy.has_ended() {
            return;
        }
        self.tenancy.begin_end();
        // There is none where the supervisor itself ends, and its processes with it.
        if let Ok(runtime) = Handle::try_current() {
            let (server, tenancy) = (Arc::clone(&self.server), Arc::clone(&self.tenancy));
            runtime.spawn(async move { server.remove(&tenancy).await });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};
    use std::time::{Duration, Instant};

    use super::*;
    use crate::plan::{Runtime, Scope};
    use crate::runtime::{Spawner, until};
    use crate::spec::read_str;
    use crate::supervisor::addresses::Addresses;
    use crate::supervisor::protocol::Order;
    use crate::supervisor::state::House;
    use crate::toolchain::{Jdk, Kafka, PartImages, Postgres, Redis, Start, Toolchain};

    /// An order of which nothing can be started here.
    fn order() -> Order {
        let (nowhere, version) = (PathBuf::from("/nowhere"), || "0".to_owned());
        let kafka = Kafka {
            version: version(),
            classpath: Vec::new(),
            colocated_archive: None,
            separate_archive: None,
            start: Start::Cold { because: "there is nothing to start".to_owned() },
        };
        let toolchain = Toolchain {
            jdk: Jdk { home: nowhere.clone(), major: 25, version: version() },
            kafka,
            postgres: Postgres { home: nowhere.clone(), version: version(), data_template: nowhere.clone() },
            redis: Redis { binary: nowhere.clone(), version: version() },
            images: PartImages::default(),
        };
        Order {
            spec: read_str(Path::new("stand.toml"), "name = \"stand\"\n[redis]\n").expect("a right description"),
            of_somebody_else: false,
            scope: Scope::Everything,
            runtime: Runtime::Process,
            engine: String::new(),
            toolchain,
            binaries: nowhere.clone(),
            inherited: Default::default(),
            evidence: nowhere,
            holder: "a test".to_owned(),
            deadline_ms: 1_000,
        }
    }

    /// Goal: the law that a lease ends with its connection, where it ends by a panic.
    #[tokio::test]
    async fn a_panic_takes_its_environment_away() {
        let base = tempfile::tempdir().expect("there is room");
        let addresses = Addresses::open(std::process::id()).expect("the lock file");
        let (spawner, _unserved) = Spawner::new();
        let server = Arc::new(Server::new(House::at(base.path().to_owned()), "1-1".to_owned(), addresses, spawner, 0));
        let tenancy = server.admit(order(), None).expect("there is an address");
        std::fs::create_dir(tenancy.directory()).expect("there is room");
        let taken_away = TakenAway::in_the_end(&server, &tenancy);
        let lending = tokio::spawn(async move {
            let _taken_away = taken_away;
            panic!("on purpose")
        });
        let ended: Result<(), _> = lending.await;
        assert!(ended.is_err_and(|error| error.is_panic()));
        let gone = until(Instant::now() + Duration::from_secs(10), Duration::from_millis(2), async || {
            let known: Vec<_> = server.lock().keys().cloned().collect();
            if known.is_empty() { Ok(()) } else { Err(format!("it still knows {known:?}")) }
        });
        gone.await.unwrap();
        assert!(!tenancy.directory().exists() && tenancy.has_ended());
    }
}
