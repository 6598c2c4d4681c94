//! Cost of verifying a token with loaded keys: the product's own verifier, called as a session calls it.

use std::sync::Arc;

use aws_emulator::{Ca, Issuer, IssuerOptions, KeyChoice, names};
use pgpassport::clock::Clock;
use pgpassport::config::Config;
use pgpassport::identity::{KeyFetcher, KeyStore, Verifier};
use pgpassport::net::outgoing::Outgoing;
use pgpassport::secret::Jwt;
use pgpassport::supervisor::{TaskRules, TaskSupervisor};

use crate::measure::{figure, own_cpu_seconds};
use crate::sessions::runtime;

/// Tokens verified in one round.
const EACH_ROUND: usize = 5_000;

/// Seconds of CPU for one token, one figure a round: RS256 with 2,048 bits, then ES256. `None` if this program was
/// built without optimisation, which says nothing about the product.
pub(crate) fn verification(rounds: usize) -> Option<[Vec<f64>; 2]> {
    if cfg!(debug_assertions) {
        return None;
    }
    let issuer = Issuer::start(IssuerOptions::default()).expect("an issuer");
    let folder = tempfile::tempdir().expect("a folder");
    let ca = Ca::new().and_then(|ca| ca.write(folder.path())).expect("ca.pem");
    let text = format!(
        "[listen]\ntls_cert_file = \"c\"\ntls_key_file = \"k\"\n[[issuer]]\nname = \"idp\"\nurl = \"{}\"\naudience = \"{}\"\n\
         private_network = true\n[[cluster]]\nname = \"app\"\nendpoint = \"{}\"\nregion = \"{}\"\nrole_arn = \"{}\"\n\
         ca_file = \"{}\"\n",
        issuer.url(),
        names::AUDIENCE,
        names::ENDPOINT,
        names::REGION,
        names::ROLE_ARN,
        ca.display(),
    );
    let settings = Config::from_toml(&text, "proxy.toml").expect("a configuration").issuers.remove(0);
    let control = runtime();
    let fetcher = KeyFetcher::new(&settings, &Outgoing::system()).expect("an issuer that can be asked");
    let supervisor = TaskSupervisor::new(control.handle().clone(), TaskRules::default());
    let keys = Arc::new(KeyStore::start(&settings, fetcher, &supervisor));
    let verifier = Verifier::new(vec![(settings, keys)], Clock::system());
    let sessions = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let cost = |jwt: &Jwt| {
        let before = own_cpu_seconds();
        for _ in 0..EACH_ROUND {
            sessions.block_on(verifier.verify(jwt)).expect("a good token");
        }
        (own_cpu_seconds() - before) / figure(EACH_ROUND)
    };
    Some([KeyChoice::Rs256, KeyChoice::Es256].map(|key| {
        let jwt = Jwt::new(issuer.mint_with(issuer.default_claims("alice"), &key).into_bytes());
        cost(&jwt); // fetches the keys
        (0..rounds).map(|_| cost(&jwt)).collect()
    }))
}
