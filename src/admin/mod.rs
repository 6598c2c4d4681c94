//! Interfaces for operators.

mod history;
mod html;
pub mod http;
mod plot;
mod problems;
mod runbooks;
mod status;
mod status_view;
