//! The thread on which all connections of an environment's links are carried.
//!
//! One thread, because a connection that is handed from one to another wakes two. The kernel is told that it may let it
//! wait for its turn (`SCHED_BATCH`, sched(7)): a link that runs at once whenever a client has written a piece copies many
//! small ones, and takes the processor from the client that is writing and from the broker that is reading.

use std::io;
use std::sync::mpsc;
use std::thread;

use thread_priority::{
    NormalThreadSchedulePolicy, ThreadSchedulePolicy, set_thread_priority_and_policy, thread_native_id,
};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// The middle of the library's scale, which is the kernel's niceness 0.
const AS_NICE_AS_OTHERS: u8 = 47;

/// An executor on a thread of its own, which ends with this and all that runs on it.
#[derive(Debug)]
pub(super) struct Executor {
    pub(super) handle: Handle,
    /// The thread ends when this is dropped.
    _ends: oneshot::Sender<()>,
}

impl Executor {
    /// # Errors
    /// No thread, or nothing that waits for sockets, can be made.
    pub(super) fn start() -> io::Result<Self> {
        let (ends, ended) = oneshot::channel();
        let (made, making) = mpsc::channel();
        thread::Builder::new().name("links".to_owned()).spawn(move || {
            let runtime = match Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(made.send(Err(error))),
            };
            let _ = made.send(Ok(runtime.handle().clone()));
            let batch = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Batch);
            // Where that is forbidden, links cost more and do the same.
            if let Ok(as_nice_as_others) = AS_NICE_AS_OTHERS.try_into() {
                let _ = set_thread_priority_and_policy(thread_native_id(), as_nice_as_others, batch);
            }
            let _ = runtime.block_on(ended);
        })?;
        let handle = making.recv().map_err(io::Error::other)??;
        Ok(Self { handle, _ends: ends })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what the kernel was told holds, and ends with the executor.
    #[tokio::test]
    async fn its_thread_may_wait_for_its_turn() {
        let executor = Executor::start().expect("threads can be made");
        let policy = executor.handle.spawn(async {
            // Field 41 (proc_pid_stat(5)): 3 is SCHED_BATCH; 19 is how nice it is.
            let stat = std::fs::read_to_string("/proc/thread-self/stat").expect("it is there");
            let fields: Vec<_> = stat.rsplit(") ").next().unwrap_or_default().split(' ').map(str::to_owned).collect();
            (fields[38].clone(), fields[16].clone())
        });
        assert_eq!(policy.await.expect("it runs"), ("3".to_owned(), "0".to_owned()));
        let Executor { handle, _ends: ends } = executor;
        drop(ends);
        let never = handle.spawn(std::future::pending::<()>());
        assert!(never.await.is_err_and(|error| error.is_cancelled()));
    }
}
