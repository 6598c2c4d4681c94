//! `[[cluster]]`: the upstream, its connection and signing, and the derivation of the database user.

use std::time::Duration;

use super::access::{groups, option_rules, roles};
use super::endpoint::{check_partition, server};
use super::partition::sts_url;
use super::reader::SectionReader;
use super::readers::{name, none_for_zero, web_address};
use super::route::route;
use super::rules::rules;
use super::user::user_rules;
use super::{
    ClusterRoute, ClusterSettings, DatabaseProtocol, EndpointKind, GroupSettings, IssuerSettings, PinMode,
};
use crate::names::Region;

impl ClusterSettings {
    /// True if people of this issuer may use the cluster, by `issuers` and `role_arn`.
    pub fn admits(&self, issuer: &IssuerSettings) -> bool {
        self.issuers.as_ref().is_none_or(|names| names.contains(&issuer.name))
            && self.roles.of(&issuer.name).is_some()
    }
}

/// All `[[cluster]]` sections. No connection may match two of them.
pub(super) fn clusters(root: &SectionReader<'_, '_>) -> Option<Vec<ClusterSettings>> {
    root.record_required("cluster");
    let sections = root.sections("cluster");
    if sections.is_empty() {
        root.reading.problem(&(0..0), "cluster", "no [[cluster]] section: add at least one");
    }
    let mut clusters: Vec<ClusterSettings> = Vec::new();
    let mut whole = true;
    for section in &sections {
        let Some(cluster) = cluster(section) else {
            whole = false;
            continue;
        };
        for other in &clusters {
            if other.name == cluster.name {
                section.wrong("name", "another cluster has this name");
            }
            let same_engine = other.engine == cluster.engine;
            if same_engine && other.route.overlaps(&cluster.route) {
                let text = format!(
                    "a connection could match this cluster and cluster {:?}; distinguish them by listeners, \
                     server_names or databases",
                    other.name
                );
                section.wrong("databases", text);
            }
            let both = same_engine
                && cluster.route.default_database.is_some()
                && other.route.default_database.is_some();
            if both && other.route.shares_listener(&cluster.route) {
                let text = format!(
                    "a connection without a database could match this cluster and cluster {:?}; leave \
                     one of them out, or tell the clusters apart by listeners or server_names",
                    other.name
                );
                section.wrong("default_database", text);
            }
        }
        clusters.push(cluster);
    }
    whole.then_some(clusters)
}

fn cluster(section: &SectionReader<'_, '_>) -> Option<ClusterSettings> {
    let name = section.required("name", "\"orders\"", name);
    let server = server(section);
    let roles = roles(section);
    if let (Some(region), Some(roles)) = (&server.region, &roles) {
        check_partition(section, region, roles);
    }
    let sts_endpoint_url = sts_endpoint_url(section, server.region.as_ref());
    let sts_ca_file = section.path("sts_ca_file");
    let sts_duration = section.duration(
        "sts_duration",
        Duration::from_mins(15),
        Duration::from_mins(15)..=Duration::from_hours(12),
    );
    let max_client_conn = none_for_zero(section.count("max_client_conn", 0, 0..=1_000_000));
    let max_logins_per_second = section.count("max_logins_per_second", 200, 0..=10_000);
    let pins = [
        ("session-policy", PinMode::SessionPolicy),
        ("session-tag", PinMode::SessionTag),
        ("both", PinMode::Both),
        ("none", PinMode::None),
    ];
    let pin = section.choice("pin", PinMode::SessionPolicy, &pins);
    if server.kind == EndpointKind::Dsql && pin.by_policy() {
        section.warn(
            "pin",
            "for DSQL the session policy names the cluster and cannot name the database user: AWS IAM GRANT in the \
             database says which users a role may become. Give each group of users a role of its own",
        );
    }
    let user = user_rules(section, pin);
    let route = route(section);
    let issuers = section.texts("issuers");
    let issuers = issuers.map(|items| items.value.into_iter().map(|item| item.value.to_owned()).collect());
    let allow = rules(section, "allow");
    let options = option_rules(section);
    let groups = groups(section);
    if server.engine == DatabaseProtocol::MySql {
        warn_of_databases(section, &route);
        check_groups(section, &groups);
        for key in ["forbid_options", "forbidden_settings"] {
            if section.has(key) {
                section.wrong(key, "a login at MySQL sets nothing; remove this key");
            }
        }
    }
    section.finish();
    Some(ClusterSettings {
        name: name?,
        engine: server.engine,
        endpoint: server.endpoint?,
        hostaddr: server.hostaddr,
        region: server.region?,
        kind: server.kind,
        roles: roles?,
        resource_id: server.resource_id,
        authorities: server.authorities?,
        direct_tls: server.direct_tls,
        sts_endpoint_url: sts_endpoint_url?,
        sts_ca_file,
        sts_duration,
        max_client_conn,
        max_logins_per_second,
        pin,
        user: user?,
        route,
        issuers,
        allow,
        options,
        groups,
    })
}

/// Warns of a restriction that does not hold: any MySQL session can change its database.
fn warn_of_databases(section: &SectionReader<'_, '_>, route: &ClusterRoute) {
    if route.databases.is_some() {
        let text = "this chooses the cluster of a MySQL connection and is no boundary: a session can change its database \
                    (USE) and read others (SELECT … FROM other.table). Grants in the database are the boundary";
        section.warn("databases", text);
    }
}

/// Rejects keys of groups that would have no effect.
fn check_groups(section: &SectionReader<'_, '_>, groups: &[GroupSettings]) {
    for (group, section) in groups.iter().zip(section.sections("group")) {
        let text = "this has no effect on a MySQL session; grant it in the database and remove this key";
        if group.databases.is_some() {
            section.wrong("databases", text);
        }
        if group.read_only {
            section.wrong("read_only", text);
        }
        if !group.statement_timeout.is_zero() {
            section.wrong("statement_timeout", text);
        }
    }
}

/// The configured STS endpoint, or the Region's endpoint in the requested variant.
fn sts_endpoint_url(section: &SectionReader<'_, '_>, region: Option<&Region>) -> Option<url::Url> {
    let fips = section.boolean("sts_use_fips_endpoint", false);
    let dual_stack = section.boolean("sts_use_dualstack_endpoint", false);
    if section.has("sts_endpoint_url") {
        if fips || dual_stack {
            let text = "sts_endpoint_url is used as it is; leave it out, or sts_use_fips_endpoint and \
                        sts_use_dualstack_endpoint";
            section.wrong("sts_endpoint_url", text);
        }
        return section.parsed("sts_endpoint_url", |text| web_address(text, true));
    }
    let key = if fips { "sts_use_fips_endpoint" } else { "region" };
    let url = sts_url(region?, fips, dual_stack).and_then(|url| web_address(&url, false));
    url.map_err(|text| section.wrong(key, text)).ok()
}
