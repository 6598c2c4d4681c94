//! The connection of a MySQL tool to the agent, from accept to close.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::MysqlTools;
use super::local_login::{LoginFault, ToolLogin, ToolProof, meet};
use super::proxy_login::{LoginNames, MysqlProxySession};
use crate::agent::proxy_login::{ProxyLoginError, ProxyStream};
use crate::agent::refusal::ToolRefusal;
use crate::agent::sockets::ToolStream;
use crate::agent::tool_session::{GOODBYE, TOOL_TIME};
use crate::agent::{Agent, NoToken, PersonalLogin};
use crate::mysql::client_filter::{CommandFilter, FilteredClient, KillScope};
use crate::mysql::connection_ids::ServerConnection;
use crate::mysql::file_transfer::FileTransfer;
use crate::mysql::packet::Sequence;
use crate::mysql::tracker::Tracker;
use crate::protocol::SessionTracker;
use crate::refusal::FRESH_TOKEN;
use crate::sync::lock;

/// `AuthMoreData` of `caching_sha2_password`: the proof is right (MySQL source, `caching_sha2_password.cc`,
/// `fast_auth_success`).
const PROOF_IS_RIGHT: &[u8] = &[1, 3];

/// Bytes that are copied at a time, in each direction.
const BUFFER: usize = 16 * 1024;

/// Serves a tool. `unproven` is its place among those that have not proved the local password.
pub(in crate::agent) async fn run(
    agent: &Agent,
    tools: &MysqlTools,
    tool: ToolStream,
    unproven: Option<OwnedSemaphorePermit>,
) {
    match tool {
        ToolStream::Unix { stream, is_own: true } => {
            serve(agent, tools, stream, (ToolProof::SameUser, None)).await;
        }
        ToolStream::Unix { stream, is_own: false } => refuse(stream, &ToolRefusal::another_person()).await,
        ToolStream::Tcp(stream) => {
            let proof = ToolProof::Password(tools.verifier.as_ref());
            serve(agent, tools, stream, (proof, unproven)).await;
        }
    }
}

/// Tells a tool that there are too many.
pub(in crate::agent) async fn refuse_as_too_many(tool: ToolStream) {
    let refusal = ToolRefusal::too_many();
    match tool {
        ToolStream::Unix { stream, .. } => refuse(stream, &refusal).await,
        ToolStream::Tcp(stream) => refuse(stream, &refusal).await,
    }
}

/// Refuses a tool in place of the greeting.
async fn refuse<S: AsyncRead + AsyncWrite + Unpin>(mut tool: S, refusal: &ToolRefusal) {
    let _ = timeout(TOOL_TIME, end(&mut tool, &mut Sequence::default(), &refusal.err_payload())).await;
}

/// Sends the last packet to a tool.
async fn end<S: AsyncWrite + Unpin>(tool: &mut S, sequence: &mut Sequence, payload: &[u8]) {
    if sequence.write(tool, payload).await.is_ok() {
        let _ = tool.shutdown().await;
    }
}

/// Reads the tool's login, logs in at the proxy, and answers the tool only then. A tool that has to prove the local
/// password gives `place` back once it has.
async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    agent: &Agent,
    tools: &MysqlTools,
    mut tool: S,
    (proof, place): (ToolProof<'_>, Option<OwnedSemaphorePermit>),
) {
    let id = tools.ids.assign();
    let (identity, mut sequence) = (tools.identity(), Sequence::default());
    let meeting = meet(&mut tool, &mut sequence, (&identity, id.number()), proof);
    let Ok(met) = timeout(TOOL_TIME, meeting).await else { return };
    drop(place);
    let mut login = match met {
        Ok(login) => login,
        Err(LoginFault::Closed) => return,
        Err(LoginFault::Wrong(user)) => {
            let refusal = ToolRefusal::wrong_password(&user, &agent.profile);
            return end(&mut tool, &mut sequence, &refusal.err_payload()).await;
        }
        Err(LoginFault::Layout(problem)) => {
            return end(&mut tool, &mut sequence, &ToolRefusal::protocol(&problem).err_payload()).await;
        }
    };
    let session = match log_in(agent, tools, &login).await {
        Ok(session) => session,
        Err(payload) => return end(&mut tool, &mut login.sequence, &payload).await,
    };
    id.serve(ServerConnection { server: session.addr, number: session.number });
    if welcome(&mut tool, &mut login, &session.ok).await.is_ok() {
        let scope =
            KillScope { ids: Arc::clone(&tools.ids), server: session.addr, remote: None, replicas: false };
        relay(tool, session, scope).await;
    }
}

/// A session at the proxy, or the payload of the error for the tool. A token that the proxy refuses as too old is replaced once.
async fn log_in(agent: &Agent, tools: &MysqlTools, login: &ToolLogin) -> Result<MysqlProxySession, Vec<u8>> {
    let user = login.startup.user();
    let person = person(agent.tokens.login().await, user)?;
    let refusal = match log_in_as(agent, tools, login, &person).await {
        Err(refusal) if asks_for_fresh_token(&refusal) => refusal,
        ended => return ended,
    };
    let Some(renewal) = agent.tokens.renewal(person.token) else { return Err(refusal) };
    let person = self::person(renewal.await, user)?;
    log_in_as(agent, tools, login, &person).await
}

/// True for an error of the proxy that asks for a fresh token.
fn asks_for_fresh_token(payload: &[u8]) -> bool {
    payload.windows(FRESH_TOKEN.len()).any(|text| text == FRESH_TOKEN.as_bytes())
}

fn person(answer: Option<Result<PersonalLogin, NoToken>>, user: &str) -> Result<PersonalLogin, Vec<u8>> {
    match answer {
        Some(Ok(person)) => Ok(person),
        Some(Err(error)) => Err(ToolRefusal::no_token(user, error).err_payload()),
        None => Err(ToolRefusal::late_token().err_payload()),
    }
}

async fn log_in_as(
    agent: &Agent,
    tools: &MysqlTools,
    login: &ToolLogin,
    person: &PersonalLogin,
) -> Result<MysqlProxySession, Vec<u8>> {
    let startup = &login.startup;
    let database = startup.database().or(agent.databases.first().map(String::as_str));
    let names = LoginNames { user: &person.user, database };
    let learn = |identity| tools.learn(identity);
    agent.proxy.log_in_mysql(startup, names, &person.token, learn).await.map_err(|error| match error {
        ProxyLoginError::Refused(payload) => payload,
        error => ToolRefusal::proxy(&error).err_payload(),
    })
}

/// Passes the proxy's OK on.
async fn welcome<S: AsyncWrite + Unpin>(
    tool: &mut S,
    login: &mut ToolLogin,
    ok: &[u8],
) -> Result<(), crate::mysql::packet::WireError> {
    if login.awaits_word {
        login.sequence.write(tool, PROOF_IS_RIGHT).await?;
    }
    login.sequence.write(tool, ok).await
}

/// Copies bytes both ways until one side has ended. The end of the proxy's side is the end of the session; after the end
/// of the tool's side the proxy may say its last words. The tracker tells the filter of files that the server reads.
async fn relay<S: AsyncRead + AsyncWrite + Unpin>(tool: S, session: MysqlProxySession, scope: KillScope) {
    let MysqlProxySession { stream, capabilities, status, .. } = session;
    let transfer = FileTransfer::default();
    let tracker = Mutex::new(Tracker::new(capabilities, status, transfer.clone()));
    let (from_tool, mut to_tool) = split(tool);
    let mut from_tool =
        FilteredClient { stream: from_tool, filter: CommandFilter::new(scope, transfer, false) };
    let (mut from_proxy, mut to_proxy) = split::<ProxyStream>(stream);
    let up = async {
        let _ = copy(&mut from_tool, &mut to_proxy, |bytes| lock(&tracker).to_server(bytes)).await;
        let _ = to_proxy.shutdown().await;
    };
    let down = async {
        let _ = copy(&mut from_proxy, &mut to_tool, |bytes| lock(&tracker).to_client(bytes)).await;
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

/// Copies until the reader's end. `note` sees bytes before the writer has them, so that the other direction knows of them before
/// they are answered.
async fn copy<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    reader: &mut R,
    writer: &mut W,
    note: impl Fn(&[u8]),
) -> std::io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = reader.read(&mut buffer).await?;
        let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else { return Ok(()) };
        note(bytes);
        writer.write_all(bytes).await?;
        writer.flush().await?;
    }
}
