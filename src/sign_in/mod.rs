//! Pages over HTTPS, each on an address of its own: the profiles of `pgpassport login https://…`, and the sign-in page for
//! machines where nothing can be installed. No part of a session uses
//! this module, and nothing here takes a permit, a thread, or a lock of a session.
//!
//! | module | job |
//! |---|---|
//! | [`web`] | the listener of a page: limits, TLS, one request for each connection |
//! | [`profiles`] | the document of published profiles |
//! | [`site`], [`html`], [`tools`], [`mysql_tools`] | the sign-in page: paths, HTML, settings of tools |
//! | [`attempt`] | a sign-in under way, sealed in a cookie |
//! | [`access`] | databases of a person, by the proxy's own policy |

pub mod access;
mod attempt;
mod html;
mod mysql_tools;
pub mod profiles;
pub mod site;
mod tools;
pub mod web;
