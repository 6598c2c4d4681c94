//! The tracker on conversations as the manual tells them; those of real servers are in `tests/it`.

use proptest::prelude::*;

use super::*;
use crate::mysql::cursors::MAX_CURSORS;
use crate::mysql::packet::packet;

const DEPRECATE: Capabilities = Capabilities::COMMON;

fn classic() -> Capabilities {
    Capabilities::from_bits(DEPRECATE.bits() & !Capabilities::DEPRECATE_EOF.bits())
}

/// A conversation. Each word is a message:
///
/// - of the client: `q` query, `p` prepare, `e7` execute of statement 7, `f7` fetch, `c7` close, `r7` reset, `l7` long
///   data, `R` reset of the connection, `i` ping, `s` statistics, `d` field list, `Q` quit, `x` unknown, `D` data of a
///   file, `E` its end;
/// - of the server: `ok`, `err`, `cols`, `def`, `row`, `long` (a row of 16 MiB that begins like an EOF), `eof`, `file`,
///   `prep2,1` with columns and parameters. `ok` and `eof` may have a status: `ok+t` (transaction), `a` (autocommit off),
///   `m` (more results), `c` (cursor), `l` (last row);
/// - `=idle`, `=busy`, `=trans`: how the session stands.
fn follow(capabilities: Capabilities, conversation: &str) -> Tracker {
    let mut tracker = Tracker::new(capabilities, AUTOCOMMIT, FileTransfer::default());
    for word in conversation.split_whitespace() {
        if let Some(expected) = word.strip_prefix('=') {
            let stands = match tracker.state() {
                SessionState::Idle => "idle",
                SessionState::InTransaction => "trans",
                SessionState::InFailedTransaction => "failed",
                SessionState::Busy => "busy",
            };
            assert_eq!(stands, expected, "in {conversation}: {tracker:?}");
        } else if let Some(payload) = of_server(capabilities, word) {
            if payload.len() < MAX_PAYLOAD {
                tracker.to_client(&packet(1, &payload));
            } else {
                let (first, rest) = payload.split_at(MAX_PAYLOAD);
                tracker.to_client(&[&[0xff, 0xff, 0xff, 1], first, &packet(2, rest)].concat());
            }
        } else {
            tracker.to_server(&packet(0, &of_client(word)));
        }
    }
    tracker
}

fn status(word: &str) -> u16 {
    let flags = word.split_once('+').map_or("", |(_, flags)| flags);
    let flag = |letter: char, bit: u16| if flags.contains(letter) { bit } else { 0 };
    let autocommit = if flags.contains('a') { 0 } else { AUTOCOMMIT };
    autocommit
        | flag('t', IN_TRANSACTION)
        | flag('m', MORE_RESULTS)
        | flag('c', CURSOR_EXISTS)
        | flag('l', LAST_ROW_SENT)
}

fn of_server(capabilities: Capabilities, word: &str) -> Option<Vec<u8>> {
    let [low, high] = status(word).to_le_bytes();
    Some(match word.split('+').next().unwrap() {
        "ok" => vec![OK, 0xfc, 0, 2, 1, low, high, 0, 0],
        "eof" if capabilities.contains(Capabilities::DEPRECATE_EOF) => vec![EOF, 0, 0, low, high, 0, 0],
        "eof" => vec![EOF, 0, 0, low, high],
        "err" => b"\xff\x28\x04#42000no".to_vec(),
        "shutdown" => b"\xff\x1d\x04#08S01Server shutdown in progress".to_vec(),
        "cols" => vec![2],
        "def" => b"\x03def\0\0\0\x01a\0\x0c\x3f\0\x01\0\0\0\x08\x81\0\0\0\0".to_vec(),
        "row" => b"\x011\xfb".to_vec(),
        "long" => {
            let mut row = vec![EOF, 0, 0, 0, 1, 0, 0, 0, 0];
            row.resize(9 + 0x100_0000, b'x');
            row
        }
        "file" => b"\xfb/etc/passwd".to_vec(),
        "text" => b"Uptime: 1".to_vec(),
        prep if prep.starts_with("prep") => {
            let (columns, parameters) = prep[4..].split_once(',').unwrap();
            let mut out = vec![OK, 7, 0, 0, 0];
            out.extend(columns.parse::<u16>().unwrap().to_le_bytes());
            out.extend(parameters.parse::<u16>().unwrap().to_le_bytes());
            out.extend([0, 0, 0]);
            out
        }
        _ => return None,
    })
}

fn of_client(word: &str) -> Vec<u8> {
    let (kind, id) = word.split_at(1);
    let command = match kind {
        "q" => return b"\x03select 1".to_vec(),
        "p" => return b"\x16select ?".to_vec(),
        "R" => return vec![0x1f],
        "i" => return vec![0x0e],
        "s" => return vec![0x09],
        "d" => return b"\x04t\0".to_vec(),
        "Q" => return vec![0x01],
        "x" => return vec![0x12],
        "D" => return b"\x01data\n".to_vec(),
        "E" => return vec![],
        "e" => 0x17,
        "f" => 0x1c,
        "c" => 0x19,
        "r" => 0x1a,
        "l" => 0x18,
        _ => panic!("{word}"),
    };
    let mut out = vec![command];
    out.extend(id.parse::<u32>().unwrap().to_le_bytes());
    out.extend([0, 0]); // the parameter of long data
    out
}

#[test]
fn queries_and_transactions() {
    for capabilities in [DEPRECATE, classic()] {
        follow(capabilities, "=idle q =busy ok =idle q ok+t =trans q err =trans q ok =idle");
        follow(capabilities, "i =busy ok =idle s =busy text =idle s err =idle");
        follow(capabilities, "q err =idle"); // the first statement of the client `mysql` is an error on purpose
        follow(capabilities, "q ok+a =idle q err =trans q ok+a =idle q ok+at =trans q ok+a =idle");
    }
}

#[test]
fn result_sets_end_in_both_forms() {
    follow(DEPRECATE, "q cols =busy def def row row =busy eof =idle");
    follow(DEPRECATE, "q cols def def eof+t =trans");
    follow(DEPRECATE, "q cols def def row err =idle");
    follow(DEPRECATE, "q cols def def long row =busy eof =idle");
    follow(classic(), "q cols def def eof =busy row row =busy eof =idle");
    follow(classic(), "q cols def def eof row long =busy eof+t =trans");
    follow(classic(), "q cols def def eof row err =idle");
    follow(classic(), "d def def =busy eof =idle d err =idle");
    follow(DEPRECATE, "d def def =busy eof =idle d eof =idle");
}

#[test]
fn several_results_answer_one_command() {
    follow(DEPRECATE, "q ok+m =busy cols def row eof+m =busy ok =idle");
    follow(DEPRECATE, "q cols def row eof+m =busy err =idle");
    follow(classic(), "q cols def eof row eof+m =busy cols def eof eof+m =busy ok+t =trans");
    follow(DEPRECATE, "e1 cols def row eof+m =busy ok =idle");
}

#[test]
fn prepared_statements() {
    follow(DEPRECATE, "p prep0,0 =idle p prep2,1 =busy def def =busy def =idle p err =idle");
    follow(
        classic(),
        "p prep0,0 =idle p prep2,1 def eof =busy def def =busy eof =idle p prep0,2 def def =busy eof =idle",
    );
    follow(
        DEPRECATE,
        "p prep1,0 def =idle e7 cols def row eof =idle e7 ok+t =trans e7 err =trans r7 ok =idle",
    );
    follow(DEPRECATE, "l7 =idle l7 e7 =busy ok =idle c7 =idle");
    follow(DEPRECATE, "e7 =busy c7 =busy i =busy ok =busy ok =idle");
}

#[test]
fn an_open_cursor_is_part_of_the_session() {
    follow(classic(), "e7 cols def eof+c =trans f7 row row eof+c =trans f7 row eof+cl =idle");
    follow(DEPRECATE, "e7 cols def eof+c =trans f7 =busy row eof =trans f7 eof+l =idle");
    follow(DEPRECATE, "e7 cols def eof+c =trans c7 =idle");
    follow(DEPRECATE, "e7 cols def eof+c =trans r7 =busy ok =idle");
    follow(DEPRECATE, "e7 cols def eof+c e8 cols def eof+c =trans c7 =trans R ok =idle");
    follow(DEPRECATE, "e7 cols def eof+c =trans e7 err =idle");
    follow(DEPRECATE, "e7 cols def eof+c =trans f7 err =trans");
    follow(DEPRECATE, "e7 cols def eof+c e7 cols def row eof =idle");
    let many: String =
        (0..=MAX_CURSORS).fold(String::new(), |all, id| all + &format!("e{id} cols def eof+c "));
    let closed: String = (0..=MAX_CURSORS).fold(String::new(), |all, id| all + &format!("c{id} "));
    follow(DEPRECATE, &format!("{many} {closed} =trans i ok =trans R ok =idle"));
}

#[test]
fn commands_sent_ahead_are_answered_one_by_one() {
    let tracker = follow(DEPRECATE, "q q p q ok =busy err =busy prep1,1 def def =busy");
    assert!(!tracker.owes_nothing());
    follow(DEPRECATE, "q q p q ok err prep1,1 def def cols row eof =idle");
    follow(DEPRECATE, "p e7 c7 p e8 prep0,0 ok prep0,0 =busy ok =idle");
}

#[test]
fn a_file_is_no_command() {
    follow(DEPRECATE, "q file =busy D D =busy E =busy ok =idle");
    follow(DEPRECATE, "q file E err =idle i ok =idle");
    follow(DEPRECATE, "q ok+m file D E ok+m ok =idle");
    let tracker = follow(DEPRECATE, "q file D");
    assert!(tracker.is_transferring() && !tracker.terminated(), "data that looks like COM_QUIT");
    assert!(!follow(DEPRECATE, "q file D E").is_transferring());
    follow(DEPRECATE, "q file ok =busy E =busy ok =busy"); // never again understood
}

#[test]
fn what_is_not_understood_is_busy_for_good() {
    follow(DEPRECATE, "x =busy ok =busy i ok =busy");
    follow(DEPRECATE, "i cols =busy ok =busy i ok =busy");
    follow(DEPRECATE, "p cols =busy err =busy");
    follow(DEPRECATE, "e7 file =busy");
    follow(DEPRECATE, "Q =busy");
    let mut short = Tracker::new(DEPRECATE, AUTOCOMMIT, FileTransfer::default());
    short.to_server(&packet(0, b"\x0e"));
    short.to_client(&packet(1, b"\0\0\0"));
    assert_eq!(short.state(), SessionState::Busy, "an OK without a status");
}

/// A client that sends data of a file ahead, or a command that one server answers and another does not, could make a row
/// look like a request for a file, behind which the filter would pass a `COM_CHANGE_USER`.
#[test]
fn u9_no_client_makes_a_row_look_like_a_request_for_a_file() {
    let null = packet(3, b"\xfb\x01x");
    for ahead in [
        [packet(0, b"\x03load data"), packet(2, b"\x09"), packet(3, b"\x09")].concat(),
        [packet(0, b"\x18"), packet(0, b"\x03select null"), packet(0, b"\x09"), packet(0, b"\x09")].concat(),
        [packet(0, b"\x19"), packet(0, b"\x03select null"), packet(0, b"\x09"), packet(0, b"\x09")].concat(),
    ] {
        let transfer = FileTransfer::default();
        let mut tracker = Tracker::new(DEPRECATE, AUTOCOMMIT, transfer.clone());
        tracker.to_server(&ahead);
        if ahead[4] == 0x03 {
            tracker.to_client(&packet(1, b"\xfb/x"));
            tracker.to_server(&packet(4, b""));
            tracker.to_client(&packet(5, &of_server(DEPRECATE, "ok").unwrap()));
        } else {
            tracker.to_client(&packet(1, &of_server(DEPRECATE, "err").unwrap()));
        }
        tracker.to_server(&packet(0, b"\x03select null"));
        tracker.to_client(&[packet(1, b"\x02"), packet(2, b"\x03def"), null.clone()].concat());
        assert!(!transfer.is_open() && tracker.state() == SessionState::Busy, "{ahead:02x?}");
    }
}

#[test]
fn a_transfer_ends_with_the_understanding_of_the_session() {
    for answer in ["ok", "err"] {
        let transfer = FileTransfer::default();
        let mut tracker = Tracker::new(DEPRECATE, AUTOCOMMIT, transfer.clone());
        tracker.to_server(&packet(0, b"\x03load data"));
        tracker.to_client(&packet(1, b"\xfb/x"));
        assert!(transfer.is_open());
        tracker.to_client(&packet(2, &of_server(DEPRECATE, answer).unwrap()));
        assert!(!transfer.is_open() && tracker.state() == SessionState::Busy, "{answer}");
    }
}

#[test]
fn an_error_that_ends_the_session_is_told_from_others() {
    assert!(follow(DEPRECATE, "shutdown =busy").server_ended_with_error());
    assert!(follow(DEPRECATE, "err =busy").server_ended_with_error(), "nobody has asked");
    assert!(follow(DEPRECATE, "q shutdown").server_ended_with_error());
    assert!(!follow(DEPRECATE, "q err").server_ended_with_error());
    assert!(!follow(DEPRECATE, "ok").server_ended_with_error());
    assert!(follow(DEPRECATE, "Q").terminated());
}

#[test]
fn last_words_have_the_number_that_the_client_expects() {
    assert_eq!(follow(DEPRECATE, "").next_sequence(), 0);
    assert_eq!(follow(DEPRECATE, "q ok").next_sequence(), 0);
    assert_eq!(follow(DEPRECATE, "q").next_sequence(), 1);
    let mut tracker = follow(DEPRECATE, "q");
    for (number, payload) in [(1, &b"\x01"[..]), (2, b"\x03def"), (3, b"\x011")] {
        tracker.to_client(&packet(number, payload));
    }
    assert_eq!(tracker.next_sequence(), 4);
    tracker.to_client(&packet(4, &of_server(DEPRECATE, "eof+m").unwrap()));
    assert_eq!(tracker.next_sequence(), 5, "another result of the same answer");
    let mut tracker = follow(DEPRECATE, "q file");
    assert_eq!(tracker.next_sequence(), 2);
    tracker.to_server(&packet(2, b"data"));
    tracker.to_server(&packet(3, b""));
    assert_eq!(tracker.next_sequence(), 4);
    assert_eq!(follow(DEPRECATE, "q file D E ok i").next_sequence(), 1);
}

proptest! {
    #[test]
    fn cutting_the_stream_anywhere_changes_nothing(cuts in prop::collection::vec(1_usize..7, 1..80), file in any::<bool>()) {
        let words = if file { "q file D D E ok+t" } else { "q cols def row row eof+m ok p prep1,1 def def e7 cols def eof+c f7 row eof+l q ok+t" };
        let mut expected = Tracker::new(DEPRECATE, AUTOCOMMIT, FileTransfer::default());
        let mut tracker = Tracker::new(DEPRECATE, AUTOCOMMIT, FileTransfer::default());
        let mut cuts = cuts.iter().cycle();
        for word in words.split_whitespace() {
            let server = of_server(DEPRECATE, word);
            let bytes = packet(u8::from(server.is_some()), &server.clone().unwrap_or_else(|| of_client(word)));
            if server.is_some() { expected.to_client(&bytes) } else { expected.to_server(&bytes) }
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let (part, behind) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                if server.is_some() { tracker.to_client(part) } else { tracker.to_server(part) }
                rest = behind;
                prop_assert!(rest.is_empty() || tracker.state() == SessionState::Busy);
            }
            prop_assert_eq!(tracker.state(), expected.state());
        }
        prop_assert_eq!(tracker.state(), SessionState::InTransaction);
    }

    #[test]
    fn no_bytes_panic(to_server in prop::collection::vec(any::<u8>(), 0..80), to_client in prop::collection::vec(any::<u8>(), 0..80)) {
        let mut tracker = Tracker::new(DEPRECATE, AUTOCOMMIT, FileTransfer::default());
        tracker.to_server(&to_server);
        tracker.to_client(&to_client);
        let mut near = follow(classic(), "q");
        near.to_client(&packet(1, &to_client));
        near.to_client(&packet(2, &to_server));
        let _ = (near.state(), near.next_sequence());
    }
}

#[test]
fn answered_statements_and_the_ends_of_their_transactions_are_counted() {
    for (conversation, queries, transactions) in [
        ("q cols", 0, 0),
        ("q ok", 1, 1),
        ("q ok+t q err+t q ok", 3, 1),
        ("q ok+m ok", 1, 1),
        ("p prep0,0 e7 ok c7 i ok", 1, 1),
        ("q err", 1, 1),
        ("s ok", 0, 0),
    ] {
        let counts = follow(DEPRECATE, conversation).counts();
        assert_eq!(counts, WorkCounts { queries, transactions }, "{conversation}");
    }
}
