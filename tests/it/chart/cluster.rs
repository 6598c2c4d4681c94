//! The chart's look-ups in a cluster: an upgrade keeps the cancel secret. A small server stands in for the Kubernetes API.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};

use serde_json::{Value, json};

use super::{helm_with, objects, values_files};

const KEPT: &str = "a2VwdCBmcm9tIHRoZSBmaXJzdCBpbnN0YWxsYXRpb24=";

fn resources(version: &str, kinds: &[(&str, &str)]) -> Value {
    let all = kinds.iter().map(|(kind, plural)| {
        json!({"name": plural, "singularName": "", "namespaced": true, "kind": kind, "verbs": ["get"]})
    });
    json!({"kind": "APIResourceList", "groupVersion": version, "resources": all.collect::<Vec<_>>()})
}

/// The answer of the API, or none if there is no such object. `secret` is whether the first installation was made.
fn answer(path: &str, secret: bool) -> Option<Value> {
    let group = |name: &str| {
        let version = json!({"groupVersion": format!("{name}/v1"), "version": "v1"});
        json!({"name": name, "versions": [version], "preferredVersion": version})
    };
    let core = [
        ("Secret", "secrets"),
        ("ConfigMap", "configmaps"),
        ("Service", "services"),
        ("ServiceAccount", "serviceaccounts"),
        ("Pod", "pods"),
    ];
    match path {
        "/version" => Some(json!({"major": "1", "minor": "34", "gitVersion": "v1.34.0"})),
        "/api" => Some(json!({"kind": "APIVersions", "versions": ["v1"]})),
        "/apis" => Some(json!({"kind": "APIGroupList", "groups": [group("apps"), group("policy")]})),
        "/api/v1" => Some(resources("v1", &core)),
        "/apis/apps/v1" => Some(resources("apps/v1", &[("Deployment", "deployments")])),
        "/apis/policy/v1" => Some(resources("policy/v1", &[("PodDisruptionBudget", "poddisruptionbudgets")])),
        "/api/v1/namespaces/default/secrets/db-pgpassport-cancel" if secret => Some(json!({
            "apiVersion": "v1", "kind": "Secret", "data": {"secret": KEPT},
            "metadata": {
                "name": "db-pgpassport-cancel", "namespace": "default",
                "labels": {"app.kubernetes.io/managed-by": "Helm"},
                "annotations": {"meta.helm.sh/release-name": "db", "meta.helm.sh/release-namespace": "default"},
            },
        })),
        _ => None,
    }
}

fn serve(mut tcp: TcpStream, secret: bool) -> Option<()> {
    let mut head = BufReader::new(tcp.try_clone().ok()?).lines().map_while(Result::ok);
    let request = head.next()?;
    head.take_while(|line| !line.is_empty()).for_each(drop);
    let path = request.split([' ', '?']).nth(1)?;
    let found = answer(path, secret);
    let status = if found.is_some() { "200 OK" } else { "404 Not Found" };
    let missing =
        json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404});
    let body = found.unwrap_or(missing).to_string();
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\n");
    write!(tcp, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).ok()
}

/// The cancel secret of a release that a cluster receives.
fn cancel_secret(secret: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    // Ends with the test's process.
    std::thread::spawn(move || {
        for tcp in listener.incoming().flatten() {
            let _ = serve(tcp, secret);
        }
    });
    let cluster = ["--dry-run=server", "--disable-openapi-validation", "--kube-apiserver", &server];
    let output = helm_with(&["template", "db"], &values_files()["minimal"].0, &cluster);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let all = objects(&String::from_utf8(output.stdout).unwrap());
    let made = &all["Secret/db-pgpassport-cancel"];
    assert_eq!(made["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
    made["data"]["secret"].as_str().unwrap().to_owned()
}

#[test]
fn the_cancel_secret_is_made_once_and_kept_over_upgrades() {
    let (first, second) = (cancel_secret(false), cancel_secret(false));
    assert!(first != second && first.len() > 40, "random: {first} {second}");
    assert_eq!(cancel_secret(true), KEPT);
}
