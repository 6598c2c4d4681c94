//! An issuer of several tenants, as Entra ID is: a template, a list, and keys that say whose tokens they sign.

use std::sync::Arc;

use aws_emulator::{Issuer, IssuerOptions, TokenClaims};
use serde_json::{Value, json};
use tokio::runtime::Handle;

use super::tests::settings_at;
use super::*;
use crate::identity::jwks_fetch::KeyFetcher;
use crate::identity::verify_error::ClaimFault;
use crate::net::outgoing::Outgoing;
use crate::supervisor::{TaskRules, TaskSupervisor};

const FIRST: &str = "11111111-2222-3333-4444-555555555555";
const SECOND: &str = "99999999-8888-7777-6666-abcdefabcdef";
const UNLISTED: &str = "00000000-0000-0000-0000-000000000000";

/// An issuer whose tokens are of any tenant; its keys are at `common`.
async fn issuer() -> Issuer {
    let options = IssuerOptions {
        path_prefix: "/common/v2.0".to_owned(),
        all_tenants: true,
        ..IssuerOptions::default()
    };
    tokio::task::spawn_blocking(|| Issuer::start(options).unwrap()).await.unwrap()
}

fn of(issuer: &Issuer, tenant: &str) -> String {
    issuer.url().replace("common", tenant)
}

fn claims(issuer: &Issuer, tenant: &str) -> TokenClaims {
    issuer.default_claims("alice").set("iss", of(issuer, tenant)).set("tid", tenant)
}

fn verifier(issuer: &Issuer) -> Verifier {
    let tenants = format!("tenants = [\"{FIRST}\", \"{}\"]", SECOND.to_uppercase());
    let settings = settings_at(&of(issuer, IssuerSettings::TENANT), &tenants);
    let fetcher = KeyFetcher::new(&settings, &Outgoing::system()).unwrap();
    let keys =
        KeyStore::start(&settings, fetcher, &TaskSupervisor::new(Handle::current(), TaskRules::default()));
    Verifier::new(vec![(settings, Arc::new(keys))], Clock::system())
}

async fn verify(verifier: &Verifier, token: &str) -> Result<VerifiedClaims, VerifyError> {
    verifier.verify(&Jwt::new(token.as_bytes().to_vec())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn j5_tokens_of_the_listed_tenants_are_accepted_and_of_no_others() {
    let issuer = issuer().await;
    let verifier = verifier(&issuer);
    for tenant in [FIRST, SECOND] {
        let verified = verify(&verifier, &issuer.mint(claims(&issuer, tenant))).await.unwrap();
        assert_eq!(verified.issuer().as_str(), of(&issuer, tenant), "the tenant's own, for STS");
        assert_eq!(verified.issuer_name(), "idp");
    }
    let with_iss = |iss: String| issuer.mint(claims(&issuer, FIRST).set("iss", iss));
    for iss in [
        of(&issuer, UNLISTED),
        of(&issuer, "common"),
        of(&issuer, IssuerSettings::TENANT),
        of(&issuer, ""),
        of(&issuer, &SECOND.to_uppercase()),
        of(&issuer, &format!("{FIRST}/../{SECOND}")),
        format!("{}/", of(&issuer, FIRST)),
    ] {
        let fault = verify(&verifier, &with_iss(iss.clone())).await.unwrap_err();
        assert_eq!(fault, TokenFault::UnknownIssuer, "{iss}");
    }
    let with_tid = |tid: Value| issuer.mint(claims(&issuer, FIRST).set("tid", tid));
    for tid in
        [json!(SECOND), json!(UNLISTED), json!([FIRST]), json!(7), json!(null), json!(""), json!("common")]
    {
        let fault = verify(&verifier, &with_tid(tid.clone())).await.unwrap_err();
        assert_eq!(fault, ClaimFault::Tenant, "{tid}");
    }
    let without = issuer.mint(claims(&issuer, FIRST).without("tid"));
    assert_eq!(verify(&verifier, &without).await.unwrap_err(), ClaimFault::MissingClaim("tid"));
}

/// A key that says whose tokens it signs is believed for those alone.
#[tokio::test(flavor = "multi_thread")]
async fn j5_a_key_of_one_tenant_signs_for_that_tenant() {
    let issuer = issuer().await;
    let (template, first) = (of(&issuer, IssuerSettings::TENANT), of(&issuer, FIRST));
    for (key_issuer, for_first, for_second) in [
        (json!(null), true, true),
        (json!(template), true, true),
        (json!(first), true, false),
        (json!(of(&issuer, SECOND)), false, true),
        (json!(of(&issuer, UNLISTED)), false, false),
        (json!(issuer.url()), false, false),
        (json!(7), false, false),
        (json!({ "issuer": first }), false, false),
    ] {
        issuer.set_key_issuer(key_issuer.clone());
        let verifier = verifier(&issuer);
        for (tenant, trusted) in [(FIRST, for_first), (SECOND, for_second)] {
            let result = verify(&verifier, &issuer.mint(claims(&issuer, tenant))).await;
            let expected = (!trusted).then(|| TokenFault::KeyUnknown { issuer: "idp".to_owned() }.into());
            assert_eq!(result.err(), expected, "{key_issuer} for {tenant}");
        }
    }
}
