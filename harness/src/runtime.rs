//! Starts what a [`Plan`](crate::plan::Plan) says, knows when it is ready, and ends it.
//!
//! Only the [supervisor](crate::supervisor) uses this module: it alone starts things. Start reading at [`start()`].
//!
//! Deliberately absent: restarts on failure and retries inside a start. A part that dies while starting
//! fails the start at once, with its last log lines.

mod evidence;
mod process;
mod readiness;
mod spawn;
mod standstill;
pub mod start;
mod sweep;
mod until;

pub use evidence::last_lines;
pub(crate) use evidence::last_lines_of;
pub use process::{PartState, Processes};
pub(crate) use spawn::{INHERITED, death_signal, drops_privileges, stop_signal};
pub use spawn::{Inherited, SpawnError, SpawnLoop, Spawner, inherited};
pub(crate) use standstill::stand_still;
pub use start::{Progress, StartError, start};
pub use sweep::{carriers, servers_in, signal_each};
pub(crate) use sweep::{carries, restored};
pub use until::{Waited, until};

/// Marks a process with the environment that it belongs to.
pub const ENVIRONMENT_VARIABLE: &str = "GREENROOM_ENVIRONMENT";
/// Marks a process with the supervisor that started it.
pub const SUPERVISOR_VARIABLE: &str = "GREENROOM_SUPERVISOR";
