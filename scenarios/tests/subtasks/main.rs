//! Stories of the upload subtasks: an API server that answers at once and a worker on the same topic, by request–reply
//! and by event. Where messages flow, each has a snapshot of everything that happened, and its law as plain assertions.

mod instances;
mod ledger;
mod outages;
mod outcomes;
mod readiness;
mod records;
mod refusals;
mod restarts;
mod throng;
