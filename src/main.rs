//! The pgpassport binary.
fn main() {}
