//! Logins at servers that follow a script, good and bad.

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;

use super::*;
use crate::mysql::greeting::ServerIdentity;
use crate::mysql::login_request::NamedAttributes;
use crate::mysql::packet::packet;
use crate::mysql::response::{ClientStartup, tests::response};
use crate::protocol::{ServerLoginError as _, Shortage};

const SWITCH: &[u8] = b"\xfemysql_clear_password\0";
const WELCOME: &[u8] = b"\0\0\0\x02\0\0\0";
const DENIED: &[u8] = b"\xff\x15\x04#28000Access denied for user 'alice'@'10.0.0.7' (using password: YES)";

fn startup() -> ClientStartup {
    let sent = response(Capabilities::COMMON, &[b"alice\0", b"\0", b"\0", b"p\0", b"\0"]);
    ClientStartup::parse(&sent, Capabilities::COMMON).unwrap().0
}

fn greeting(capabilities: Capabilities) -> ServerGreeting {
    let identity = ServerIdentity { version: "8.0.39".into(), charset: 255, capabilities };
    ServerGreeting { connection_id: 42, identity }
}

/// A server that writes `answers`, each after a packet of the client, and returns the packets.
fn server(mut stream: DuplexStream, answers: &[&[u8]]) -> JoinHandle<Vec<Vec<u8>>> {
    let answers: Vec<Vec<u8>> = answers.iter().map(|answer| answer.to_vec()).collect();
    tokio::spawn(async move {
        let (mut heard, mut sequence) = (Vec::new(), Sequence::default());
        for answer in answers {
            let Ok(packet) = sequence.read(&mut stream, 1 << 20).await else { break };
            heard.push(packet.payload.clone());
            if sequence.write(&mut stream, &answer).await.is_err() {
                break;
            }
        }
        while let Ok(packet) = sequence.read(&mut stream, 1 << 20).await {
            heard.push(packet.payload.clone());
        }
        heard
    })
}

/// A login at a server that answers so, and the packets that it got.
async fn attempt(answers: &[&[u8]]) -> (Result<LoginReply, ServerLoginError>, Vec<Vec<u8>>) {
    let (mut ours, theirs) = duplex(1 << 20);
    let server = server(theirs, answers);
    let startup = startup();
    let extra = NamedAttributes::default();
    let wanted =
        LoginParameters { user: "alice", database: Some("app"), startup: &startup, attributes: &extra };
    let token = IamToken::new("iam-token".into());
    let greeting = greeting(Capabilities::from_bits(0xdfff_ffff));
    let result = log_in(&mut ours, &mut Sequence::default(), &greeting, wanted, &token).await;
    drop(ours);
    (result, server.await.unwrap())
}

#[tokio::test]
async fn the_token_answers_a_request_for_a_cleartext_password() {
    let (reply, heard) = attempt(&[SWITCH, WELCOME]).await;
    let reply = reply.unwrap();
    assert_eq!((&reply.ok[..], reply.status, reply.database.as_deref()), (WELCOME, 2, Some("app")));
    assert_eq!(heard.len(), 2);
    assert!(!heard[0].windows(9).any(|bytes| bytes == b"iam-token"));
    assert_eq!(heard[1], b"iam-token\0");
}

#[tokio::test]
async fn p2_no_other_question_gets_the_token() {
    for (question, asked) in [
        (&b"\xfecaching_sha2_password\0abcdefghijklmnopqrst\0"[..], "caching_sha2_password"),
        (b"\xfemysql_native_password\0abcdefghijklmnopqrst\0", "mysql_native_password"),
        (b"\xfeMYSQL_CLEAR_PASSWORD\0", "MYSQL_CLEAR_PASSWORD"),
        (b"\xfemysql_clear_password2", "mysql_clear_password2"),
        (b"\xfe", "mysql_old_password"),
        (b"\xfe\x1b]0;\0", "\\u{1b}]0;"),
        (WELCOME, "nothing"),
    ] {
        let (reply, heard) = attempt(&[question]).await;
        let error = reply.unwrap_err();
        assert!(matches!(&error, ServerLoginError::NotIam { asked: a, .. } if a == asked), "{error}");
        assert_eq!(heard.len(), 1, "nothing was sent for {asked}");
        assert!(!error.is_about_credentials() && !error.is_of_the_address());
    }
    for question in [&b"\x01more"[..], b"", b"\x02"] {
        let (reply, heard) = attempt(&[question]).await;
        assert!(matches!(reply, Err(ServerLoginError::Wire(WireError::Unexpected(_)))), "{reply:?}");
        assert_eq!(heard.len(), 1);
    }
}

#[tokio::test]
async fn refusals_say_at_which_step_they_came() {
    let (reply, heard) = attempt(&[SWITCH, DENIED]).await;
    let error = reply.unwrap_err();
    assert!(error.is_about_credentials() && heard.len() == 2, "{error}");
    let (reply, heard) = attempt(&[DENIED]).await;
    let error = reply.unwrap_err();
    assert!(!error.is_about_credentials() && heard.len() == 1, "{error}");
    let not_loaded = b"\xff\xf4\x05#HY000Plugin 'AWSAuthenticationPlugin' is not loaded";
    let error = attempt(&[not_loaded]).await.0.unwrap_err();
    assert!(matches!(&error, ServerLoginError::Refused(error) if error.errno == 1524), "{error}");
    for (errno, shortage, of_the_address) in [
        (1040_u16, Some(Shortage::Server), false),
        (1203, Some(Shortage::Role), false),
        (1226, Some(Shortage::Role), false),
        (1053, None, true),
        (3168, None, true),
        (1049, None, false),
    ] {
        let answer = [&[ERR][..], &errno.to_le_bytes(), b"#HY000x"].concat();
        let error = attempt(&[SWITCH, &answer]).await.0.unwrap_err();
        assert_eq!((error.shortage(), error.is_of_the_address()), (shortage, of_the_address), "{errno}");
    }
    let error = attempt(&[SWITCH, b"\xfecaching_sha2_password\0x"]).await.0.unwrap_err();
    assert!(matches!(error, ServerLoginError::NotIam { .. }), "a second question: {error}");
}

#[tokio::test]
async fn a_server_without_a_flag_that_was_offered_is_not_used() {
    let (mut ours, theirs) = duplex(1 << 16);
    let server = server(theirs, &[SWITCH, WELCOME]);
    let startup = startup();
    let extra = NamedAttributes::default();
    let wanted = LoginParameters { user: "alice", database: None, startup: &startup, attributes: &extra };
    let old = Capabilities::from_bits(0xdfff_ffff & !Capabilities::DEPRECATE_EOF.bits());
    let token = IamToken::new("iam-token".into());
    let result = log_in(&mut ours, &mut Sequence::default(), &greeting(old), wanted, &token).await;
    drop(ours);
    assert!(matches!(result, Err(ServerLoginError::Changed)), "{result:?}");
    assert!(server.await.unwrap().is_empty());
}

#[tokio::test]
async fn a_server_that_floods_or_leaves_ends_the_login() {
    let flood = vec![0; limits::MAX_LOGIN_PACKET + 1];
    let error = attempt(&[SWITCH, &flood]).await.0.unwrap_err();
    assert!(matches!(error, ServerLoginError::Wire(WireError::Length(_))), "{error}");
    let (mut ours, theirs) = duplex(1 << 16);
    drop(theirs);
    let startup = startup();
    let extra = NamedAttributes::default();
    let wanted = LoginParameters { user: "alice", database: None, startup: &startup, attributes: &extra };
    let token = IamToken::new("iam-token".into());
    let all = greeting(Capabilities::from_bits(u32::MAX));
    let error = log_in(&mut ours, &mut Sequence::default(), &all, wanted, &token).await.unwrap_err();
    assert!(error.is_of_the_address(), "{error}");
    for short in [&b"\0\0\0\x02"[..], b"\0", b"\0\xfb\0\0\0"] {
        let error = attempt(&[SWITCH, short]).await.0.unwrap_err();
        assert!(matches!(error, ServerLoginError::Wire(WireError::Malformed(_))), "{short:?}: {error}");
    }
}

#[tokio::test]
async fn p1_the_part_in_clear_asks_for_tls_and_for_nothing_else() {
    let greet = |capabilities: u32| {
        let [low, low_2, high, high_2] = capabilities.to_le_bytes();
        let mut payload = b"\x0a8.0.39\0\x2a\0\0\0abcdefgh\0".to_vec();
        payload.extend([low, low_2, 255, 2, 0, high, high_2, 21]);
        payload.extend([0; 10]);
        payload.extend(b"ijklmnopqrst\0mysql_native_password\0");
        payload
    };
    let ask = async |payload: Vec<u8>, number: u8| {
        let (mut ours, mut theirs) = duplex(1 << 16);
        theirs.write_all(&packet(number, &payload)).await.unwrap();
        let result = request_tls(&mut ours, |_| vec![7; 32]).await;
        drop(ours);
        let mut heard = Vec::new();
        theirs.read_to_end(&mut heard).await.unwrap();
        (result, heard)
    };
    let (result, heard) = ask(greet(0xdfff_ffff), 0).await;
    let (greeting, sequence) = result.unwrap();
    assert_eq!((greeting.connection_id, sequence.next()), (42, 2));
    assert_eq!(heard, packet(1, &[7; 32]));
    let no_tls = ask(greet(0xdfff_ffff & !Capabilities::SSL.bits()), 0).await;
    assert!(matches!(no_tls, (Err(GreetingError::NoTls), heard) if heard.is_empty()));
    let old = ask(greet(0xdfff_ffff & !Capabilities::PLUGIN_AUTH.bits()), 0).await;
    assert!(matches!(old, (Err(GreetingError::TooOld), heard) if heard.is_empty()));
    let (full, heard) = ask(b"\xff\x10\x04Too many connections".to_vec(), 0).await;
    assert!(
        matches!(&full, Err(GreetingError::Refused(error)) if error.errno == 1040) && heard.is_empty(),
        "{full:?}"
    );
    let (http, heard) = ask(b"HTTP/1.1 400 Bad Request".to_vec(), 0).await;
    assert!(matches!(http, Err(GreetingError::Wire(_))) && heard.is_empty());
    assert!(matches!(
        ask(greet(0xdfff_ffff), 1).await.0,
        Err(GreetingError::Wire(WireError::Sequence { .. }))
    ));
    assert!(matches!(ask(vec![10; 1_025], 0).await.0, Err(GreetingError::Wire(WireError::Length(1_025)))));
}
