//! A client that tries everything to bring a `COM_CHANGE_USER` past the filter, at a model of both servers.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::mysql::capabilities::Capabilities;
use crate::mysql::packet::packet;
use crate::mysql::tracker::Tracker;
use crate::protocol::SessionTracker;

const ERROR: &[u8] = b"\xff\x17\x04#08S01no";
const OK: &[u8] = b"\0\0\0\x02\0\0\0";

/// A server that reads one packet after the other and insists on their numbers.
#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "a model, not a state machine")]
struct Server {
    /// MariaDB does not answer a command for a statement that is too short.
    mariadb: bool,
    input: Vec<u8>,
    /// Number of the client's next packet.
    expects: u8,
    reads_file: bool,
    closed: bool,
    /// Packets on their way to the client.
    output: VecDeque<Vec<u8>>,
    /// True once the user may change.
    changed: bool,
}

impl Server {
    fn receive(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        while let Some(header) = self.input.first_chunk::<HEADER>() {
            let (length, sequence) = split_header(*header);
            if self.input.len() < HEADER + length || self.closed {
                return;
            }
            let rest = self.input.split_off(HEADER + length);
            let payload = std::mem::replace(&mut self.input, rest).split_off(HEADER);
            if sequence == self.expects {
                self.take(sequence, &payload);
            } else {
                self.closed = true;
                self.say(sequence, &[ERROR]);
            }
        }
    }

    fn take(&mut self, sequence: u8, payload: &[u8]) {
        if self.reads_file {
            self.expects = sequence.wrapping_add(1);
            if payload.is_empty() {
                (self.reads_file, self.expects) = (false, 0);
                self.say(sequence, &[OK]);
            }
            return;
        }
        match payload {
            [0x11, ..] => self.changed = true,
            b"\x03load" => {
                (self.reads_file, self.expects) = (true, 2);
                self.say(0, &[b"\xfb/x"]);
            }
            [0x03, ..] => {
                self.say(0, &[b"\x02", b"\x03def1", b"\x03def2", b"\xfb\x01x", b"\xfe\0\0\x02\0\0\0"]);
            }
            [0x09, ..] => self.say(0, &[b"Uptime"]),
            [0x0e] => self.say(0, &[OK]),
            [0x18 | 0x19, ..] if self.mariadb => {}
            _ => self.say(0, &[ERROR]),
        }
    }

    fn say(&mut self, behind: u8, payloads: &[&[u8]]) {
        for (number, payload) in (behind.wrapping_add(1)..).zip(payloads) {
            self.output.push_back(packet(number, payload));
        }
    }
}

/// The relay: filter and tracker between client and server.
struct Session {
    filter: CommandFilter,
    tracker: Tracker,
    server: Server,
}

impl Session {
    fn send(&mut self, bytes: &[u8]) {
        let mut bytes = [&*std::mem::take(&mut self.filter.held), bytes].concat();
        let passed = self.filter.filter(&mut bytes);
        bytes.truncate(passed);
        self.server.receive(&bytes);
        self.tracker.to_server(&bytes);
    }

    fn deliver(&mut self, packets: usize) {
        for packet in self.server.output.drain(..packets.min(self.server.output.len())) {
            self.tracker.to_client(&packet);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_024))]

    #[test]
    fn u9_no_order_of_packets_brings_a_change_of_the_user_to_a_server(
        steps in prop::collection::vec((0_u8..12, any::<u8>()), 1..40),
        mariadb in any::<bool>(),
    ) {
        let ids = Arc::new(ConnectionIds::default());
        let scope = KillScope { ids, server: "10.0.0.1:3306".parse().unwrap(), remote: None, replicas: false };
        let transfer = FileTransfer::default();
        let mut session = Session {
            filter: CommandFilter::new(scope, transfer.clone(), false),
            tracker: Tracker::new(Capabilities::COMMON, 2, transfer),
            server: Server { mariadb, ..Server::default() },
        };
        // The number that a server expects next if it reads a file.
        let mut number = 2;
        for (step, detail) in steps {
            let payloads: [&[u8]; 4] = [b"\x09", b"\x03select null", b"\x11root\0", b"\x18"];
            let bytes = match step {
                0 | 1 => packet(0, b"\x03select null"),
                2 => packet(0, b"\x03load"),
                3 => packet(0, b"\x09"),
                4 => packet(0, b"\x18"),
                5 => packet(0, b"\x19"),
                6 | 7 => packet(number, payloads[usize::from(detail % 4)]),
                8 => packet(number, b""),
                9 => packet(0, b"\x11root\0"),
                10 => packet(0, b"\x0e"),
                _ => {
                    session.deliver(usize::from(detail % 6) + 1);
                    continue;
                }
            };
            number = if matches!(step, 6..=8) { number.wrapping_add(1) } else { 2 };
            session.send(&bytes);
        }
        prop_assert!(!session.server.changed);
        for _ in 0..session.server.output.len() {
            session.deliver(1);
            session.send(&packet(0, b"\x11root\0"));
        }
        prop_assert!(!session.server.changed);
    }
}
