//! `[[cluster]]`: the upstream, how it is reached and signed for, and how the database user is derived.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use regex::RegexBuilder;

use super::access::{groups, option_rules, roles};
use super::reader::{Item, Section};
use super::route::route;
use super::rules::rules;
use super::values::{claim_path, name, none_for_zero, texts_or, web_address};
use super::{ClusterSettings, Pin, StartupUser, UserRegex, UserSettings};
use crate::names::{Endpoint, Region};

/// Longest `regex` and its largest compiled size: a pattern is for names, not for programs.
const MAX_PATTERN: usize = 1_024;
const MAX_COMPILED: usize = 1 << 20;

/// Most addresses in `hostaddr`, as many as are tried of a name.
const MAX_HOSTADDRS: usize = 8;

/// Every `[[cluster]]`. No connection may lead to two of them.
pub(super) fn clusters(root: &Section<'_, '_>) -> Option<Vec<ClusterSettings>> {
    let sections = root.sections("cluster");
    if sections.is_empty() {
        root.reading.problem(&(0..0), "cluster", "there is no [[cluster]]: where are clients to be led?");
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
            if other.route.overlaps(&cluster.route) {
                let text = format!(
                    "a connection could lead here and to cluster {:?} as well; tell them apart by listeners, \
                     server_names or databases",
                    other.name
                );
                section.wrong("databases", text);
            }
        }
        clusters.push(cluster);
    }
    whole.then_some(clusters)
}

fn cluster(section: &Section<'_, '_>) -> Option<ClusterSettings> {
    let name = section.required("name", "\"orders\"", name);
    let endpoint = section.required("endpoint", "\"<cluster endpoint>:5432\"", endpoint);
    let port = endpoint.as_ref().map_or(5432, Endpoint::port);
    let hostaddr = hostaddrs(section, port);
    let region = section.required("region", "\"eu-central-1\"", |text| {
        let region = Region::parse(text)
            .ok_or_else(|| format!("{text:?} is not a Region; write it as in \"eu-central-1\""))?;
        match endpoint.as_ref().and_then(|endpoint| region_of(endpoint.host())) {
            Some(other) if other != text => {
                Err(format!("the endpoint is in {other}; tokens signed for {text} would be refused"))
            }
            _ => Ok(region),
        }
    });
    let roles = roles(section);
    let resource_id = section.parsed("resource_id", resource_id);
    let ca_file = section.required_path("ca_file", "\"/etc/pgpassport/rds-global-bundle.pem\"");
    let sts_endpoint_url = section.parsed("sts_endpoint_url", |text| web_address(text, true));
    let sts_ca_file = section.path("sts_ca_file");
    let sts_duration = section.duration(
        "sts_duration",
        Duration::from_mins(15),
        Duration::from_mins(15)..=Duration::from_hours(12),
    );
    let max_client_conn = none_for_zero(section.count("max_client_conn", 0, 0..=1_000_000));
    let pins = [
        ("session-policy", Pin::SessionPolicy),
        ("session-tag", Pin::SessionTag),
        ("both", Pin::Both),
        ("none", Pin::None),
    ];
    let pin = section.choice("pin", Pin::SessionPolicy, &pins);
    let user = user(&section.section("user"), pin);
    let route = route(section);
    let issuers = section.texts("issuers");
    let issuers = issuers.map(|items| items.value.into_iter().map(|item| item.value.to_owned()).collect());
    let allow = rules(section, "allow");
    let options = option_rules(section);
    let groups = groups(section);
    section.finish();
    Some(ClusterSettings {
        name: name?,
        endpoint: endpoint?,
        hostaddr,
        region: region?,
        roles: roles?,
        resource_id,
        ca_file: ca_file?,
        sts_endpoint_url,
        sts_ca_file,
        sts_duration,
        max_client_conn,
        pin,
        user: user?,
        route,
        issuers,
        allow,
        options,
        groups,
    })
}

fn endpoint(text: &str) -> Result<Endpoint, String> {
    let host = text.rsplit_once(':').map_or(text, |(host, _)| host);
    if host.parse::<IpAddr>().is_ok() || text.starts_with('[') {
        return Err("write the endpoint's name, which certificate and IAM token are made for; \
                    an address to dial instead goes into hostaddr"
            .into());
    }
    Endpoint::parse(text).ok_or_else(|| format!("{text:?} is not \"host\" or \"host:port\""))
}

/// One address or several.
fn hostaddrs(section: &Section<'_, '_>, port: u16) -> Vec<SocketAddr> {
    let Some(items) = section.texts("hostaddr") else { return Vec::new() };
    if !(1..=MAX_HOSTADDRS).contains(&items.value.len()) {
        let text = format!("write one to {MAX_HOSTADDRS} addresses, or leave the key out");
        section.reading.problem(&items.span, &items.key, text);
    }
    let parse = |item: &Item<&str>| {
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

/// The Region that an RDS host name says, `….<region>.rds.amazonaws.com`; in China it stands behind `rds`.
fn region_of(host: &str) -> Option<&str> {
    if let Some(rest) = host.strip_suffix(".rds.amazonaws.com") {
        let last = rest.rsplit('.').next();
        return last.filter(|region| *region != "global");
    }
    let rest = host.strip_suffix(".amazonaws.com.cn")?;
    let (rest, region) = rest.rsplit_once('.')?;
    (rest.rsplit('.').next() == Some("rds")).then_some(region)
}

fn resource_id(text: &str) -> Result<String, String> {
    let legal = ["cluster-", "db-", "prx-"].iter().filter_map(|prefix| text.strip_prefix(prefix)).any(|id| {
        !id.is_empty() && id.len() <= 64 && id.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
    });
    if legal {
        return Ok(text.to_owned());
    }
    Err(format!(
        "{text:?} is not a resource id; it is in the console under Configuration, as in \
         \"cluster-ABCDEFGHIJKLMNOPQRSTUVWXYZ\", and is not the cluster's name"
    ))
}

fn user(section: &Section<'_, '_>, pin: Pin) -> Option<UserSettings> {
    let claim =
        if section.has("claim") { claim_path(section, "claim") } else { Some(vec!["sub".to_owned()]) };
    let regex = section.text("regex").map(|item| (user_regex(item.value), item));
    let lowercase = section.boolean("lowercase", false);
    let startup_user = section.choice(
        "startup_user",
        StartupUser::Match,
        &[("match", StartupUser::Match), ("ignore", StartupUser::Ignore)],
    );
    let placeholders = texts_or(section, "placeholders", &["token"]);
    let denied = texts_or(section, "denied", &[]);
    if pin.by_tag() && (regex.is_some() || lowercase) {
        let text = "regex and lowercase cannot be set with pin = \"session-tag\" or \"both\": AWS compares the \
                    token's tag with the database user byte for byte, so nothing may change the claim on the way";
        section.reading.problem(&section.span, "cluster.user", text);
    }
    let regex = match regex {
        None => None,
        Some((Ok(regex), _)) => Some(regex),
        Some((Err(text), item)) => {
            section.reading.problem(&item.span, &item.key, text);
            None
        }
    };
    section.finish();
    Some(UserSettings { claim: claim?, regex, lowercase, startup_user, placeholders, denied })
}

fn user_regex(pattern: &str) -> Result<UserRegex, String> {
    if pattern.len() > MAX_PATTERN {
        return Err(format!("the pattern has {} bytes; at most {MAX_PATTERN} are taken", pattern.len()));
    }
    // Compiled alone first: a pattern such as "a)(b" must not become whole by our anchors.
    let compile = |pattern: &str| RegexBuilder::new(pattern).size_limit(MAX_COMPILED).build();
    compile(pattern).map_err(|error| format!("the pattern cannot be used: {error}"))?;
    let regex = compile(&format!("^(?:{pattern})$")).map_err(|error| error.to_string())?;
    let named = regex.capture_names().position(|name| name == Some("user"));
    match (named, regex.captures_len()) {
        (Some(group), _) => Ok(UserRegex { regex, group }),
        (None, 2) => Ok(UserRegex { regex, group: 1 }),
        (None, groups) => Err(format!(
            "the pattern has {} capture groups; write one around the user, or name one (?<user>…)",
            groups - 1
        )),
    }
}
