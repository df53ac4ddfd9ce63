//! Greenroom gives every integration test of an event-driven service its own real
//! Kafka, PostgreSQL, Redis and programs, and takes them away whatever happens to the test.
//!
//! Start reading at [`spec`] (what should exist), then [`plan`] (everything that will run),
//! [`runtime`] (starts it), [`supervisor`] (owns it and lends it), [`environment`] (the handle in a test),
//! [`observe`] (what happened) and [`scenario`] (the story that ties them together).
//!
//! Deliberately absent: any word of a system under test. Those live in `fixtures/`.

mod accept;
pub mod artifacts;
mod attempts;
pub mod audit;
pub mod binaries;
pub mod docker;
pub mod drive;
pub mod env_file;
pub mod environment;
pub mod http;
pub mod link;
pub mod node;
pub mod observe;
pub mod parent_death;
pub mod plan;
pub mod report;
pub mod runtime;
pub mod scenario;
pub mod service;
pub mod snapshot;
pub mod spec;
pub mod supervisor;
pub mod toolchain;
pub mod verdict;
mod whole_file;
pub mod wire;
