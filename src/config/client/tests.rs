//! `client.toml` as people write it, rightly and wrongly.

use super::*;

const SMALL: &str = "[[profile]]\nname = \"acme\"\nissuer = \"https://acme.okta.com/oauth2/default\"\n\
                     client_id = \"0oa1\"\nproxy = \"DB.acme.com\"\n";

fn read(text: &str) -> Result<ClientConfig, ConfigProblems> {
    ClientConfig::from_toml(text, "/home/alice/.config/pgpassport/client.toml")
}

fn with(line: &str) -> Result<Profile, String> {
    let config = read(&format!("{SMALL}{line}\n")).map_err(|problems| problems.to_string())?;
    Ok(config.profiles.into_iter().next().unwrap())
}

#[test]
fn a_small_profile_has_the_safe_defaults() {
    let profile = with("").unwrap();
    assert_eq!(profile.scopes, ["openid", "offline_access"]);
    assert_eq!((profile.token, profile.device, profile.private_network), (TokenKind::Access, true, false));
    assert_eq!(profile.proxy.to_string(), "db.acme.com:5432");
    assert_eq!((&profile.cache, profile.agent_port), (&CacheKind::File, 15_432));
    assert_eq!(profile.user, UserName::Fixed(DbUser::parse("token").unwrap()));
    let [redirect] = &profile.redirects[..] else { panic!("{profile:?}") };
    assert_eq!((redirect.host, redirect.port, &*redirect.path), (LoopbackHost::V4, None, "/callback"));
    assert!(read("").unwrap().profiles.is_empty());
}

#[test]
fn the_protocol_decides_the_port() {
    for (line, protocol, port) in [
        ("", DatabaseProtocol::PostgreSql, 5432),
        ("protocol = \"postgresql\"", DatabaseProtocol::PostgreSql, 5432),
        ("protocol = \"mysql\"", DatabaseProtocol::MySql, 3306),
    ] {
        let profile = with(line).unwrap();
        assert_eq!((profile.protocol, profile.proxy.port()), (protocol, port), "{line}");
        assert_eq!(profile.agent_port, port + 10_000, "{line}");
    }
    let told = with("protocol = \"tds\"").unwrap_err();
    assert!(told.contains("profile[0].protocol"), "{told}");
}

#[test]
fn every_key_is_read() {
    let profile = with(
        "scopes = [\"openid\", \"db\"]\naudience = \"https://db\"\nprompt = \"login consent\"\ntoken = \"id\"\ndevice = false\n\
         redirect = [\"http://localhost:8400/cb\", \"http://[::1]:80/\"]\nissuer_ca_file = \"i.pem\"\n\
         ca_file = \"/etc/ca.pem\"\ndatabases = [\"orders\", \"billing\"]\nuser_claim = \"acme.db\"\n\
         cache = \"helper:secretservice\"\nagent_port = 25432",
    )
    .unwrap();
    assert_eq!(profile.prompt.as_deref(), Some("login consent"));
    assert_eq!((profile.token, profile.device), (TokenKind::Id, false));
    let ports: Vec<_> =
        profile.redirects.iter().map(|redirect| (redirect.host.as_str(), redirect.port)).collect();
    assert_eq!(ports, [("localhost", Some(8400)), ("[::1]", Some(80))]);
    assert_eq!(profile.issuer_ca_file.unwrap(), Path::new("/home/alice/.config/pgpassport/i.pem"));
    assert_eq!(profile.ca_file.unwrap(), Path::new("/etc/ca.pem"));
    assert_eq!((profile.databases.len(), profile.agent_port), (2, 25_432));
    assert_eq!(profile.user, UserName::Claim(vec!["acme".into(), "db".into()]));
    assert_eq!(profile.cache, CacheKind::Helper("secretservice".into()));
}

#[test]
fn a_wrong_value_is_told_with_its_line_and_what_to_write() {
    for (line, told) in [
        ("colour = 1", ":6:1: profile[0].colour: this key is not known"),
        ("clientid = \"x\"", "did you mean client_id?"),
        (
            "redirect = \"http://example.com/cb\"",
            ":6:12: profile[0].redirect: \"http://example.com/cb\" leads to another",
        ),
        ("redirect = \"http://127.0.0.2/cb\"", "leads to another machine"),
        ("redirect = \"http://0.0.0.0:1/cb\"", "leads to another machine"),
        ("redirect = \"https://localhost/cb\"", "has more than http"),
        ("redirect = \"http://localhost/cb?x=1\"", "has more than http"),
        ("redirect = \"http://a@localhost/cb\"", "has more than http"),
        ("redirect = []", "write 1 to 8 addresses"),
        ("scopes = [\"a b\"]", "a scope is a word"),
        ("databases = [\"\"]", "is no database"),
        ("cache = \"helper:../x\"", "docker-credential-NAME"),
        ("cache = \"helper:\"", "docker-credential-NAME"),
        ("cache = \"disk\"", "write \"file\", \"none\""),
        ("user = \"a*\"", "wildcards"),
        ("user = \"a\"\nuser_claim = \"b\"", "not both"),
        ("prompt = \"none\"", "write \"consent\", \"login\""),
        ("agent_port = 0", ":6:14: profile[0].agent_port"),
        ("agent_port = 65536", ":6:14: profile[0].agent_port"),
        ("token = \"refresh\"", "write one of \"access\", \"id\""),
    ] {
        let problems = with(line).unwrap_err();
        assert!(problems.contains(told), "{line}: {problems}");
    }
    let problems = read("[[profile]]\nissuer = \"http://acme.com\"").unwrap_err();
    assert_eq!(problems.list.len(), 4, "name, issuer, client_id, proxy: {problems}");
    let twice = read(&format!("{SMALL}{SMALL}")).unwrap_err();
    assert!(twice.to_string().contains("another [[profile]] has the name \"acme\""), "{twice}");
    let other = SMALL.replace("acme\"", "other\"");
    assert_eq!(read(&format!("{SMALL}{other}agent_port = 15433\n")).unwrap().profiles.len(), 2);
    let clash = read(&format!("{SMALL}{other}agent_port = 15432\n")).unwrap_err();
    assert!(clash.to_string().contains("agent_port: profile \"acme\" has the same port"), "{clash}");
    assert!(read("[[profile").unwrap_err().to_string().contains("this is not TOML"));
}
