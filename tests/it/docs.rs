//! Commands and texts of the pages: every command line is one of the binary, every configuration a
//! good one, every snippet for an identity provider the one that `pgpassport policy` prints.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use aws_emulator::Ca;
use clap::Parser;
use pgpassport::cli::Cli;
use pgpassport::commands::policy::IdentityProvider;
use pgpassport::config::Config;
use pgpassport::config::client::ClientConfig;
use regex::Regex;

mod book;
mod commands;
mod configuration;
mod failures;
mod troubleshooting;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Files below `folder` whose names end with `ending`, in order.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, ending));
        } else if path.to_str().unwrap().ends_with(ending) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Every page, with its text.
fn pages() -> Vec<(PathBuf, String)> {
    let mut pages: Vec<_> =
        ["README.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(|name| root().join(name)).into();
    for folder in ["docs", "examples", "certs", "fuzz"] {
        let below = files(&root().join(folder), ".md");
        pages.extend(below.into_iter().filter(|path| !path.to_str().unwrap().contains("/fuzz/target/")));
    }
    assert!(pages.len() > 25, "only {} pages", pages.len());
    pages.into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

/// The code blocks in a language.
pub(crate) fn blocks(page: &str, language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if line.trim() == format!("```{language}") {
            let body: Vec<_> = lines.by_ref().take_while(|line| line.trim() != "```").collect();
            blocks.push(body.join("\n"));
        }
    }
    blocks
}

/// The words of a command, up to a comment, a pipe or a redirection.
fn words(line: &str) -> Vec<String> {
    let plain = line.split_whitespace().take_while(|word| !["#", "|", ">", "<"].contains(word));
    plain.map(|word| word.trim_matches(['\'', '"']).to_owned()).collect()
}

#[test]
fn every_command_line_is_understood() {
    let mut seen = 0;
    for (path, page) in pages() {
        let mut mine = Vec::new();
        for block in blocks(&page, "sh") {
            for line in block.replace("\\\n", " ").lines() {
                let line = line.trim_start();
                if line.starts_with("pgpassport ") {
                    let parsed = Cli::try_parse_from(words(line));
                    assert!(parsed.is_ok(), "{}: {line}: {}", path.display(), parsed.unwrap_err());
                    mine.push(line.to_owned());
                }
            }
        }
        seen += mine.len();
        let setup = path.ends_with("docs/aws-setup.md") || path.parent().unwrap().ends_with("docs/idp");
        let last_is_doctor = mine.last().is_some_and(|line| line.starts_with("pgpassport doctor "));
        assert!(!setup || last_is_doctor, "{} does not end with a doctor run", path.display());
    }
    assert!(seen > 20, "{seen} command lines");
    assert!(Cli::try_parse_from(words("pgpassport doctor --what")).is_err());
}

/// Every claim that names a database user is one that `docs/access.md` calls safe at this kind of issuer, or an own one.
pub(crate) fn users_are_named_safely(config: &Config, path: &Path) {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/access.md")).unwrap();
    let table = page.split("## Which claim names a person").nth(1).unwrap().split("\n## ").next().unwrap();
    for issuer in &config.issuers {
        let idp = match IdentityProvider::of(&issuer.issuer) {
            IdentityProvider::Other => "others",
            known => known.label(),
        };
        let row = table.lines().find(|line| line.starts_with(&format!("| {idp} |")));
        let safe = row.unwrap_or_else(|| panic!("no row for {idp}")).split('|').nth(2).unwrap();
        let theirs = config.clusters.iter().filter(|cluster| cluster.admits(issuer));
        for rule in theirs.filter_map(|cluster| cluster.user.of(&issuer.name)) {
            let claim = rule.claim_for(issuer.user_claim.as_deref()).join(".");
            let known = safe.contains(&format!("`{claim}`")) || claim.contains("://");
            assert!(known, "{}: {idp} and claim {claim}", path.display());
            let verified = issuer.require.iter().any(|rule| rule.claim == ["email_verified"]);
            assert!(claim != "email" || verified, "{}: anybody's e-mail address", path.display());
        }
    }
}

const LISTEN: &str = "[listen]\ntls_cert_file = \"a\"\ntls_key_file = \"b\"\n";
const ISSUER: &str =
    "[[issuer]]\nname = \"okta\"\nurl = \"https://acme.okta.com/oauth2/default\"\naudience = \"a\"\n";
const CLUSTER: &str = "[[cluster]]\nname = \"orders\"\nendpoint = \"o.cluster-c1a2b3c4d5e6.eu-central-1.rds.amazonaws.com\"\n\
    region = \"eu-central-1\"\nrole_arn = \"arn:aws:iam::123456789012:role/orders\"\nca_file = \"c\"\n";

/// A block with the tables that it leaves out. Keys before the first table belong to `[listen]`.
fn completed(block: &str) -> String {
    let lines = block.lines().map(str::trim);
    let in_table =
        lines.into_iter().find(|line| !line.is_empty() && !line.starts_with('#')).unwrap().starts_with('[');
    let has = |table: &str| block.lines().any(|line| line.trim_start().starts_with(table));
    let part = |tables: &[&str], text| if tables.iter().any(|table| has(table)) { "" } else { text };
    let listen = part(&["[listen]", "[[listen]]"], LISTEN);
    let (issuer, cluster) = (part(&["[[issuer]]"], ISSUER), part(&["[[cluster]]"], CLUSTER));
    if in_table {
        format!("{listen}{issuer}{cluster}{block}")
    } else {
        format!("{issuer}{cluster}{listen}{block}")
    }
}

#[test]
fn every_configuration_is_valid() {
    let mut seen = 0;
    for (path, page) in pages() {
        for block in blocks(&page, "toml") {
            if block.lines().any(|line| line.trim() == "[[profile]]") {
                ClientConfig::from_toml(&block, &path).unwrap_or_else(|problems| panic!("{problems}"));
                continue;
            }
            let config =
                Config::from_toml(&completed(&block), &path).unwrap_or_else(|problems| panic!("{problems}"));
            assert!(config.warnings.is_empty(), "{}: {:?}", path.display(), config.warnings);
            users_are_named_safely(&config, &path);
            seen += 1;
        }
        assert_eq!(page.matches("```").count() % 2, 0, "{}: a code block does not end", path.display());
    }
    assert!(seen >= 19, "{seen} configurations");
}

#[test]
fn every_json_block_is_json() {
    let mut seen = 0;
    for (path, page) in pages() {
        for block in blocks(&page, "json") {
            let values = serde_json::Deserializer::from_str(&block).into_iter::<serde_json::Value>();
            let values = values.collect::<Result<Vec<_>, _>>();
            assert!(values.is_ok_and(|values| !values.is_empty()), "{}: {block}", path.display());
            seen += 1;
        }
    }
    assert!(seen >= 3, "{seen} blocks");
}

/// Anchors of a page's headings, as GitHub makes them.
fn anchors(page: &str) -> Vec<String> {
    let (mut found, mut in_code) = (Vec::new(), false);
    for line in page.lines() {
        in_code ^= line.trim_start().starts_with("```");
        if let Some(heading) = line.strip_prefix('#').filter(|_| !in_code) {
            let heading = heading.trim_start_matches('#').trim().to_lowercase();
            let kept = heading.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
            found.push(kept.map(|c| if c == ' ' { '-' } else { c }).collect());
        }
    }
    found
}

/// Panics unless the file exists and, where an anchor is named, has a heading of that name.
fn link_is_good(from: &Path, file: &Path, anchor: &str) {
    assert!(file.exists(), "{}: there is no {}", from.display(), file.display());
    if !anchor.is_empty() {
        let page = fs::read_to_string(file).unwrap();
        assert!(
            anchors(&page).iter().any(|one| one == anchor),
            "{}: {} has no #{anchor}",
            from.display(),
            file.display()
        );
    }
}

#[test]
fn every_link_leads_to_a_page_and_a_heading() {
    let (link, mut seen) = (Regex::new(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)").unwrap(), 0);
    for (path, page) in pages() {
        for found in link.captures_iter(&page).filter(|found| !found[1].contains("://")) {
            let file =
                if found[1].is_empty() { path.clone() } else { path.parent().unwrap().join(&found[1]) };
            link_is_good(&path, &file, found.get(2).map_or("", |anchor| anchor.as_str()));
            seen += 1;
        }
    }
    assert!(seen > 60, "{seen} links");
}

#[test]
fn every_page_that_texts_name_exists() {
    let (name, mut seen) = (Regex::new(r"\b(docs/[a-z0-9/-]+\.md)(?:#([a-z0-9-]+))?").unwrap(), 0);
    let mut texts = files(&root().join("src"), ".rs");
    for (folder, ending) in [("examples", ".toml"), ("packaging", ""), ("docs", ".md")] {
        texts.extend(files(&root().join(folder), ending));
    }
    texts.extend(
        ["proxy.toml", "Dockerfile", "CHANGELOG.md", "CONTRIBUTING.md"].map(|name| root().join(name)),
    );
    for path in texts {
        let text = fs::read_to_string(&path).unwrap();
        for found in name.captures_iter(&text) {
            link_is_good(&path, &root().join(&found[1]), found.get(2).map_or("", |anchor| anchor.as_str()));
            seen += 1;
        }
    }
    assert!(seen > 15, "{seen} names");
}

#[test]
fn every_snippet_is_the_printed_one() {
    let claims = |idp| match idp {
        IdentityProvider::Auth0 => vec!["https://acme.com/db_user".to_owned()],
        IdentityProvider::Entra => vec!["oid".to_owned()],
        _ => vec!["preferred_username".to_owned()],
    };
    let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    for (idp, name) in [
        (IdentityProvider::Okta, "okta"),
        (IdentityProvider::Entra, "entra"),
        (IdentityProvider::Keycloak, "keycloak"),
        (IdentityProvider::Auth0, "auth0"),
        (IdentityProvider::Cognito, "cognito"),
        (IdentityProvider::Kubernetes, "kubernetes"),
        (IdentityProvider::Github, "github"),
        (IdentityProvider::Gitlab, "gitlab"),
    ] {
        let recipe = idp.recipe(name, &claims(idp), true);
        assert_eq!(recipe.page, Some(format!("{name}.md").as_str()));
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("docs/idp/{name}.md"));
        let page = squeezed(&fs::read_to_string(path).unwrap());
        let snippet = squeezed(&recipe.snippet.unwrap());
        assert!(page.contains(&snippet), "docs/idp/{name}.md does not hold what is printed:\n{snippet}");
    }
}

/// The setup page's configuration, in a folder of its own with the files that it names.
fn set_up(page: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let own = format!("{}/", folder.path().display());
    let toml = blocks(page, "toml").remove(0).replace("/etc/pgpassport/", &own);
    fs::write(folder.path().join("proxy.toml"), toml).unwrap();
    let ca = Ca::new().unwrap();
    ca.server(&["db.acme.com"]).unwrap().write(folder.path(), "server").unwrap();
    fs::write(folder.path().join("rds-global-bundle.pem"), ca.pem()).unwrap();
    folder
}

/// Output of the commands of the setup page: `<!-- printed -->` stands in front of the text that the command before it
/// prints, `<!-- printed by: … -->` names another one. A line of an ellipsis stands for any lines.
#[test]
fn the_setup_page_shows_the_printed_documents() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/aws-setup.md")).unwrap();
    let folder = set_up(&page);
    let parts: Vec<_> = page.split("<!-- printed").collect();
    for pair in parts.windows(2) {
        let (named, shown) = pair[1].split_once("-->\n```\n").unwrap();
        let command = named.trim().strip_prefix("by: ").map_or_else(
            || blocks(pair[0], "sh").pop().unwrap().lines().last().unwrap().to_owned(),
            str::to_owned,
        );
        let shown = shown.split_once("\n```").unwrap().0;
        let output = Command::new(env!("CARGO_BIN_EXE_pgpassport"))
            .args(words(&command).split_off(1))
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{command}: {output:?}");
        let printed = String::from_utf8(output.stdout).unwrap();
        let mut rest = printed.trim_end();
        for piece in shown.split("\n…\n") {
            let at = rest
                .find(piece)
                .unwrap_or_else(|| panic!("{command} does not print\n{piece}\nin\n{printed}"));
            assert!(
                at == 0 || rest.len() < printed.trim_end().len(),
                "{command} begins otherwise:\n{printed}"
            );
            rest = &rest[at + piece.len()..];
        }
        assert_eq!(rest, "", "{command} prints more");
    }
    assert_eq!(parts.len(), 3, "two outputs");
}

/// Whatever is to be typed is good syntax of a POSIX shell.
#[test]
fn every_command_is_good_shell() {
    let mut seen = 0;
    for (path, page) in pages() {
        for block in blocks(&page, "sh") {
            // Names in angle brackets are for the reader to fill in.
            let filled = block.replace(['<', '>'], "");
            let script =
                if block.contains("<id>") || block.contains("<ARN>") { filled } else { block.clone() };
            let checked = Command::new("sh").args(["-n", "-c", &script]).output().unwrap();
            assert!(checked.status.success(), "{}: {block}: {checked:?}", path.display());
            seen += 1;
        }
    }
    assert!(seen > 20, "{seen} blocks");
}
