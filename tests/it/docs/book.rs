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
