//! The emulator's own tests, in one binary so that they share one server of each kind.
#![expect(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a failed step is a failed test")]
#![allow(clippy::indexing_slicing, reason = "JSON in tests")]

mod gate;
mod issuer;
mod login;
mod mysql;
mod policy;
mod sigv4;
mod sts;
mod sts_faults;
mod support;
