//! The Helm chart, rendered by helm for every values file in packaging/helm/values. A file says in its first lines
//! whether the chart refuses it. `scripts/need-helm` gets the tools.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use pgpassport::config::Config;
use serde_json::Value;

mod cluster;

/// Oldest and newest version that the chart is for, of those that the validator knows well.
const KUBERNETES: [&str; 2] = ["1.33", "1.37"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn tool(name: &str) -> Command {
    let path = root().join(".tools/helm").join(name);
    assert!(path.exists(), "{} is not here: run scripts/need-helm", path.display());
    Command::new(path)
}

fn helm(verb: &[&str], values: &Path) -> Output {
    helm_with(verb, values, &[])
}

fn helm_with(verb: &[&str], values: &Path, options: &[&str]) -> Output {
    let chart = root().join("packaging/helm/pgpassport");
    tool("helm").args(verb).arg(chart).arg("--values").arg(values).args(options).output().unwrap()
}

/// The values files by name, with the words that the chart refuses each with, if it does.
fn values_files() -> BTreeMap<String, (PathBuf, Option<String>)> {
    let folder = fs::read_dir(root().join("packaging/helm/values")).unwrap();
    let files = folder.map(|entry| {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(&path).unwrap();
        let refused = text.lines().find_map(|line| line.strip_prefix("# refused: "));
        (name, (path, refused.map(str::to_owned)))
    });
    files.collect()
}

fn rendered(values: &Path) -> String {
    let output = helm(&["template", "db"], values);
    assert!(output.status.success(), "{}: {}", values.display(), String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The rendered objects by kind and name.
fn objects(yaml: &str) -> BTreeMap<String, Value> {
    let documents = yaml.split("\n---\n").filter(|text| text.contains("kind:"));
    let parsed = documents.map(|text| serde_saphyr::from_str::<Value>(text).unwrap());
    let named = parsed.map(|object| {
        let name = |key: &str| object.pointer(key).unwrap().as_str().unwrap().to_owned();
        (format!("{}/{}", name("/kind"), name("/metadata/name")), object)
    });
    named.collect()
}

fn objects_of(name: &str) -> BTreeMap<String, Value> {
    objects(&rendered(&values_files()[name].0))
}

#[test]
fn the_chart_renders_lints_and_validates_or_says_why_not() {
    let folder = tempfile::tempdir().unwrap();
    let mut rendered_files = Vec::new();
    let files = values_files();
    for (name, (path, refused)) in &files {
        if let Some(words) = refused {
            let output = helm(&["template", "db"], path);
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(!output.status.success() && error.contains(words), "{name}: {error}");
            continue;
        }
        let lint = helm(&["lint", "--strict", "--quiet"], path);
        assert!(lint.status.success(), "{name}: {}", String::from_utf8_lossy(&lint.stdout));
        let file = folder.path().join(format!("{name}.yaml"));
        fs::write(&file, rendered(path)).unwrap();
        rendered_files.push(file);
    }
    assert!(rendered_files.len() >= 20 && rendered_files.len() < files.len());
    for version in KUBERNETES {
        let output = tool("venv/bin/kubernetes-validate")
            .args(["--strict", "--quiet", "--no-warn", "-k", version])
            .args(&rendered_files)
            .output()
            .unwrap();
        let words = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{version}: {}", String::from_utf8_lossy(&words));
    }
}

#[test]
fn the_charts_configuration_is_one_that_the_proxy_takes() {
    for (name, (path, refused)) in values_files() {
        if refused.is_some() || name == "existing-config" {
            continue;
        }
        let all = objects(&rendered(&path));
        let (_, map) = all.iter().find(|(key, _)| key.starts_with("ConfigMap/")).unwrap();
        let text = map["data"]["proxy.toml"].as_str().unwrap();
        let config =
            Config::from_toml(text, "proxy.toml").unwrap_or_else(|problems| panic!("{name}: {problems}"));
        let (_, deployment) = all.iter().find(|(key, _)| key.starts_with("Deployment/")).unwrap();
        let grace = deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"].as_u64().unwrap();
        let container = &deployment["spec"]["template"]["spec"]["containers"][0];
        let sleep = container["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64().unwrap_or_default();
        let needed = config.limits.shutdown_delay + config.limits.shutdown_timeout;
        assert_eq!(grace, sleep + needed.as_secs() + 10, "{name}");
    }
}

#[test]
fn pods_run_as_nobody_read_only_and_without_an_identity() {
    for (name, (path, refused)) in values_files() {
        if refused.is_some() {
            continue;
        }
        for (key, object) in objects(&rendered(&path)) {
            let pod = match object["kind"].as_str().unwrap() {
                "Deployment" => &object["spec"]["template"]["spec"],
                "Pod" => &object["spec"],
                "ServiceAccount" => {
                    assert_eq!(object["automountServiceAccountToken"], false, "{name} {key}");
                    assert!(!object.to_string().contains("eks.amazonaws.com"), "{name} {key}");
                    continue;
                }
                _ => continue,
            };
            assert_eq!(pod["automountServiceAccountToken"], false, "{name} {key}");
            assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{name} {key}");
            assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault", "{name} {key}");
            let container = &pod["containers"][0]["securityContext"];
            assert_eq!(container["readOnlyRootFilesystem"], true, "{name} {key}");
            assert_eq!(container["allowPrivilegeEscalation"], false, "{name} {key}");
            assert_eq!(container["capabilities"]["drop"][0], "ALL", "{name} {key}");
            for volume in pod["volumes"].as_array().unwrap() {
                if let Some(secret) = volume.get("secret") {
                    assert_eq!(secret["defaultMode"], 0o440, "{name} {key}: {volume}");
                }
            }
        }
    }
}

#[test]
fn each_optional_object_of_the_chart_depends_on_its_value() {
    let kinds = |name: &str| -> Vec<String> {
        let all = objects_of(name).into_keys();
        all.map(|key| key.split('/').next().unwrap().to_owned()).collect()
    };
    for (kind, with, without) in [
        ("PodDisruptionBudget", "minimal", "one-replica"),
        ("HorizontalPodAutoscaler", "autoscaling-cpu", "minimal"),
        ("NetworkPolicy", "network-policy", "minimal"),
        ("ServiceMonitor", "monitoring", "minimal"),
        ("PrometheusRule", "monitoring", "minimal"),
        ("Certificate", "cert-manager", "minimal"),
        ("Secret", "minimal", "existing-secrets"),
        ("ConfigMap", "minimal", "existing-config"),
        ("ServiceAccount", "minimal", "service-account"),
    ] {
        let has = |name: &str| kinds(name).iter().any(|found| found == kind);
        assert!(has(with), "{kind} with {with}");
        assert!(!has(without), "{kind} without {without}");
    }
}

#[test]
fn a_network_load_balancer_gets_the_proxy_protocol_and_http_checks() {
    let all = objects_of("nlb");
    let service = &all["Service/db-pgpassport"];
    let annotation = |key: &str| {
        let key = format!("service.beta.kubernetes.io/aws-load-balancer-{key}");
        service["metadata"]["annotations"][&key].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(service["spec"]["loadBalancerClass"], "service.k8s.aws/nlb");
    assert_eq!(annotation("scheme"), "internal");
    assert_eq!(annotation("proxy-protocol"), "*");
    assert_eq!(
        (annotation("healthcheck-port"), annotation("healthcheck-path")),
        ("9127".into(), "/readyz".into())
    );
    assert!(annotation("target-group-attributes").contains("preserve_client_ip.enabled=false"));
    let text = all["ConfigMap/db-pgpassport-config"]["data"]["proxy.toml"].as_str().unwrap();
    let config = Config::from_toml(text, "proxy.toml").unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(config.listeners[0].proxy_protocol_from.len(), 2);
}

/// The chart's alert rules and those of packaging/monitoring are the same, but for the selected job.
#[test]
fn the_charts_alert_rules_are_those_for_prometheus() {
    let all = fs::read_to_string(root().join("packaging/monitoring/alerts.yaml")).unwrap();
    let all: Value = serde_saphyr::from_str(&all).unwrap();
    let rules = |groups: &Value| -> BTreeMap<String, Value> {
        let rules = groups[0]["rules"].as_array().unwrap().iter().map(|rule| {
            let mut rule = rule.clone();
            let expression = rule["expr"].as_str().unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
            let job = regex::Regex::new(r#",?job=~?"[^"]*""#)
                .unwrap()
                .replace_all(&expression, "")
                .replace("{}", "");
            rule["expr"] = Value::String(job);
            (rule["alert"].as_str().unwrap().to_owned(), rule)
        });
        rules.collect()
    };
    let deployed = &objects_of("monitoring")["PrometheusRule/db-pgpassport"];
    let deployed = rules(&deployed["spec"]["groups"]);
    assert!(deployed.len() > 20);
    assert_eq!(deployed, rules(&all["groups"]));
}

#[test]
fn the_charts_dashboard_is_that_of_the_manual() {
    let dashboard = fs::read_to_string(root().join("packaging/monitoring/grafana.json")).unwrap();
    let deployed = &objects_of("monitoring")["ConfigMap/db-pgpassport-dashboard"];
    let text = deployed["data"]["pgpassport.json"].as_str().unwrap();
    let parsed = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    assert_eq!(parsed(text), parsed(&dashboard));
    assert_eq!(deployed["metadata"]["labels"]["grafana_dashboard"], "1");
}

/// Sessions of a pod that fails its check go on.
#[test]
fn the_load_balancer_cuts_no_session() {
    let service = &objects_of("nlb")["Service/db-pgpassport"];
    let key = "service.beta.kubernetes.io/aws-load-balancer-target-group-attributes";
    let attributes = service["metadata"]["annotations"][key].as_str().unwrap();
    for kept in ["target_health_state.unhealthy", "deregistration_delay"] {
        assert!(attributes.contains(&format!("{kept}.connection_termination.enabled=false")), "{attributes}");
    }
}

/// A service selects pods of the Deployment and no other pod, such as that of `helm test`.
#[test]
fn services_select_the_proxies_alone() {
    let all = objects_of("minimal");
    let proxies = &all["Deployment/db-pgpassport"]["spec"]["template"]["metadata"]["labels"];
    let check = &all["Pod/db-pgpassport-check"]["metadata"]["labels"];
    for service in ["Service/db-pgpassport", "Service/db-pgpassport-admin"] {
        let selector = all[service]["spec"]["selector"].as_object().unwrap();
        assert!(selector.iter().all(|(key, value)| &proxies[key] == value), "{service}: {selector:?}");
        assert!(!selector.iter().all(|(key, value)| &check[key] == value), "{service}: {selector:?}");
    }
}

/// With a network policy the load balancer still reaches the port and the health check.
#[test]
fn a_network_policy_admits_the_load_balancer() {
    let policy = &objects_of("nlb-network-policy")["NetworkPolicy/db-pgpassport"];
    let rules = policy["spec"]["ingress"].as_array().unwrap();
    assert_eq!(rules.len(), 2);
    for rule in rules {
        let peers: Vec<_> = rule["from"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|peer| peer["ipBlock"]["cidr"].as_str())
            .collect();
        assert!(peers.ends_with(&["10.0.1.0/24", "10.0.2.0/24"]), "{rule}");
    }
}

/// A sleep before the stop is an option, and has time of its own.
#[test]
fn a_sleep_before_the_stop_lengthens_the_grace_period() {
    let spec = |name: &str| objects_of(name)["Deployment/db-pgpassport"]["spec"]["template"]["spec"].clone();
    let (without, with) = (spec("minimal"), spec("pre-stop"));
    assert!(without["containers"][0].get("lifecycle").is_none());
    assert_eq!(with["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"], 15);
    let grace = |spec: &Value| spec["terminationGracePeriodSeconds"].as_u64().unwrap();
    assert_eq!(grace(&with), grace(&without) + 15);
}

#[test]
fn the_notes_have_the_next_commands() {
    let output = helm_with(&["install", "db"], &values_files()["cert-manager"].0, &["--dry-run=client"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let notes = text.split("\nNOTES:\n").nth(1).unwrap();
    for line in [
        "helm test db --namespace default",
        "/usr/local/bin/pgpassport policy --config /etc/pgpassport/config/proxy.toml",
        "psql \"host=db.acme.com port=5432 dbname=",
        "no IRSA, no Pod Identity",
    ] {
        assert!(notes.contains(line), "{line}: {notes}");
    }
}
