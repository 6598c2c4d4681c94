//! Which connections lead to which cluster: by listener, by TLS server name, by database name. Two clusters that
//! could both be meant are a mistake of the file, found when it is read.

use std::collections::BTreeMap;

use super::reader::{Item, Section};
use crate::names::DbName;

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
pub struct Route {
    /// Names of listeners.
    pub listeners: Option<Vec<String>>,
    /// Server names of the client's TLS (SNI), lower-case.
    pub server_names: Option<Vec<String>>,
    /// Databases as the client asks for them; the names of `aliases` are among them.
    pub databases: Option<Vec<NamePattern>>,
    /// What a database is called on the server, by the name clients ask for.
    pub aliases: BTreeMap<String, DbName>,
}

/// What is known of a connection before its cluster is.
#[derive(Clone, Copy, Debug)]
pub struct Way<'a> {
    /// The listener's name.
    pub listener: &'a str,
    /// SNI.
    pub server_name: Option<&'a str>,
    /// The database asked for.
    pub database: &'a str,
}

impl Route {
    /// Whether a connection leads here.
    pub fn matches(&self, way: Way<'_>) -> bool {
        let fits = |listed: &Option<Vec<String>>, value: Option<&str>| match listed {
            None => true,
            Some(names) => {
                value.is_some_and(|value| names.iter().any(|name| name.eq_ignore_ascii_case(value)))
            }
        };
        fits(&self.listeners, Some(way.listener))
            && fits(&self.server_names, way.server_name)
            && self.databases.as_ref().is_none_or(|known| known.iter().any(|name| name.matches(way.database)))
    }

    /// Whether some connection of this kind leads here, whatever database it is for. A connection in clear has no
    /// server name, so it may be any.
    pub fn admits(&self, listener: &str, server_name: Option<&str>) -> bool {
        let fits = |listed: &Option<Vec<String>>, value: &str| {
            listed.as_ref().is_none_or(|names| names.iter().any(|name| name.eq_ignore_ascii_case(value)))
        };
        fits(&self.listeners, listener) && server_name.is_none_or(|name| fits(&self.server_names, name))
    }

    /// Whether some connection could lead to both.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        fn meet<T>(a: Option<&Vec<T>>, b: Option<&Vec<T>>, same: impl Fn(&T, &T) -> bool) -> bool {
            match (a, b) {
                (Some(a), Some(b)) => a.iter().any(|one| b.iter().any(|two| same(one, two))),
                _ => true,
            }
        }
        meet(self.listeners.as_ref(), other.listeners.as_ref(), |a, b| a == b)
            && meet(self.server_names.as_ref(), other.server_names.as_ref(), |a, b| a == b)
            && meet(self.databases.as_ref(), other.databases.as_ref(), NamePattern::overlaps)
    }
}

/// Reads the keys of a cluster that route to it.
pub(super) fn route(section: &Section<'_, '_>) -> Route {
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
    Route { listeners, server_names, databases, aliases }
}

/// A list of database names or patterns, if the key is there.
pub(super) fn databases(section: &Section<'_, '_>, key: &'static str) -> Option<Vec<NamePattern>> {
    texts(section, key, NamePattern::parse)
}

fn texts<V>(
    section: &Section<'_, '_>,
    key: &'static str,
    parse: impl Fn(&str) -> Result<V, String>,
) -> Option<Vec<V>> {
    let items = section.texts(key)?;
    if items.value.is_empty() {
        section.reading.problem(&items.span, &items.key, "write at least one, or leave the key out");
    }
    let read = |item: &Item<&str>| {
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
        let route = Route {
            listeners: Some(vec!["bi".into()]),
            server_names: Some(vec!["a.example".into()]),
            databases: Some(vec![pattern("x")]),
            aliases: BTreeMap::new(),
        };
        let way = Way { listener: "bi", server_name: Some("A.example"), database: "x" };
        assert!(route.matches(way));
        assert!(!route.matches(Way { listener: "main", ..way }));
        assert!(route.admits("bi", Some("A.example")) && route.admits("bi", None));
        assert!(!route.admits("main", None) && !route.admits("bi", Some("b.example")));
        assert!(!route.matches(Way { server_name: None, ..way }));
        assert!(!route.matches(Way { database: "y", ..way }));
        assert!(Route::default().matches(Way { server_name: None, ..way }));
        let elsewhere = Route { listeners: Some(vec!["main".into()]), ..Route::default() };
        assert!(!route.overlaps(&elsewhere), "no connection comes in by two listeners");
        assert!(route.overlaps(&Route::default()));
    }
}
