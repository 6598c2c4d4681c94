//! Issuers and STS behind a company's proxy, which alone reaches the internet.

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt;

use aws_emulator::{Ca, IssuerPage};
use pgpassport::commands::doctor::LinkState;

use crate::doctor::{DoctorRun, assert_complete};
use crate::world::World;
use crate::world::connect_proxy::ConnectProxy;
use crate::world::tls_front::TlsFront;

/// A world whose issuer and STS have names that only the proxy knows.
struct Inside {
    world: World,
    proxy: ConnectProxy,
    _fronts: [TlsFront; 2],
}

const STS: &str = "sts.acme.test";
const KEYS: &str = "keys.acme.test";

async fn inside(more: &str) -> Inside {
    let world = World::start().await;
    let ca = Ca::new().unwrap();
    let cert = ca.server(&[STS, KEYS]).unwrap();
    let sts = TlsFront::start(&cert, world.cloud.sts.addr()).await;
    let keys = TlsFront::start(&cert, world.cloud.issuer.addr()).await;
    let proxy = ConnectProxy::start(HashMap::from([(STS, sts.addr()), (KEYS, keys.addr())])).await;
    let ca_file = ca.write(&world.folder()).unwrap().display().to_string();
    world.edit(
        &format!("sts_endpoint_url = \"{}\"", world.cloud.sts.url()),
        &format!("sts_endpoint_url = \"https://{STS}\"\nsts_ca_file = \"{ca_file}\""),
    );
    world.edit(
        "private_network = true",
        &format!("jwks_url = \"https://{KEYS}/jwks\"\nca_file = \"{ca_file}\""),
    );
    // The issuer itself is at a loopback address over plain http, which needs leave.
    world.edit("audience = ", "private_network = true\naudience = ");
    world.edit("[session]", &format!("[egress]\nproxy = \"{}\"\n{more}\n[session]", proxy.url()));
    Inside { world, proxy, _fronts: [sts, keys] }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_and_sts_are_reached_through_the_proxy() {
    let Inside { world, proxy, _fronts } = inside("").await;
    let before = world.cloud.issuer.count(IssuerPage::Jwks);
    assert!(world.reloaded().await);
    world.connect("alice", &world.token("alice")).await.unwrap();
    assert!(world.cloud.issuer.count(IssuerPage::Jwks) > before);
    assert_eq!(world.cloud.sts.count(), 1);
    let heads = proxy.heads().concat();
    for name in [STS, KEYS] {
        assert!(heads.contains(&format!("CONNECT {name}:443 HTTP/1.1\r\n")), "{heads}");
    }
    assert!(!heads.contains("WebIdentityToken") && !heads.contains("eyJ"), "{heads}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_proxys_password_is_in_a_file_of_its_own_and_nowhere_else() {
    let Inside { world, proxy, _fronts } = inside("proxy_credentials_file = \"proxy.credentials\"").await;
    let file = world.folder().join("proxy.credentials");
    std::fs::write(&file, "aladdin:open-sesame-of-the-proxy\n").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(!world.reloaded().await, "a file that others can read is refused");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert!(world.reloaded().await);
    world.connect("alice", &world.token("alice")).await.unwrap();
    let basic = "YWxhZGRpbjpvcGVuLXNlc2FtZS1vZi10aGUtcHJveHk=";
    assert!(
        proxy.heads().iter().all(|head| head.contains(&format!("Basic {basic}\r\n"))),
        "{:?}",
        proxy.heads()
    );
    for secret in [basic, "open-sesame-of-the-proxy"] {
        assert!(!world.has_logged(secret), "{secret}");
    }
}

/// Doctor goes the same way and says so; a proxy that refuses is named.
#[tokio::test(flavor = "multi_thread")]
async fn doctor_goes_through_the_proxy_too() {
    let Inside { world, proxy, _fronts } = inside("").await;
    let token = world.token("alice");
    let findings = DoctorRun::with(&token).examine(&world).await;
    assert_complete(&findings);
    let of = |link: &str| findings.iter().find(|finding| finding.link.id() == link).unwrap();
    for link in ["issuer-tls", "issuer-keys", "sts-endpoint", "sts"] {
        assert_eq!(of(link).state, LinkState::Ok, "{:#?}", of(link));
    }
    let said = &of("sts-endpoint").found;
    assert!(said.contains("sts.acme.test:443 is reached through the proxy at 127.0.0.1:"), "{said}");
    assert!(!proxy.heads().is_empty());
    for (name, link) in [(STS, "sts-endpoint"), (KEYS, "issuer-tls")] {
        let elsewhere = |toml: String| toml.replace(name, "nobody.acme.test");
        let findings = DoctorRun::with(&token).changing(elsewhere).examine(&world).await;
        let failed = findings.iter().find(|finding| finding.link.id() == link).unwrap();
        assert_eq!(failed.state, LinkState::Failed, "{failed:#?}");
        assert!(failed.found.contains("through the proxy http://127.0.0.1:"), "{failed:#?}");
        assert!(failed.remedy.as_deref().unwrap().contains("egress.proxy"), "{failed:#?}");
    }
}
