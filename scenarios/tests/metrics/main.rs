//! Stories of the batched metrics. Each has an environment of its own and its law as plain assertions; and a snapshot of
//! everything that happened where that is the same in every run, and short enough to be reviewed: hundreds of metrics,
//! which a test counts better, are not.

mod flushing;
mod outages;
mod refusals;
