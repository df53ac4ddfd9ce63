//! Stories of the concert reservation service. Each has an environment of its own; where messages flow, a snapshot of
//! everything that happened; and its law as a plain assertion.

mod answers;
mod books;
mod by_hand;
mod crashes;
mod defects;
mod deletions;
mod gate;
mod hanging_up;
mod judged;
mod layouts;
mod ledger;
mod lists;
mod outages;
mod payments;
mod points;
mod queue;
mod refusals;
mod sales;
mod seats;
