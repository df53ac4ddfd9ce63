//! Stories of the first-come coupons. Each has an environment of its own and its law as plain assertions; and a
//! snapshot of everything that happened where that is the same in every run: who wins in a burst, or what a crash sends
//! twice, is not.

mod bursts;
mod ledger;
mod refusals;
mod weak_points;
