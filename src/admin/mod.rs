//! Interfaces for operators.

mod history;
mod html;
pub mod http;
mod plot;
mod problems;
mod readiness;
mod runbooks;
mod status;
mod status_view;
