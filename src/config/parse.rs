//! Parsing of `proxy.toml`: one module per section, problems in the order of lines.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::de::DeTable;

use super::admin::{admin, check_console};
use super::audit::audit;
use super::cancel::cancel;
use super::cluster::clusters;
use super::denied::denied;
use super::egress::egress;
use super::issuer::issuers;
use super::limits::limits;
use super::listen::listeners;
use super::log::log;
use super::pages::{profiles, sign_in};
use super::pool::pool;
use super::problems::ConfigProblems;
use super::reader::{FileReader, SectionReader};
use super::reload::reload;
use super::rules::{check_issuers, check_names, warn_of_shared_rules};
use super::session::session;
use super::traces::traces;
use super::user::warn_of_shared_names;
use super::{ClusterSettings, Config, Environment, KeySource, ListenSettings, RoleMapping, variable_of};

impl Config {
    /// Parses `text`, the content of `file`, and finds all problems in one run. Paths in it are relative to
    /// the folder of `file`. Opens no file.
    pub fn from_toml(text: &str, file: impl AsRef<Path>) -> Result<Self, ConfigProblems> {
        Self::from_toml_and(text, file, &Environment::default())
    }

    /// As [`Config::from_toml`], with the keys that variables of `environment` set.
    pub fn from_toml_and(
        text: &str,
        file: impl AsRef<Path>,
        environment: &Environment,
    ) -> Result<Self, ConfigProblems> {
        let file = file.as_ref();
        let folder = file.parent().map(Path::to_owned).unwrap_or_default();
        // The variables stand behind the file, so that one text has the places of all values.
        let variables = environment.document();
        let all = format!("{text}\n{variables}");
        let variables = format!("{}\n{variables}", " ".repeat(text.len()));
        let mut reading = FileReader::new(&all, folder);
        (reading.file_length, reading.credentials) = (text.len(), environment.credentials.clone());
        let mut root = reading.parse(text);
        let (values, _) = DeTable::parse_recoverable(&variables); // each value was parsed before
        let (mut sources, problems) = environment.apply(&mut root, values.into_inner());
        for (span, text) in problems {
            reading.problem(&span, "", text);
        }
        let config = reading.read(&root, whole);
        let warnings = reading.warnings.borrow();
        let warnings = warnings.iter().map(|warning| warning.line_in(&file.display().to_string())).collect();
        let files = reading.files.into_inner();
        let principals = reading.principals.into_inner();
        sources.extend(files.iter().filter_map(|file| {
            let variable = variable_of(&file.path)?.to_owned();
            Some(KeySource { key: file.full_key(), variable })
        }));
        let keys = reading.keys.into_inner().finish().into();
        match config {
            Some(config) => {
                let file = file.to_owned();
                Ok(Self { warnings, files, principals, file, sources, keys, ..config })
            }
            None => {
                let problems = reading.problems.into_inner();
                let problems = ConfigProblems::new(file.display().to_string(), problems, files);
                Err(ConfigProblems { principals, ..problems })
            }
        }
    }
}

pub(super) fn whole(root: &SectionReader<'_, '_>) -> Option<Config> {
    let limits = limits(&root.section("limits"));
    let admin = admin(&root.section("admin"));
    let profiles = profiles(&root.section("profiles"));
    let egress = egress(&root.section("egress"));
    let session = session(&root.section("session"));
    let log = log(&root.section("log"));
    let reload = reload(&root.section("reload"));
    let audit = audit(&root.section("audit"));
    let traces = traces(&root.section("traces"));
    let cancel = cancel(&root.section("cancel"));
    let pool = pool(&root.section("pool"));
    if pool.is_some() && cancel.secret_file.is_some() {
        let text = "with \"session\" a cancel works only at the replica that its session runs on, cancel.secret_file or \
                    not; route cancels there, or leave the pool off (docs/pool.md)";
        root.section("pool").warn("mode", text);
    }
    let issuers = issuers(root);
    let listeners = listeners(root, issuers.as_deref());
    let sign_in = sign_in(&root.section("sign_in"), issuers.as_deref(), listeners.as_deref());
    let denied = denied(root, issuers.as_deref());
    let clusters = clusters(root);
    root.finish();
    let (listeners, issuers, clusters) = (listeners?, issuers?, clusters?);
    let (warnings, files, principals) = (Vec::new(), Vec::new(), Vec::new());
    let config = Config {
        listeners,
        limits,
        admin,
        profiles,
        sign_in,
        egress,
        session,
        log,
        reload,
        audit,
        traces,
        cancel,
        denied,
        pool,
        issuers,
        clusters,
        warnings,
        files,
        principals,
        file: PathBuf::new(),
        sources: Vec::new(),
        keys: Arc::default(),
    };
    names_are_known(root, &config);
    Some(config)
}

/// Checks names in one section that refer to another section.
fn names_are_known(root: &SectionReader<'_, '_>, config: &Config) {
    check_console(root, config);
    let issuer = |name: &str| config.issuers.iter().any(|issuer| issuer.name == name);
    for (cluster, section) in config.clusters.iter().zip(root.sections("cluster")) {
        let of_roles = match &cluster.roles {
            RoleMapping::PerIssuer(roles) => roles.keys().collect(),
            RoleMapping::One(_) => Vec::new(),
        };
        for name in of_roles.into_iter().filter(|name| !issuer(name)) {
            let text = format!("there is no [[issuer]] with the name {name:?}");
            section.wrong("role_arn", text);
        }
        let listener = |name: &str| config.listeners.iter().any(|listen| listen.name == name);
        for name in cluster.route.listeners.iter().flatten().filter(|name| !listener(name)) {
            let text = format!("there is no [[listen]] with the name {name:?}");
            section.wrong("listeners", text);
        }
        engines_fit(&section, cluster, &config.listeners);
        for name in cluster.issuers.iter().flatten().filter(|name| !issuer(name)) {
            let text = format!("there is no [[issuer]] with the name {name:?}");
            section.wrong("issuers", text);
        }
        for (rule, section) in cluster.user.all().iter().zip(section.one_or_several("user")) {
            check_issuers(&section, rule.issuers.as_ref(), issuer);
        }
        check_names(&section, "allow", cluster.allow.as_ref(), issuer);
        for (group, section) in cluster.groups.iter().zip(section.sections("group")) {
            check_names(&section, "when", group.when.as_ref(), issuer);
        }
        warn_of_shared_names(&section, cluster, &config.issuers);
        warn_of_shared_rules(&section, cluster, &config.issuers);
    }
}

/// Checks that a cluster is reached from listeners of its protocol only, and from at least one.
fn engines_fit(section: &SectionReader<'_, '_>, cluster: &ClusterSettings, listeners: &[ListenSettings]) {
    let engine = cluster.engine.word();
    let fits = |listen: &&ListenSettings| listen.protocol == cluster.engine;
    match &cluster.route.listeners {
        Some(names) => {
            let named = listeners.iter().filter(|listen| names.contains(&listen.name));
            for listen in named.filter(|listen| !fits(listen)) {
                let text = format!(
                    "listener {:?} speaks {}, and this cluster {engine}; write engine = {:?} here, or another listener",
                    listen.name,
                    listen.protocol.word(),
                    listen.protocol.word()
                );
                section.wrong("listeners", text);
            }
        }
        None if !listeners.iter().any(|listen| fits(&listen)) => {
            let text = format!(
                "no [[listen]] has protocol = {engine:?}, so nobody can reach this cluster; add one, or change engine"
            );
            section.wrong(if section.has("engine") { "engine" } else { "name" }, text);
        }
        None => {}
    }
}
