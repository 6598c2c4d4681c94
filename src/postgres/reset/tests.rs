//! Good answers to a reset, and every other kind.

use tokio::io::{AsyncReadExt, DuplexStream, duplex};

use super::*;

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    [&[tag], &message_length(body.len())[..], body].concat()
}

fn parameter(name: &str, value: &str) -> Vec<u8> {
    message(b'S', format!("{name}\0{value}\0").as_bytes())
}

fn greeting(messages: &[Vec<u8>]) -> LoginGreeting {
    LoginGreeting { messages: BytesMut::from(&messages.concat()[..]), status: TransactionStatus::Idle }
}

/// What PostgreSQL answers to one command.
fn done(tag: &str) -> Vec<u8> {
    [message(b'C', format!("{tag}\0").as_bytes()), message(b'Z', b"I")].concat()
}

fn shown(value: &str) -> Vec<u8> {
    let length = u32::try_from(value.len()).unwrap().to_be_bytes();
    let row = [&[0, 1], &length[..], value.as_bytes()].concat();
    [message(b'T', b"what it is"), message(b'D', &row), done("SHOW")].concat()
}

/// Resets over a pipe whose other end says `answers`; gives what was asked too.
async fn run(
    answers: &[u8],
    parameters: &mut ServerParameters,
    ask: bool,
) -> (Result<(), ResetError>, Vec<u8>) {
    let (mut ours, mut theirs): (DuplexStream, DuplexStream) = duplex(1 << 20);
    theirs.write_all(answers).await.unwrap();
    theirs.shutdown().await.unwrap();
    let result = reset(&mut ours, parameters, ask).await;
    drop(ours);
    let mut asked = Vec::new();
    theirs.read_to_end(&mut asked).await.unwrap();
    (result, asked)
}

async fn judged(answers: &[Vec<u8>]) -> Result<(), ResetError> {
    run(&answers.concat(), &mut ServerParameters(Vec::new()), false).await.0
}

fn good() -> Vec<u8> {
    [done("DISCARD ALL"), done("RESET")].concat()
}

#[tokio::test]
async fn what_is_asked_is_all_there_is() {
    let (result, asked) = run(&good(), &mut ServerParameters(Vec::new()), false).await;
    result.unwrap();
    assert_eq!(asked, [message(b'Q', b"DISCARD ALL\0"), message(b'Q', b"RESET ROLE\0")].concat());
}

#[tokio::test]
async fn u4_only_the_whole_good_answer_is_good() {
    judged(&[good()]).await.unwrap();
    let late = [message(b'N', b"a notice"), message(b'A', b"a notification"), parameter("TimeZone", "UTC")];
    judged(&[late.concat(), good()]).await.unwrap();
    let discarded = message(b'C', b"DISCARD ALL\0");
    for bad in [
        vec![],
        good()[..good().len() - 1].to_vec(),
        done("DISCARD ALL"),
        [message(b'E', b"SERROR\0\0"), message(b'Z', b"I"), done("RESET")].concat(),
        [discarded.clone(), message(b'E', b"SERROR\0\0"), message(b'Z', b"I"), done("RESET")].concat(),
        [discarded.clone(), message(b'Z', b"T"), done("RESET")].concat(),
        [discarded.clone(), message(b'Z', b"E"), done("RESET")].concat(),
        [discarded.clone(), message(b'Z', b""), done("RESET")].concat(),
        [message(b'Z', b"I"), good()].concat(), // the last answer of the session before
        [done("SELECT 1"), good()].concat(),
        [done("DISCARD"), done("RESET")].concat(),
        [done("RESET"), done("DISCARD ALL")].concat(),
        [discarded.clone(), discarded, message(b'Z', b"I"), done("RESET")].concat(),
        [message(b'D', b"\0\x01\0\0\0\x01x"), good()].concat(),
        [message(b'G', b"\0\0\0"), good()].concat(),
        [done("DISCARD ALL"), message(b'E', b"SERROR\0\0"), message(b'Z', b"I")].concat(),
        b"C\0\0\0\x03".to_vec(),
    ] {
        assert!(judged(std::slice::from_ref(&bad)).await.is_err(), "{:?}", String::from_utf8_lossy(&bad));
    }
}

#[tokio::test]
async fn u4_sixty_four_kibibytes_are_read_and_not_one_more() {
    let filler = |bytes: usize| message(b'A', &vec![0; bytes - 5]);
    let room = MAX_RESET_BYTES - good().len();
    judged(&[filler(room), good()]).await.unwrap();
    let many: Vec<u8> = (0..room / 16).flat_map(|_| filler(16)).collect();
    judged(&[many.clone(), filler(room - many.len() + 16)[16..].to_vec(), good()]).await.unwrap_err();
    assert!(matches!(judged(&[filler(room + 1), good()]).await, Err(ResetError::TooMuch)));
    let endless = filler(16).repeat(MAX_RESET_BYTES / 16 + 1);
    assert!(matches!(judged(&[endless]).await, Err(ResetError::TooMuch)));
    assert!(matches!(judged(&[b"A\x7f\xff\xff\xff".to_vec()]).await, Err(ResetError::TooMuch)));
}

#[tokio::test]
async fn u4_parameters_are_as_the_server_has_told_last() {
    let login = [parameter("TimeZone", "Europe/Berlin"), message(b'N', b"hello"), parameter("a.b", "")];
    let mut parameters = ServerParameters::of(&greeting(&login)).unwrap();
    let told = [done("DISCARD ALL"), parameter("TimeZone", "UTC"), done("RESET"), parameter("new", "x")];
    let answers = [told[..3].concat(), vec![]].concat();
    run(&answers, &mut parameters, false).await.0.unwrap();
    let now = [parameter("TimeZone", "UTC"), parameter("a.b", "")].concat();
    assert_eq!(parameters.greeting().messages, now, "in their order, each once, and no notice");
    assert_eq!(parameters.greeting().status_byte(), b'I');
}

#[tokio::test]
async fn u4_a_server_that_has_told_of_something_is_asked_for_everything() {
    let login = [parameter("in_hot_standby", "on"), parameter("TimeZone", "UTC")];
    let mut parameters = ServerParameters::of(&greeting(&login)).unwrap();
    let answers = [good(), shown("off"), shown("Asia/Tokyo")].concat();
    let (result, asked) = run(&answers, &mut parameters, true).await;
    result.unwrap();
    assert!(asked.ends_with(&message(b'Q', b"SHOW \"TimeZone\"\0")), "{asked:?}");
    let now = [parameter("in_hot_standby", "off"), parameter("TimeZone", "Asia/Tokyo")].concat();
    assert_eq!(parameters.greeting().messages, now);
    for bad in [
        [good(), shown("off")].concat(),
        [good(), done("SHOW"), done("SHOW")].concat(),
        [good(), shown("off"), message(b'E', b"SERROR\0\0"), message(b'Z', b"I")].concat(),
        [good(), shown("off"), message(b'D', b"\0\x01\xff\xff\xff\xff"), done("SHOW")].concat(),
        [good(), shown("off"), message(b'D', b"\0\x02\0\0\0\x01x\0\0\0\x01y"), done("SHOW")].concat(),
        [good(), shown("off"), message(b'D', b"\0\x01\0\0\0\x02x"), done("SHOW")].concat(),
        [good(), shown("off"), shown("a\0b")].concat(),
    ] {
        let mut parameters = ServerParameters::of(&greeting(&login)).unwrap();
        assert!(run(&bad, &mut parameters, true).await.0.is_err(), "{:?}", String::from_utf8_lossy(&bad));
    }
}

#[tokio::test]
async fn u4_a_name_from_the_server_is_no_command() {
    let login = [parameter("x\"; drop table t; --", "1")];
    let mut parameters = ServerParameters::of(&greeting(&login)).unwrap();
    let (result, asked) = run(&good(), &mut parameters, true).await;
    assert!(matches!(result, Err(ResetError::Wire(WireError::Malformed(_)))), "{result:?}");
    assert!(asked.is_empty());
}

#[test]
fn u4_what_cannot_be_remembered_is_not_kept() {
    let long = |bytes: usize| ServerParameters::of(&greeting(&[parameter("n", &"v".repeat(bytes - 1))]));
    assert!(long(MAX_PARAMETER_BYTES).is_some() && long(MAX_PARAMETER_BYTES + 1).is_none());
    for bad in [&b"name\0"[..], b"name\0value", b"name\0value\0\0", b"", b"\0\0\0"] {
        assert!(ServerParameters::of(&greeting(&[message(b'S', bad)])).is_none(), "{bad:?}");
    }
    for cut in [&b"S"[..], b"S\0\0\0\x09a\0b", b"S\0\0\0\x03", b"S\0\0\0\x08a\0b\0S"] {
        assert!(ServerParameters::of(&greeting(&[cut.to_vec()])).is_none(), "{cut:?}");
    }
}

/// Checks over a pipe whose other end says `answers`; gives what was asked too.
async fn run_check(
    answers: &[Vec<u8>],
    parameters: &mut ServerParameters,
    name: Option<&str>,
) -> (Result<(), ResetError>, Vec<u8>) {
    let (mut ours, mut theirs): (DuplexStream, DuplexStream) = duplex(1 << 20);
    theirs.write_all(&answers.concat()).await.unwrap();
    theirs.shutdown().await.unwrap();
    let result = check(&mut ours, parameters, name).await;
    drop(ours);
    let mut asked = Vec::new();
    theirs.read_to_end(&mut asked).await.unwrap();
    (result, asked)
}

#[tokio::test]
async fn u4_a_check_is_one_sync_and_brings_what_has_changed() {
    let login = [parameter("application_name", "psql"), parameter("in_hot_standby", "off")];
    let ready = message(b'Z', b"I");
    for name in [None, Some("psql")] {
        let mut parameters = ServerParameters::of(&greeting(&login)).unwrap();
        let answers = [message(b'N', b"a notice"), parameter("in_hot_standby", "on"), ready.clone()];
        let (result, asked) = run_check(&answers, &mut parameters, name).await;
        result.unwrap();
        assert_eq!(asked, message(b'S', b""));
        let now = [parameter("application_name", "psql"), parameter("in_hot_standby", "on")].concat();
        assert_eq!(parameters.greeting().messages, now);
    }
    for bad in [
        vec![],
        vec![message(b'Z', b"T")],
        vec![message(b'Z', b"E")],
        vec![message(b'E', b"SFATAL\0\0")],
        vec![message(b'C', b"SELECT 1\0"), ready.clone()],
        vec![message(b'S', b"no value\0"), ready.clone()],
        vec![ready[..5].to_vec()],
        vec![message(b'A', &vec![0; MAX_RESET_BYTES]), ready],
    ] {
        let mut parameters = ServerParameters::of(&greeting(&login)).unwrap();
        assert!(run_check(&bad, &mut parameters, None).await.0.is_err(), "{bad:?}");
    }
}

#[tokio::test]
async fn u4_a_name_is_set_as_it_is_and_has_to_be_told() {
    let login = [parameter("application_name", "psql")];
    for (name, constant) in [
        ("a", "E'a'"),
        ("", "E''"),
        ("it's", "E'it''s'"),
        ("\\", "E'\\\\'"),
        ("\\'; drop table t; --", "E'\\\\''; drop table t; --'"),
    ] {
        let mut parameters = ServerParameters::of(&greeting(&login)).unwrap();
        let answers = [parameter("application_name", name), done("SET")];
        let (result, asked) = run_check(&answers, &mut parameters, Some(name)).await;
        result.unwrap();
        assert_eq!(asked, message(b'Q', format!("SET application_name = {constant}\0").as_bytes()));
        assert!(parameters.has_name(name));
    }
    for bad in [
        vec![done("SET")],
        vec![parameter("application_name", "b"), done("SET")],
        vec![parameter("application_name", "a"), message(b'Z', b"I")],
        vec![parameter("application_name", "a"), done("SELECT 1")],
        vec![message(b'E', b"SERROR\0\0"), message(b'Z', b"I")],
    ] {
        let mut parameters = ServerParameters::of(&greeting(&login)).unwrap();
        assert!(run_check(&bad, &mut parameters, Some("a")).await.0.is_err(), "{bad:?}");
    }
    // A server that never tells of it.
    let mut parameters = ServerParameters(Vec::new());
    run_check(&[done("SET")], &mut parameters, Some("a")).await.0.unwrap();
}
