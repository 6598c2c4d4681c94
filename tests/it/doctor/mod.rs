//! `pgpassport doctor`: a good chain is good, and for every fault that the stand-ins can show the right link is blamed,
//! in the words of `docs/doctor.md`.

mod faults;
mod issuer;
mod mysql;
mod preflight;
mod session;
mod sts;
mod token_file;
mod tokens;
mod upstream;

use std::fs;
use std::path::Path;
use std::pin::Pin;
use std::process::Stdio;
use std::time::Duration;

use aws_emulator::sts::StsFault;
use aws_emulator::{GateFault, HttpFault, SourceIp};
use futures_util::{StreamExt, stream};
use pgpassport::clock::Clock;
use pgpassport::commands::doctor::{
    ChainLink, DoctorReport, DoctorRequest, Finding, LinkState, OutputStyle, examine, json, text,
};
use pgpassport::config::Config;
use pgpassport::secret::Jwt;
use tokio::io::AsyncWriteExt;

use self::faults::times;
use crate::world::second::{NO_SERVER, second_cluster};
use crate::world::{World, database};

/// Options of a run.
pub(crate) struct DoctorRun<'a> {
    /// The token; none for a preflight.
    token: Option<&'a str>,
    database: Option<&'a str>,
    cluster: Option<&'a str>,
    clock: Clock,
    /// Time limit of each answer of the database.
    patience: Duration,
    /// Duration from which a call to STS counts as slow.
    sts_slow: Duration,
    /// Changes the configuration file's text.
    change: Box<dyn Fn(String) -> String + Send + 'a>,
}

impl<'a> DoctorRun<'a> {
    pub(crate) fn with(token: &'a str) -> Self {
        Self { token: Some(token), ..Self::preflight() }
    }

    pub(crate) fn preflight() -> Self {
        Self {
            token: None,
            database: Some("app"),
            cluster: None,
            clock: Clock::system(),
            patience: Duration::from_secs(20),
            sts_slow: Duration::from_mins(1),
            change: Box::new(|text| text),
        }
    }

    pub(crate) fn changing(mut self, change: impl Fn(String) -> String + Send + 'a) -> Self {
        self.change = Box::new(change);
        self
    }

    /// Examines; everything that is printed is searched for secrets when the world ends.
    pub(crate) async fn examine(self, world: &World) -> Vec<Finding> {
        let toml = (self.change)(fs::read_to_string(world.config_file()).unwrap());
        let config =
            Config::from_toml(&toml, world.config_file()).unwrap_or_else(|problems| panic!("{problems}"));
        let question = DoctorRequest {
            cluster: self.cluster.map(str::to_owned),
            database: self.database.map(str::to_owned),
            sts_times: times(),
            sts_slow: self.sts_slow,
            patience: self.patience,
            ..match self.token {
                Some(token) => DoctorRequest::new(Jwt::new(token.as_bytes().to_vec())),
                None => DoctorRequest::preflight(),
            }
        };
        let mut told = Vec::new();
        let mut tell = |finding: &Finding| told.push(finding.clone());
        let mut report = DoctorReport::new(&mut tell);
        examine(config, question, &self.clock, &mut report).await;
        let (findings, well) = (report.findings().to_vec(), report.all_well());
        drop(report);
        assert_eq!(told.len(), findings.len(), "each is told at once");
        assert_eq!(well, findings.iter().all(|one| matches!(one.state, LinkState::Ok | LinkState::Warning)));
        for finding in &findings {
            world.hear(text(finding, OutputStyle::Coloured).as_bytes());
            world.hear(json(finding).as_bytes());
            assert_no_debug_words(&json(finding));
        }
        findings
    }
}

/// No text is the Debug form of a value.
fn assert_no_debug_words(text: &str) {
    let words = [
        "Rs256", "Rs384", "Rs512", "Es256", "Es384", "Es512", "TLSv1_", "Some(", "None)", "Error {", " { ",
        "\\\\\"",
    ];
    for word in words {
        assert!(!text.contains(word), "{word}: {text}");
    }
}

/// Every link is there, in its order, however the run went.
pub(crate) fn assert_complete(findings: &[Finding]) {
    let mut links: Vec<ChainLink> = findings.iter().map(|finding| finding.link).collect();
    links.dedup();
    assert_eq!(links, ChainLink::ALL, "{findings:#?}");
}

fn found<'f>(findings: &'f [Finding], link: &str) -> &'f Finding {
    findings.iter().find(|finding| finding.link.id() == link).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_chain_is_good_in_every_link() {
    let world = World::start().await;
    let token = world.token("alice");
    let findings = DoctorRun::with(&token).examine(&world).await;
    assert_complete(&findings);
    for finding in &findings {
        assert_eq!(finding.state, LinkState::Ok, "{findings:#?}");
    }
    for (link, words) in [
        (ChainLink::ListenerCertificate, "localhost, 127.0.0.1"),
        (ChainLink::Token, "RS256"),
        (ChainLink::StsAudience, "no azp, so STS compares aud: \"pgpassport\""),
        (ChainLink::DatabaseUser, "\"alice\", from claim \"sub\""),
        (ChainLink::Sts, "alice-"),
        (ChainLink::IamToken, aws_emulator::names::ENDPOINT),
        (ChainLink::IamToken, " bytes, signed for "),
        (ChainLink::Tls, aws_emulator::names::ENDPOINT_HOST),
        (ChainLink::CurrentUser, "\"alice\""),
        (ChainLink::RdsIam, "a member"),
        (ChainLink::Writer, "a writer"),
    ] {
        assert!(found(&findings, link.id()).found.contains(words), "{words}: {findings:#?}");
    }
    assert_eq!(world.cloud.sts.count(), 1, "one call");
    let logins = database().gate.decisions_for("alice");
    assert!(logins.last().unwrap().accepted());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_login_serves_all_checks_of_the_database() {
    let sql = "CREATE ROLE once LOGIN IN ROLE rds_iam";
    tokio::task::spawn_blocking(move || database().postgres.sql(sql)).await.unwrap();
    let world = World::start().await;
    let token = world.token("once");
    let findings = DoctorRun::with(&token).examine(&world).await;
    assert!(findings.iter().all(|finding| finding.state == LinkState::Ok), "{findings:#?}");
    assert_eq!(database().gate.decisions_for("once").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_clusters_need_a_name_and_a_name_is_enough() {
    let second = second_cluster(NO_SERVER, "databases = [\"other\"]");
    let world = World::builder().cluster("databases = [\"app\"]").user(&second).start().await;
    let token = world.token("alice");
    for run in [DoctorRun::with(&token), DoctorRun { cluster: Some("app"), ..DoctorRun::with(&token) }] {
        let findings = run.examine(&world).await;
        assert!(findings.iter().all(|finding| finding.state == LinkState::Ok), "{findings:#?}");
    }
    for run in [
        DoctorRun { database: None, ..DoctorRun::with(&token) },
        DoctorRun { database: Some("elsewhere"), ..DoctorRun::with(&token) },
        DoctorRun { cluster: Some("nowhere"), ..DoctorRun::with(&token) },
    ] {
        let findings = run.examine(&world).await;
        assert_complete(&findings);
        let finding = found(&findings, "cluster");
        assert_eq!(finding.state, LinkState::Failed);
        assert_eq!(finding.remedy.as_deref(), Some("Name one with --cluster: app, other."));
    }
}

struct DoctorOutput {
    code: i32,
    out: String,
    err: String,
}

async fn binary(world: &World, args: &[&str], token: &str) -> DoctorOutput {
    let mut child = tokio::process::Command::new(env!("CARGO_BIN_EXE_pgpassport"))
        .args(["doctor", "--token-file", "-", "--config"])
        .arg(world.config_file())
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let _ = stdin.write_all(format!("{token}\n").as_bytes()).await; // it may have ended before
    drop(stdin);
    let output = child.wait_with_output().await.unwrap();
    world.hear(&output.stdout);
    world.hear(&output.stderr);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    DoctorOutput { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_exit_code_and_the_pipe_are_for_scripts() {
    let world = World::start().await;
    let good = binary(&world, &["--database", "app"], &world.token("alice")).await;
    assert_eq!(good.code, 0, "{}{}", good.out, good.err);
    assert!(good.out.starts_with("ok    config") && !good.out.contains('\u{1b}'), "{}", good.out);
    assert!(good.out.lines().all(|line| line.starts_with("ok  ")), "{}", good.out);
    let lines = binary(&world, &["--database", "app", "--json"], &world.token("alice")).await;
    let ids: Vec<_> = lines
        .out
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|line| (line["link"].as_str().unwrap().to_owned(), line["state"] == "ok"))
        .collect();
    assert_eq!(ids.len(), ChainLink::ALL.len());
    assert!(ids.iter().zip(ChainLink::ALL).all(|((id, ok), link)| *ok && id == link.id()), "{ids:?}");

    let bad = binary(&world, &["--database", "nowhere"], &world.token("alice")).await;
    assert_eq!(bad.code, 1);
    assert!(bad.out.contains("FAIL  login") && bad.out.contains("      remedy   "), "{}", bad.out);
    fs::write(world.config_file(), "[listen]\nwhat = 1").unwrap();
    assert_eq!(binary(&world, &[], &world.token("alice")).await.code, 78);
}

#[test]
fn colors_are_for_terminals_without_no_color() {
    assert_eq!(OutputStyle::of(true, None), OutputStyle::Coloured);
    assert_eq!(OutputStyle::of(true, Some("")), OutputStyle::Coloured);
    assert_eq!(OutputStyle::of(true, Some("1")), OutputStyle::Plain);
    assert_eq!(OutputStyle::of(false, None), OutputStyle::Plain);
}

/// The table between the two marks of `docs/doctor.md`.
#[tokio::test(flavor = "multi_thread")]
async fn every_fault_blames_its_link_in_the_words_of_the_docs() {
    // Some at the same time, since many rows wait for a time limit.
    let parts: [Pin<Box<dyn Future<Output = Vec<String>>>>; 11] = [
        Box::pin(faults::setup()),
        Box::pin(issuer::tls()),
        Box::pin(issuer::issuer()),
        Box::pin(tokens::tokens()),
        Box::pin(tokens::access()),
        Box::pin(sts::sts_answers()),
        Box::pin(sts::sts_decisions()),
        Box::pin(upstream::upstream()),
        Box::pin(upstream::login()),
        Box::pin(upstream::session()),
        Box::pin(preflight::preflight()),
    ];
    let rows: Vec<String> = stream::iter(parts).buffered(3).concat().await;
    let table = format!(
        "| fault | link | state | what is said | remedy |\n| --- | --- | --- | --- | --- |\n{}",
        rows.concat()
    );
    written("faults", &table);
}

/// Part `name` of `docs/doctor.md` is `text`, or is made so.
fn written(name: &str, text: &str) {
    static PAGE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _alone = PAGE.lock();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/doctor.md");
    let page = fs::read_to_string(&path).unwrap();
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- end of {name} -->"));
    let (before, rest) = page.split_once(&begin).unwrap();
    let (kept, after) = rest.split_once(&end).unwrap();
    if std::env::var_os("WRITE_DOCS").is_some() {
        fs::write(&path, format!("{before}{begin}{text}{end}{after}")).unwrap();
    } else {
        assert_eq!(kept, text, "docs/doctor.md is stale: run this test with WRITE_DOCS=1");
    }
}

#[test]
fn the_docs_list_every_link() {
    let row = |link: ChainLink| format!("| `{}` | {} |\n", link.id(), link.checks());
    let rows: String = ChainLink::ALL.into_iter().map(row).collect();
    written("links", &format!("| link | what is checked |\n| --- | --- |\n{rows}"));
    let ids: Vec<_> = ChainLink::PREFLIGHT.into_iter().map(|link| format!("`{}`", link.id())).collect();
    written("preflight", &format!("{}\n", ids.join(", ")));
}

/// Each kind of fault that a stand-in can show has a row. A new kind does not compile before it is named here.
#[test]
fn every_kind_of_fault_has_its_row() {
    let http = |fault: &HttpFault| match fault {
        HttpFault::Close => {
            ["issuer closes connections", "key set: connection closed", "STS: connection closed"]
        }
        HttpFault::Hang => ["issuer never answers", "key set: no answer", "STS: black hole"],
        // The right answer, late.
        HttpFault::Hold(_) => ["STS: slow", "STS: slow", "STS: slow"],
        HttpFault::Answer { .. } => {
            ["issuer answers 503 with HTML", "key set that is no JSON", "STS: 503 with HTML"]
        }
        HttpFault::Endless => {
            ["discovery document that never ends", "key set that never ends", "STS: endless answer"]
        }
        HttpFault::Redirect(_) => ["issuer redirects", "key set: redirect", "STS: redirect"],
    };
    let sts = |fault: &StsFault| match fault {
        StsFault::Http(fault) => http(fault)[2],
        StsFault::Error { .. } => "STS: AccessDenied",
        StsFault::WithoutCredentials => "STS: 200 without credentials",
        StsFault::OtherSubject(_) => "STS: another subject",
        StsFault::OtherProvider(_) => "STS: another provider",
        StsFault::AlreadyExpired => "STS: expired credentials",
        StsFault::Truncated => "STS: broken off",
        StsFault::TruncatedBehind(_) => "STS: broken off behind the credentials",
        StsFault::OtherRole(_) => "STS: another role",
        StsFault::Altered(..) => "STS: a secret access key with a space",
    };
    let gate = |fault: &GateFault| match fault {
        GateFault::Deny => "database denies IAM logins",
        GateFault::Hold(_) => "IAM does not answer",
        GateFault::Close => "IAM breaks off",
    };
    let source = |source: SourceIp| match source {
        SourceIp::Peer | SourceIp::Fixed(_) | SourceIp::Absent | SourceIp::Vpce(_) => {
            "call from another address than the trust policy's"
        }
    };
    let hold = || aws_emulator::AnswerHold::new();
    let everywhere = [
        HttpFault::Close,
        HttpFault::Hang,
        HttpFault::Hold(hold()),
        HttpFault::html(503),
        HttpFault::Endless,
        HttpFault::Redirect(String::new()),
    ];
    let mut names: Vec<&str> = everywhere.iter().flat_map(http).collect();
    let answers = [
        StsFault::throttling(),
        StsFault::WithoutCredentials,
        StsFault::OtherSubject(String::new()),
        StsFault::OtherProvider(String::new()),
        StsFault::AlreadyExpired,
        StsFault::Truncated,
        StsFault::TruncatedBehind(""),
        StsFault::OtherRole(String::new()),
        StsFault::Altered("", String::new()),
    ];
    names.extend(answers.iter().map(sts));
    names.extend([GateFault::Deny, GateFault::Hold(hold()), GateFault::Close].iter().map(gate));
    names.push(source(SourceIp::Absent));
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/doctor.md")).unwrap();
    for name in names {
        assert!(page.contains(&format!("\n| {name} | `")), "no row for {name}");
    }
}
