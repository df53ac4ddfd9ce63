//! What the service refuses, with the status and code of the contract.

mod bodies;
mod codes;
mod tokens;
