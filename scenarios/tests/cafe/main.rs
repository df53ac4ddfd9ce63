//! Stories of: café orders: three services in a chain.
