//! Problems of the files that a configuration names: absent, unreadable, useless, or readable by others.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::commands::pages;
use crate::config::problem::ConfigProblem;
use crate::config::{NamedFile, variable_of};
use crate::net::egress::EgressProxy;
use crate::net::file_content;
use crate::net::tls::{self, ClientAuthority, ListenerFiles};
use crate::postgres::cancel::CancelSecret;
#[cfg(feature = "otlp")]
use crate::telemetry::otlp;

/// Problems of `files`, each at the place of the file's name.
pub(in crate::commands) fn problems(files: &[NamedFile]) -> Vec<ConfigProblem> {
    let mut problems: Vec<_> = files.iter().flat_map(alone).collect();
    let certificates = files.iter().filter(|file| file.key == "tls_cert_file");
    for problem in certificates.filter_map(|certificate| together(certificate, files)) {
        // A file that is bad alone has been reported.
        if !problems.iter().any(|known| known.key == problem.key) {
            problems.push(problem);
        }
    }
    problems
}

/// Problems of one file by itself.
fn alone(file: &NamedFile) -> Vec<ConfigProblem> {
    let path = &file.path;
    let checked = match (file.section(), file.key) {
        ("audit", _) => audit_file(path),
        _ => readable(file).and_then(|()| content(file)),
    };
    let mut problems: Vec<_> = checked.err().into_iter().map(|text| file.problem(text)).collect();
    let secret = matches!(
        file.key,
        "tls_key_file" | "secret_file" | "client_secret_file" | "proxy_credentials_file" | "headers_file"
    );
    if secret && fs::metadata(path).is_ok_and(|file| is_open_to_others(&file)) {
        problems.push(file.problem(format!(
            "{}: others can read this file; run chmod 0600 (or 0640 if root owns it; in Kubernetes: defaultMode: 0440 \
             and fsGroup)",
            path.display()
        )));
    }
    problems
}

/// Opens the file, as the service will; an error says what to do.
fn readable(file: &NamedFile) -> Result<(), String> {
    if let Some(variable) = variable_of(&file.path) {
        let is_set = std::env::var_os(variable).is_some_and(|value| !value.is_empty());
        let absent = || format!("variable {variable} is not set; set it to the content of the file");
        return is_set.then_some(()).ok_or_else(absent);
    }
    let name = file.path.display();
    match File::open(&file.path).and_then(|open| open.metadata()) {
        Ok(found) if found.is_dir() => Err(format!("{name} is a directory; {}", remedy(file))),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(format!("{name} does not exist; {}", remedy(file)))
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err(format!("{name} cannot be read by this user; give it to the user that runs pgpassport"))
        }
        Err(error) => Err(format!("{name}: {error}")),
    }
}

/// Contents of a file that can be read.
fn content(file: &NamedFile) -> Result<(), String> {
    let path = &file.path;
    match file.key {
        "tls_cert_file" => tls::certificates(path).map(|_| ()).map_err(|error| error.to_string()),
        "secret_file" => CancelSecret::read(path).map(|_| ()).map_err(|error| error.to_string()),
        "proxy_credentials_file" => credentials(path),
        "client_secret_file" => pages::client_secret(path).map(|_| ()).map_err(|error| error.to_string()),
        #[cfg(feature = "otlp")]
        "headers_file" => otlp::check_headers(path).map_err(|error| error.to_string()),
        #[cfg(not(feature = "otlp"))]
        "headers_file" => Ok(()),
        "client_file" => pages::published(path).map(|_| ()).map_err(|error| error.to_string()),
        "ca_file" | "sts_ca_file" | "client_tls_ca_file" => {
            tls::upstream_config(Some(path), None).map(|_| ()).map_err(|error| error.to_string())
        }
        _ => tls::private_key(path).map(|_| ()).map_err(|error| error.to_string()),
    }
}

fn credentials(path: &Path) -> Result<(), String> {
    let wrong = || format!("{}: write user:password on one line", path.display());
    let text = file_content::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let text = std::str::from_utf8(&text).map_err(|_| wrong())?;
    let proxy = EgressProxy { uri: hyper::Uri::default(), authorization: None };
    proxy.with_credentials(text.trim_end_matches(['\r', '\n'])).map(|_| ()).ok_or_else(wrong)
}

/// Problem of a listener's certificate, key and client authorities with each other.
fn together(certificate: &NamedFile, files: &[NamedFile]) -> Option<ConfigProblem> {
    let of_listener = |key| files.iter().find(|file| file.table == certificate.table && file.key == key);
    let key = of_listener("tls_key_file")?;
    let authority = of_listener("client_tls_ca_file");
    let pieces = ListenerFiles {
        cert_file: &certificate.path,
        key_file: &key.path,
        client: authority.map(|file| ClientAuthority { ca_file: &file.path, required: true }),
    };
    let error = tls::server_config(pieces, None).err()?;
    let at_fault = match error.path() {
        path if path == certificate.path => certificate,
        path if path == key.path => key,
        _ => authority.unwrap_or(certificate),
    };
    Some(at_fault.problem(error))
}

/// Remedy for a missing file.
fn remedy(file: &NamedFile) -> &'static str {
    match (file.section(), file.key) {
        ("listen" | "profiles" | "sign_in", "tls_cert_file") => {
            "name a PEM file with the certificate chain, leaf first"
        }
        ("listen" | "profiles" | "sign_in", "tls_key_file") => {
            "name the PEM file with the private key of tls_cert_file"
        }
        ("listen", _) => "name a PEM file with the authorities that sign the certificates of clients",
        ("cluster", "ca_file") => {
            "write \"rds\" for the authorities that ship with pgpassport; the RDS bundle is at \
             https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem"
        }
        ("cluster", _) => "name a PEM file with the certificate authorities of the STS endpoint",
        ("issuer", _) => "name a PEM file with the certificate authorities of the issuer",
        ("profiles", _) => "name a client.toml with the profiles (docs/for-users/sign-in.md)",
        ("sign_in", "client_secret_file") => "make one that holds the client's secret on one line",
        ("sign_in", _) => {
            "name a PEM file with the authorities of the certificate that people's tools verify"
        }
        ("cancel", _) => "make one with: head -c 32 /dev/urandom | base64",
        ("traces", "headers_file") => {
            "make one that holds a header on each line, as in \"Authorization: Bearer …\""
        }
        ("traces", _) => "name a PEM file with the certificate authorities of the collector",
        ("egress", _) => "make one that holds user:password on one line",
        _ => "name a file that exists",
    }
}

/// The file is made when the service starts; its folder has to be there.
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

/// True if others than its owner can read a file, by its mode; a group may where root owns it. A key that others can
/// read is no secret (PostgreSQL's own rule for `ssl_key_file`).
pub(in crate::commands) fn is_open_to_others(file: &fs::Metadata) -> bool {
    let others = if file.uid() == 0 { 0o037 } else { 0o077 };
    file.mode() & others != 0
}
