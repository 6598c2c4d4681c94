//! A configuration for unit tests.

use crate::config::problems::ConfigProblems;
use crate::config::{ClusterSettings, Config};

/// One issuer and one cluster with these keys.
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

/// One issuer and one cluster, whose names the emulator's role and provider have.
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
