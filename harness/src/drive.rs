//! What a scenario does to a system, in general terms: many requests at once, and following what a program announces.
//!
//! Start with [`burst()`] for load and [`EventStream`] for server-sent events.
//!
//! Deliberately absent: requests and records of one system, which its typed driver in `fixtures/` knows, and every
//! retry: a driver that tries again hides what a scenario is there to see.

mod burst;
mod events;

pub use burst::{Burst, burst};
pub use events::{Event, EventError, EventStream, OpenError};
