//! One connection of a tool, from accept to end.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy, split};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::proxy_login::{ProxyLoginError, ProxySession, ProxyStream};
use super::refusal::{ToolRefusal, asks_for_fresh_token};
use super::scram::ScramFault;
use super::sockets::ToolStream;
use super::startup::{StartupFault, ToolRequest, ToolStartup, read_request};
use super::{Agent, NoToken, PersonalLogin};

/// Longest time for the packets of a tool: startup and local password. Tools that ask their user for a password connect
/// again with it.
pub(super) const TOOL_TIME: Duration = Duration::from_secs(30);

/// Longest wait for the proxy's last bytes once the tool has left.
pub(super) const GOODBYE: Duration = Duration::from_secs(10);

/// Serves a tool. `unproven` is its place among those that have not proved the local password.
pub(super) async fn run(agent: &Arc<Agent>, tool: ToolStream, unproven: Option<OwnedSemaphorePermit>) {
    match tool {
        ToolStream::Unix { stream, is_own: true } => serve(agent, stream, LocalProof::SameUser).await,
        ToolStream::Unix { stream, is_own: false } => refuse(stream, &ToolRefusal::another_person()).await,
        ToolStream::Tcp(stream) => serve(agent, stream, LocalProof::Password(unproven)).await,
    }
}

/// Tells a tool that there are too many.
pub(super) async fn refuse_as_too_many(tool: ToolStream) {
    let refusal = ToolRefusal::too_many();
    match tool {
        ToolStream::Unix { stream, .. } => refuse(stream, &refusal).await,
        ToolStream::Tcp(stream) => refuse(stream, &refusal).await,
    }
}

/// Refuses a session of a tool once it has asked for one; an error before that is not read by clients.
async fn refuse<S: AsyncRead + AsyncWrite + Unpin>(mut tool: S, refusal: &ToolRefusal) {
    let refusing = async {
        if let Ok(ToolRequest::Session(_)) = read_request(&mut tool).await {
            send(&mut tool, &refusal.bytes()).await;
        }
    };
    let _ = timeout(TOOL_TIME, refusing).await;
}

/// The proof that a tool belongs to the person.
enum LocalProof {
    /// The kernel says that the peer runs as the same user.
    SameUser,
    /// The local password, which is still to be proved; holds the place until then.
    Password(Option<OwnedSemaphorePermit>),
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(agent: &Arc<Agent>, mut tool: S, proof: LocalProof) {
    let Ok(opened) = timeout(TOOL_TIME, open(agent, &mut tool, proof)).await else { return };
    match opened {
        Opened::Session { startup, last_word } => begin(agent, tool, &startup, &last_word).await,
        Opened::Cancel(key) => {
            cancel(agent, &key).await;
            let _ = tool.shutdown().await; // clients wait for the end
        }
        Opened::Refused(refusal) => send(&mut tool, &refusal.bytes()).await,
        Opened::Closed => {}
    }
}

/// A tool that has been heard.
enum Opened {
    /// A tool of the person that wants a session. `last_word` ends the proof of the password.
    Session { startup: ToolStartup, last_word: Vec<u8> },
    /// A request to cancel a query.
    Cancel(Vec<u8>),
    /// A tool that gets an error.
    Refused(ToolRefusal),
    /// A tool that has left, or that is no client of PostgreSQL.
    Closed,
}

/// Hears what the tool wants, and whose it is.
async fn open<S: AsyncRead + AsyncWrite + Unpin>(agent: &Agent, tool: &mut S, proof: LocalProof) -> Opened {
    let startup = match read_request(tool).await {
        Ok(ToolRequest::Session(startup)) => startup,
        Ok(ToolRequest::Cancel(key)) => return Opened::Cancel(key),
        Err(StartupFault::Layout(problem)) => return Opened::Refused(ToolRefusal::protocol(problem)),
        Err(StartupFault::Io(_)) => return Opened::Closed,
    };
    if let Some(negotiation) = startup.negotiation()
        && tool.write_all(&negotiation).await.is_err()
    {
        return Opened::Closed;
    }
    let last_word = match (proof, &agent.verifier) {
        (LocalProof::SameUser, _) => Ok(Vec::new()),
        (LocalProof::Password(place), Some(verifier)) => {
            let proved = verifier.ask(tool).await;
            drop(place);
            proved
        }
        (LocalProof::Password(_), None) => Err(ScramFault::Wrong),
    };
    match last_word {
        Ok(last_word) => Opened::Session { startup, last_word },
        Err(ScramFault::Wrong) => Opened::Refused(ToolRefusal::wrong_password(&startup.user, &agent.profile)),
        Err(ScramFault::Closed) => Opened::Closed,
    }
}

/// Logs in at the proxy, and answers the tool only then.
async fn begin<S>(agent: &Arc<Agent>, mut tool: S, startup: &ToolStartup, last_word: &[u8])
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let session = match log_in(agent, startup).await {
        Ok(session) => session,
        Err(refusal) => return send(&mut tool, &refusal).await,
    };
    let live = session.key.map(|key| agent.register(key));
    let welcome = [last_word, &session.greeting].concat();
    if tool.write_all(&welcome).await.is_ok() && tool.flush().await.is_ok() {
        relay(tool, session.stream).await;
    }
    drop(live);
}

/// A session at the proxy, or the ErrorResponse for the tool. A token that the proxy refuses as too old, by its own clock
/// or by the word of AWS STS, is replaced once.
async fn log_in(agent: &Agent, startup: &ToolStartup) -> Result<ProxySession, Vec<u8>> {
    let person = person(agent.tokens.login().await, startup)?;
    let refusal = match log_in_as(agent, startup, &person).await {
        Err(refusal) if asks_for_fresh_token(&refusal) => refusal,
        ended => return ended,
    };
    let Some(renewal) = agent.tokens.renewal(person.token) else { return Err(refusal) };
    let person = self::person(renewal.await, startup)?;
    log_in_as(agent, startup, &person).await
}

fn person(
    answer: Option<Result<PersonalLogin, NoToken>>,
    startup: &ToolStartup,
) -> Result<PersonalLogin, Vec<u8>> {
    match answer {
        Some(Ok(person)) => Ok(person),
        Some(Err(error)) => Err(ToolRefusal::no_token(&startup.user, error).bytes()),
        None => Err(ToolRefusal::late_token().bytes()),
    }
}

async fn log_in_as(
    agent: &Agent,
    startup: &ToolStartup,
    person: &PersonalLogin,
) -> Result<ProxySession, Vec<u8>> {
    let packet = startup.packet_for(&person.user, &agent.databases);
    agent.proxy.log_in(&packet, &person.token).await.map_err(|error| match error {
        ProxyLoginError::Refused(error) => error,
        error => ToolRefusal::proxy(&error).bytes(),
    })
}

/// Copies bytes both ways until one side has ended. The end of the proxy's side is the end of the session; after the end
/// of the tool's side the proxy may say its last words.
async fn relay<S: AsyncRead + AsyncWrite + Unpin>(tool: S, proxy: ProxyStream) {
    let (mut from_tool, mut to_tool) = split(tool);
    let (mut from_proxy, mut to_proxy) = split(proxy);
    let up = async {
        let _ = copy(&mut from_tool, &mut to_proxy).await;
        let _ = to_proxy.shutdown().await;
    };
    let down = async {
        let _ = copy(&mut from_proxy, &mut to_tool).await;
        let _ = to_tool.shutdown().await;
    };
    let mut down = std::pin::pin!(down);
    tokio::select! {
        () = &mut down => {}
        () = up => {
            let _ = timeout(GOODBYE, down).await;
        }
    }
}

/// Passes on the cancel of a live session. Keys that no session has are guesses, and the proxy would count them.
async fn cancel(agent: &Agent, key: &[u8]) {
    if agent.is_live(key)
        && let Ok(_place) = agent.cancels.acquire().await
    {
        let _ = agent.proxy.cancel(key).await; // a cancel has no answer
    }
}

/// Sends the last bytes to a tool.
async fn send<S: AsyncWrite + Unpin>(tool: &mut S, bytes: &[u8]) {
    if tool.write_all(bytes).await.is_ok() {
        let _ = tool.shutdown().await;
    }
}
