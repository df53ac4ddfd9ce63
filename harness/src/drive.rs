//! What a scenario does to a system, in general terms: sends records, makes many requests at once, follows what a
//! program announces.
//!
//! Start with [`Producer`] for records, [`burst()`] for load and [`EventStream`] for server-sent events.
//!
//! Deliberately absent: requests and records of one system, which its typed driver in `fixtures/` knows, and every
//! retry of its own: a driver that tries again hides what a scenario is there to see.

mod burst;
mod events;
mod produce;

pub use burst::{Burst, burst};
pub use events::{Event, EventError, EventStream, OpenError};
pub use produce::{NewRecord, Position, Producer, ProducerError, SendError};
