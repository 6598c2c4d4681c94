//! The server of a `[[cluster]]`: properties derived from its name, validation of related keys, and warnings.

use std::net::{IpAddr, SocketAddr};

use super::DatabaseProtocol::{MySql, PostgreSql};
use super::partition::AwsPartition;
use super::reader::{SectionReader, SpannedValue};
use super::{DatabaseProtocol, RoleMapping, TrustAnchors};
use crate::names::{Endpoint, Region};
use crate::rds_roots;

/// Service behind an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointKind {
    /// A cluster, reader, custom or instance endpoint of Aurora PostgreSQL.
    Aurora,
    /// An instance or Multi-AZ cluster of RDS for PostgreSQL.
    Rds,
    /// An endpoint of RDS Proxy.
    RdsProxy,
    /// A cluster of Aurora DSQL.
    Dsql,
}

impl EndpointKind {
    /// True if the server supports cancel requests (Aurora user guide, "RDS Proxy": limitations for
    /// PostgreSQL).
    pub fn takes_cancels(self) -> bool {
        self != Self::RdsProxy
    }
}

/// Most addresses in `hostaddr`, the same number as for a name.
const MAX_HOSTADDRS: usize = 8;

/// The keys about the server. `None` for unreadable values.
pub(super) struct ServerKeys {
    pub(super) engine: DatabaseProtocol,
    pub(super) endpoint: Option<Endpoint>,
    pub(super) hostaddr: Vec<SocketAddr>,
    pub(super) region: Option<Region>,
    pub(super) kind: EndpointKind,
    pub(super) resource_id: Option<String>,
    pub(super) authorities: Option<TrustAnchors>,
    pub(super) direct_tls: bool,
}

pub(super) fn server(section: &SectionReader<'_, '_>) -> ServerKeys {
    let engine = section.choice("engine", PostgreSql, &DatabaseProtocol::words());
    let default = engine.default_port();
    let example = format!("\"<cluster endpoint>:{default}\"");
    let endpoint = section.required("endpoint", &example, |text| endpoint(text, default));
    let name = endpoint.as_ref().map(|endpoint| AwsName::parse(endpoint.host()));
    if let Some(None) = name {
        section.warn(
            "endpoint",
            "this is not a name that AWS gives to a database. If it is an alias (CNAME) for one, logins will fail: \
             the server takes only IAM tokens made for its own name. Write that name here; hostaddr can lead \
             elsewhere",
        );
    }
    let name = name.flatten();
    let port = endpoint.as_ref().map_or(default, Endpoint::port);
    let hostaddr = hostaddrs(section, port);
    let region = section.required("region", "\"eu-central-1\"", |text| {
        let region = Region::parse(text)
            .ok_or_else(|| format!("{text:?} is not a Region; write it as in \"eu-central-1\""))?;
        match name.as_ref().and_then(|name| name.region) {
            Some(other) if other != text => {
                Err(format!("the endpoint is in {other}; tokens signed for {text} would be refused"))
            }
            _ => Ok(region),
        }
    });
    let kind = kind(section, name.as_ref().map(|name| name.kind));
    let resource_id = section.parsed("resource_id", |text| resource_id(text, kind));
    let authorities = authorities(section, kind, region.as_ref());
    let direct_tls = section.boolean("direct_tls", false);
    if engine == MySql {
        if direct_tls {
            section.wrong("direct_tls", "MySQL has no direct TLS; remove this key");
        }
        if kind == EndpointKind::Dsql {
            section.wrong("engine", "DSQL speaks PostgreSQL's protocol");
        }
    }
    ServerKeys { engine, endpoint, hostaddr, region, kind, resource_id, authorities, direct_tls }
}

/// Checks that the role and the database are in the same partition.
pub(super) fn check_partition(section: &SectionReader<'_, '_>, region: &Region, roles: &RoleMapping) {
    let expected = AwsPartition::of(region).name;
    for role in roles.all() {
        if role.partition() != expected {
            let text = format!(
                "the role is in partition {}, and {} is in {expected}; write arn:{expected}:iam::…",
                role.partition(),
                region.as_str()
            );
            section.wrong("role_arn", text);
        }
    }
}

fn kind(section: &SectionReader<'_, '_>, by_name: Option<EndpointKind>) -> EndpointKind {
    use EndpointKind::{Aurora, Dsql, Rds, RdsProxy};
    let words = [("aurora", Aurora), ("rds", Rds), ("rds-proxy", RdsProxy), ("dsql", Dsql)];
    let kind = section.choice("kind", by_name.unwrap_or(Aurora), &words);
    // Instances and clusters of Aurora and RDS have names of the same form.
    let alike = |kind| matches!(kind, Aurora | Rds);
    if let Some(by_name) = by_name.filter(|by_name| kind != *by_name && !(alike(kind) && alike(*by_name))) {
        let word = words.iter().find(|(_, other)| *other == by_name).map_or("", |(word, _)| word);
        section.wrong("kind", format!("the endpoint's name is that of another kind: {word:?}"));
    }
    kind
}

/// `"rds"` selects the authorities that ship with the program, `"system"` those of the system, as in libpq's
/// `sslrootcert`. Files of these names can be written as `"./rds"` and `"./system"`.
fn authorities(
    section: &SectionReader<'_, '_>,
    kind: EndpointKind,
    region: Option<&Region>,
) -> Option<TrustAnchors> {
    let public = matches!(kind, EndpointKind::RdsProxy | EndpointKind::Dsql);
    let example = if public { "\"system\"" } else { "\"rds\"" };
    let word = section.value("ca_file").and_then(|value| value.get_ref().as_str());
    let anchors = match word {
        Some("system") => TrustAnchors::System,
        Some("rds") => TrustAnchors::Rds,
        _ => return section.required_path("ca_file", example).map(TrustAnchors::File),
    };
    section.record_required("ca_file");
    match (&anchors, region) {
        (TrustAnchors::System, _) if !public => section.warn(
            "ca_file",
            "certificates of Aurora and RDS are not signed by public authorities, so logins will fail; write \"rds\"",
        ),
        (TrustAnchors::Rds, _) if public => section.warn(
            "ca_file",
            "certificates of RDS Proxy and DSQL are signed by public authorities, so logins will fail; write \"system\"",
        ),
        (TrustAnchors::Rds, Some(region)) if !rds_roots::covers(region.as_str()) => {
            let text = format!(
                "the authorities of RDS that ship with pgpassport ({}) have none for {}; name a file with the RDS bundle of \
                 that Region (certs/README.md)",
                rds_roots::date(),
                region.as_str()
            );
            section.wrong("ca_file", text);
        }
        _ => {}
    }
    Some(anchors)
}

/// Properties of an AWS host name of a database.
#[derive(Debug, PartialEq, Eq)]
struct AwsName<'a> {
    kind: EndpointKind,
    /// Region in the name; absent in a global endpoint.
    region: Option<&'a str>,
}

impl<'a> AwsName<'a> {
    fn parse(host: &'a str) -> Option<Self> {
        if let Some(rest) = host.strip_suffix(".on.aws") {
            let (rest, region) = rest.rsplit_once('.')?;
            let (_, service) = rest.rsplit_once('.')?;
            // Through PrivateLink the service's label has a suffix.
            let dsql = service == "dsql" || service.starts_with("dsql-");
            return dsql.then_some(Self { kind: EndpointKind::Dsql, region: Some(region) });
        }
        AwsPartition::suffixes().find_map(|suffix| Self::rds(host.strip_suffix(suffix)?.strip_suffix('.')?))
    }

    /// Parses `<name>.[<kind>-]<id>.<region>.rds`. In some partitions the Region follows `rds`.
    fn rds(rest: &'a str) -> Option<Self> {
        let is_rds = |label| matches!(label, "rds" | "rds-fips");
        let (rest, last) = rest.rsplit_once('.')?;
        let (rest, before) = rest.rsplit_once('.')?;
        let region = match (before, last) {
            (region, service) if is_rds(service) => region,
            (service, region) if is_rds(service) => region,
            _ => return None,
        };
        let (_, id) = rest.rsplit_once('.')?;
        let kind = match id.split_once('-') {
            Some(("cluster" | "shardgrp" | "global", _)) => EndpointKind::Aurora,
            Some(("proxy", _)) => EndpointKind::RdsProxy,
            _ => EndpointKind::Rds,
        };
        Some(Self { kind, region: Some(region).filter(|region| *region != "global") })
    }
}

fn endpoint(text: &str, default_port: u16) -> Result<Endpoint, String> {
    let host = text.rsplit_once(':').map_or(text, |(host, _)| host);
    if host.parse::<IpAddr>().is_ok() || text.starts_with('[') {
        return Err("write the endpoint's name, which certificate and IAM token are made for; \
                    an address to dial instead goes into hostaddr"
            .into());
    }
    Endpoint::parse_with_port(text, default_port)
        .ok_or_else(|| format!("{text:?} is not \"host\" or \"host:port\""))
}

/// An address or several.
fn hostaddrs(section: &SectionReader<'_, '_>, port: u16) -> Vec<SocketAddr> {
    let Some(items) = section.texts("hostaddr") else { return Vec::new() };
    if !(1..=MAX_HOSTADDRS).contains(&items.value.len()) {
        let text = format!("write one to {MAX_HOSTADDRS} addresses, or leave the key out");
        section.reading.problem(&items.span, &items.key, text);
    }
    let parse = |item: &SpannedValue<&str>| {
        let problem = |text| section.reading.problem(&item.span, &item.key, text);
        hostaddr(item.value, port).map_err(problem).ok()
    };
    items.value.iter().filter_map(parse).collect()
}

fn hostaddr(text: &str, port: u16) -> Result<SocketAddr, String> {
    let with_port = text.parse().ok();
    with_port
        .or_else(|| text.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, port)))
        .ok_or_else(|| format!("{text:?} is not an IP address; write \"10.0.0.7\" or \"10.0.0.7:5432\""))
}

fn resource_id(text: &str, kind: EndpointKind) -> Result<String, String> {
    let prefixes: &[&str] = match kind {
        EndpointKind::Aurora => &["cluster-"],
        EndpointKind::Rds => &["db-", "cluster-"],
        EndpointKind::RdsProxy => &["prx-"],
        EndpointKind::Dsql => {
            return Err("leave it out: the id of a DSQL cluster is in its endpoint's name".into());
        }
    };
    let legal = |id: &str| {
        !id.is_empty() && id.len() <= 64 && id.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
    };
    // RDS Proxy's ids are lower-case.
    let legal = |id: &str| legal(&if kind == EndpointKind::RdsProxy { id.to_uppercase() } else { id.into() });
    if prefixes.iter().filter_map(|prefix| text.strip_prefix(prefix)).any(legal) {
        return Ok(text.to_owned());
    }
    let example = prefixes.first().copied().unwrap_or_default();
    Err(format!(
        "{text:?} is not a resource id; it is in the console under Configuration, as in \
         \"{example}ABCDEFGHIJKLMNOPQRSTUVWXYZ\", and is not the cluster's name"
    ))
}

#[cfg(test)]
mod tests;
