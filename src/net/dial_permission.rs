//! Permissions to connect to a database.

use crate::identity::Grant;

/// Permission to connect to a database. Every connection needs one, so that no bytes of a stranger cause a connection.
pub trait DialPermission {}

impl DialPermission for Grant {}

/// A check that an operator starts on the command line. It allows a connection and no login.
#[derive(Debug)]
pub struct OperatorCheck(());

impl DialPermission for OperatorCheck {}

impl OperatorCheck {
    /// The check that is running.
    pub fn from_command_line() -> Self {
        Self(())
    }
}
