//! Access to the console: the right of a verified person.

use super::claim_rule;
use super::claim_rule::RuleVerdict;
use super::claims::VerifiedClaims;
use crate::config::{CONSOLE_DATABASES, ConsoleRules};

/// The right of a person on the console. The greater one includes the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConsoleRight {
    /// Commands that show the service.
    View,
    /// Also commands that change it.
    Change,
}

impl ConsoleRight {
    /// Key of `[admin]` that grants the right.
    pub fn key(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Change => "allow",
        }
    }
}

/// The rules of the console.
#[derive(Clone, Debug, Default)]
pub struct ConsolePolicy(ConsoleRules);

impl ConsolePolicy {
    /// Takes the rules of `[admin]`.
    pub fn new(rules: ConsoleRules) -> Self {
        Self(rules)
    }

    /// The person's right, if the client asks for the console. `None` leaves the login to the access policy, which treats
    /// the console's name as that of any database, so that the refusal does not tell that there is a console.
    pub fn right(&self, claims: &VerifiedClaims, database: Option<&str>) -> Option<ConsoleRight> {
        if !database.is_some_and(|name| CONSOLE_DATABASES.contains(&name)) {
            return None;
        }
        let holds = |rules: &[_]| {
            claim_rule::any_of(rules, claims.issuer_name(), claims.members()) == RuleVerdict::Holds
        };
        if holds(&self.0.allow) {
            Some(ConsoleRight::Change)
        } else {
            holds(&self.0.view).then_some(ConsoleRight::View)
        }
    }
}
