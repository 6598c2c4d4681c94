//! Interfaces for operators.

pub mod http;
