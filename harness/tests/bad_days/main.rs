//! The harness on its own bad days: whatever goes wrong, the message says what, where and what to do,
//! and nothing is left running.
//!
//! Method: real supervisors in state directories of their own, real brokers, real signals.

mod broken;
mod commands;
mod crowd;
mod deaths;
mod engine;
mod far_engine;
mod faults_by_hand;
mod houses;
mod service;
mod stand;
mod stories;
mod surroundings;
