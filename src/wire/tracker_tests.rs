//! The tracker on conversations as PostgreSQL's manual tells them; those of a real server are in `tests/it`.

use proptest::prelude::*;

use super::*;

/// Lines of a conversation: `> QXd…` what the client sends, `< TDC…` what the server does, each letter one
/// message; `ZI` is a ReadyForQuery with its status. `= …` is how the session must stand then.
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
                let stands = match tracker.standing() {
                    Standing::Idle => "idle",
                    Standing::InTransaction => "transaction",
                    Standing::InFailedTransaction => "failed",
                    Standing::Busy => "busy",
                };
                let copy = tracker.copying().map_or(String::new(), |copy| format!(" {copy:?}"));
                assert_eq!(format!("{stands}{copy}"), what, "line {number} of {conversation}: {tracker:?}");
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
fn a_copy_in_that_fails_leaves_a_doubt_until_the_next_answer() {
    // The server may have read the first Sync before it failed, or not.
    let read = "> BES\n< 2G\n> d\n< E\n> ddcS\n< ZI\n= busy";
    follow(&format!("{read}\n> PBES\n= busy\n< 12CZI\n= idle"));
    follow(&format!("{read}\n> Q\n= busy\n< EZI\n= idle"));
    follow(&format!("{read}\n< ZI\n= idle"));
    let simple = "> Q\n< G\n> dS\n< EZI\n= busy";
    follow(&format!("{simple}\n> cQ\n< CZI\n= idle"));
    follow(&format!("{simple}\n> c\n< ZI\n= idle"));
    follow(&format!("{simple}\n> cQ\n< ZI\n= busy\n< TDCZI\n= idle"));
    // Failed before the server read what has no place in a COPY, and so lived on.
    follow("> QdPBES\n< GEZI\n= busy\n< 12CZI\n= idle");
    follow("> BEBES\n< 2GEZI\n= idle");
    follow("> Q\n< G\n> dQS\n= busy In\n< EZI\n= busy\n< CZI\n= busy\n< ZI\n= idle");
    // Both Syncs were read, and none.
    follow("> BESS\n< 2GE\n= busy\n> S\n< ZI\n= busy\n< ZI\n= busy\n< ZI\n= idle");
    follow("> BESS\n< 2GE\n= busy\n> S\n< ZI\n= busy\n> PBES\n< 12CZI\n= idle");
    follow("> BES\n< 2GE\n= busy\n< ZI\n= idle");
}

#[test]
fn what_is_not_understood_is_never_idle_again() {
    for strange in ["> z", "> Q\n< W", "< T", "< ZI", "< 1", "> Q\n< 1", "< E", "< *"] {
        let more = "> QS\n< CZI\n< ZI\n> Q\n< CZI\n= busy";
        let tracker = follow(&format!("{strange}\n{more}"));
        assert!(tracker.exchange.waiting.is_empty(), "{strange}");
    }
    follow("> Q\n< CZx\n= busy\n> Q\n< CZI\n= idle");
    assert!(follow("> QX\n< CZI\n= busy").terminated());
}

#[test]
fn c4_a_pipeline_is_followed_up_to_its_limit_and_not_past_it() {
    for (deep, at_the_end) in [(MAX_QUEUE, Standing::Idle), (MAX_QUEUE + 1, Standing::Busy)] {
        let mut tracker = Tracker::new(b'I');
        (0..deep).for_each(|_| tracker.to_server(b"Q\0\0\0\x04"));
        assert!(tracker.exchange.waiting.len() <= MAX_QUEUE);
        (0..deep).for_each(|_| tracker.to_client(b"C\0\0\0\x04Z\0\0\0\x05I"));
        assert_eq!(tracker.standing(), at_the_end, "{deep}");
        assert!(tracker.exchange.waiting.capacity() <= KEPT_QUEUE, "and gives its memory back");
    }
    // Runs of the extended protocol are one entry, whatever their length.
    let mut long = Tracker::new(b'I');
    (0..3 * MAX_QUEUE).for_each(|_| long.to_server(b"P\0\0\0\x04"));
    long.to_server(b"S\0\0\0\x04");
    (0..3 * MAX_QUEUE).for_each(|_| long.to_client(b"1\0\0\0\x04"));
    long.to_client(b"Z\0\0\0\x05I");
    assert_eq!(long.standing(), Standing::Idle);
}

#[test]
fn in_the_middle_of_a_message_nothing_is_idle() {
    let mut tracker = Tracker::new(b'I');
    tracker.to_client(b"A\0\0");
    assert!(tracker.standing() == Standing::Busy && !tracker.server_between_messages());
    assert_eq!(tracker.rest_of_server_message(b"\0\x08abcdA"), 6);
    tracker.to_client(b"\0\x08abcd");
    assert!(tracker.standing() == Standing::Idle && tracker.server_between_messages());
    tracker.to_server(b"Q\0\0\0");
    assert!(tracker.standing() == Standing::Busy && !tracker.client_between_messages());
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
            format!("{:?}", tracker.exchange)
        });
        prop_assert_eq!(&ends[0], &ends[1]);
    }
}
