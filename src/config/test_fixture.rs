//! A configuration for the tests of this folder.

use crate::config::{ClusterSettings, Config};

/// One issuer and one cluster, whose names the emulator's role and provider have.
pub(crate) fn config(sts: &str, issuer: &str, more: &str) -> Config {
    let text = format!(
        r#"
        [listen]
        tls_cert_file = "c"
        tls_key_file = "k"
        [[issuer]]
        name = "idp"
        url = "{issuer}"
        audience = "pgpassport"
        private_network = true
        [[cluster]]
        name = "app"
        endpoint = "app.cluster-abc123.eu-central-1.rds.amazonaws.com:5432"
        region = "eu-central-1"
        role_arn = "arn:aws:iam::123456789012:role/pgpassport-app"
        resource_id = "cluster-ABC"
        ca_file = "ca"
        sts_endpoint_url = "{sts}"
        {more}
        "#
    );
    Config::from_toml(&text, "test.toml").unwrap_or_else(|problems| panic!("{problems}"))
}

/// A cluster whose STS is at `sts`.
pub(crate) fn cluster(sts: &str) -> ClusterSettings {
    config(sts, "https://idp.example", "").clusters.remove(0)
}
