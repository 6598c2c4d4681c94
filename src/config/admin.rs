//! `[admin]`: address of health and metrics, and people who may use the console.

use std::net::SocketAddr;

use super::Config;
use super::reader::SectionReader;
use super::rules::{ClaimRule, check_names, rules};

/// Names of the console's database: its own, and that of PgBouncer's console, which exporters and scripts ask for.
pub const CONSOLE_DATABASES: [&str; 2] = ["pgpassport", "pgbouncer"];

/// `[admin]`
#[derive(Clone, Debug, PartialEq)]
pub struct AdminSettings {
    /// HTTP address of health and metrics; off if absent.
    pub addr: Option<SocketAddr>,
    /// True if other machines are meant to reach it.
    pub public: bool,
    /// People who may use the console.
    pub console: ConsoleRules,
}

/// Rules for the console. A token that fits no rule has no access.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConsoleRules {
    /// Rules of people who may change the service.
    pub allow: Vec<ClaimRule>,
    /// Rules of people who may look.
    pub view: Vec<ClaimRule>,
}

impl ConsoleRules {
    /// True if nobody may use the console.
    pub fn is_off(&self) -> bool {
        self.allow.is_empty() && self.view.is_empty()
    }
}

pub(super) fn admin(section: &SectionReader<'_, '_>) -> AdminSettings {
    let addr = section.parsed("addr", |text| {
        text.parse().map_err(|_| format!("{text:?} is not an address; write \"127.0.0.1:9127\""))
    });
    let public = section.boolean("public", false);
    let allow = rules(section, "allow").unwrap_or_default();
    let view = rules(section, "view").unwrap_or_default();
    section.finish();
    AdminSettings { addr, public, console: ConsoleRules { allow, view } }
}

/// Checks the rules of the console against issuers and clusters.
pub(super) fn check_console(root: &SectionReader<'_, '_>, config: &Config) {
    let (section, console) = (root.section("admin"), &config.admin.console);
    if console.is_off() {
        return;
    }
    let known = |name: &str| config.issuers.iter().any(|issuer| issuer.name == name);
    for (key, rules) in [("allow", &console.allow), ("view", &console.view)] {
        check_names(&section, key, Some(rules).filter(|rules| !rules.is_empty()), known);
        if config.issuers.len() > 1 && rules.iter().any(|rule| rule.issuers.is_none()) {
            let text = "there are several issuers, and each decides on its own who is in its groups: write issuer = \"…\" \
                        into each rule";
            section.wrong(key, text);
        }
    }
    for (cluster, section) in config.clusters.iter().zip(root.sections("cluster")) {
        for name in CONSOLE_DATABASES.into_iter().filter(|name| cluster.route.spells_out(name)) {
            let text = format!("{name:?} is the database name of the console ([admin] allow and view)");
            section.wrong("databases", text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{REFERENCE, problem};

    fn read(keys: &str) -> Result<ConsoleRules, String> {
        let text = REFERENCE.replacen("\n[admin]\n", &format!("\n[admin]\n{keys}\n"), 1);
        let config = Config::from_toml(&text, "/etc/pgpassport/proxy.toml");
        config.map(|config| config.admin.console).map_err(|problems| problems.to_string())
    }

    #[test]
    fn nobody_is_allowed_without_a_rule() {
        assert!(read("").unwrap().is_off());
        let one = read("view = { claim = \"groups\", any = [\"oncall\"] }").unwrap();
        assert!(!one.is_off() && one.allow.is_empty() && one.view[0].any == ["oncall"]);
        let text = read("allow = []").unwrap_err();
        assert!(text.contains("admin.allow") && text.contains("write 1 to"), "{text}");
        let text = read("allow = [{ claim = \"groups\", any = [\"dba\"], issuer = \"none\" }]").unwrap_err();
        assert!(text.contains("no [[issuer]] with the name \"none\""), "{text}");
    }

    #[test]
    fn the_consoles_name_is_no_database_once_somebody_may_use_it() {
        let rule = "allow = [{ claim = \"groups\", any = [\"dba\"] }]";
        for name in CONSOLE_DATABASES {
            let database = format!("databases = [\"{name}\"]");
            let text = problem(&[("allow", rule), ("databases", &database)]);
            assert!(text.contains("is the database name of the console"), "{text}");
        }
        assert!(read(rule).is_ok());
    }

    #[test]
    fn with_several_issuers_each_rule_names_its_own() {
        let second = "\n[[issuer]]\nname = \"ci\"\nurl = \"https://ci.example\"\naudience = \"a\"\n";
        let user = "\n[[cluster.user]]\nissuer = \"ci\"\n[[cluster.user]]\nissuer = \"okta\"\n";
        for (issuer, good) in [("", false), (", issuer = \"okta\"", true)] {
            let rule = format!("\n[admin]\nview = {{ claim = \"groups\", any = [\"a\"]{issuer} }}\n");
            let text = REFERENCE.replacen("\n[admin]\n", &rule, 1) + second;
            let text = text.replacen("\n[cluster.user]\n", user, 1);
            let read = Config::from_toml(&text, "proxy.toml");
            assert_eq!(read.is_ok(), good, "{read:?}");
            let named = read.map_or_else(|why| why.to_string(), |_| "each decides on its own".to_owned());
            assert!(named.contains("each decides on its own"), "{named}");
        }
    }
}
