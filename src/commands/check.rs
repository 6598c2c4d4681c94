//! `pgpassport check`: validates the configuration and the files it names without starting the service.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::app::{egress, listener_files};
use crate::config::{ClusterSettings, Config, EgressSettings, IssuerSettings, PinMode, UserSettings};
use crate::names::RoleArn;
use crate::net::tls;
use crate::postgres::cancel::CancelSecret;

/// Reads only the configuration. The error lists all problems.
pub fn read(path: &Path) -> Result<Config, String> {
    let text = fs::read_to_string(path)
        .map_err(|error| format!("{}: {error}\nName the file with --config FILE.", path.display()))?;
    let mut config = Config::from_toml(&text, path).map_err(|problems| problems.to_string())?;
    let unread =
        unread_proxy(&config.egress, |name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
    config.warnings.extend(unread);
    Ok(config)
}

/// Warning about a proxy that is set in the environment but not in `[egress]`.
fn unread_proxy(egress: &EgressSettings, is_set: impl Fn(&str) -> bool) -> Option<String> {
    let name =
        ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"].into_iter().find(|name| is_set(name))?;
    let text =
        format!("{name} is set but not used; to reach issuers and STS through a proxy, set [egress] proxy");
    egress.proxy.is_none().then_some(text)
}

/// Reads the configuration and checks its files. The error lists all problems.
pub fn load(path: &Path) -> Result<Config, String> {
    let config = read(path)?;
    let problems = file_problems(&config);
    if problems.is_empty() { Ok(config) } else { Err(problems.join("\n")) }
}

/// Output of `check` for a valid configuration.
pub fn summary(path: &Path, config: &Config) -> String {
    let accepted: Vec<_> = config.issuers.iter().flat_map(IssuerSettings::accepted).collect();
    let issuers: Vec<_> = accepted.iter().map(|accepted| accepted.issuer.as_str()).collect();
    let addresses: Vec<_> = config.listeners.iter().map(|listen| listen.addr.to_string()).collect();
    let clusters: String = config.clusters.iter().map(describe).collect();
    let mut warnings = String::new();
    for text in &config.warnings {
        warnings.push_str("\nwarning: ");
        warnings.push_str(text);
    }
    format!(
        "{}: no problems found\n  listen   {}\n  issuer   {}{clusters}{warnings}",
        path.display(),
        addresses.join(", "),
        issuers.join(", "),
    )
}

fn describe(cluster: &ClusterSettings) -> String {
    let pin = match cluster.pin {
        PinMode::SessionPolicy => "session policy",
        PinMode::SessionTag => "session tag",
        PinMode::Both => "session policy and session tag",
        PinMode::None => "the role's own policy only",
    };
    let roles: Vec<_> = cluster.roles.all().into_iter().map(RoleArn::as_str).collect();
    let claims: Vec<_> = cluster.user.all().iter().map(claim_of).collect();
    format!(
        "\n  cluster  {} at {} in {}\n  role     {}\n  user     from claim {}, pinned by {pin}",
        cluster.name,
        cluster.endpoint,
        cluster.region.as_str(),
        roles.join(", "),
        claims.join(", "),
    )
}

/// The claim of a rule, and the issuers it applies to.
fn claim_of(rule: &UserSettings) -> String {
    let claim = rule.claim.join(".");
    match &rule.issuers {
        Some(issuers) => format!("{claim} ({})", issuers.join(", ")),
        None => claim,
    }
}

/// Problems of the files that the configuration names, one string each.
pub(super) fn file_problems(config: &Config) -> Vec<String> {
    let mut problems = Vec::new();
    for listen in &config.listeners {
        let key = &listen.tls_key_file;
        if let Err(error) = tls::server_config(listener_files(listen)) {
            let name = match error.path() {
                path if path == listen.tls_cert_file => "listen.tls_cert_file",
                path if path == listen.tls_key_file => "listen.tls_key_file",
                _ => "listen.client_tls_ca_file",
            };
            problems.push(format!("{name}: {error} (listener {})", listen.name));
        } else if let Err(error) = private(key) {
            problems.push(format!("listen.tls_key_file: {}: {error}", key.display()));
        }
    }
    if let Some(Err(error)) = config.audit.file.as_deref().map(audit_file) {
        problems.push(format!("audit.to: {error}"));
    }
    let mut authorities = Vec::new();
    for cluster in &config.clusters {
        authorities.push(("cluster.ca_file", cluster.ca_file.as_ref()));
        authorities.push(("cluster.sts_ca_file", cluster.sts_ca_file.as_ref()));
    }
    if let Some(secret) = &config.cancel.secret_file {
        let checked = CancelSecret::read(secret).map_err(|error| error.to_string());
        let closed = || private(secret).map_err(|error| format!("{}: {error}", secret.display()));
        if let Err(error) = checked.and_then(|_| closed()) {
            problems.push(format!("cancel.secret_file: {error}"));
        }
    }
    if let Some(credentials) = &config.egress.proxy_credentials_file {
        let checked = egress(&config.egress).map_err(|error| format!("{error:#}"));
        let name = || format!("egress.proxy_credentials_file: {}", credentials.display());
        let closed = || private(credentials).map_err(|error| format!("{}: {error}", name()));
        problems.extend(checked.and_then(|_| closed()).err());
    }
    authorities.extend(config.issuers.iter().map(|issuer| ("issuer.ca_file", issuer.ca_file.as_ref())));
    for (key, path) in authorities.into_iter().filter_map(|(key, path)| Some((key, path?))) {
        if let Err(error) = tls::upstream_config(Some(path), false) {
            problems.push(format!("{key}: {error}"));
        }
    }
    problems
}

/// Checks the folder of the audit file, which the service creates at start.
fn audit_file(path: &Path) -> Result<(), String> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    if path.is_dir() {
        Err(format!("{} is a directory; name a file in it", path.display()))
    } else if folder.is_dir() {
        Ok(())
    } else {
        Err(format!("directory {} does not exist; create it, writable by the service", folder.display()))
    }
}

/// Rejects a key file that others can read, as PostgreSQL does for `ssl_key_file`.
fn private(key: &Path) -> Result<(), String> {
    let file = fs::metadata(key).map_err(|error| error.to_string())?;
    if is_open_to_others(&file) {
        return Err("others can read this file; run chmod 0600 (or 0640 if root owns it)".into());
    }
    Ok(())
}

/// True if the mode of a file lets others read it. A group may read it if root owns the file.
pub(super) fn is_open_to_others(file: &fs::Metadata) -> bool {
    let others = if file.uid() == 0 { 0o037 } else { 0o077 };
    file.mode() & others != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn world(mode: u32) -> (tempfile::TempDir, std::path::PathBuf) {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let file = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        file("server.crt", &issued.cert.pem());
        file("rds-global-bundle.pem", &issued.cert.pem());
        file("server.key", &issued.signing_key.serialize_pem());
        let key = folder.path().join("server.key");
        fs::set_permissions(key, fs::Permissions::from_mode(mode)).unwrap();
        let reference = include_str!("../../proxy.toml").replace("/etc/pgpassport/", "");
        file("proxy.toml", &reference);
        let path = folder.path().join("proxy.toml");
        (folder, path)
    }

    #[test]
    fn the_reference_configuration_is_a_good_one() {
        let (_folder, path) = world(0o600);
        let config = load(&path).unwrap();
        let summary = summary(&path, &config);
        assert!(summary.contains("no problems found") && summary.contains("session policy"), "{summary}");
    }

    #[test]
    fn an_alias_is_a_warning_and_no_problem() {
        let (_folder, path) = world(0o600);
        let text = fs::read_to_string(&path).unwrap();
        let host = "orders.cluster-c1a2b3c4d5e6.eu-central-1.rds.amazonaws.com";
        fs::write(&path, text.replace(host, "orders.acme.com")).unwrap();
        let summary = summary(&path, &load(&path).unwrap());
        assert!(summary.contains("no problems found"), "{summary}");
        assert!(summary.contains("\nwarning: ") && summary.contains("CNAME"), "{summary}");
    }

    #[test]
    fn a_proxy_in_the_environment_is_a_warning_unless_there_is_one_in_the_file() {
        let mut egress = EgressSettings::default();
        let warned = |egress: &EgressSettings, set: &str| unread_proxy(egress, |name| name == set);
        for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"] {
            let text = warned(&egress, name).unwrap();
            assert!(text.contains(name) && text.contains("[egress] proxy"), "{text}");
        }
        assert_eq!(warned(&egress, "HTTP_PROXY"), None);
        egress.proxy = Some("http://proxy:3128".parse().unwrap());
        assert_eq!(warned(&egress, "HTTPS_PROXY"), None);
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let (_folder, path) = world(0o604);
        let problems = load(&path).unwrap_err();
        assert!(problems.contains("listen.tls_key_file") && problems.contains("chmod 0600"), "{problems}");
    }

    #[test]
    fn a_cancel_secret_is_looked_at_too() {
        use std::os::unix::fs::PermissionsExt;
        let (folder, path) = world(0o600);
        let reference = fs::read_to_string(&path).unwrap().replace("# secret_file", "secret_file");
        fs::write(&path, reference).unwrap();
        let problems = load(&path).unwrap_err();
        assert!(problems.contains("cancel.secret_file") && problems.contains("No such file"), "{problems}");
        let secret = folder.path().join("cancel.secret");
        fs::write(&secret, "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n").unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o604)).unwrap();
        let problems = load(&path).unwrap_err();
        assert!(problems.contains("cancel.secret_file") && problems.contains("chmod 0600"), "{problems}");
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
        load(&path).unwrap();
    }

    #[test]
    fn all_missing_files_are_named_at_once() {
        let (folder, path) = world(0o600);
        fs::remove_file(folder.path().join("server.crt")).unwrap();
        fs::remove_file(folder.path().join("rds-global-bundle.pem")).unwrap();
        let problems = load(&path).unwrap_err();
        assert!(problems.contains("server.crt") && problems.contains("cluster.ca_file"), "{problems}");
    }

    #[test]
    fn a_file_that_is_not_there_is_said_to_be_missing() {
        let problems = load(Path::new("/nowhere/proxy.toml")).unwrap_err();
        assert!(problems.contains("/nowhere/proxy.toml") && problems.contains("--config"), "{problems}");
    }
}
