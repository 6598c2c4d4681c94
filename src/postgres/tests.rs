//! What was granted is what the server is asked for, whatever the configuration and the client: random configurations,
//! tokens and startup packets against a model of the rules that are written in `docs/access.md`.

use std::fmt::Write as _;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Value, json};

use super::server_login::{LoginParameters, startup_packet};
use super::startup::StartupParams;
use crate::config::Config;
use crate::identity::{AccessPolicy, Grant, LoginRequest, verified};

const NOW: u64 = 1_800_000_000;
const NAMES: [&str; 6] = ["alice", "bob", "token", "orders", "orders_1", "app"];
const PATTERNS: [&str; 9] = ["alice", "bob", "token", "orders", "orders_1", "app", "orders*", "al*", "*"];
const WAYS: [&str; 2] = ["one", "two"];

/// A cluster as it is written in the file.
#[derive(Clone, Debug)]
struct Cluster {
    listeners: Option<Vec<&'static str>>,
    server_names: Option<Vec<&'static str>>,
    databases: Option<Vec<&'static str>>,
    alias: Option<(&'static str, &'static str)>,
    default_database: Option<&'static str>,
    claim: &'static str,
    ignore: bool,
    placeholders: Vec<&'static str>,
    group: Option<Vec<&'static str>>,
}

/// A login as the client asks for it.
#[derive(Clone, Debug)]
struct Login {
    subject: &'static str,
    nick: Option<&'static str>,
    in_group: bool,
    user: &'static str,
    database: Option<&'static str>,
    listener: &'static str,
    server_name: Option<&'static str>,
}

impl Cluster {
    fn toml(&self, number: usize) -> String {
        let mut text = format!(
            "[[cluster]]\nname = \"c{number}\"\nendpoint = \"c{number}.cluster-abc.eu-central-1.rds.amazonaws.com\"\n\
             region = \"eu-central-1\"\nrole_arn = \"arn:aws:iam::123456789012:role/r\"\nca_file = \"ca\"\n"
        );
        let lists = [
            ("listeners", &self.listeners),
            ("server_names", &self.server_names),
            ("databases", &self.databases),
        ];
        for (key, list) in lists {
            if let Some(list) = list {
                writeln!(text, "{key} = {list:?}").unwrap();
            }
        }
        if let Some((name, real)) = self.alias {
            writeln!(text, "database_aliases = {{ {name} = {real:?} }}").unwrap();
        }
        if let Some(name) = self.default_database {
            writeln!(text, "default_database = {name:?}").unwrap();
        }
        let startup_user = if self.ignore { "ignore" } else { "match" };
        let (claim, placeholders) = (self.claim, &self.placeholders);
        writeln!(
            text,
            "[cluster.user]\nclaim = {claim:?}\nstartup_user = {startup_user:?}\nplaceholders = {placeholders:?}"
        )
        .unwrap();
        if let Some(databases) = &self.group {
            let when = "{ claim = \"team\", any = [\"x\"] }";
            writeln!(text, "[[cluster.group]]\nname = \"g\"\nwhen = {when}\ndatabases = {databases:?}")
                .unwrap();
        }
        text
    }

    /// Whether the file lists this name, which is what clients may ask for.
    fn lists(&self, name: &str) -> bool {
        let alias = self.alias.is_some_and(|(alias, _)| alias == name);
        let listed = self.databases.as_ref().is_some_and(|list| fits_any(list, name));
        alias || listed || (self.databases.is_none() && self.alias.is_none())
    }

    fn spells_out(&self, name: &str) -> bool {
        self.alias.is_some_and(|(alias, _)| alias == name)
            || self.databases.as_ref().is_some_and(|list| list.contains(&name))
    }

    fn real(&self, name: &str) -> String {
        self.alias.filter(|(alias, _)| *alias == name).map_or(name, |(_, real)| real).to_owned()
    }

    fn user(&self, login: &Login) -> Option<&'static str> {
        if self.claim == "sub" { Some(login.subject) } else { login.nick }
    }

    fn is_reached_by(&self, login: &Login) -> bool {
        self.listeners.as_ref().is_none_or(|list| list.contains(&login.listener))
            && self
                .server_names
                .as_ref()
                .is_none_or(|list| login.server_name.is_some_and(|name| list.contains(&name)))
    }

    /// The name of a database that the client gives, if it gives one.
    fn named(&self, login: &Login) -> Option<&'static str> {
        let name = login.database.filter(|name| !name.is_empty())?;
        let placeholder = name == login.user && self.placeholders.contains(&name);
        (!placeholder || self.spells_out(name)).then_some(name)
    }

    /// The user and database here, if the rules of this cluster let the person in with database `name`.
    fn lets_in(&self, login: &Login, name: &str) -> Option<(String, String)> {
        let user = self.user(login)?;
        let database = self.real(name);
        let as_asked = self.ignore || login.user == user || self.placeholders.contains(&login.user);
        let allowed = self.group.as_ref().is_none_or(|list| login.in_group && fits_any(list, &database));
        (as_asked && allowed && self.lists(name)).then(|| (user.to_owned(), database))
    }
}

fn fits_any(patterns: &[&str], name: &str) -> bool {
    patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => *pattern == name,
    })
}

/// The rules of `docs/access.md`: cluster, user and database, or a refusal.
fn expected(clusters: &[Cluster], login: &Login) -> Option<(usize, String, String)> {
    let reached = || clusters.iter().enumerate().filter(|(_, cluster)| cluster.is_reached_by(login));
    let by_client = reached().filter_map(|(at, it)| Some((at, it, it.named(login)?)));
    let nameless = || reached().filter(|(_, it)| it.named(login).is_none());
    let by_default = nameless().filter_map(|(at, it)| Some((at, it, it.default_database?)));
    let by_user = nameless()
        .filter(|(_, it)| it.default_database.is_none())
        .filter_map(|(at, it)| Some((at, it, it.user(login)?)));
    for candidates in [by_client.collect::<Vec<_>>(), by_default.collect(), by_user.collect()] {
        let serving: Vec<_> = candidates.into_iter().filter(|(_, it, name)| it.lists(name)).collect();
        match serving[..] {
            [] => {}
            [(at, cluster, name)] => {
                return cluster.lets_in(login, name).map(|(user, database)| (at, user, database));
            }
            _ => return None,
        }
    }
    None
}

fn name() -> impl Strategy<Value = &'static str> {
    select(&NAMES[..])
}

fn some_of(from: &'static [&'static str]) -> impl Strategy<Value = Vec<&'static str>> {
    subsequence(from, 1..=2)
}

fn cluster() -> impl Strategy<Value = Cluster> {
    let way = || prop::option::weighted(0.4, some_of(&WAYS));
    let databases = prop::option::weighted(0.8, some_of(&PATTERNS));
    let alias = prop::option::weighted(0.3, (name(), name()));
    let default_database = prop::option::weighted(0.3, name());
    let user = (select(&["sub", "nick"][..]), any::<bool>(), subsequence(&NAMES[..], 0..=2));
    let group = prop::option::weighted(0.3, some_of(&PATTERNS));
    (way(), way(), databases, alias, default_database, user, group).prop_map(
        |(listeners, server_names, databases, alias, default_database, user, group)| Cluster {
            listeners,
            server_names,
            databases,
            alias,
            default_database,
            claim: user.0,
            ignore: user.1,
            placeholders: user.2,
            group,
        },
    )
}

fn login() -> impl Strategy<Value = Login> {
    let token = (name(), prop::option::weighted(0.8, name()), any::<bool>());
    let database = prop_oneof![
        2 => Just(None),
        1 => Just(Some("")),
        6 => name().prop_map(Some),
    ];
    let server_name = prop_oneof![1 => Just(None), 3 => select(&WAYS[..]).prop_map(Some)];
    let asked = (name(), database, any::<bool>());
    (token, asked, select(&WAYS[..]), server_name).prop_map(
        |((subject, nick, in_group), (user, database, same), listener, server_name)| Login {
            subject,
            nick,
            in_group,
            user: if same { subject } else { user },
            database: if same && database.is_some() { Some(subject) } else { database },
            listener,
            server_name,
        },
    )
}

/// The largest good configuration of these clusters, in their order, and the clusters that are in it.
fn good(clusters: Vec<Cluster>) -> Option<(Config, Vec<Cluster>)> {
    let listen = |name: &str, port: u16| {
        format!(
            "[[listen]]\nname = {name:?}\naddr = \"127.0.0.1:{port}\"\ntls_cert_file = \"c\"\ntls_key_file = \"k\"\n"
        )
    };
    let mut text = listen("one", 1) + &listen("two", 2);
    text += "[[issuer]]\nname = \"idp\"\nurl = \"https://idp.example\"\naudience = \"a\"\n";
    let (mut config, mut kept) = (None, Vec::new());
    for cluster in clusters {
        let longer = format!("{text}{}", cluster.toml(kept.len()));
        if let Ok(good) = Config::from_toml(&longer, "test.toml") {
            (text, config) = (longer, Some(good));
            kept.push(cluster);
        }
    }
    config.map(|config| (config, kept))
}

fn startup(login: &Login) -> StartupParams {
    let mut packet = b"\0\x03\0\0".to_vec();
    let pairs = [("user", Some(login.user)), ("database", login.database), ("application_name", Some("x"))];
    for (name, value) in pairs.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        packet.extend([name, "\0", value, "\0"].concat().into_bytes());
    }
    packet.push(0);
    StartupParams::parse(&packet).unwrap()
}

fn granted(config: &Config, login: &Login, startup: &StartupParams) -> Option<Grant> {
    let mut claims = json!({
        "iss": "https://idp.example", "aud": "a", "exp": NOW + 600, "iat": NOW, "sub": login.subject,
    });
    if let Some(nick) = login.nick {
        claims["nick"] = nick.into();
    }
    claims["team"] = if login.in_group { "x".into() } else { Value::from(Vec::<Value>::new()) };
    let asked = LoginRequest {
        user: startup.user(),
        database: startup.database(),
        listener: login.listener,
        server_name: login.server_name,
        options: false,
        settings: startup.settings(),
    };
    let policy = AccessPolicy::new(config.clusters.iter().cloned().map(Arc::new).collect());
    let granted = policy.authorise(verified(&claims, &config.issuers[0], NOW), &asked);
    granted.ok().map(|(grant, _)| grant)
}

/// The values of a parameter in the packet for the server.
fn values(packet: &[u8], name: &str) -> Vec<String> {
    let fields: Vec<_> = packet[8..packet.len() - 2].split(|byte| *byte == 0).collect();
    let pairs = fields.chunks(2).filter(|pair| pair[0] == name.as_bytes());
    pairs.map(|pair| String::from_utf8(pair[1].to_vec()).unwrap()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn u1_what_was_granted_is_what_the_server_is_asked_for(
        clusters in prop::collection::vec(cluster(), 1..=3),
        logins in prop::collection::vec(login(), 8),
    ) {
        let Some((config, clusters)) = good(clusters) else { return Ok(()) };
        for login in &logins {
            let startup = startup(login);
            let grant = granted(&config, login, &startup);
            let found = grant.as_ref().map(|grant| {
                let at = config.clusters.iter().position(|it| it.name == grant.cluster().name).unwrap();
                (at, grant.db_user().as_str().to_owned(), grant.database().as_str().to_owned())
            });
            prop_assert_eq!(&found, &expected(&clusters, login), "{:?}", login);
            let (Some(grant), Some((at, user, database))) = (grant, found) else { continue };
            let packet = startup_packet(LoginParameters::of(&grant, &startup), startup.protocol());
            prop_assert_eq!(values(&packet, "user"), [user]);
            prop_assert_eq!(values(&packet, "database"), [database.clone()]);
            // Whatever name led here: the file lists it, and it is the database that the server is asked for.
            let cluster = &clusters[at];
            let listed = NAMES.iter().any(|name| cluster.lists(name) && cluster.real(name) == database);
            prop_assert!(listed, "{} is not listed: {:?}", database, cluster);
        }
    }
}

/// The case that showed the gap: the list has `orders` alone, and the person's own name was let through.
#[test]
fn u1_a_connection_without_a_database_reaches_listed_ones_only() {
    let cluster = Cluster {
        listeners: None,
        server_names: None,
        databases: Some(vec!["orders"]),
        alias: None,
        default_database: None,
        claim: "sub",
        ignore: true,
        placeholders: vec![],
        group: None,
    };
    let (config, _) = good(vec![cluster.clone()]).unwrap();
    let login = Login {
        subject: "alice",
        nick: None,
        in_group: false,
        user: "orders",
        database: None,
        listener: "one",
        server_name: None,
    };
    assert!(granted(&config, &login, &startup(&login)).is_none());
    let (config, _) = good(vec![Cluster { default_database: Some("orders"), ..cluster.clone() }]).unwrap();
    let grant = granted(&config, &login, &startup(&login)).unwrap();
    assert_eq!((grant.db_user().as_str(), grant.database().as_str()), ("alice", "orders"));
    assert!(good(vec![Cluster { default_database: Some("app"), ..cluster }]).is_none(), "it is not listed");
}
