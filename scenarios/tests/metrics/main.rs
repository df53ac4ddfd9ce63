//! Stories of the batched metrics. Each has an environment of its own; where messages flow, a snapshot of everything
//! that happened; and its law as a plain assertion.

mod flushing;
mod outages;
mod refusals;
