//! The files around the binary, as far as they can be checked without the programs that read them.

use std::fs;
use std::path::Path;
use std::process::Command;

use clap::{CommandFactory, Parser};
use pgpassport::cli::Cli;
use pgpassport::config::Config;

mod ecs;

fn read(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// The value of the only line `key=value` of the unit.
fn unit_value(unit: &str, key: &str) -> String {
    let values: Vec<_> = unit.lines().filter_map(|line| line.strip_prefix(&format!("{key}="))).collect();
    assert_eq!(values.len(), 1, "{key}: {values:?}");
    values[0].to_owned()
}

#[test]
fn the_images_are_built_in_stages_and_run_as_nobody() {
    let dockerfile = read("Dockerfile");
    let stages: Vec<_> = dockerfile.split("\nFROM ").skip(1).collect();
    let heads: Vec<_> = stages.iter().map(|stage| stage.lines().next().unwrap()).collect();
    assert_eq!(
        heads,
        [
            "${COMPILER} AS compiled",
            "scratch AS ready",
            "${BINARIES} AS binaries",
            "${BASE} AS stand-ins",
            "${BASE} AS pgpassport",
        ]
    );
    assert!(stages[0].contains("\nRUN cargo build --locked"), "the build must use the lock file");
    assert!(dockerfile.contains("\nARG BINARIES=compiled\n"), "a plain build compiles");
    for image in &stages[3..] {
        let users: Vec<_> = image.lines().filter(|line| line.starts_with("USER ")).collect();
        assert_eq!(users, ["USER 65532:65532"], "{image}");
        assert!(!image.contains("\nRUN "), "built where it runs: {image}");
        assert!(image.contains("\nCOPY --from=binaries --chmod=0755 /source/target/release/"), "{image}");
    }
    // What has no version of its own would change the image from day to day.
    assert!(!dockerfile.contains("\nADD "));
    assert!(stages[4].contains("src/rds_roots.pem /usr/share/pgpassport/rds-global-bundle.pem\n"));
}

#[test]
fn the_compose_file_configures_the_proxy_as_the_proxy_wants_it() {
    let compose: serde_json::Value = serde_saphyr::from_str(&read("docker-compose.yml")).unwrap();
    let services = compose["services"].as_object().unwrap();
    assert_eq!(services.keys().collect::<Vec<_>>().len(), 3);
    let config = compose["configs"]["proxy"]["content"].as_str().unwrap();
    let config = Config::from_toml(config, "proxy.toml").unwrap_or_else(|problems| panic!("{problems}"));
    let command = services["stand-ins"]["command"].to_string();
    assert!(command.contains(&format!("--issuer-url={}", config.issuers[0].issuer.as_str())), "{command}");
    let sts = config.clusters[0].sts_endpoint_url.clone();
    assert!(command.contains(&format!("--sts-addr=127.0.0.1:{}", sts.port().unwrap())), "{command}");
    let hba = compose["configs"]["pg_hba"]["content"].as_str().unwrap();
    let gate = hba.split("ldapport=").nth(1).unwrap().split(' ').next().unwrap();
    assert!(command.contains(&format!("--gate-addr=127.0.0.1:{gate}\"")), "{command}");

    let published: Vec<&str> = services
        .values()
        .filter_map(|service| service["ports"].as_array())
        .flatten()
        .map(|port| port.as_str().unwrap())
        .collect();
    for port in &published {
        assert!(port.starts_with("127.0.0.1:"), "published to the world: {port}");
    }
    let proxy_port = config.listeners[0].addr.tcp().unwrap().port();
    assert!(published.contains(&format!("127.0.0.1:{proxy_port}:{proxy_port}").as_str()), "{published:?}");

    let dockerfile = read("Dockerfile");
    for (service, stage) in [("stand-ins", "stand-ins"), ("proxy", "pgpassport")] {
        assert_eq!(services[service]["build"]["target"], stage);
        assert!(dockerfile.contains(&format!(" AS {stage}\n")), "the Dockerfile has no stage {stage}");
    }
    let proxy = &services["proxy"];
    assert_eq!((&proxy["read_only"], proxy["cap_drop"].to_string()), (&true.into(), "[\"ALL\"]".into()));
    assert_eq!(proxy["security_opt"].to_string(), "[\"no-new-privileges:true\"]");
}

#[test]
fn the_unit_is_sandboxed_and_outlives_the_drain() {
    let unit = read("packaging/pgpassport.service");
    let value = |key: &str| unit_value(&unit, key);
    assert_eq!(value("Type"), "notify");
    let serve = value("ExecStart");
    assert!(serve.starts_with("/usr/bin/pgpassport serve "), "{serve}");
    // systemd tries again after a failed ExecStartPre= whatever its exit code, and `serve` reports the same problems.
    assert!(!unit.contains("\nExecStartPre="));
    let reload: Vec<_> = unit.lines().filter_map(|line| line.strip_prefix("ExecReload=")).collect();
    let check =
        format!("+/usr/bin/nsenter --target $MAINPID --mount {}", serve.replace(" serve ", " check "));
    assert_eq!(
        reload[0], check,
        "problems are reported before the signal, and root can read the credentials"
    );
    assert_eq!(reload[1..], ["/bin/kill -HUP $MAINPID"]);
    let limits = Config::from_toml(&read("proxy.toml"), "proxy.toml").unwrap().limits;
    let stopping = limits.shutdown_delay + limits.shutdown_timeout;
    assert!(value("TimeoutStopSec").parse::<u64>().unwrap() >= stopping.as_secs() + 10, "and the goodbyes");
    assert!(value("WatchdogSec").parse::<u64>().unwrap() >= 10);
    assert!(value("LimitNOFILE").parse::<usize>().unwrap() > 2 * limits.max_client_conn + 320);
    assert_eq!(value("RestartPreventExitStatus"), "78 243");
    for nothing in ["CapabilityBoundingSet", "AmbientCapabilities"] {
        assert_eq!(value(nothing), "", "{nothing}");
    }
    let metadata = "169.254.169.254 169.254.170.2 fd00:ec2::254";
    assert_eq!(value("IPAddressDeny"), metadata, "instance and container credentials are out of reach");
    for (key, wanted) in [
        ("DynamicUser", "yes"),
        ("LimitCORE", "0"),
        ("LockPersonality", "yes"),
        ("MemoryDenyWriteExecute", "yes"),
        ("NoNewPrivileges", "yes"),
        ("PrivateDevices", "yes"),
        ("PrivateTmp", "yes"),
        ("PrivateUsers", "yes"),
        ("ProtectClock", "yes"),
        ("ProtectControlGroups", "yes"),
        ("ProtectHome", "yes"),
        ("ProtectHostname", "yes"),
        ("ProtectKernelLogs", "yes"),
        ("ProtectKernelModules", "yes"),
        ("ProtectKernelTunables", "yes"),
        ("ProtectProc", "invisible"),
        ("ProtectSystem", "strict"),
        ("RestrictAddressFamilies", "AF_INET AF_INET6 AF_UNIX"),
        ("RestrictNamespaces", "yes"),
        ("RestrictRealtime", "yes"),
        ("RestrictSUIDSGID", "yes"),
        ("SystemCallArchitectures", "native"),
        ("UMask", "0077"),
    ] {
        assert_eq!(value(key), wanted, "{key}");
    }
    for filter in ["SystemCallFilter=@system-service", "SystemCallFilter=~@privileged @resources"] {
        assert!(unit.lines().any(|line| line == filter), "{filter}");
    }
}

#[test]
fn the_socket_unit_listens_where_the_service_would() {
    let unit = read("packaging/pgpassport.socket");
    let config = Config::from_toml(&read("proxy.toml"), "proxy.toml").unwrap();
    assert_eq!(unit_value(&unit, "ListenStream"), config.listeners[0].addr.to_string());
    assert_eq!(unit_value(&unit, "WantedBy"), "sockets.target");
}

/// Command lines of the agent's units are those of the binary, and they listen on this machine alone.
#[test]
fn the_agents_units_start_the_agent() {
    let unit = read("packaging/pgpassport-agent.service");
    let line = unit_value(&unit, "ExecStart");
    let plist = read("packaging/com.pgpassport.agent.plist");
    let array = plist.split("<array>").nth(1).unwrap().split("</array>").next().unwrap();
    let words: Vec<_> =
        array.split("<string>").skip(1).map(|rest| rest.split("</string>").next().unwrap()).collect();
    assert_eq!(words[0], "/usr/local/bin/pgpassport");
    assert_eq!(words[1..], line.split(' ').skip(1).collect::<Vec<_>>(), "the same on both systems");
    assert!(Cli::try_parse_from(&words).is_ok());
    assert!(line.contains(" connect ") && line.ends_with("127.0.0.1:15432"), "{line}");
    assert_eq!(unit_value(&unit, "Type"), "notify");
    assert_eq!(unit_value(&unit, "UMask"), "0077");
    let umask = plist.split("<key>Umask</key>").nth(1).unwrap();
    assert!(umask.trim_start().starts_with("<integer>63</integer>"), "077 in decimal");
}

/// `systemd-analyze` verifies the units where systemd is installed.
#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    let Ok(version) = Command::new("systemd-analyze").arg("--version").output() else { return };
    assert!(version.status.success());
    let folder = tempfile::tempdir().unwrap();
    for name in ["pgpassport.service", "pgpassport.socket", "pgpassport-agent.service"] {
        // The binary is not installed on the machine that tests it.
        let unit = read(&format!("packaging/{name}")).replace("/usr/bin/pgpassport", "/bin/true");
        fs::write(folder.path().join(name), unit).unwrap();
    }
    let analyze = |args: &[&str]| {
        let output = Command::new("systemd-analyze")
            .args(args)
            .env("XDG_RUNTIME_DIR", folder.path())
            .current_dir(folder.path())
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    };
    let (good, said) = analyze(&["verify", "./pgpassport.service", "./pgpassport.socket"]);
    assert!(good && !said.contains("pgpassport."), "{said}");
    let (good, said) = analyze(&["verify", "--user", "./pgpassport-agent.service"]);
    assert!(good && !said.contains("pgpassport-agent."), "{said}");
    // 15 is an exposure of 1.5 of 10.
    let (good, said) = analyze(&["security", "--offline=true", "--threshold=15", "./pgpassport.service"]);
    assert!(good, "{said}");
}

#[test]
fn every_command_has_a_manual_page_and_completions() {
    let folder = tempfile::tempdir().unwrap();
    let binary = || Command::new(env!("CARGO_BIN_EXE_pgpassport"));
    assert!(binary().arg("man").arg(folder.path()).status().unwrap().success());
    let commands = Cli::command();
    let names: Vec<_> = commands.get_subcommands().map(clap::Command::get_name).collect();
    assert!(names.contains(&"serve") && names.contains(&"login"), "{names:?}");
    for name in names {
        let page = folder.path().join(format!("pgpassport-{name}.1"));
        let page = fs::read_to_string(&page).unwrap_or_else(|error| panic!("{}: {error}", page.display()));
        assert!(page.contains(".SH NAME"), "{name}");
        for shell in ["bash", "zsh", "fish"] {
            let script = binary().args(["completions", shell]).output().unwrap();
            assert!(String::from_utf8(script.stdout).unwrap().contains(name), "{shell}: {name}");
        }
    }
}
