//! Stories of the upload subtasks: an API server that answers at once and a worker on the same topic, by request–reply
//! and by event. Each has its law as plain assertions, and a snapshot of everything that happened where that is the
//! same in every run: what is sent twice after an outage, or in which order a thousand uploads end, is not.

mod instances;
mod ledger;
mod outages;
mod outcomes;
mod readiness;
mod records;
mod refusals;
mod restarts;
mod throng;
