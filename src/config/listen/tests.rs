//! Listeners as people write them, rightly and wrongly.

use crate::config::ListenAuth;
use crate::config::tests::{REFERENCE, problem, read, with};

#[test]
fn listeners_are_one_table_or_several() {
    let pair = |first: &str, second: &str| {
        let files = "tls_cert_file = \"c\"\ntls_key_file = \"k\"\n";
        let tables = format!("[[listen]]\n{files}{first}\n[[listen]]\n{files}{second}\n");
        let (start, end) = (REFERENCE.find("\n[listen]").unwrap(), REFERENCE.find("\n[limits]").unwrap());
        read(&format!("{}\n{tables}{}", &REFERENCE[..start], &REFERENCE[end..]))
    };
    let config = pair("", "name = \"vpn\"\naddr = \"[::1]:5433\"").unwrap();
    let names: Vec<_> = config.listeners.iter().map(|listen| listen.name.as_str()).collect();
    assert_eq!(names, ["0.0.0.0:5432", "vpn"]);
    pair("addr = \"127.0.0.1:0\"", "addr = \"127.0.0.1:0\"").unwrap();
    let report = pair("", "").unwrap_err().to_string();
    assert!(report.contains("another [[listen]] has the address 0.0.0.0:5432"), "{report}");
    let report = pair("name = \"a\"", "addr = \"0.0.0.0:1\"\nname = \"a\"").unwrap_err().to_string();
    assert!(report.contains("another [[listen]] has the name \"a\""), "{report}");
    let report = pair("", "adr = 1").unwrap_err().to_string();
    assert!(report.contains("listen[1].adr: this key is not known; did you mean addr?"), "{report}");
    assert!(read("listen = []").unwrap_err().to_string().contains("no [listen] section"));
}

#[test]
fn a_demand_for_certificates_needs_their_authority() {
    let report = problem(&[("client_tls_certificate", "client_tls_certificate = \"request\"")]);
    assert!(report.contains("this needs client_tls_ca_file"), "{report}");
    let ca = ("client_tls_ca_file", "client_tls_ca_file = \"ca.pem\"");
    let required = |more: &[(&str, &str)]| {
        let config = read(&with(&[&[ca], more].concat())).unwrap();
        config.listeners[0].client_certificate.clone().unwrap().required
    };
    assert!(required(&[]));
    assert!(!required(&[("client_tls_certificate", "client_tls_certificate = \"request\"")]));
}

#[test]
fn c10_balancers_are_named_by_networks_or_addresses() {
    let from = |value: &str| {
        read(&with(&[("proxy_protocol_from", &format!("proxy_protocol_from = {value}"))]))
            .map(|config| config.listeners[0].proxy_protocol_from.clone())
    };
    let networks = from("[\"10.0.0.0/16\", \"fd00::/8\", \"192.0.2.7\"]").unwrap();
    assert_eq!(
        networks.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["10.0.0.0/16", "fd00::/8", "192.0.2.7/32"]
    );
    for (bad, told) in [
        ("\"10.0.0.1/16\"", "write \"10.0.0.0/16\""),
        ("\"10.0.0.0/33\"", "is not a network"),
        ("\"balancer.example\"", "is not a network"),
        ("[7]", "expected a string in quotes"),
    ] {
        let report = from(bad).unwrap_err().to_string();
        assert!(report.contains(told), "{report}");
    }
}

#[test]
fn oauthbearer_needs_an_issuer_to_send_people_to_and_tls() {
    let auth = |more: &[(&str, &str)]| {
        let text = with(&[&[("auth", "auth = \"oauthbearer\"")], more].concat());
        read(&text).map(|config| config.listeners[0].auth.clone())
    };
    let Ok(ListenAuth::OAuthBearer { issuer, scope }) = auth(&[]) else { panic!("not oauthbearer") };
    assert_eq!((issuer.as_str(), scope.as_str()), ("https://acme.okta.com/oauth2/default", "openid"));
    auth(&[("oauth_scope", "oauth_scope = \"openid api://db/.default\"")]).unwrap();
    auth(&[("oauth_issuer", "oauth_issuer = \"okta\"")]).unwrap();
    for (key, line, told) in [
        ("oauth_issuer", "oauth_issuer = \"entra\"", "there is no [[issuer]] with the name \"entra\""),
        ("oauth_scope", "oauth_scope = \"\"", "one space between two"),
        ("oauth_scope", "oauth_scope = \"a  b\"", "one space between two"),
        ("oauth_scope", "oauth_scope = 'a\"b'", "one space between two"),
        ("plaintext_from_loopback", "plaintext_from_loopback = true", "requires TLS for every login"),
    ] {
        let report = auth(&[(key, line)]).unwrap_err().to_string();
        assert!(report.contains(told) && report.ends_with("\n1 problem"), "{report}");
    }
    for key in ["oauth_issuer", "oauth_scope"] {
        let report = problem(&[(key, &format!("{key} = \"okta\""))]);
        assert!(report.contains("this needs auth = \"oauthbearer\""), "{report}");
    }
    let url = "https://acme.okta.com/oauth2/default";
    let long = |length: usize| {
        auth(&[("oauth_scope", &format!("oauth_scope = \"{}\"", "x".repeat(length - url.len())))])
    };
    long(1_800).unwrap();
    assert!(long(1_801).unwrap_err().to_string().contains("more than 1800 bytes"));
    let second = "[[issuer]]\nname = \"entra\"\nurl = \"https://b.example\"\naudience = \"x\"\n";
    let two = with(&[("auth", "auth = \"oauthbearer\"")]).replacen(
        "\n[[issuer]]",
        &format!("\n{second}[[issuer]]"),
        1,
    );
    let report = read(&two).unwrap_err().to_string();
    assert!(report.contains("listen.oauth_issuer: this key is required"), "{report}");
}

/// A configuration with these keys of the listener and the cluster.
fn engines(listen: &str, cluster: &str) -> Result<crate::config::Config, String> {
    let text = REFERENCE.replacen("\n[listen]\n", &format!("\n[listen]\n{listen}\n"), 1);
    let text = text.replacen("\n[[cluster]]\n", &format!("\n[[cluster]]\n{cluster}\n"), 1);
    read(&text).map_err(|problems| problems.to_string())
}

const MYSQL: &str = "protocol = \"mysql\"";
const ENGINE: &str = "engine = \"mysql\"";

#[test]
fn a_mysql_listener_has_its_own_port_version_and_question() {
    let config = engines(MYSQL, ENGINE).unwrap();
    let listener = &config.listeners[0];
    assert_eq!((listener.addr.to_string().as_str(), listener.protocol.word()), ("0.0.0.0:3306", "mysql"));
    assert!(matches!(listener.auth, ListenAuth::Password) && listener.server_version.is_none());
    let openid = engines(&format!("{MYSQL}\nauth = \"openid-connect\""), ENGINE).unwrap();
    assert!(matches!(openid.listeners[0].auth, ListenAuth::OpenIdConnect));
    for (version, good) in [
        ("8.0.39", true),
        ("10.11.6-MariaDB", true),
        ("5.5.5-10.11.6-MariaDB-log", true),
        ("8.0", false),
        ("8.0.39 x", false),
        ("x8.0.39", false),
        ("8.0.1234", false),
        (&format!("8.0.39-{}", "x".repeat(53)), true),
        (&format!("8.0.39-{}", "x".repeat(54)), false),
    ] {
        let config = engines(&format!("{MYSQL}\nserver_version = \"{version}\""), ENGINE);
        assert_eq!(config.is_ok(), good, "{version}: {:?}", config.err());
    }
}

#[test]
fn keys_of_the_other_protocol_are_problems() {
    for (listen, cluster, told) in [
        (format!("{MYSQL}\nplaintext_from_loopback = true"), ENGINE.to_owned(), "only within TLS"),
        (format!("{MYSQL}\nauth = \"oauthbearer\""), ENGINE.to_owned(), "MySQL has no OAUTHBEARER"),
        (String::new(), "# ".to_owned() + ENGINE, ""),
        ("auth = \"openid-connect\"".to_owned(), String::new(), "needs protocol = \"mysql\""),
        ("server_version = \"8.0.39\"".to_owned(), String::new(), "needs protocol = \"mysql\""),
        (MYSQL.to_owned(), format!("{ENGINE}\ndirect_tls = true"), "MySQL has no direct TLS"),
        (MYSQL.to_owned(), format!("{ENGINE}\nforbid_options = true"), "a login at MySQL sets nothing"),
        (MYSQL.to_owned(), String::new(), "no [[listen]] has protocol = \"postgresql\""),
        (String::new(), ENGINE.to_owned(), "no [[listen]] has protocol = \"mysql\""),
    ] {
        let report = engines(&listen, &cluster).err().unwrap_or_default();
        assert!(
            report.contains(told) && report.is_empty() == told.is_empty(),
            "{listen} {cluster}: {report}"
        );
    }
}

#[test]
fn a_cluster_is_reached_from_listeners_of_its_protocol() {
    let second = "[[listen]]\nname = \"my\"\nprotocol = \"mysql\"\ntls_cert_file = \"c\"\ntls_key_file = \"k\"\n\n[[listen]]\nname = \"pg\"";
    let both = |cluster: &str| {
        let text = REFERENCE.replacen("\n[listen]\n", &format!("\n{second}\n"), 1);
        read(&text.replacen("\n[[cluster]]\n", &format!("\n[[cluster]]\n{cluster}\n"), 1))
    };
    both("listeners = [\"pg\"]").unwrap();
    both("listeners = [\"my\"]\nengine = \"mysql\"").unwrap();
    let report = both("listeners = [\"my\"]").unwrap_err().to_string();
    assert!(report.contains("listener \"my\" speaks mysql, and this cluster postgresql"), "{report}");
    let config = both("engine = \"mysql\"\ndatabases = [\"app\"]").unwrap();
    assert!(
        config.warnings.iter().any(|warning| warning.contains("is no boundary")),
        "{:?}",
        config.warnings
    );
}

/// A configuration whose listener has these keys and no certificate.
fn unix(keys: &str) -> Result<crate::config::Config, String> {
    let text = REFERENCE.replacen("\n[listen]\n", &format!("\n[listen]\n{keys}\n"), 1);
    let text = text.replacen("\ntls_cert_file = \"/etc/pgpassport/server.crt\"", "", 1);
    let text = text.replacen("\ntls_key_file = \"/etc/pgpassport/server.key\"", "", 1);
    read(&text).map_err(|problems| problems.to_string())
}

const SOCKET: &str = "addr = \"unix:/run/pgpassport/.s.PGSQL.5432\"";

#[test]
fn a_unix_socket_has_a_mode_a_group_and_peers_and_no_certificate() {
    let config = unix(SOCKET).unwrap();
    let listen = &config.listeners[0];
    assert_eq!(listen.name, "unix:/run/pgpassport/.s.PGSQL.5432");
    assert!(listen.tls.is_none() && listen.peers.is_none() && config.warnings.is_empty());
    assert_eq!((listen.unix_socket.mode, &listen.unix_socket.group), (0o660, &None));
    let keys = "socket_mode = \"0600\"\nsocket_group = \"app\"\npeer_users = [\"app\", \"0\"]";
    let config = unix(&format!("{SOCKET}\n{keys}")).unwrap();
    let listen = &config.listeners[0];
    assert_eq!((listen.unix_socket.mode, listen.unix_socket.group.as_deref()), (0o600, Some("app")));
    let peers = listen.peers.as_ref().unwrap();
    assert_eq!((peers.users.len(), peers.groups.len()), (2, 0));
    let config = unix(&format!("{SOCKET}\nauth = \"oauthbearer\"")).unwrap();
    assert!(matches!(config.listeners[0].auth, ListenAuth::OAuthBearer { .. }));
    let config = unix("addr = \"unix:/run/pgpassport/socket\"").unwrap();
    assert!(config.warnings[0].contains("only by the name .s.PGSQL.<port>"), "{:?}", config.warnings);
    // Clients of MySQL name the file itself.
    let text = REFERENCE.replacen("\n[[cluster]]\n", &format!("\n[[cluster]]\n{ENGINE}\n"), 1);
    let text = text.replacen(
        "\n[listen]\n",
        &format!("\n[listen]\n{MYSQL}\naddr = \"unix:/run/pgpassport/mysqld.sock\"\n"),
        1,
    );
    let text = text.replacen("\ntls_cert_file = \"/etc/pgpassport/server.crt\"", "", 1);
    let config = read(&text.replacen("\ntls_key_file = \"/etc/pgpassport/server.key\"", "", 1)).unwrap();
    assert!(config.listeners[0].tls.is_none() && config.warnings.is_empty(), "{:?}", config.warnings);
}

#[test]
fn keys_of_a_unix_socket_that_cannot_work_are_problems() {
    let long = |bytes: usize| format!("addr = \"unix:/{}\"", "x".repeat(bytes - 1));
    unix(&long(107)).unwrap();
    for (keys, told) in [
        ("addr = \"unix:run/x\"".to_owned(), "write the whole path"),
        ("addr = \"unix:/run/x/\"".to_owned(), "write the whole path"),
        ("addr = \"/run/.s.PGSQL.5432\"".to_owned(), "for a Unix socket"),
        (long(108), "at most 107 bytes; this one has 108"),
        (format!("{SOCKET}\nsocket_mode = \"660\""), "four octal digits"),
        (format!("{SOCKET}\nsocket_mode = \"0066\""), "four octal digits"),
        (format!("{SOCKET}\nsocket_mode = \"1660\""), "four octal digits"),
        (format!("{SOCKET}\npeer_users = [\"a b\"]"), "neither a name nor a number"),
        (format!("{SOCKET}\ntls_cert_file = \"c\""), "a Unix socket has no TLS"),
        (format!("{SOCKET}\nclient_tls_ca_file = \"c\""), "a Unix socket has no TLS"),
        (format!("{SOCKET}\nproxy_protocol_from = [\"10.0.0.0/8\"]"), "no load balancer connects"),
        (format!("{SOCKET}\nreuse_port = true"), "this is for TCP"),
        (format!("{SOCKET}\nplaintext_from_loopback = true"), "this is for TCP"),
    ] {
        let report = unix(&keys).unwrap_err();
        assert!(report.contains(told), "{keys}: {report}");
    }
    for key in ["socket_mode = \"0600\"", "socket_group = \"x\"", "peer_users = \"x\"", "peer_groups = \"x\""]
    {
        let text = REFERENCE.replacen("\n[listen]\n", &format!("\n[listen]\n{key}\n"), 1);
        let report = read(&text).unwrap_err().to_string();
        assert!(report.contains("this needs a Unix socket"), "{report}");
    }
}
