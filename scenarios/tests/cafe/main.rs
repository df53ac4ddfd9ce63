//! Stories of the café: numbers without gap or duplicate, answers that find their asker, a line that survives its
//! barista.

mod barista;
mod crashes;
mod ledger;
mod numbers;
mod payments;
mod refusals;
