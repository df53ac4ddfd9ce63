//! Typed drivers.
