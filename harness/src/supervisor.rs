//! One background process per user, workspace and build that owns every environment and lends it.
//!
//! * **A lease ends when its connection ends.** Any death of the client tears its environment down.
//! * **Nothing outlives the supervisor.** Parts carry a parent-death signal; a [`watch`]er, whose input closes
//!   with the supervisor, sweeps what is left; and the next supervisor sweeps once more.
//!
//! Start reading at [`serve`]; [`client`] is the other side; [`state`] says where everything lies.
//!
//! Deliberately absent: access over the network, and any state that outlives the process.

mod actions;
mod addresses;
pub mod client;
mod lending;
pub mod protocol;
pub mod serve;
pub mod state;
mod taken_away;
mod tenancy;
pub mod watch;
