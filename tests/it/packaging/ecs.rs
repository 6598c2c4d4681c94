//! The ECS module and template: the configuration that they write, the files, and the times of a stop.

use std::fs;
use std::process::Command;

use aws_emulator::Ca;
use hcl::eval::{Context, Evaluate as _, FuncDef, ParamType};
use hcl::{Body, Value};
use pgpassport::config::Config;
use regex::Regex;
use serde_json::Value as Json;

use super::read;

const FILES: [&str; 6] = ["versions", "variables", "main", "network", "autoscaling", "outputs"];
const CLUSTERS: &str = "[[issuer]]\nname = \"okta\"\nurl = \"https://acme.okta.com/oauth2/default\"\naudience = \"a\"\n\n\
    [[cluster]]\nname = \"orders\"\nendpoint = \"o.cluster-c1a2b3c4d5e6.eu-central-1.rds.amazonaws.com\"\n\
    region = \"eu-central-1\"\nrole_arn = \"arn:aws:iam::123456789012:role/orders\"\n\
    ca_file = \"/usr/share/pgpassport/rds-global-bundle.pem\"\n";

fn module() -> String {
    FILES.map(|name| read(&format!("packaging/ecs/terraform/{name}.tf"))).join("\n")
}

/// Values of the locals, as Terraform would evaluate them.
fn locals(module: &Body) -> Json {
    let text = |value: &str| Value::from(value);
    let variables = [
        ("config", text(CLUSTERS)),
        ("name", text("pgpassport")),
        ("image", text("registry/pgpassport:1")),
        ("init_image", text("busybox")),
        ("max_client_conn", Value::from(1000)),
        ("certificate_secret_arn", text("arn:certificate")),
        ("private_key_secret_arn", text("arn:key")),
        ("cancel_secret_arn", text("arn:cancel")),
    ];
    let object = |pairs: Vec<(&str, Value)>| {
        Value::Object(pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    };
    let subnet = |cidr: &str| object(vec![("cidr_block", text(cidr))]);
    let subnets = object(vec![("a", subnet("10.0.1.0/24")), ("b", subnet("10.0.2.0/24"))]);
    let mut context = Context::new();
    context.declare_var("var", object(variables.to_vec()));
    let region = object(vec![("current", object(vec![("name", text("eu-central-1"))]))]);
    let data = object(vec![("aws_subnet", object(vec![("load_balancer", subnets)])), ("aws_region", region)]);
    context.declare_var("data", data);
    let group = object(vec![("this", object(vec![("name", text("/ecs/pgpassport"))]))]);
    context.declare_var("aws_cloudwatch_log_group", group);
    let jsonencode = FuncDef::builder()
        .param(ParamType::Any)
        .build(|args| Ok(Value::from(serde_json::to_string(&args[0]).unwrap())));
    context.declare_func("jsonencode", jsonencode);

    let block = module.blocks().find(|block| block.identifier() == "locals").unwrap();
    let mut known = hcl::Map::new();
    for attribute in block.body().attributes() {
        context.declare_var("local", Value::Object(known.clone()));
        let value = attribute.expr().evaluate(&context).unwrap_or_else(|error| panic!("{error}"));
        known.insert(attribute.key().to_owned(), value);
    }
    serde_json::to_value(known).unwrap()
}

fn body() -> Body {
    module().parse().unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn every_name_in_the_module_is_declared_and_every_variable_used() {
    let (text, body) = (module(), body());
    let labels = |kind: &str| -> Vec<String> {
        let blocks = body.blocks().filter(|block| block.identifier() == kind);
        blocks
            .map(|block| block.labels().iter().map(hcl::BlockLabel::as_str).collect::<Vec<_>>().join("."))
            .collect()
    };
    let variables = labels("variable");
    let used = |pattern: &str| -> Vec<String> {
        let pattern = Regex::new(pattern).unwrap();
        pattern.captures_iter(&text).map(|found| found[1].to_owned()).collect()
    };
    let named = used(r"\bvar\.([a-z_]+)");
    for name in &named {
        assert!(variables.contains(name), "var.{name}");
    }
    for name in &variables {
        assert!(named.contains(name), "nothing uses var.{name}");
    }
    let (resources, data) = (labels("resource"), labels("data"));
    for name in used(r"(?:^|[^.\w])(aws_[a-z_]+\.[a-z_]+)") {
        assert!(resources.contains(&name), "{name}");
    }
    for name in used(r"\bdata\.(aws_[a-z_]+\.[a-z_]+)") {
        assert!(data.contains(&name), "data.{name}");
    }
    assert!(
        resources.len() > 15 && !resources.iter().any(|name| name.contains("task_role")),
        "{resources:?}"
    );
    assert!(!text.contains("task_role_arn"), "the tasks have no AWS identity");
}

#[test]
fn the_module_writes_files_that_the_proxy_takes() {
    let locals = locals(&body());
    let config = locals["proxy_toml"].as_str().unwrap();
    let parsed =
        Config::from_toml(config, "proxy.toml").unwrap_or_else(|problems| panic!("{problems}\n{config}"));
    assert_eq!(parsed.listeners[0].proxy_protocol_from.len(), 2);

    let containers = locals["containers"].as_array().unwrap();
    let (init, proxy) = (&containers[0], &containers[1]);
    assert_eq!((&init["essential"], &proxy["essential"]), (&false.into(), &true.into()));
    assert_eq!(init["environment"][0]["value"], config);
    for container in containers {
        assert_eq!(container["readonlyRootFilesystem"], true);
    }
    assert_eq!(
        (&proxy["user"], &proxy["linuxParameters"]["capabilities"]["drop"][0]),
        (&"65532:65532".into(), &"ALL".into())
    );

    // The script, in a folder of its own.
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().display().to_string();
    let ca = Ca::new().unwrap();
    ca.server(&["db.acme.com"]).unwrap().write(folder.path(), "made").unwrap();
    fs::write(folder.path().join("ca.pem"), ca.pem()).unwrap();
    let script =
        init["command"][2].as_str().unwrap().replace("/etc/pgpassport", &own).replace("chown", "true");
    let made = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap().trim_end().to_owned();
    let there = config
        .replace("/etc/pgpassport", &own)
        .replace("/usr/share/pgpassport/rds-global-bundle.pem", &format!("{own}/ca.pem"));
    let written = Command::new("sh")
        .args(["-ec", &script])
        .env("CONFIG", there)
        .env("CERTIFICATE", made("made.crt"))
        .env("PRIVATE_KEY", made("made.key"))
        .env("CANCEL_SECRET", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
        .output()
        .unwrap();
    assert!(written.status.success(), "{written:?}");
    let checked = Command::new(env!("CARGO_BIN_EXE_pgpassport"))
        .args(["check", &format!("{own}/proxy.toml")])
        .output()
        .unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

#[test]
fn a_task_has_time_to_stop() {
    let locals = locals(&body());
    let seconds = |name: &str| locals[name].as_u64().unwrap();
    assert!(seconds("shutdown_delay") + seconds("shutdown_timeout") + 10 <= seconds("stop_timeout"));
    assert_eq!(seconds("stop_timeout"), 120, "the most that Fargate allows");
    let text = module();
    let number = |key: &str| {
        let line = Regex::new(&format!(r"(?m)^ +{key} += (\d+)$")).unwrap();
        line.captures(&text).unwrap_or_else(|| panic!("{key}"))[1].parse::<u64>().unwrap()
    };
    let notices = number("interval") * number("unhealthy_threshold");
    assert!(seconds("shutdown_delay") >= notices + 5, "the load balancer notices before the port closes");
    assert!(number("deregistration_delay") > seconds("shutdown_delay"));
    assert!(text.contains("enable_unhealthy_connection_termination = false"));
}

/// The text of a block of YAML below a line, without its indentation.
fn literal(yaml: &str, below: &str) -> String {
    let rest = yaml.split_once(below).unwrap_or_else(|| panic!("{below}")).1.trim_start_matches('\n');
    let indent = rest.len() - rest.trim_start_matches(' ').len();
    let lines =
        rest.lines().take_while(|line| line.is_empty() || line.len() - line.trim_start().len() >= indent);
    lines.map(|line| line.get(indent..).unwrap_or_default().to_owned() + "\n").collect()
}

#[test]
fn the_template_writes_the_same_as_the_module() {
    let (template, locals) = (read("packaging/ecs/cloudformation.yaml"), locals(&body()));
    let script = literal(&template, "            - -ec\n            - |");
    assert_eq!(script, locals["write_files"].as_str().unwrap());
    let config = literal(&template, "Value: !Sub\n                - |")
        .replace("${Cidrs}", "10.0.1.0/24\",\"10.0.2.0/24")
        .replace("${MaxClientConn}", "1000")
        .replace("${Config}", CLUSTERS);
    assert_eq!(config.trim(), locals["proxy_toml"].as_str().unwrap().trim());
    for line in [
        "StopTimeout: 120",
        "HealthCheckPath: /readyz",
        "HealthCheckIntervalSeconds: 10",
        "UnhealthyThresholdCount: 2",
    ] {
        assert!(template.contains(line), "{line}");
    }
    assert!(!template.contains("TaskRoleArn"));
}
