//! What the command line can do.

pub mod check;
pub mod reload;
pub mod serve;
