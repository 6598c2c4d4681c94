//! Which connections lead to which cluster: by listener, by TLS server name, by database name. Two clusters that
//! could both be meant are a mistake of the file, found when it is read.

use std::collections::BTreeMap;

use super::reader::{SectionReader, SpannedValue};
use crate::names::{DbName, NameError};

/// Database names: one, or all that begin alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamePattern {
    /// Exactly this name.
    Exact(String),
    /// Every name that begins with it; `*` alone is every name.
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
        DbName::parse(name).map(|_| pattern).map_err(|error| format!("{name:?} is no database name: {error}"))
    }

    /// Whether `name` is one of those meant.
    pub fn matches(&self, name: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == name,
            Self::Prefix(prefix) => name.starts_with(prefix.as_str()),
        }
    }

    /// Whether every name that `other` means is meant.
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

/// The connections that lead to one cluster. What is absent is not looked at; what is there must all fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterRoute {
    /// Names of listeners.
    pub listeners: Option<Vec<String>>,
    /// Server names of the client's TLS (SNI), lower-case.
    pub server_names: Option<Vec<String>>,
    /// Databases as the client asks for them; the names of `aliases` are among them.
    pub databases: Option<Vec<NamePattern>>,
    /// The database of a connection that names none, as clients name it; that of the derived user when absent.
    pub default_database: Option<String>,
    /// What a database is called on the server, by the name clients ask for.
    pub aliases: BTreeMap<String, DbName>,
}

impl ClusterRoute {
    /// Whether connections of this listener, with this server name in their TLS (SNI), reach the cluster.
    pub fn is_reached_by(&self, listener: &str, server_name: Option<&str>) -> bool {
        lists(self.listeners.as_ref(), Some(listener)) && lists(self.server_names.as_ref(), server_name)
    }

    /// Whether the cluster serves `database`, as clients name it.
    pub fn serves(&self, database: &str) -> bool {
        self.databases.as_ref().is_none_or(|known| known.iter().any(|name| name.matches(database)))
    }

    /// Whether the configuration has `database` by its whole name.
    pub fn spells_out(&self, database: &str) -> bool {
        let exact = |name: &NamePattern| matches!(name, NamePattern::Exact(exact) if exact == database);
        self.databases.iter().flatten().any(exact)
    }

    /// The name on the server of `database`, as clients name it.
    pub fn real_name(&self, database: &str) -> Result<DbName, NameError> {
        self.aliases.get(database).map_or_else(|| DbName::parse(database), |real| Ok(real.clone()))
    }

    /// Whether some connection of this kind leads here, whatever database it is for. A connection in clear has no
    /// server name, so it may be any.
    pub fn admits(&self, listener: &str, server_name: Option<&str>) -> bool {
        lists(self.listeners.as_ref(), Some(listener))
            && (server_name.is_none() || lists(self.server_names.as_ref(), server_name))
    }

    /// Whether some connection could lead to both.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        self.shares_way(other)
            && meet(self.databases.as_ref(), other.databases.as_ref(), NamePattern::overlaps)
    }

    /// Whether some listener and server name reach both.
    pub(super) fn shares_way(&self, other: &Self) -> bool {
        meet(self.listeners.as_ref(), other.listeners.as_ref(), |a, b| a == b)
            && meet(self.server_names.as_ref(), other.server_names.as_ref(), |a, b| a == b)
    }
}

/// Whether `listed`, which stands for anything when absent, has `value`.
fn lists(listed: Option<&Vec<String>>, value: Option<&str>) -> bool {
    let Some(names) = listed else { return true };
    value.is_some_and(|value| names.iter().any(|name| name.eq_ignore_ascii_case(value)))
}

/// Whether two lists, each of which stands for anything when absent, have something in common.
fn meet<T>(a: Option<&Vec<T>>, b: Option<&Vec<T>>, same: impl Fn(&T, &T) -> bool) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => a.iter().any(|one| b.iter().any(|two| same(one, two))),
        _ => true,
    }
}

/// Reads the keys of a cluster that route to it.
pub(super) fn route(section: &SectionReader<'_, '_>) -> ClusterRoute {
    let listeners = texts(section, "listeners", |text| Ok(text.to_owned()));
    let server_names = texts(section, "server_names", |text| {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        if text.is_empty() || !text.chars().all(legal) {
            return Err(format!("{text:?} is no host name; write it as in \"orders.db.acme.com\""));
        }
        Ok(text.to_ascii_lowercase())
    });
    let mut databases = databases(section, "databases");
    let aliases: BTreeMap<String, DbName> = section
        .map("database_aliases", |text| {
            DbName::parse(text).map_err(|error| format!("{text:?} is no database name: {error}"))
        })
        .into_iter()
        .collect();
    if !aliases.is_empty() {
        databases.get_or_insert_default().extend(aliases.keys().cloned().map(NamePattern::Exact));
    }
    let default_database = section.parsed("default_database", |text| {
        DbName::parse(text)
            .map(|_| text.to_owned())
            .map_err(|error| format!("{text:?} is no database name: {error}"))
    });
    let route = ClusterRoute { listeners, server_names, databases, default_database, aliases };
    if route.default_database.as_ref().is_some_and(|name| !route.serves(name)) {
        let text = "databases has to list it: what is not listed is not served, whoever asks for it";
        section.wrong("default_database", text);
    }
    route
}

/// A list of database names or patterns, if the key is there.
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
        for (a, b, meet) in [
            ("app", "app", true),
            ("app", "App", false),
            ("app_1", "app_*", true),
            ("ap*", "app_*", true),
            ("a_*", "b_*", false),
            ("*", "x", true),
        ] {
            assert_eq!(pattern(a).overlaps(&pattern(b)), meet, "{a} {b}");
            assert_eq!(pattern(b).overlaps(&pattern(a)), meet, "{b} {a}");
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
