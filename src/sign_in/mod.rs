//! Pages over HTTPS, each on an address of its own: the profiles of `pgpassport login https://…`. No part of a session uses
//! this module, and nothing here takes a permit, a thread, or a lock of a session.
//!
//! | module | job |
//! |---|---|
//! | [`web`] | the listener of a page: limits, TLS, one request for each connection |
//! | [`profiles`] | the document of published profiles |

pub mod profiles;
pub mod web;
