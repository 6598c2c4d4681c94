//! Findings of `doctor` about servers that a test cannot make of the shared one: a reader, a session that begins read-only,
//! a server without the role.

use aws_emulator::{Ca, names};
use pgpassport::commands::doctor::{Finding, LinkState};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::server::TlsStream;

use super::{DoctorRun, assert_complete, found};
use crate::world::raw::message;
use crate::world::scripted_server::{Script, ScriptedServer, welcome};
use crate::world::{World, database};

/// Answers of a server to the one question: in recovery, read-only, and whether `rds_iam` exists.
#[derive(Clone, Copy)]
struct DatabaseScript {
    recovering: bool,
    read_only: bool,
    has_iam: bool,
}

/// Type numbers (`pg_type`): text, bool, text[], float8.
const TEXT: u32 = 25;
const BOOL: u32 = 16;
const TEXTS: u32 = 1009;
const FLOAT: u32 = 701;

impl DatabaseScript {
    /// Each column's type and its value in the binary form.
    fn row(self) -> Vec<(u32, Vec<u8>)> {
        let text = |text: &str| (TEXT, text.as_bytes().to_vec());
        let truth = |truth: bool| (BOOL, vec![u8::from(truth)]);
        let texts = |values: &[&str]| {
            let mut array =
                [1, 0, TEXT, u32::try_from(values.len()).unwrap(), 1].map(u32::to_be_bytes).concat();
            if values.is_empty() {
                array = [0, 0, TEXT].map(u32::to_be_bytes).concat();
            }
            for value in values {
                array.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
                array.extend(value.as_bytes());
            }
            (TEXTS, array)
        };
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
        let roles: &[&str] = if self.has_iam { &["rds_iam"] } else { &[] };
        vec![
            text("alice"),
            text("alice"),
            truth(false),
            texts(roles),
            texts(&[]),
            text("16.3"),
            (FLOAT, now.to_be_bytes().to_vec()),
            truth(self.recovering),
            truth(self.read_only),
            truth(self.has_iam),
        ]
    }

    /// Plays the rest of the session: a command, then a statement is prepared and executed.
    async fn answer(self, mut tls: TlsStream<TcpStream>) {
        let row = self.row();
        let count = u16::try_from(row.len()).unwrap().to_be_bytes();
        let (mut columns, mut values) = (count.to_vec(), count.to_vec());
        for (kind, value) in &row {
            // Name, table, column, type, size, modifier, binary format.
            columns
                .extend([&b"c\0\0\0\0\0\0\0"[..], &kind.to_be_bytes(), &[0, 0, 0, 0, 0, 0, 0, 1]].concat());
            values.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
            values.extend(value);
        }
        let ready = message(b'Z', b"I");
        let set = [message(b'C', b"SET\0"), ready.clone()];
        let prepared = [message(b'1', b""), message(b't', &[0, 0]), message(b'T', &columns), ready.clone()];
        let executed = [message(b'2', b""), message(b'D', &values), message(b'C', b"SELECT 1\0"), ready];
        let mut answers = [set.concat(), prepared.concat(), executed.concat()].into_iter();
        while let Ok(tag) = tls.read_u8().await {
            let length = tls.read_u32().await.unwrap();
            tls.read_exact(&mut vec![0; usize::try_from(length).unwrap() - 4]).await.unwrap();
            if matches!(tag, b'Q' | b'S')
                && let Some(answer) = answers.next()
            {
                tls.write_all(&answer).await.unwrap();
                tls.flush().await.unwrap();
            }
        }
    }

    async fn examined(self) -> Vec<Finding> {
        let ca = Ca::new().unwrap();
        let (hand, mut handed) = mpsc::unbounded_channel();
        let server = ScriptedServer::start(&ca, Script::ThenHand(welcome(), hand)).await;
        let world = World::builder().upstream(server.addr, &ca).start().await;
        let token = world.token("alice");
        let playing = tokio::spawn(async move { self.answer(handed.recv().await.unwrap()).await });
        let findings = DoctorRun::with(&token).examine(&world).await;
        playing.await.unwrap();
        assert_complete(&findings);
        findings
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn writer_and_reader_are_told_apart_and_a_missing_role_is_a_warning() {
    let writer = DatabaseScript { recovering: false, read_only: false, has_iam: true };
    for (server, said) in [
        (writer, "a writer"),
        (DatabaseScript { recovering: true, read_only: true, ..writer }, "a reader: writes are refused"),
        (DatabaseScript { read_only: true, ..writer }, "a writer, in a session that begins read-only"),
    ] {
        let findings = server.examined().await;
        assert_eq!(found(&findings, "writer").found, said);
        assert!(findings.iter().all(|finding| finding.state == LinkState::Ok), "{findings:#?}");
    }
    let findings = DatabaseScript { has_iam: false, ..writer }.examined().await;
    let role = found(&findings, "rds-iam");
    assert_eq!((role.state, &*role.found), (LinkState::Warning, "the role rds_iam does not exist"));
    assert!(role.remedy.as_ref().unwrap().contains("GRANT rds_iam TO \"alice\""), "{role:?}");
    assert_eq!(found(&findings, "sts").state, LinkState::Ok, "{}", names::ENDPOINT);
}

/// A user whose `search_path` puts objects of their own before those of the system.
const EVIL: &str = "
    create role evil login createrole createdb in role rds_iam;
    create schema evil authorization evil;
    set role evil;
    set search_path to evil, pg_catalog;
    create view pg_roles as select oid, rolname, false as rolsuper, false as rolcreaterole, false as rolcreatedb,
        false as rolbypassrls, false as rolreplication from pg_catalog.pg_roles;
    create function pg_has_role(name, oid, text) returns bool return false;
    create function to_regrole(text) returns regrole return null::regrole;
    create function current_setting(text) returns text return 'evil 1.0';
    create function pg_is_in_recovery() returns bool return true;
    create function clock_timestamp() returns timestamptz return 'epoch'::timestamptz;
    create function differs(text, text) returns bool return $1 operator(pg_catalog.<>) $2;
    create operator = (function = differs, leftarg = text, rightarg = text);
    reset role;
    alter role evil set search_path to evil, pg_catalog";

#[tokio::test(flavor = "multi_thread")]
async fn a_search_path_of_the_users_own_changes_nothing_in_the_report() {
    tokio::task::spawn_blocking(|| database().postgres.sql(EVIL)).await.unwrap();
    let world = World::start().await;
    let token = world.token("evil");
    let findings = DoctorRun::with(&token).examine(&world).await;
    assert_complete(&findings);
    let alice = DoctorRun::with(&world.token("alice")).examine(&world).await;
    for link in ["rds-iam", "server-version", "writer"] {
        assert_eq!(found(&findings, link).found, found(&alice, link).found, "{link}");
    }
    assert_eq!(found(&findings, "clock").state, LinkState::Ok, "{findings:#?}");
    let privileges = found(&findings, "privileges");
    assert_eq!(
        (privileges.state, &*privileges.found),
        (LinkState::Warning, "the user is CREATEROLE, CREATEDB")
    );
}
