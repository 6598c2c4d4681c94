//! Commands as operators and drivers write them.

use super::*;

fn parsed(text: &str) -> Command {
    Command::parse(text).unwrap_or_else(|failure| panic!("{text}: {failure:?}"))
}

#[test]
fn every_topic_is_found_in_any_case() {
    for topic in Topic::ALL {
        for text in [format!("SHOW {}", topic.word()), format!("show {};", topic.word().to_lowercase())] {
            assert_eq!(parsed(&text), Command::Show(topic), "{text}");
        }
        assert!(!topic.columns().is_empty() && !topic.about().is_empty());
    }
    for bad in ["SHOW", "SHOW NOTHING", "SHOW POOLS x", "SHOW 'a' 'b'"] {
        let failure = Command::parse(bad).unwrap_err();
        assert!(failure.sqlstate == "42601" && failure.hint.unwrap().contains("SESSIONS"), "{bad}");
    }
}

#[test]
fn what_drivers_send_by_themselves_is_accepted_without_effect() {
    for (text, tag) in [
        ("SET extra_float_digits = 3", "SET"),
        ("SET application_name = 'x'", "SET"),
        ("set client_encoding to 'UTF8'", "SET"),
        ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "SET"),
        ("SET TIME ZONE 'UTC'", "SET"),
        ("RESET ALL", "RESET"),
        ("DISCARD ALL", "DISCARD ALL"),
    ] {
        assert_eq!(parsed(text), Command::Ignored(tag), "{text}");
    }
    assert_eq!(parsed("BEGIN"), Command::Begin);
    assert_eq!(parsed("start transaction"), Command::Begin);
    assert_eq!((parsed("COMMIT"), parsed("END")), (Command::End("COMMIT"), Command::End("COMMIT")));
    assert_eq!(parsed("ROLLBACK"), Command::End("ROLLBACK"));
    assert_eq!(parsed("DEALLOCATE ALL"), Command::Ignored("DEALLOCATE ALL"));
    assert_eq!(parsed("show transaction_read_only"), Command::ShowSetting("off"));
    assert_eq!(parsed("SHOW TRANSACTION ISOLATION LEVEL"), Command::ShowSetting("read committed"));
}

#[test]
fn sql_is_refused_with_the_way_out() {
    for text in ["select 1", "WITH x AS (SELECT 1) SELECT 2", "COPY x FROM stdin", "explain select 1"] {
        let failure = Command::parse(text).unwrap_err();
        assert_eq!(failure.sqlstate, "0A000", "{text}");
        assert!(failure.hint.unwrap().contains("SHOW HELP"), "{text}");
    }
    let failure = Command::parse(&format!("nonsense {}", "x".repeat(500))).unwrap_err();
    assert!(failure.sqlstate == "42601" && failure.message.len() < 120, "{failure:?}");
}

#[test]
fn log_level_is_the_setting_that_can_be_set() {
    for (word, level) in LogLevel::WORDS {
        for text in [format!("SET log_level = {word}"), format!("set LOG_LEVEL to '{word}'")] {
            assert_eq!(parsed(&text), Command::SetLogLevel(level), "{text}");
        }
    }
    assert_eq!(Command::parse("SET log_level = loud").unwrap_err().sqlstate, "22023");
    assert_eq!(Command::parse("SET max_client_conn = 5").unwrap_err().sqlstate, "42704");
    assert_eq!(Command::parse("SET").unwrap_err().sqlstate, "42704");
}

#[test]
fn a_session_or_a_person_is_killed() {
    let id = SessionId::random();
    assert_eq!(parsed(&format!("kill {id}")), Command::Kill(id));
    assert_eq!(parsed(&format!("KILL_CLIENT '{id}'")), Command::Kill(id));
    for (text, subject, issuer) in [
        ("KILL SUBJECT alice", "alice", None),
        ("kill subject 'auth0|it''s me'", "auth0|it's me", None),
        ("KILL SUBJECT alice ISSUER okta", "alice", Some("okta")),
    ] {
        let (subject, issuer) = (subject.to_owned(), issuer.map(str::to_owned));
        assert_eq!(parsed(text), Command::KillSubject { subject, issuer }, "{text}");
    }
    for (bad, code) in
        [("KILL", "42601"), ("KILL x", "22023"), ("KILL SUBJECT a b", "42601"), ("RELOAD x", "42601")]
    {
        assert_eq!(Command::parse(bad).unwrap_err().sqlstate, code, "{bad}");
    }
    assert_eq!((parsed("reload"), parsed("SHUTDOWN;")), (Command::Reload, Command::Shutdown));
}

#[test]
fn a_cluster_is_paused_resumed_and_drained_by_its_name() {
    let app = || Some("app".to_owned());
    assert_eq!((parsed("pause app"), parsed("PAUSE")), (Command::Pause(app()), Command::Pause(None)));
    assert_eq!(
        (parsed("RESUME \"app\""), parsed("resume;")),
        (Command::Resume(app()), Command::Resume(None))
    );
    assert_eq!(parsed("DRAIN 'my app'"), Command::Drain("my app".to_owned()));
    for bad in ["DRAIN", "DRAIN a b", "PAUSE a b", "RESUME a, b"] {
        let failure = Command::parse(bad).unwrap_err();
        assert!(failure.sqlstate == "42601" && failure.hint.unwrap().contains("SHOW CLUSTERS"), "{bad}");
    }
}

/// The written form is in audit records, and it means the same.
#[test]
fn a_command_is_written_as_it_is_parsed() {
    for text in [
        "SET log_level = debug",
        "SHOW SESSIONS",
        "BEGIN",
        "ROLLBACK",
        "RELOAD",
        "SHUTDOWN",
        "KILL 0123456789abcdef",
        "KILL SUBJECT 'it''s'",
        "KILL SUBJECT 'a' ISSUER 'b'",
        "PAUSE",
        "PAUSE 'app'",
        "RESUME",
        "RESUME 'it''s'",
        "DRAIN 'app'",
    ] {
        assert_eq!(parsed(text).to_string(), text);
        assert_eq!(parsed(&parsed(text).to_string()), parsed(text));
    }
}
