//! Stories of: first-come coupons: a burst on one counter.
