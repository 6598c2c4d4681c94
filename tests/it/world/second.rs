//! A second issuer and a second cluster beside the usual ones, both with the name `other`.

use std::fmt::Display;

use aws_emulator::{Issuer, IssuerOptions, OidcProvider, names};

use super::World;

/// Host name of the second cluster's endpoint.
pub(crate) const SECOND_HOST: &str = "other.cluster-abc123.eu-central-1.rds.amazonaws.com";

/// An address at which no server listens.
pub(crate) const NO_SERVER: &str = "127.0.0.1:1";

/// A running issuer, and its `[[issuer]]` table.
pub(crate) async fn second_issuer() -> (Issuer, String) {
    let start = || Issuer::start(IssuerOptions::default()).unwrap();
    let issuer = tokio::task::spawn_blocking(start).await.unwrap();
    let table = format!(
        "[[issuer]]\nname = \"other\"\nurl = \"{}\"\naudience = \"{}\"\nprivate_network = true",
        issuer.url(),
        names::AUDIENCE
    );
    (issuer, table)
}

/// A `[[cluster]]` table with `keys`, whose server is at `addr`.
pub(crate) fn second_cluster(addr: impl Display, keys: &str) -> String {
    format!(
        r#"
        [[cluster]]
        name = "other"
        endpoint = "{SECOND_HOST}"
        hostaddr = "{addr}"
        region = "eu-central-1"
        role_arn = "arn:aws:iam::123456789012:role/other"
        resource_id = "cluster-X"
        ca_file = "@upstream-ca@"
        {keys}
        "#
    )
}

impl World {
    /// Registers `issuer` as an OIDC provider of the account.
    pub(crate) fn federate(&self, issuer: &Issuer) {
        let audiences = vec![names::AUDIENCE.to_owned()];
        self.cloud.sts.put_provider(OidcProvider { url: issuer.url(), audiences, fetch_url: None });
    }
}
