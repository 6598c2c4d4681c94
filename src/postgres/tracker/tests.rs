//! The tracker on conversations as PostgreSQL's manual tells them; those of a real server are in `tests/it`.

use proptest::prelude::*;

use super::super::runs::MAX_RUNS;
use super::*;

/// Lines of a conversation: `> QXd…` what the client sends, `< TDC…` what the server does, each letter one
/// message; `ZI` is a ReadyForQuery with its status. `= …` is how the session must stand then, with `?` where the
/// server may owe a ReadyForQuery.
fn follow(conversation: &str) -> Tracker {
    let mut tracker = Tracker::new(b'I');
    for (number, line) in conversation.lines().map(str::trim).filter(|line| !line.is_empty()).enumerate() {
        let (side, what) = line.split_at(1);
        let what = what.trim();
        match side {
            ">" => what.bytes().for_each(|tag| tracker.to_server(&[tag, 0, 0, 0, 4])),
            "<" => {
                let mut tags = what.bytes();
                while let Some(tag) = tags.next() {
                    match tag {
                        b'Z' => tracker.to_client(&[b'Z', 0, 0, 0, 5, tags.next().unwrap()]),
                        _ => tracker.to_client(&[tag, 0, 0, 0, 4]),
                    }
                }
            }
            "=" => {
                let stands = match tracker.state() {
                    SessionState::Idle => "idle",
                    SessionState::InTransaction => "transaction",
                    SessionState::InFailedTransaction => "failed",
                    SessionState::Busy => "busy",
                };
                let owed = if stands != "busy" && tracker.owed() > 0 { "?" } else { "" };
                let copy = tracker.copying().map_or(String::new(), |copy| format!(" {copy:?}"));
                assert_eq!(
                    format!("{stands}{owed}{copy}"),
                    what,
                    "line {number} of {conversation}: {tracker:?}"
                );
            }
            _ => panic!("{line}"),
        }
    }
    tracker
}

#[test]
fn simple_queries_and_transactions() {
    follow("= idle\n> Q\n= busy\n< TDDC\n= busy\n< ZI\n= idle");
    follow("> Q\n< CZT\n= transaction\n> Q\n= busy\n< EZE\n= failed\n> Q\n< CZI\n= idle");
    follow("> F\n= busy\n< V\n= busy\n< ZI\n= idle");
    follow("> Q\n< NSATDCCICZI\n= idle\n< NSA\n= idle");
}

#[test]
fn requests_and_the_ends_of_their_transactions_are_counted() {
    for (conversation, queries, transactions) in [
        ("> Q\n< TDDC", 0, 0),
        ("> Q\n< TDDCTDCZI", 1, 1),
        ("> Q\n< CZT\n> Q\n< TDCZT\n> Q\n< EZE\n> Q\n< CZI", 4, 1),
        ("> Q\n< EZI\n> Q\n< IZI", 2, 2),
        ("> PBEBES\n< 12C2CZI\n> PBES\n< 12CZT", 2, 1),
        ("> F\n< VZI\n< NSA", 1, 1),
        ("> Q\n< G\n> ddc\n< CZI", 1, 1),
    ] {
        assert_eq!(follow(conversation).counts(), WorkCounts { queries, transactions }, "{conversation}");
    }
}

#[test]
fn queries_sent_ahead_are_answered_one_by_one() {
    let tracker = follow("> QQQ\n< TDCZI\n= busy\n< EZI\n= busy");
    assert_eq!(tracker.owed(), 1);
    follow("> QQQ\n< TDCZI\n< EZI\n< CZI\n= idle");
}

#[test]
fn the_extended_protocol_is_idle_only_behind_its_sync() {
    follow("> P\n= busy\n> BDE\n< 12TDC\n= busy\n> S\n= busy\n< ZI\n= idle");
    follow("> PDH\n< 1tn\n= busy\n> S\n< ZI\n= idle");
    follow("> BEBES\n< 2DDs2C\n= busy\n< ZT\n= transaction");
    follow("> PBECS\n< 12I3ZI\n= idle");
    // Without a Sync, a Query of the simple protocol ends the batch too.
    follow("> PBE\n> Q\n< 12C\n= busy\n< TDCZI\n= idle");
}

#[test]
fn an_error_skips_to_the_next_sync() {
    follow("> PBDES\n< E\n= busy\n< ZI\n= idle");
    follow("> PBDE\n< E\n= busy\n> PBDE\n= busy\n> S\n= busy\n< ZI\n= idle");
    follow("> PBES\n> PBES\n< 12E\n< ZI\n= busy\n< 12CZI\n= idle");
    // A Query that comes before the Sync is skipped with the rest.
    follow("> PQS\n< E\n= busy\n< ZI\n= idle");
    follow("> PBEQS\n< 12CEZI\n= busy\n< ZI\n= idle");
    follow("> P\n< E\n> QFP\n= busy\n> S\n< ZI\n= idle");
    // The error of a Sync itself: a deferred constraint.
    follow("> PBES\n< 12C\n< EZI\n= idle");
}

#[test]
fn copy_out_and_in_by_query() {
    follow("> Q\n< H\n= busy Out\n< ddd\n= busy Out\n< cC\n= busy\n< ZI\n= idle");
    follow("> Q\n< H\n< dE\n= busy\n< ZI\n= idle");
    follow("> Q\n< G\n= busy In\n> dd\n= busy In\n> c\n= busy In\n< CZI\n= idle");
    follow("> Q\n< G\n> ddf\n< EZI\n= idle");
    follow("> Qddc\n< GCZI\n= idle");
    // Two of them in one Query.
    follow("> Q\n< G\n> dc\n< CG\n= busy In\n> dc\n< CZT\n= transaction");
    follow("> Qdcdc\n< GCGCZI\n= idle");
    // It never began: what was sent for it is ignored.
    follow("> Qddc\n< EZI\n= idle");
    follow("> Qddc\n> Q\n< EZI\n= busy\n< CZI\n= idle");
}

#[test]
fn a_sync_inside_copy_in_earns_nothing() {
    follow("> Q\n< G\n> dSHd\n> c\n< CZI\n= idle");
    follow("> QS\n< G\n> dc\n< CZI\n= idle");
    follow("> QSdcS\n< GCZI\n= busy\n< ZI\n= idle");
    // As tokio-postgres does it: the first Sync falls into the COPY.
    follow("> BES\n< 2G\n= busy In\n> ddcS\n< C\n= busy\n< ZI\n= idle");
    follow("> BESddcS\n< 2GCZI\n= idle");
    follow("> BES\n< 2G\n> dc\n< C\n= busy");
    // And where it never began, that Sync is one.
    follow("> QS\n< EZI\n= busy\n< ZI\n= idle");
    follow("> BES\n< E\n< ZI\n= idle");
}

#[test]
fn a_copy_in_that_fails_leaves_a_sync_in_doubt_until_the_next_answer() {
    // The server may have read the first Sync before it failed, or not.
    let read = "> BES\n< 2G\n> d\n< E\n> ddcS\n= busy\n< ZI\n= idle?";
    follow(&format!("{read}\n> PBES\n= busy\n< 12CZI\n= idle"));
    follow(&format!("{read}\n> Q\n= busy\n< EZI\n= idle"));
    follow(&format!("{read}\n< ZI\n= idle"));
    let simple = "> Q\n< G\n> dS\n< E\n= busy\n< ZI\n= idle?";
    follow(&format!("{simple}\n> cQ\n= busy\n< CZI\n= idle"));
    follow(&format!("{simple}\n> c\n= idle?\n< ZI\n= idle"));
    follow(&format!("{simple}\n> cQ\n< ZI\n= busy\n< TDCZI\n= idle"));
    follow("> Q\n< CZT\n> Q\n< G\n> dS\n< EZE\n= failed?\n> dc\n= failed?\n< ZE\n= failed");
    // Failed before the server read what has no place in a COPY, and so lived on.
    follow("> QdPBES\n< GEZI\n= busy\n< 12CZI\n= idle");
    follow("> BEBES\n< 2GEZI\n= idle");
    follow("> Q\n< G\n> dQS\n= busy In\n< EZI\n= busy\n< CZI\n= busy\n< ZI\n= idle");
    // Both Syncs were read, and none.
    follow("> BESS\n< 2GE\n= busy\n> S\n< ZI\n= idle?\n< ZI\n= idle?\n< ZI\n= idle");
    follow("> BESS\n< 2GE\n= busy\n> S\n< ZI\n= idle?\n> PBES\n< 12CZI\n= idle");
    follow("> BES\n< 2GE\n= busy\n< ZI\n= idle");
}

/// Whether the server skips what comes behind the error depends on where in the COPY it failed.
#[test]
fn both_courses_are_followed_where_a_sync_in_doubt_may_have_ended_the_skipping() {
    for (ahead, behind) in
        [("> BESPBES\n< 2GE", ""), ("> BES\n< 2G\n> dcPBES\n< E", ""), ("> BES\n< 2GE", "\n> PBES")]
    {
        let both = format!("{ahead}{behind}");
        // It had read the Sync, and skips to the next one.
        follow(&format!("{both}\n= busy\n< ZI\n= busy\n> Q\n= busy\n< TDCZI\n= idle"));
        // It had not.
        follow(&format!("{both}\n= busy\n< ZI\n= busy\n< 12C\n= busy\n< ZI\n= idle\n> Q\n< CZI\n= idle"));
        follow(&format!("{both}\n< ZI\n< 1EZI\n= idle\n> Q\n= busy\n< CZI\n= idle"));
    }
    follow("> BES\n< 2GE\n> Q\n= busy\n< ZI\n= busy\n< TDCZI\n= idle");
    follow("> BES\n< 2GE\n> QS\n= busy\n< ZI\n= busy\n> Q\n< GZI\n= busy");
    // More courses than are followed.
    let again = "> BESPBES\n< 2GE\n".repeat(MAX_HYPOTHESES);
    let tracker = follow(&format!("{again}= busy\n> Q\n< CZI\n= busy"));
    assert!(tracker.courses.others.len() < MAX_HYPOTHESES);
}

/// A course in which the server has statements still before it ends at an answer that belongs to none of them.
#[test]
fn a_course_in_which_answers_are_due_for_statements_that_were_skipped_ends() {
    // In a failed transaction the answer to a Query and to a batch is the same error.
    let failed = "> Q\n< CZT\n> PBES\n< 12GE\n> dQQdcSd\n< ZE\n= busy";
    follow(&format!(
        "{failed}\n> Q\n< EZE\n= busy\n> PBDES\n< EZE\n= busy\n> S\n< ZE\n= busy\n> S\n< ZE\n= failed"
    ));
    follow(&format!("{failed}\n> S\n< ZE\n= failed"));
    // It has them still before it.
    follow(&format!("{failed}\n< EZE\n= busy\n< EZE\n= busy\n< ZE\n= failed"));
    // The error of the second Query is none of a Sync that has nothing to commit.
    let sync = "> Q\n< CZT\n> PBES\n< 12GE\n> dQS\n< ZE\n= busy";
    follow(&format!("{sync}\n> Q\n< EZE\n= busy\n> Q\n< EZE\n= failed"));
    // An answer that no course explains ends none of them, and a session with one course goes on.
    follow(&format!("{failed}\n> Q\n< ZE\n= busy\n< EZE\n= busy"));
    follow("> Q\n< ZI\n= idle\n> S\n< EZI\n= idle");
}

/// PostgreSQL ignores `CopyData`, CopyDone and CopyFail outside of COPY IN, and Flush everywhere.
#[test]
fn what_the_server_ignores_changes_nothing() {
    for end in ["c", "f", "d", "H", "dddc", "cccf"] {
        follow(&format!("> {end}\n= idle"));
        follow(&format!("> Q\n< CZI\n> {end}\n= idle\n> Q\n= busy\n< CZI\n= idle"));
        follow(&format!("> Q\n< CZT\n= transaction\n> {end}\n= transaction"));
        // Behind an error: of the COPY, and of a statement that was to be one.
        follow(&format!("> Q\n< G\n> d\n< EZI\n> {end}\n= idle"));
        follow(&format!("> Q\n< G\n> d\n< EZE\n= failed\n> {end}\n= failed"));
        follow(&format!("> Q{end}\n= busy\n< EZI\n= idle"));
        follow(&format!("> Q\n< G\n> d{end}\n< EZI\n= idle"));
        // In the extended protocol, before the Sync and behind it.
        follow(&format!("> PBE{end}S\n< 1E\n= busy\n< ZI\n= idle\n> {end}\n= idle"));
        follow(&format!("> PBES\n< 12E\n> {end}\n= busy\n< ZI\n= idle"));
        follow(&format!("> PBE\n< 1E\n> {end}\n= busy\n> {end}S{end}\n= busy\n< ZI\n= idle"));
        follow(&format!("> S{end}\n= busy\n< ZI\n= idle"));
        follow(&format!("> S{end}Q{end}\n< ZI\n= busy\n< CZI\n= idle"));
        follow(&format!("> P{end}BE{end}S\n< 12CZI\n= idle"));
        follow(&format!("> F{end}\n< VZI\n= idle"));
    }
    // One end too many for each of two COPYs.
    follow("> Qdccdc\n< GC\n= busy\n< G\n= busy In\n< CZI\n= idle");
    follow("> Q\n< G\n> dcc\n< CZI\n= idle");
    follow("> BES\n< 2G\n> dccS\n< C\n= busy\n< ZI\n= idle");
    // COPY BOTH, ended by either side, and one CopyDone too many.
    follow("> Q\n< W\n= busy Both\n> dddc\n= busy Both\n< ddcC\n= busy\n< ZI\n= idle\n> c\n= idle");
    follow("> Q\n< Wdc\n> c\n< TDCCZI\n= idle");
    follow("> Q\n< Wd\n> d\n< EZI\n= idle\n> dc\n= idle");
}

#[test]
fn what_is_not_understood_is_never_idle_again() {
    for strange in ["> z", "> Q\n< W", "< T", "< ZI", "< 1", "> Q\n< 1", "< E", "< *"] {
        let more = "> QS\n< CZI\n< ZI\n> Q\n< CZI\n= busy";
        let tracker = follow(&format!("{strange}\n{more}"));
        assert!(tracker.courses.first.is_lost() && tracker.owed() == 0, "{strange}");
    }
    follow("> Q\n< CZx\n= busy\n> Q\n< CZI\n= idle");
    assert!(follow("> QX\n< CZI\n= busy").terminated());
}

/// So often the same, and all of its answers.
fn pipeline(depth: usize, client: &str, server: &str) -> Tracker {
    let mut tracker = follow(&format!("> {}\n= busy", client.repeat(depth)));
    for answered in 0..depth {
        assert_eq!(tracker.state(), SessionState::Busy, "{answered} of {depth} {client}");
        let mut tags = server.bytes();
        while let Some(tag) = tags.next() {
            match tag {
                b'Z' => tracker.to_client(&[b'Z', 0, 0, 0, 5, tags.next().unwrap()]),
                _ => tracker.to_client(&[tag, 0, 0, 0, 4]),
            }
        }
    }
    tracker
}

#[test]
fn c4_a_pipeline_of_any_depth_is_followed_by_its_runs() {
    let deep = 2 * MAX_RUNS + 3;
    for (client, server) in [
        ("Q", "TDCZI"),
        ("Q", "EZI"),
        ("F", "VZI"),
        ("S", "ZI"),
        ("PBDES", "12TDCZI"),
        ("PBDES", "1EZI"),
        ("PHBDESH", "12TDCZI"),
        // Beyond the limit of runs their order is not kept.
        ("QPBES", "TDCZI12CZI"),
        ("QPBESS", "EZI1EZIZI"),
        ("SQ", "ZIEZI"),
        ("Qd", "GEZI"),
    ] {
        let tracker = pipeline(deep, client, server);
        assert_eq!((tracker.state(), tracker.owed()), (SessionState::Idle, 0), "{client}");
        assert!(!tracker.courses.first.holds_much(), "it gives its memory back");
    }
    let long = format!("> {}\n= busy\n> S\n< {}\n= busy\n< ZI\n= idle", "P".repeat(deep), "1".repeat(deep));
    follow(&long);
    follow(&format!("> {}\n= idle", "dc".repeat(deep)));
}

#[test]
fn c4_runs_are_told_apart_up_to_their_limit_and_not_past_it() {
    // Two runs each, which cannot be taken for one.
    for (depth, state) in [(MAX_RUNS / 2, SessionState::Idle), (MAX_RUNS / 2 + 1, SessionState::Busy)] {
        assert_eq!(pipeline(depth, "Qdc", "GCZI").state(), state, "{depth}");
        assert_eq!(pipeline(depth, "PBEQ", "12CTDCZI").state(), state, "{depth}");
    }
    // A COPY IN among those whose order is not kept.
    assert_eq!(pipeline(MAX_RUNS / 2 + 1, "QPBES", "TDCZI12GEZI").state(), SessionState::Busy);
}

#[test]
fn in_the_middle_of_a_message_nothing_is_idle() {
    let mut tracker = Tracker::new(b'I');
    tracker.to_client(b"A\0\0");
    assert!(tracker.state() == SessionState::Busy && !tracker.server_between_messages());
    assert_eq!(tracker.rest_of_server_message(b"\0\x08abcdA"), 6);
    tracker.to_client(b"\0\x08abcd");
    assert!(tracker.state() == SessionState::Idle && tracker.server_between_messages());
    tracker.to_server(b"Q\0\0\0");
    assert!(tracker.state() == SessionState::Busy && !tracker.client_between_messages());
}

proptest! {
    /// The tracker passes over a row that follows another; a notice between them makes it look at both.
    #[test]
    fn a_row_behind_a_row_tells_nothing_whatever_the_client_sends(
        before in "[QFPBDECSHcfd]{0,6}",
        answers in "[TC12GHDdENZ]{0,6}",
        between in "[QFPBDECSHcfdX]{0,6}",
        row in prop::sample::select(vec![b'D', b'd']),
    ) {
        let message = |tag: u8| if tag == b'Z' { vec![tag, 0, 0, 0, 5, b'I'] } else { vec![tag, 0, 0, 0, 4] };
        let ends = [&b""[..], b"N"].map(|notice| {
            let mut tracker = Tracker::new(b'I');
            before.bytes().for_each(|tag| tracker.to_server(&message(tag)));
            answers.bytes().for_each(|tag| tracker.to_client(&message(tag)));
            tracker.to_client(&message(row));
            between.bytes().for_each(|tag| tracker.to_server(&message(tag)));
            notice.iter().chain(&[row, b'N']).for_each(|tag| tracker.to_client(&message(*tag)));
            // Which messages wait, and not what room they have.
            format!("{:?}", tracker.courses)
        });
        prop_assert_eq!(&ends[0], &ends[1]);
    }
}
