//! `[[cluster]]`: the upstream, its connection and signing, and the derivation of the database user.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::access::{groups, option_rules, roles};
use super::endpoint::{check_partition, server};
use super::partition::sts_url;
use super::reader::SectionReader;
use super::readers::{MOST_CONNECTIONS, name, none_for_zero, web_address};
use super::route::route;
use super::rules::rules;
use super::sections::{check_name, several};
use super::user::user_rules;
use super::{
    ClaimRule, ClusterRoute, DatabaseProtocol, EndpointKind, GroupSettings, IssuerSettings, OptionRules,
    RoleMapping, TrustAnchors, UserRules,
};
use crate::names::{Endpoint, Region};

/// A `[[cluster]]`
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterSettings {
    /// The operator's name for it.
    pub name: String,
    /// Protocol of its servers.
    pub engine: DatabaseProtocol,
    /// Host and port of the server, as in its certificate and in the IAM token.
    pub endpoint: Endpoint,
    /// Addresses to connect to instead of resolving the endpoint's name (libpq's `hostaddr`), in this order;
    /// at most 8. Empty to resolve the name.
    pub hostaddr: Vec<SocketAddr>,
    /// Region of the database.
    pub region: Region,
    /// Service behind the endpoint.
    pub kind: EndpointKind,
    /// Roles that people assume with their token.
    pub roles: RoleMapping,
    /// `cluster-…`, `db-…` or `prx-…`, for the session policy; any if absent.
    pub resource_id: Option<String>,
    /// Certificate authorities of the server.
    pub authorities: TrustAnchors,
    /// True if TLS begins without an SSLRequest (PostgreSQL 17, `sslnegotiation=direct`).
    pub direct_tls: bool,
    /// STS endpoint: the Region's, or the configured one.
    pub sts_endpoint_url: url::Url,
    /// Certificate authorities of STS, PEM; the system's if absent.
    pub sts_ca_file: Option<PathBuf>,
    /// Requested lifetime of the role credentials, 900 s to 12 h.
    pub sts_duration: Duration,
    /// Most concurrent sessions; unlimited if absent.
    pub max_client_conn: Option<usize>,
    /// Most new logins per second; 0 for unlimited.
    pub max_logins_per_second: usize,
    /// Method of tying the credentials to the database user.
    pub pin: PinMode,
    /// Rules for deriving the database user, by issuer.
    pub user: UserRules,
    /// Connections that this cluster serves.
    pub route: ClusterRoute,
    /// Names of the issuers whose people may use the cluster; all if absent.
    pub issuers: Option<Vec<String>>,
    /// Rules; one must hold for the token. `None` allows all.
    pub allow: Option<Vec<ClaimRule>>,
    /// Restrictions on settings in the startup packet.
    pub options: OptionRules,
    /// Groups with their settings; the first match applies.
    pub groups: Vec<GroupSettings>,
}

/// Method of tying the role credentials to the database user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinMode {
    /// An inline session policy allows `rds-db:connect` as this user only.
    SessionPolicy,
    /// The token must carry the session tag `dbuser` with exactly this user.
    SessionTag,
    /// Session policy and session tag.
    Both,
    /// Neither: only the role's own policy applies.
    None,
}

impl PinMode {
    /// True if the session policy is sent.
    pub fn by_policy(self) -> bool {
        matches!(self, Self::SessionPolicy | Self::Both)
    }

    /// True if the session tag is required.
    pub fn by_tag(self) -> bool {
        matches!(self, Self::SessionTag | Self::Both)
    }
}

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
    several(&sections, cluster, compare)
}

/// Reports a connection that could match `cluster` and one `before` it.
fn compare(section: &SectionReader<'_, '_>, cluster: &ClusterSettings, before: &[ClusterSettings]) {
    check_name(section, "cluster", &cluster.name, before.iter().map(|other| other.name.as_str()));
    for other in before.iter().filter(|other| other.engine == cluster.engine) {
        if other.route.overlaps(&cluster.route) {
            let text = format!(
                "a connection could match this cluster and cluster {:?}; distinguish them by listeners, \
                 server_names or databases",
                other.name
            );
            section.wrong("databases", text);
        }
        let both = cluster.route.default_database.is_some() && other.route.default_database.is_some();
        if both && other.route.shares_listener(&cluster.route) {
            let text = format!(
                "a connection without a database could match this cluster and cluster {:?}; leave \
                 one of them out, or tell the clusters apart by listeners or server_names",
                other.name
            );
            section.wrong("default_database", text);
        }
    }
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
    let max_client_conn = none_for_zero(section.count("max_client_conn", 0, 0..=MOST_CONNECTIONS));
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
