//! Access rules of a cluster: roles, option rules, groups.

use std::collections::BTreeMap;
use std::time::Duration;

use super::reader::SectionReader;
use super::readers::{DAY, MOST_CONNECTIONS, name, none_for_zero};
use super::route::{NamePattern, databases};
use super::rules::{ClaimRule, rules};
use super::sections::{check_name, several};
use crate::names::{RoleArn, setting};

/// The role that people assume: one for all, or one per issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoleMapping {
    /// The same role for all people.
    One(RoleArn),
    /// Roles by issuer name. People of other issuers are refused.
    PerIssuer(BTreeMap<String, RoleArn>),
}

impl RoleMapping {
    /// Role for people of this issuer.
    pub fn of(&self, issuer_name: &str) -> Option<&RoleArn> {
        match self {
            Self::One(role) => Some(role),
            Self::PerIssuer(roles) => roles.get(issuer_name),
        }
    }

    /// All configured roles.
    pub fn all(&self) -> Vec<&RoleArn> {
        match self {
            Self::One(role) => vec![role],
            Self::PerIssuer(roles) => roles.values().collect(),
        }
    }
}

/// A `[[cluster.group]]`: settings for people whose token matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSettings {
    /// The operator's name for the group.
    pub name: String,
    /// Rules; one must hold for the token. `None` matches every token.
    pub when: Option<Vec<ClaimRule>>,
    /// Allowed databases by their names on the server; all if absent.
    pub databases: Option<Vec<NamePattern>>,
    /// True if sessions start with `default_transaction_read_only`.
    pub read_only: bool,
    /// Initial `statement_timeout`; zero keeps the server's.
    pub statement_timeout: Duration,
    /// Most concurrent sessions of the group; unlimited if absent.
    pub max_client_conn: Option<usize>,
    /// Longest lifetime of a session, if shorter than the global one.
    pub max_lifetime: Option<Duration>,
}

impl GroupSettings {
    /// True if this group allows nothing that `other` does not allow.
    pub fn allows_no_more_than(&self, other: &Self) -> bool {
        fn within<T: PartialOrd>(own: Option<T>, limit: Option<T>) -> bool {
            limit.is_none_or(|limit| own.is_some_and(|own| own <= limit))
        }
        let timeout = |group: &Self| Some(group.statement_timeout).filter(|time| !time.is_zero());
        let covered = |own: &NamePattern, all: &[NamePattern]| all.iter().any(|one| one.covers(own));
        let databases = match (&self.databases, &other.databases) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(own), Some(all)) => own.iter().all(|name| covered(name, all)),
        };
        databases
            && (self.read_only || !other.read_only)
            && within(timeout(self), timeout(other))
            && within(self.max_client_conn, other.max_client_conn)
            && within(self.max_lifetime, other.max_lifetime)
    }
}

/// Restrictions on PostgreSQL settings in the client's startup packet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OptionRules {
    /// True if the parameter `options` is refused.
    pub forbid_options: bool,
    /// Canonical names of forbidden settings, in `options` or by name.
    pub forbidden_settings: Vec<String>,
}

const ROLE_EXAMPLE: &str = "\"arn:aws:iam::123456789012:role/pgpassport\"";

/// `role_arn`: a string, or a table by issuer.
pub(super) fn roles(section: &SectionReader<'_, '_>) -> Option<RoleMapping> {
    let parse = |text: &str| {
        RoleArn::parse(text).ok_or_else(|| {
            format!("{text:?} is not a role's ARN; write it as in \"arn:aws:iam::123456789012:role/name\"")
        })
    };
    section.record_required("role_arn");
    if !section.is_table("role_arn") {
        return section.required("role_arn", ROLE_EXAMPLE, parse).map(RoleMapping::One);
    }
    let roles = section.map("role_arn", parse);
    if roles.is_empty() {
        section.missing("role_arn", &format!("{{ okta = {ROLE_EXAMPLE} }}"));
        return None;
    }
    Some(RoleMapping::PerIssuer(roles))
}

/// `forbid_options` and `forbidden_settings`.
pub(super) fn option_rules(section: &SectionReader<'_, '_>) -> OptionRules {
    let items = section.texts("forbidden_settings");
    OptionRules {
        forbid_options: section.boolean("forbid_options", false),
        forbidden_settings: items
            .into_iter()
            .flat_map(|items| items.value)
            .flat_map(|item| setting::with_equivalents(item.value))
            .collect(),
    }
}

/// `[[cluster.group]]`, in the order of the file.
pub(super) fn groups(section: &SectionReader<'_, '_>) -> Vec<GroupSettings> {
    let groups = several(&section.sections("group"), group, |section, group: &GroupSettings, before| {
        check_name(section, "cluster.group", &group.name, before.iter().map(|other| other.name.as_str()));
        if let Some(all) = before.iter().find(|other| other.when.is_none()) {
            let text = format!(
                "no token can match this group, because group {:?} before it matches every token; put that one last",
                all.name
            );
            section.wrong("name", text);
        }
    });
    groups.unwrap_or_default()
}

fn group(section: &SectionReader<'_, '_>) -> Option<GroupSettings> {
    let name = section.required("name", "\"analysts\"", name);
    let everyone = section.boolean("everyone", false);
    let when = rules(section, "when");
    match (everyone, &when) {
        (true, Some(_)) => section.wrong("everyone", "write either when or everyone = true"),
        (false, None) => section.missing(
            "when",
            "{ claim = \"groups\", any = [\"analysts\"] }, or everyone = true in the last group, for all others",
        ),
        (true, None) | (false, Some(_)) => {}
    }
    let databases = databases(section, "databases");
    let read_only = section.boolean("read_only", false);
    let off = Duration::ZERO;
    let statement_timeout = section.duration("statement_timeout", off, off..=DAY);
    let max_client_conn = section.count("max_client_conn", 0, 0..=MOST_CONNECTIONS);
    let max_lifetime = section.duration("max_lifetime", off, off..=24 * DAY);
    section.finish();
    Some(GroupSettings {
        name: name?,
        when,
        databases,
        read_only,
        statement_timeout,
        max_client_conn: none_for_zero(max_client_conn),
        max_lifetime: Some(max_lifetime).filter(|time| !time.is_zero()),
    })
}
