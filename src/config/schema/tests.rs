//! The schema: the committed file, and what it takes and refuses.

use std::path::{Path, PathBuf};

use regex::Regex;

use super::*;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Checks a value by the parts of JSON Schema that ours is made of; other parts are a panic.
fn check(schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    let schema = schema.as_object().unwrap();
    for (word, rule) in schema {
        let holds = match word.as_str() {
            "type" => match rule.as_str().unwrap() {
                "object" => value.is_object(),
                "array" => value.is_array(),
                "string" => value.is_string(),
                "boolean" => value.is_boolean(),
                "integer" => value.is_i64(),
                "number" => value.is_number(),
                other => panic!("{other}"),
            },
            "enum" => rule.as_array().unwrap().contains(value),
            "minimum" => value.as_i64().is_none_or(|value| value >= rule.as_i64().unwrap()),
            "maximum" => value.as_i64().is_none_or(|value| value <= rule.as_i64().unwrap()),
            "pattern" => {
                value.as_str().is_none_or(|text| Regex::new(rule.as_str().unwrap()).unwrap().is_match(text))
            }
            "required" => {
                let names = rule.as_array().unwrap().iter().map(|name| name.as_str().unwrap());
                value.as_object().is_none_or(|table| names.into_iter().all(|name| table.contains_key(name)))
            }
            "anyOf" => rule.as_array().unwrap().iter().any(|schema| check(schema, value, at).is_ok()),
            "items" => {
                for (number, item) in value.as_array().into_iter().flatten().enumerate() {
                    check(rule, item, &format!("{at}[{number}]"))?;
                }
                true
            }
            "properties" | "additionalProperties" => {
                let known = schema.get("properties").and_then(Value::as_object);
                let others = schema.get("additionalProperties");
                for (name, item) in value.as_object().into_iter().flatten() {
                    let at = format!("{at}.{name}");
                    match (known.and_then(|known| known.get(name)), others) {
                        (Some(schema), _) => check(schema, item, &at)?,
                        (None, Some(Value::Object(schema))) => check(&json!(schema), item, &at)?,
                        (None, _) => return Err(format!("{at} is not known")),
                    }
                }
                true
            }
            "description" | "default" | "title" | "$schema" => true,
            other => panic!("{other}"),
        };
        if !holds {
            return Err(format!("{at}: {word} {rule} does not hold for {value}"));
        }
    }
    Ok(())
}

fn judge(text: &str) -> Result<(), String> {
    let table: toml::Table = text.parse().map_err(|error| format!("{error}"))?;
    check(&schema().0, &serde_json::to_value(table).unwrap(), "")
}

/// Every property of the schema, with the path of its table.
fn properties(schema: &Value, path: &str, found: &mut Vec<(String, Value)>) {
    for (name, form) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let below = format!("{path}.{name}");
        found.push((below.clone(), form.clone()));
        let forms =
            form.get("anyOf").and_then(Value::as_array).cloned().unwrap_or_else(|| vec![form.clone()]);
        for form in forms {
            properties(&form, &below, found);
            properties(form.get("items").unwrap_or(&Value::Null), &below, found);
        }
    }
}

#[test]
fn the_committed_schema_is_the_printed_one() {
    let committed = std::fs::read_to_string(root().join("proxy.schema.json")).unwrap_or_default();
    assert!(committed == Config::schema(), "write it anew: pgpassport check --schema > proxy.schema.json");
    assert!(schema().1.is_empty(), "the samples are read without a problem: {:?}", schema().1);
    assert!(REFERENCE.starts_with("#:schema ./proxy.schema.json\n"), "editors look for it there");
}

/// The reference names every key (another test insists), so that no key is missing in the schema.
#[test]
fn the_reference_with_every_default_written_out_is_valid() {
    judge(REFERENCE).unwrap();
    let mut table = String::new();
    let mut seen = 0;
    for line in REFERENCE.lines() {
        if line.starts_with('[') {
            line.trim_matches(['[', ']']).clone_into(&mut table);
        }
        let content = line.trim_start_matches("# ");
        let Some((key, value)) = content.split_once(" = ") else { continue };
        if !key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') || content.starts_with("  ") {
            continue;
        }
        let value: toml::Table = format!("x = {value}").parse().unwrap_or_else(|e| panic!("{line}: {e}"));
        let path: Vec<_> = table.split('.').chain([key]).collect();
        let form = path.iter().fold(schema().0, |schema, name| {
            let form = &schema["properties"][*name];
            let items = |form: &Value| form.get("items").cloned().unwrap_or_else(|| form.clone());
            match form.get("anyOf") {
                Some(forms) if *name != key => items(&forms[0]),
                _ if *name != key => items(form),
                _ => form.clone(),
            }
        });
        assert!(form.is_object(), "{path:?} is not in the schema");
        check(&form, &serde_json::to_value(&value["x"]).unwrap(), &path.join(".")).unwrap();
        seen += 1;
    }
    assert!(seen > 80, "{seen} keys");
}

#[test]
fn every_key_has_a_description_and_times_have_limits() {
    let mut found = Vec::new();
    properties(&schema().0, "", &mut found);
    assert!(found.len() > 100, "{} keys", found.len());
    for (path, form) in found {
        let sections = [".limits", ".admin", ".log", ".audit", ".cancel", ".listen", ".reload"];
        let described = form["description"].as_str().is_some_and(|text| text.len() > 10);
        assert!(described || sections.contains(&path.as_str()), "{path}: {form}");
        if form["pattern"].is_string() {
            assert!(form["description"].as_str().unwrap().contains("From "), "{path}: {form}");
        }
    }
}

#[test]
fn every_configuration_of_the_documents_and_examples_is_valid() {
    let mut seen = 0;
    let mut folders: Vec<PathBuf> =
        ["docs", "examples", "tests/config/valid"].map(|it| root().join(it)).into();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            let is = |extension: &str| Path::new(&path).extension().is_some_and(|it| it == extension);
            if path.is_dir() {
                folders.push(path);
            } else if is("toml") || is("md") {
                let text = std::fs::read_to_string(&path).unwrap();
                // A fence inside a list is indented.
                let block =
                    |rest: &str| rest.split_inclusive('\n').take_while(|line| line.trim() != "```").collect();
                let blocks: Vec<String> = if is("toml") {
                    vec![text]
                } else {
                    text.split("```toml\n").skip(1).map(block).collect()
                };
                // A block without [listen] or [[issuer]] is shown without it; what is for another program has no [[cluster]].
                for block in blocks.into_iter().filter(|block| block.contains("[[cluster]]")) {
                    let listen = if block.contains("[listen") {
                        ""
                    } else {
                        "[listen]\ntls_cert_file = \"a\"\ntls_key_file = \"b\"\n"
                    };
                    let issuer = if block.contains("[[issuer]]") {
                        ""
                    } else {
                        "[[issuer]]\nname = \"idp\"\nurl = \"https://idp.example\"\naudience = \"db\"\n"
                    };
                    judge(&format!("{listen}{block}{issuer}"))
                        .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
                    seen += 1;
                }
            }
        }
    }
    assert!(seen >= 16, "{seen} configurations");
}

#[test]
fn what_the_reader_refuses_by_form_the_schema_refuses_too() {
    for (there, wrong) in [
        ("[limits]\n", "[limits]\nmax_clients = 5\n"),
        ("[limits]\n", "[limits]\nmax_client_conn = 1\n"),
        ("[limits]\n", "[limits]\nlogin_timeout = 60\n"),
        ("[limits]\n", "[limits]\nlogin_timeout = \"soon\"\n"),
        ("[log]\n", "[log]\nlevel = \"loud\"\n"),
        ("name = \"okta\"", "names = \"okta\""),
        ("name = \"okta\"", "name = \"okta\"\nalgorithms = [\"HS256\"]"),
        ("name = \"okta\"", "name = \"okta\"\nrequire = [{ any = [\"x\"] }]"),
        ("audience = [\"api://aurora\"]", ""),
        ("[[cluster]]\n", "[cluster]\n"),
        ("[admin]\n", "[admin]\naddr = 9127\n"),
    ] {
        assert!(REFERENCE.contains(there), "{there}");
        let text = REFERENCE.replacen(&format!("\n{there}"), &format!("\n{wrong}"), 1);
        assert!(Config::from_toml(&text, "proxy.toml").is_err(), "{wrong}");
        assert!(judge(&text).is_err(), "{wrong}");
    }
}
