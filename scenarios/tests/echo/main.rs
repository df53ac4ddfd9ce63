//! Stories of: the worked example: what comes on one topic goes out on another.
