//! Every rule for the database user with the text that a person gets who does not fit it: what `docs/access.md` shows.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::json;

use crate::world::World;

/// Rules, a claim that does not fit them, and the rule in words.
fn cases() -> Vec<(&'static str, &'static str, serde_json::Value, &'static str)> {
    let email = "claim = \"email\"\nregex = '([^@]+)@acme\\.com'";
    let part = "claim = \"email\"\nregex = '(?:(x)|.*)@acme\\.com'";
    let plain = "claim = \"email\"";
    let lower = "claim = \"email\"\nlowercase = true";
    vec![
        ("the claim is there", plain, json!(null), ""),
        ("it is a text", plain, json!(["alice"]), ""),
        ("`regex` fits all of it", email, json!("alice@evil.com"), ""),
        ("its group holds something", part, json!("alice@acme.com"), ""),
        ("`lowercase` is for ASCII", lower, json!("J\u{d6}RG"), ""),
        ("at most 63 bytes", plain, json!("x".repeat(64)), ""),
        ("not empty, not only spaces", plain, json!("  "), ""),
        ("no control characters", plain, json!("al\nice"), ""),
        ("no characters that cannot be seen", plain, json!("al\u{200b}ice"), ""),
        ("composed as Unicode's NFC", plain, json!("re\u{301}ne"), ""),
        ("no wildcards of IAM", plain, json!("al*ce"), ""),
        ("no administrator of the database", plain, json!("rdsadmin"), ""),
        ("`denied`", "claim = \"email\"\ndenied = [\"master\"]", json!("master"), ""),
        ("the user of the connection string is it", plain, json!("bob"), "alice"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_rule_has_its_refusal_in_the_docs() {
    let mut table = "| rule | DETAIL | HINT |\n| --- | --- | --- |\n".to_owned();
    for (rule, keys, claim, asked) in cases() {
        let ignore = if asked.is_empty() { "\nstartup_user = \"ignore\"" } else { "" };
        let world = World::builder().user(&format!("{keys}{ignore}")).start().await;
        let claims = world.claims("alice");
        let claims = if claim.is_null() { claims.without("email") } else { claims.set("email", claim) };
        let refusal = world.refusal(if asked.is_empty() { "x" } else { asked }, &world.mint(claims)).await;
        assert_eq!((refusal.sqlstate(), world.cloud.sts.count()), ("28P01", 0), "{rule}: {refusal:?}");
        let detail = refusal.detail();
        let detail = detail.strip_prefix("Stage authorization: ").unwrap();
        writeln!(table, "| {rule} | {detail} | {} |", refusal.hint()).unwrap();
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/access.md");
    let page = fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once("<!-- refusals -->\n").unwrap();
    let (kept, after) = rest.split_once("<!-- end of refusals -->").unwrap();
    if std::env::var_os("WRITE_DOCS").is_some() {
        fs::write(&path, format!("{before}<!-- refusals -->\n{table}<!-- end of refusals -->{after}"))
            .unwrap();
    } else {
        assert_eq!(kept, table, "docs/access.md is stale: run this test with WRITE_DOCS=1");
    }
}
