//! A changed configuration while the service runs: all of it or none, and nobody notices who does not have to.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};

use aws_emulator::{Ca, IssuerPage};

use crate::world::{RawClient, World};

/// The subject's login works, and by the old rules.
async fn still_as_before(world: &World) {
    let client = world.connect("alice", &world.token("alice")).await.expect("the old configuration");
    client.batch_execute("select 1").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn r19_a_wrong_configuration_is_reported_and_not_applied() {
    let world = World::builder().limits("# limits").user("# user").start().await;
    let good = std::fs::read_to_string(world.config_file()).unwrap();
    let file = |name: &str| world.folder().join(name);
    let (cert, key) = (file("proxy.crt"), file("proxy.key"));
    let (good_cert, good_key) = (std::fs::read(&cert).unwrap(), std::fs::read(&key).unwrap());
    let other = Ca::new().unwrap().server(&["localhost"]).unwrap();
    // The other changes of each file are good ones: they must not be taken either.
    let strict = "max_user_client_connections = 1";
    let cases: [(&str, &str, &dyn Fn(), &str); 7] = [
        ("# limits", "max_client_conn = \"many\"", &|| {}, "limits.max_client_conn"),
        ("# user", "regex = \"(a\"", &|| {}, "cluster[0].user.regex"),
        ("# limits", strict, &|| std::fs::remove_file(&key).unwrap(), "listen[0].tls_key_file: "),
        ("# limits", strict, &|| std::fs::write(&key, &other.key_pem).unwrap(), "listen[0].tls_cert_file: "),
        ("# limits", strict, &|| std::fs::write(&cert, "x").unwrap(), "proxy.crt"),
        ("ca_file = ", "ca_file = \"gone.pem\" # ", &|| {}, "cluster[0].ca_file"),
        ("addr = \"127.0.0.1:0\"", "addr = \"127.0.0.2:0\"", &|| {}, "listen.addr"),
    ];
    let held = world.connect("alice", &world.token("alice")).await.unwrap();
    let mut refused = 0.0;
    for (from, to, spoil, said) in cases {
        world.edit(from, to);
        spoil();
        assert!(!world.reloaded().await, "{to}: taken");
        let line = world.log_line(said).await;
        assert!(line.contains("the current one stays in use") && line.contains("\"ERROR\""), "{line}");
        assert!(world.metric("pgpassport_config_last_reload_successful").await < 0.5);
        refused += 1.0;
        world.metric_is("pgpassport_reloads_total{outcome=\"refused\"}", refused).await;
        still_as_before(&world).await;
        held.batch_execute("select 1").await.unwrap();
        std::fs::write(world.config_file(), &good).unwrap();
        std::fs::write(&cert, &good_cert).unwrap();
        std::fs::write(&key, &good_key).unwrap();
        std::fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    }
    assert!(world.reloaded().await, "the good one is still a good one");
    assert!(world.metric("pgpassport_config_last_reload_successful").await > 0.5);
}

/// The unreadable file is named with what to do about it.
#[tokio::test(flavor = "multi_thread")]
async fn r19_a_key_that_others_can_read_is_not_loaded() {
    let world = World::start().await;
    let key = world.folder().join("proxy.key");
    std::fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    assert!(!world.reloaded().await);
    let line = world.log_line(&key.display().to_string()).await;
    assert!(line.contains("chmod 0600"), "{line}");
    still_as_before(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r19_nobody_notices_a_hundred_reloads() {
    let world = World::start().await;
    let (over, queries, logins) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let token = world.token("alice");
    let asking = async {
        let client = world.connect("alice", &token).await.unwrap();
        while !over.load(Ordering::Relaxed) {
            client.query_one("select 1", &[]).await.unwrap();
            queries.fetch_add(1, Ordering::Relaxed);
        }
    };
    let coming = async {
        while !over.load(Ordering::Relaxed) {
            let client = world.connect("alice", &token).await.unwrap();
            client.query_one("select 1", &[]).await.unwrap();
            logins.fetch_add(1, Ordering::Relaxed);
        }
    };
    let reloading = async {
        for number in 0.. {
            if number >= 100 && queries.load(Ordering::Relaxed) >= 10_000 {
                break;
            }
            if number % 2 == 0 {
                assert!(world.reloaded().await);
            } else {
                world.edit("[limits]", "[limits]\nmax_logins = \"x\"");
                assert!(!world.reloaded().await);
                world.edit("[limits]\nmax_logins = \"x\"", "[limits]");
            }
        }
        over.store(true, Ordering::Relaxed);
    };
    futures_util::future::join3(asking, coming, reloading).await;
    let (queries, logins) = (queries.into_inner(), logins.into_inner());
    assert!(queries >= 10_000 && logins > 10, "{queries} queries and {logins} logins are no proof");
    assert_eq!(world.cloud.sts.count(), 1, "what STS had answered was forgotten");
}

#[tokio::test(flavor = "multi_thread")]
async fn r20_new_clients_see_the_new_certificate_and_old_sessions_live() {
    let world = World::start().await;
    let old = world.connect("alice", &world.token("alice")).await.unwrap();
    let successor = Ca::new().unwrap();
    successor.server(&["localhost", "127.0.0.1"]).unwrap().write(&world.folder(), "proxy").unwrap();
    still_as_before(&world).await; // nothing is read before it is asked for
    assert!(world.reloaded().await);
    let client = RawClient::connect(world.port, &successor).await;
    client.login("alice", Some("app"), &world.token("alice")).await.unwrap();
    let error = world.connect("alice", &world.token("alice")).await.expect_err("the old certificate");
    assert!(format!("{error:?}").contains("InvalidCertificate"), "{error:?}");
    old.batch_execute("select 1").await.unwrap();
}

/// Files behind a link that is replaced as a whole, as the kubelet does with a Secret.
#[tokio::test(flavor = "multi_thread")]
async fn r20_a_replaced_secret_is_loaded_without_a_signal() {
    let world = World::builder().reload("interval = \"1s\"").start().await;
    still_as_before(&world).await;
    let (folder, data) = (world.folder(), world.folder().join("..data"));
    let successor = Ca::new().unwrap();
    let issue = |version: &str| {
        let version = folder.join(version);
        std::fs::create_dir(&version).unwrap();
        successor.server(&["localhost", "127.0.0.1"]).unwrap().write(&version, "proxy").unwrap();
    };
    // From files to links is a change too.
    issue("..1");
    std::os::unix::fs::symlink("..1", &data).unwrap();
    for name in ["proxy.crt", "proxy.key"] {
        let new = folder.join("new");
        std::os::unix::fs::symlink(format!("..data/{name}"), &new).unwrap();
        std::fs::rename(&new, folder.join(name)).unwrap();
    }
    world.metric_is("pgpassport_reloads_total{outcome=\"applied\"}", 1.0).await;
    let client = RawClient::connect(world.port, &successor).await;
    client.login("alice", Some("app"), &world.token("alice")).await.unwrap();

    // A change that cannot be used is told once, and the next one is taken.
    std::fs::create_dir(folder.join("..2")).unwrap();
    let swap = |version: &str| {
        std::os::unix::fs::symlink(version, folder.join("..new")).unwrap();
        std::fs::rename(folder.join("..new"), &data).unwrap();
    };
    swap("..2");
    world.metric_is("pgpassport_reloads_total{outcome=\"refused\"}", 1.0).await;
    let line = world.log_line("proxy.crt does not exist").await;
    assert!(line.contains("configuration not reloaded") && line.contains("\"files\""), "{line}");
    let client = RawClient::connect(world.port, &successor).await;
    client.login("alice", Some("app"), &world.token("alice")).await.unwrap();
    issue("..3");
    swap("..3");
    world.metric_is("pgpassport_reloads_total{outcome=\"applied\"}", 2.0).await;
    world.metric_is("pgpassport_reloads_total{outcome=\"refused\"}", 1.0).await;
}

/// The configuration itself is taken only where its own setting says so.
#[tokio::test(flavor = "multi_thread")]
async fn r20_a_changed_configuration_waits_for_a_signal_or_for_its_setting() {
    let world = World::builder().limits("# limits").reload("interval = \"1s\"").start().await;
    still_as_before(&world).await;
    world.edit("# limits", "max_client_conn = 77");
    let successor = Ca::new().unwrap();
    successor.server(&["localhost", "127.0.0.1"]).unwrap().write(&world.folder(), "proxy").unwrap();
    world.metric_is("pgpassport_reloads_total{outcome=\"applied\"}", 1.0).await;
    assert!(world.metric("pgpassport_max_client_conn").await > 77.5, "the certificate only");
    world.edit("interval = \"1s\"", "interval = \"1s\"\nwatch = \"all\"");
    assert!(world.reloaded().await);
    world.metric_is("pgpassport_max_client_conn", 77.0).await;
    world.edit("max_client_conn = 77", "max_client_conn = 78");
    world.metric_is("pgpassport_max_client_conn", 78.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_and_credentials_outlive_a_reload_where_nothing_changed() {
    let world = World::start().await;
    let token = world.token("alice");
    world.connect("alice", &token).await.unwrap();
    let fetched = world.cloud.issuer.count(IssuerPage::Jwks);
    assert!(world.reloaded().await);
    world.cloud.issuer.reaches(IssuerPage::Jwks, fetched + 1).await;
    // An issuer that is down takes nothing away, neither now nor at a reload.
    world.cloud.issuer.go_down();
    assert!(world.reloaded().await);
    world.connect("alice", &token).await.unwrap();
    assert_eq!(world.cloud.sts.count(), 1);
    // Another life of credentials is another cluster as far as they are concerned.
    world.edit("[cluster.user]", "sts_duration = \"20m\"\n[cluster.user]");
    assert!(world.reloaded().await);
    world.connect("alice", &token).await.unwrap();
    assert_eq!(world.cloud.sts.count(), 2);
}

/// However often it is asked for while it is busy, it is done once more.
#[tokio::test(flavor = "multi_thread")]
async fn r30_many_requests_during_a_reload_make_one_more_reload() {
    // The first reload waits in the middle: once until it has begun, and once until it may go on.
    let (gate, first) = (Arc::new(Barrier::new(2)), Arc::new(AtomicBool::new(true)));
    let inside = Arc::clone(&gate);
    let world = World::builder().service_with(move |service| {
        let (load, inside, first) = (Arc::clone(&service.load), Arc::clone(&inside), Arc::clone(&first));
        service.load = Arc::new(move || {
            if first.swap(false, Ordering::Relaxed) {
                inside.wait();
                inside.wait();
            }
            load()
        });
    });
    let world = world.start().await;
    world.reload.notify_one();
    tokio::task::block_in_place(|| gate.wait());
    for _ in 0..10_000 {
        world.reload.notify_one();
    }
    tokio::task::block_in_place(|| gate.wait());
    world.metric_is("pgpassport_reloads_total{outcome=\"applied\"}", 2.0).await;
    assert!(world.reloaded().await);
    world.metric_is("pgpassport_reloads_total{outcome=\"applied\"}", 3.0).await;
    still_as_before(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r30_a_service_that_stops_reloads_no_more() {
    let mut world = World::builder().limits("shutdown_delay = \"1h\"").start().await;
    assert!(world.reloaded().await);
    world.edit("[limits]", "[limits]\nmax_user_client_connections = 1");
    world.stopping.asked.cancel();
    for _ in 0..100 {
        world.reload.notify_one();
        let reloads = world.metric("pgpassport_reloads_total{outcome=\"applied\"}").await;
        let refused = world.metric("pgpassport_reloads_total{outcome=\"refused\"}").await;
        assert!(reloads < 1.5 && refused < 0.5, "{reloads} applied, {refused} refused");
    }
    world.stopping.drain.cancel();
    world.serving.take().unwrap().await.unwrap().unwrap();
}
