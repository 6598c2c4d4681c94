//! Routing of connections to clusters by listener, TLS server name and database name. Two clusters that match
//! the same connection are a problem of the file.

use std::collections::BTreeMap;

use super::reader::{SectionReader, SpannedValue};
use crate::names::{DbName, NameError};

/// Pattern for database names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamePattern {
    /// Exactly this name.
    Exact(String),
    /// Every name with this prefix; an empty prefix, `*`, matches every name.
    Prefix(String),
}

impl NamePattern {
    fn parse(text: &str) -> Result<Self, String> {
        let (name, pattern) = match text.strip_suffix('*') {
            Some(prefix) => (prefix, Self::Prefix(prefix.to_owned())),
            None => (text, Self::Exact(text.to_owned())),
        };
        if name.contains('*') {
            return Err("a star may only stand at the end, as in \"sales_*\"".into());
        }
        if name.is_empty() && matches!(pattern, Self::Prefix(_)) {
            return Ok(pattern);
        }
        DbName::parse(name)
            .map(|_| pattern)
            .map_err(|error| format!("{name:?} is not a database name: {error}"))
    }

    /// True if the pattern matches `name`.
    pub fn matches(&self, name: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == name,
            Self::Prefix(prefix) => name.starts_with(prefix.as_str()),
        }
    }

    /// True if the pattern matches every name that `other` matches.
    pub(super) fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(_), Self::Prefix(_)) => false,
            (all, Self::Exact(name)) => all.matches(name),
            (Self::Prefix(all), Self::Prefix(prefix)) => prefix.starts_with(all.as_str()),
        }
    }

    fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(a), Self::Exact(b)) => a == b,
            (Self::Exact(exact), prefix) | (prefix, Self::Exact(exact)) => prefix.matches(exact),
            (Self::Prefix(a), Self::Prefix(b)) => a.starts_with(b.as_str()) || b.starts_with(a.as_str()),
        }
    }
}

/// Conditions for connections to one cluster. Absent conditions match everything; all present ones must
/// match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterRoute {
    /// Names of listeners.
    pub listeners: Option<Vec<String>>,
    /// Server names of the client's TLS (SNI), lower-case.
    pub server_names: Option<Vec<String>>,
    /// Databases by the names that clients use, including the names of `aliases`.
    pub databases: Option<Vec<NamePattern>>,
    /// Database of connections that name none, by the name that clients use; if absent, the derived user's
    /// name.
    pub default_database: Option<String>,
    /// Names on the server, by the names that clients use.
    pub aliases: BTreeMap<String, DbName>,
}

impl ClusterRoute {
    /// True if connections to this listener with this server name (SNI) match.
    pub fn is_reached_by(&self, listener: &str, server_name: Option<&str>) -> bool {
        lists(self.listeners.as_ref(), Some(listener)) && lists(self.server_names.as_ref(), server_name)
    }

    /// True if the cluster serves `database`, a name that clients use.
    pub fn serves(&self, database: &str) -> bool {
        self.databases.as_ref().is_none_or(|known| known.iter().any(|name| name.matches(database)))
    }

    /// True if the configuration lists `database` without a pattern.
    pub fn spells_out(&self, database: &str) -> bool {
        let exact = |name: &NamePattern| matches!(name, NamePattern::Exact(exact) if exact == database);
        self.databases.iter().flatten().any(exact)
    }

    /// Name on the server of `database`, a name that clients use.
    pub fn real_name(&self, database: &str) -> Result<DbName, NameError> {
        self.aliases.get(database).map_or_else(|| DbName::parse(database), |real| Ok(real.clone()))
    }

    /// True if some connection with this listener and server name matches, for any database. A plaintext
    /// connection has no server name, so it matches any.
    pub fn admits(&self, listener: &str, server_name: Option<&str>) -> bool {
        lists(self.listeners.as_ref(), Some(listener))
            && (server_name.is_none() || lists(self.server_names.as_ref(), server_name))
    }

    /// True if a connection can match both routes.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        self.shares_listener(other)
            && intersect(self.databases.as_ref(), other.databases.as_ref(), NamePattern::overlaps)
    }

    /// True if a listener and server name can match both routes.
    pub(super) fn shares_listener(&self, other: &Self) -> bool {
        intersect(self.listeners.as_ref(), other.listeners.as_ref(), |a, b| a == b)
            && intersect(self.server_names.as_ref(), other.server_names.as_ref(), |a, b| a == b)
    }
}

/// True if `listed` contains `value`. An absent list contains everything.
fn lists(listed: Option<&Vec<String>>, value: Option<&str>) -> bool {
    let Some(names) = listed else { return true };
    value.is_some_and(|value| names.iter().any(|name| name.eq_ignore_ascii_case(value)))
}

/// True if two lists have a common element. An absent list contains everything.
fn intersect<T>(a: Option<&Vec<T>>, b: Option<&Vec<T>>, same: impl Fn(&T, &T) -> bool) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => a.iter().any(|one| b.iter().any(|two| same(one, two))),
        _ => true,
    }
}

/// Reads the routing keys of a cluster.
pub(super) fn route(section: &SectionReader<'_, '_>) -> ClusterRoute {
    let listeners = texts(section, "listeners", |text| Ok(text.to_owned()));
    let server_names = texts(section, "server_names", |text| {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        if text.is_empty() || !text.chars().all(legal) {
            return Err(format!("{text:?} is not a host name; write it as in \"orders.db.acme.com\""));
        }
        Ok(text.to_ascii_lowercase())
    });
    let mut databases = databases(section, "databases");
    let aliases = section.map("database_aliases", |text| {
        DbName::parse(text).map_err(|error| format!("{text:?} is not a database name: {error}"))
    });
    if !aliases.is_empty() {
        databases.get_or_insert_default().extend(aliases.keys().cloned().map(NamePattern::Exact));
    }
    let default_database = section.parsed("default_database", |text| {
        DbName::parse(text)
            .map(|_| text.to_owned())
            .map_err(|error| format!("{text:?} is not a database name: {error}"))
    });
    let route = ClusterRoute { listeners, server_names, databases, default_database, aliases };
    if route.default_database.as_ref().is_some_and(|name| !route.serves(name)) {
        let text = "databases must list it: databases that are not listed are not served";
        section.wrong("default_database", text);
    }
    route
}

/// Reads a list of database names or patterns, if the key is present.
pub(super) fn databases(section: &SectionReader<'_, '_>, key: &'static str) -> Option<Vec<NamePattern>> {
    texts(section, key, NamePattern::parse)
}

fn texts<V>(
    section: &SectionReader<'_, '_>,
    key: &'static str,
    parse: impl Fn(&str) -> Result<V, String>,
) -> Option<Vec<V>> {
    let items = section.texts(key)?;
    if items.value.is_empty() {
        section.reading.problem(&items.span, &items.key, "write at least one, or leave the key out");
    }
    let read = |item: &SpannedValue<&str>| {
        parse(item.value).map_err(|text| section.reading.problem(&item.span, &item.key, text)).ok()
    };
    Some(items.value.iter().filter_map(read).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> NamePattern {
        NamePattern::parse(text).unwrap()
    }

    #[test]
    fn patterns_match_whole_names_and_know_when_they_overlap() {
        assert!(pattern("app").matches("app") && !pattern("app").matches("app2"));
        assert!(pattern("app_*").matches("app_x") && !pattern("app_*").matches("app"));
        assert!(pattern("*").matches("anything"));
        for (a, b, intersect) in [
            ("app", "app", true),
            ("app", "App", false),
            ("app_1", "app_*", true),
            ("ap*", "app_*", true),
            ("a_*", "b_*", false),
            ("*", "x", true),
        ] {
            assert_eq!(pattern(a).overlaps(&pattern(b)), intersect, "{a} {b}");
            assert_eq!(pattern(b).overlaps(&pattern(a)), intersect, "{b} {a}");
        }
        for bad in ["", "a*b", "**", "a\0"] {
            assert!(NamePattern::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_route_needs_all_that_it_names() {
        let route = ClusterRoute {
            listeners: Some(vec!["bi".into()]),
            server_names: Some(vec!["a.example".into()]),
            databases: Some(vec![pattern("x"), pattern("y_*")]),
            default_database: None,
            aliases: BTreeMap::new(),
        };
        assert!(route.is_reached_by("bi", Some("A.example")));
        assert!(!route.is_reached_by("main", Some("a.example")));
        assert!(!route.is_reached_by("bi", None) && !route.is_reached_by("bi", Some("b.example")));
        assert!(route.admits("bi", Some("A.example")) && route.admits("bi", None));
        assert!(!route.admits("main", None) && !route.admits("bi", Some("b.example")));
        assert!(route.serves("x") && route.serves("y_1") && !route.serves("y"));
        assert!(route.spells_out("x") && !route.spells_out("y_1"));
        assert!(ClusterRoute::default().is_reached_by("bi", None) && ClusterRoute::default().serves("y"));
        let elsewhere = ClusterRoute { listeners: Some(vec!["main".into()]), ..ClusterRoute::default() };
        assert!(!route.overlaps(&elsewhere), "no connection comes in by two listeners");
        assert!(route.overlaps(&ClusterRoute::default()));
    }
}
