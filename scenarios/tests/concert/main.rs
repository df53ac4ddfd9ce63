//! Stories of the concert reservation service. Each has an environment of its own; where messages flow, a snapshot of
//! everything that happened; and its law as a plain assertion.

mod answers;
mod books;
mod crashes;
mod defects;
mod gate;
mod judged;
mod layouts;
mod ledger;
mod outages;
mod payments;
mod points;
mod queue;
mod refusals;
mod sales;
mod seats;
