//! A cluster for the tests of this folder.

use crate::config::{ClusterSettings, Config};

/// A cluster whose STS is at `sts`.
pub(crate) fn cluster(sts: &str) -> ClusterSettings {
    let text = format!(
        r#"
        [listen]
        tls_cert_file = "c"
        tls_key_file = "k"
        [[issuer]]
        name = "idp"
        url = "https://idp.example"
        audience = "a"
        [[cluster]]
        name = "app"
        endpoint = "app.cluster-abc123.eu-central-1.rds.amazonaws.com:5432"
        region = "eu-central-1"
        role_arn = "arn:aws:iam::123456789012:role/app"
        resource_id = "cluster-ABC"
        ca_file = "ca"
        sts_endpoint_url = "{sts}"
        "#
    );
    Config::from_toml(&text, "test.toml").unwrap().clusters.remove(0)
}
