//! Stories of the first-come coupons. Each has an environment of its own; where messages flow, a snapshot of everything
//! that happened; and its law as a plain assertion.

mod bursts;
mod ledger;
mod refusals;
mod weak_points;
