//! The manual as a book: `docs/SUMMARY.md` lists every page once. `make book` builds it and checks the links of its HTML.

use std::fs;
use std::path::PathBuf;

use regex::Regex;

use super::{pages, root};

#[test]
fn the_summary_lists_every_page_once() {
    let docs = root().join("docs");
    let summary = fs::read_to_string(docs.join("SUMMARY.md")).unwrap();
    let link = Regex::new(r"\]\(([^)]+)\)").unwrap();
    let mut listed: Vec<PathBuf> =
        link.captures_iter(&summary).map(|found| docs.join(&found[1]).canonicalize().unwrap()).collect();
    let mut wanted: Vec<PathBuf> =
        pages().into_iter().map(|(path, _)| path.canonicalize().unwrap()).collect();
    wanted.retain(|path| !path.ends_with("docs/SUMMARY.md"));
    listed.sort();
    wanted.sort();
    for page in &wanted {
        assert!(listed.contains(page), "docs/SUMMARY.md lacks {}", page.display());
    }
    assert_eq!(listed, wanted, "listed twice, or no page of the manual");
}

/// From what it is to the changelog: a reader who follows the book needs nothing from a later chapter.
#[test]
fn the_chapters_are_in_the_order_of_their_readers() {
    let summary = fs::read_to_string(root().join("docs/SUMMARY.md")).unwrap();
    let place = |page: &str| {
        summary.find(&format!("]({page})")).unwrap_or_else(|| panic!("docs/SUMMARY.md lacks {page}"))
    };
    let order = [
        "../README.md",
        "first-hour.md",
        "aws-setup.md",
        "issuers.md",
        "configuration.md",
        "for-users/README.md",
        "operations.md",
        "failures.md",
        "upgrades.md",
        "kubernetes.md",
        "ecs.md",
        "systemd.md",
        "audit.md",
        "troubleshooting.md",
        "migration.md",
        "../SECURITY.md",
        "threat-model.md",
        "architecture.md",
        "../CHANGELOG.md",
    ];
    for pair in order.windows(2) {
        assert!(place(pair[0]) < place(pair[1]), "{} before {}", pair[0], pair[1]);
    }
}
