//! The pages that name tests: each code in a test name has a promise in `docs/requirements.md`, each promise there and
//! each attack in `docs/threat-model.md` has tests, and each named test exists.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::architecture::{root, rust_files};

fn page(name: &str) -> String {
    fs::read_to_string(root().join("docs").join(name)).unwrap()
}

/// Names of the test functions in a source file: the first `fn` after each test attribute.
fn tests_of(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut lines = source.lines();
    while let Some(line) = lines.next() {
        let line = line.trim_start();
        if !(line.starts_with("#[test") || line.starts_with("#[tokio::test")) {
            continue;
        }
        let name = lines.by_ref().find_map(|line| line.split_once("fn ")).unwrap().1;
        found.push(name.split('(').next().unwrap().to_owned());
    }
    found
}

/// Names of all test functions of the repository.
fn all_tests() -> BTreeSet<String> {
    let files = rust_files(&["src", "tests", "benches"]);
    let found: BTreeSet<_> =
        files.iter().flat_map(|path| tests_of(&fs::read_to_string(path).unwrap())).collect();
    assert!(found.len() > 500, "only {} tests found", found.len());
    found
}

/// The codes at the beginning of a test name: `j13` and `r24` of `j13_r24_one_call`.
fn codes(test: &str) -> Vec<&str> {
    let is_code = |word: &&str| {
        let digits = word.strip_prefix(|c: char| c.is_ascii_lowercase()).unwrap_or_default();
        (1..=2).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit())
    };
    test.split('_').take_while(is_code).collect()
}

/// Rows of the tables whose last cell names tests: first cell, and the names.
fn rows(page: &str) -> Vec<(String, Vec<String>)> {
    let cells = |line: &str| line.trim_matches('|').split(" | ").map(str::to_owned).collect::<Vec<_>>();
    let rows = page.lines().filter(|line| line.starts_with("| ") && !line.ends_with("| tests |")).map(cells);
    rows.map(|row| {
        assert_eq!(row.len(), 3, "{row:?}");
        let names = row[2].split('`').skip(1).step_by(2).map(str::to_owned).collect();
        (row[0].trim().to_owned(), names)
    })
    .collect()
}

#[test]
fn tests_and_codes_are_found() {
    let source = "#[test]\nfn a() {}\n  #[tokio::test(flavor = \"x\")]\n  #[ignore]\n  async fn b(x: u8) {}\nfn c() {}";
    assert_eq!(tests_of(source), ["a", "b"]);
    assert_eq!(codes("j13_r24_one_call_for_a_1000"), ["j13", "r24"]);
    assert!(codes("a_page").is_empty() && codes("es256_tokens").is_empty() && codes("r123_x").is_empty());
}

#[test]
fn each_code_in_a_test_name_is_a_promise_and_each_promise_has_tests() {
    let tests = all_tests();
    let mut promised = BTreeMap::new();
    for (first, named) in rows(&page("requirements.md")) {
        assert!(!named.is_empty(), "{first} names no test");
        for test in &named {
            assert!(tests.contains(test), "{first}: there is no test {test}");
        }
        let code = first.to_ascii_lowercase();
        if codes(&code) == [code.as_str()] {
            for test in &named {
                assert!(codes(test).contains(&code.as_str()), "{first}: {test} does not bear this code");
            }
            assert!(promised.insert(code, named).is_none(), "{first} has two rows");
        }
    }
    assert!(promised.len() > 70, "only {} codes", promised.len());
    for test in &tests {
        for code in codes(test) {
            assert!(promised.contains_key(code), "{test}: docs/requirements.md has no row {code}");
        }
    }
}

#[test]
fn each_attack_is_excluded_by_tests_that_exist() {
    let tests = all_tests();
    let attacks = rows(&page("threat-model.md"));
    assert!(attacks.len() > 35, "only {} attacks", attacks.len());
    for (attack, named) in attacks {
        assert!(!named.is_empty(), "{attack}: no test");
        for test in &named {
            assert!(tests.contains(test), "{attack}: there is no test {test}");
        }
    }
}
