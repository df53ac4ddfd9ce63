//! Stories of: batched metrics: groups of ten in compressed batches, and the store behind them.
