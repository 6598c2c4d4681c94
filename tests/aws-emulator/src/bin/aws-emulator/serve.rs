//! `aws-emulator serve`: the stand-ins on fixed addresses, next to a `PostgreSQL` of someone else's.

use std::net::SocketAddr;
use std::path::PathBuf;

use aws_emulator::{
    Ca, Cloud, CloudOptions, CredentialStore, GateOptions, Interrupt, IssuerOptions, LoginGate, names,
};

use crate::screen::DemoScreen;

/// Options of the servers.
#[derive(clap::Args)]
pub(crate) struct ServeOptions {
    /// Listening address of the issuer.
    #[arg(long, value_name = "IP:PORT")]
    issuer_addr: SocketAddr,
    /// The issuer URL under which others reach it.
    #[arg(long, value_name = "URL")]
    issuer_url: String,
    /// Listening address of STS.
    #[arg(long, value_name = "IP:PORT")]
    sts_addr: SocketAddr,
    /// Listening address of the login gate for PostgreSQL's LDAP.
    #[arg(long, value_name = "IP:PORT")]
    gate_addr: SocketAddr,
    /// The cluster's endpoint, as login tokens are signed for it.
    #[arg(long, value_name = "HOST:PORT", default_value = names::ENDPOINT)]
    endpoint: String,
    /// The cluster's Region.
    #[arg(long, default_value = names::REGION)]
    region: String,
    /// The AWS account.
    #[arg(long, default_value = names::ACCOUNT)]
    account: String,
    /// The cluster's resource id.
    #[arg(long, default_value = names::RESOURCE_ID)]
    resource_id: String,
    /// The audience of tokens.
    #[arg(long, default_value = names::AUDIENCE)]
    audience: String,
    /// A user of the token endpoint; can be given more than once.
    #[arg(long = "user", value_name = "NAME:SECRET", default_values = ["alice:alice-secret", "bob:bob-secret"])]
    users: Vec<String>,
    /// Folder for `ca.pem`, `postgres.crt`, `postgres.key`, `proxy.crt` and `proxy.key`.
    #[arg(long, value_name = "DIR")]
    certs_dir: PathBuf,
    /// A name in the proxy's certificate beside localhost; can be given more than once.
    #[arg(long = "proxy-name", value_name = "NAME", default_values = ["pgpassport"])]
    proxy_names: Vec<String>,
}

/// Serves until a signal ends it.
pub(crate) fn run(options: ServeOptions) -> Result<(), String> {
    let screen = DemoScreen::new();
    let interrupt = Interrupt::listen()?;
    write_certs(&options)?;
    let text = |error: aws_emulator::EmulatorError| error.to_string();
    let clients = options.users.iter().map(|user| {
        let (name, secret) = user.split_once(':').ok_or_else(|| format!("--user {user}: not NAME:SECRET"))?;
        Ok((name.to_owned(), secret.to_owned()))
    });
    let issuer = IssuerOptions {
        bind: options.issuer_addr,
        url: Some(options.issuer_url),
        audience: options.audience,
        clients: clients.collect::<Result<_, String>>()?,
        ..IssuerOptions::default()
    };
    let store = CredentialStore::new();
    let gate = LoginGate::start(GateOptions {
        bind: options.gate_addr,
        account: options.account.clone(),
        region: options.region.clone(),
        resource_id: options.resource_id.clone(),
        endpoints: vec![options.endpoint],
        store: store.clone(),
        ..GateOptions::default()
    })
    .map_err(text)?;
    let cloud = Cloud::start(CloudOptions {
        issuer,
        account: options.account,
        region: options.region,
        resource_id: options.resource_id,
        sts_bind: options.sts_addr,
        store,
        ..CloudOptions::default()
    })
    .map_err(text)?;
    screen.fact("OIDC issuer", &format!("{} on {}", cloud.issuer.url(), cloud.issuer.addr()));
    screen.fact("AWS STS", &cloud.sts.addr().to_string());
    screen.fact("login gate", &gate.addr().to_string());
    screen.fact(
        "role",
        &cloud.role(aws_emulator::PolicyTemplate::Trust, aws_emulator::PolicyTemplate::Permission).arn,
    );
    interrupt.wait();
    Ok(())
}

fn write_certs(options: &ServeOptions) -> Result<(), String> {
    let text = |error: aws_emulator::EmulatorError| error.to_string();
    let dir = &options.certs_dir;
    std::fs::create_dir_all(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let ca = Ca::new().map_err(text)?;
    let host = options.endpoint.rsplit_once(':').map_or(options.endpoint.as_str(), |(host, _)| host);
    ca.server(&[host, "localhost", "127.0.0.1"])
        .and_then(|cert| cert.write(dir, "postgres"))
        .map_err(text)?;
    let mut names = vec!["localhost", "127.0.0.1"];
    names.extend(options.proxy_names.iter().map(String::as_str));
    ca.server(&names).and_then(|cert| cert.write(dir, "proxy")).map_err(text)?;
    // Last, so that a program that waits for this file finds the others.
    ca.write(dir).map_err(text)?;
    Ok(())
}
