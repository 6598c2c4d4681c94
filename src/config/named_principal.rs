//! Users and groups of this machine that a configuration names, with their places, so that an unknown one is reported like a
//! problem of the configuration itself.

use std::fmt::Display;

use super::problem::ConfigProblem;

/// Kind of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrincipalKind {
    /// A user.
    User,
    /// A group.
    Group,
}

/// A user or group, by name or number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedPrincipal {
    /// Kind.
    pub kind: PrincipalKind,
    /// Name or number.
    pub name: String,
    /// Place of the value.
    place: ConfigProblem,
}

impl NamedPrincipal {
    pub(super) fn new(kind: PrincipalKind, name: String, place: ConfigProblem) -> Self {
        Self { kind, name, place }
    }

    /// Problem with the name, at its place.
    pub fn problem(&self, text: impl Display) -> ConfigProblem {
        let mut problem = self.place.clone();
        problem.text = text.to_string();
        problem
    }
}
