//! A configuration for unit tests.

use crate::config::problems::ConfigProblems;
use crate::config::{ClusterSettings, Config};

/// A configuration with one issuer and one cluster that have these keys.
pub(crate) fn parse(issuer: &str, cluster: &str) -> Result<Config, ConfigProblems> {
    let text = format!(
        r#"
        [listen]
        tls_cert_file = "c"
        tls_key_file = "k"
        [[issuer]]
        name = "idp"
        {issuer}
        [[cluster]]
        name = "app"
        {cluster}
        "#
    );
    Config::from_toml(&text, "test.toml")
}

/// A configuration with one issuer and one cluster that match the emulator's role and identity provider.
pub(crate) fn config(sts: &str, issuer: &str, more: &str) -> Config {
    let issuer = format!("url = \"{issuer}\"\naudience = \"pgpassport\"\nprivate_network = true");
    let cluster = format!(
        r#"
        endpoint = "app.cluster-abc123.eu-central-1.rds.amazonaws.com:5432"
        region = "eu-central-1"
        role_arn = "arn:aws:iam::123456789012:role/pgpassport-app"
        resource_id = "cluster-ABC"
        ca_file = "ca"
        sts_endpoint_url = "{sts}"
        {more}
        "#
    );
    parse(&issuer, &cluster).unwrap_or_else(|problems| panic!("{problems}"))
}

/// A cluster whose STS is at `sts`.
pub(crate) fn cluster(sts: &str) -> ClusterSettings {
    config(sts, "https://idp.example", "").clusters.remove(0)
}
