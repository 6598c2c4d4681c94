//! `docs/failures.md`: its log lines are those of the program, its metrics exist, and its promises have tests.

use std::fs;

use regex::Regex;

use super::{files, root};

/// All sources below a folder, each with single spaces, so that a text is found across lines.
fn sources(folder: &str) -> String {
    let text = files(&root().join(folder), ".rs").into_iter().map(|path| fs::read_to_string(path).unwrap());
    text.collect::<Vec<_>>().join("\n").split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn the_log_lines_and_metrics_of_failures_exist() {
    let page = fs::read_to_string(root().join("docs/failures.md")).unwrap();
    let manual = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let promises = fs::read_to_string(root().join("docs/requirements.md")).unwrap();
    let (src, tests) = (sources("src"), sources("tests/it"));
    let code = Regex::new("`([^`]+)`").unwrap();
    let promise = Regex::new(r"\b[A-Z]\d+\b").unwrap();
    let sections: Vec<_> = page.split("\n## ").skip(1).collect();
    assert!(sections.len() >= 15, "{} failures", sections.len());
    for section in sections {
        let name = section.lines().next().unwrap();
        // Points with their continued lines.
        let points = section.replace("\n  ", " ");
        let point = |label: &str| {
            let line = points.lines().find(|line| line.starts_with(&format!("- **{label}**")));
            line.map(|line| line.split_once(": ").unwrap().1.to_owned())
        };
        let named = |label: &str| -> Vec<String> {
            let text = point(label).unwrap_or_else(|| panic!("{name}: no {label}"));
            code.captures_iter(&text).map(|found| found[1].to_owned()).collect()
        };
        for line in named("Log").iter().filter(|line| line.contains(' ') && !line.contains('…')) {
            assert!(src.contains(line.as_str()), "{name}: no log line says: {line}");
        }
        let metrics = named("Metrics");
        assert!(!metrics.is_empty(), "{name}");
        for metric in metrics {
            let (metric, label) = metric.split_once('{').unwrap_or((metric.as_str(), ""));
            let row =
                manual.lines().find(|line| line.starts_with("| ") && line.contains(&format!("`{metric}`")));
            let known = row.is_some() || metric.starts_with("pgpassport_key_set_");
            assert!(known, "{name}: docs/operations.md has no {metric}");
            if let Some((_, value)) = label.trim_end_matches('}').split_once('=') {
                assert!(src.contains(value), "{name}: nothing has the label {label}");
            }
        }
        assert!(point("Ends").is_some(), "{name}");
        if let Some(codes) = point("Promises") {
            for code in promise.find_iter(&codes) {
                assert!(promises.contains(&format!("\n| {} |", code.as_str())), "{name}: {}", code.as_str());
            }
        } else {
            for test in named("Tests") {
                assert!(tests.contains(&format!("fn {test}(")), "{name}: {test}");
            }
        }
    }
}
