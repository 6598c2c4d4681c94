//! The login at a proxy that speaks MySQL, with the person's token.

use std::net::SocketAddr;

use tokio::time::{Instant, timeout_at};
use zeroize::Zeroizing;

use crate::agent::proxy_login::{
    CONNECT_TIME, LOGIN_TIME, ProxyAddress, ProxyLoginError, ProxyStream, late_answer,
};
use crate::mysql::capabilities::Capabilities;
use crate::mysql::greeting::{ServerGreeting, ServerIdentity};
use crate::mysql::limits::MAX_LOGIN_PACKET;
use crate::mysql::login_request::{LoginParameters, NamedAttributes};
use crate::mysql::packet::{Packet, Sequence, WireError, put_with_length};
use crate::mysql::question::{AUTH_SWITCH, CLEAR_PLUGIN, OPENID_PLUGIN, OPENID_TOKEN};
use crate::mysql::response::{ClientFeatures, ClientStartup};
use crate::mysql::server_error::ERR;
use crate::mysql::server_login::{GreetingError, OK, ok_status, plugin_of, request_tls};
use crate::secret::Jwt;

/// Most questions of a login. The proxy asks once.
const MAX_QUESTIONS: usize = 4;

/// A session at the proxy, after its OK.
#[derive(Debug)]
pub(super) struct MysqlProxySession {
    pub(super) stream: ProxyStream,
    /// Address of the proxy.
    pub(super) addr: SocketAddr,
    /// Number of the session at the proxy.
    pub(super) number: u32,
    /// Payload of the OK, for the tool.
    pub(super) ok: Vec<u8>,
    /// Status in it.
    pub(super) status: u16,
    /// Flags of the session.
    pub(super) capabilities: Capabilities,
}

/// User and database of a login.
#[derive(Clone, Copy, Debug)]
pub(super) struct LoginNames<'a> {
    pub(super) user: &'a str,
    pub(super) database: Option<&'a str>,
}

/// A proxy that has greeted and shown its certificate.
struct GreetedProxy {
    stream: ProxyStream,
    greeting: ServerGreeting,
    sequence: Sequence,
}

impl ProxyAddress {
    /// Facts of the proxy's greeting. Nothing else is said to it.
    pub(super) async fn mysql_identity(&self) -> Result<ServerIdentity, ProxyLoginError> {
        self.greeted(ClientFeatures::default()).await.map(|proxy| proxy.greeting.identity)
    }

    /// Connects, and logs in with `token` and the features of the tool. `learn` is called with the facts of the proxy's greeting.
    pub(super) async fn log_in_mysql(
        &self,
        startup: &ClientStartup,
        names: LoginNames<'_>,
        token: &Jwt,
        learn: impl FnOnce(ServerIdentity),
    ) -> Result<MysqlProxySession, ProxyLoginError> {
        let mut proxy = self.greeted(startup.features()).await?;
        let addr = proxy.stream.get_ref().0.peer_addr().map_err(|error| self.broken(&error))?;
        let of_server = proxy.greeting.identity.capabilities;
        learn(proxy.greeting.identity.clone());
        let capabilities = startup.features().capabilities;
        if !capabilities.fit(of_server) {
            return Err(ProxyLoginError::Changed { endpoint: self.name() });
        }
        let attributes = NamedAttributes::default();
        let wanted = LoginParameters::ungranted(names.user, names.database, startup, &attributes);
        let response = wanted.response(of_server);
        let login = self.exchange_mysql(&mut proxy, &response, token);
        let ok = match timeout_at(Instant::now() + LOGIN_TIME, login).await {
            Ok(ok) => ok?,
            Err(_) => return Err(self.broken(&late_answer())),
        };
        let status = ok_status(&ok).ok_or_else(|| self.violated(&WireError::Malformed("OK packet")))?;
        let GreetedProxy { stream, greeting, .. } = proxy;
        Ok(MysqlProxySession { stream, addr, number: greeting.connection_id, ok, status, capabilities })
    }

    /// Connects: the greeting in clear, then TLS whose certificate is verified for the proxy's name.
    async fn greeted(&self, features: ClientFeatures) -> Result<GreetedProxy, ProxyLoginError> {
        let deadline = Instant::now() + CONNECT_TIME;
        let mut tcp = self.reach(deadline).await?;
        let asking = request_tls(&mut tcp, |of_server| features.ssl_request(of_server));
        let (greeting, sequence) = match timeout_at(deadline, asking).await {
            Ok(asked) => asked.map_err(|error| self.no_greeting(&error))?,
            Err(_) => return Err(self.broken(&late_answer())),
        };
        let stream = self.secure(tcp, deadline).await?;
        Ok(GreetedProxy { stream, greeting, sequence })
    }

    /// Answers the proxy's questions until its OK, whose payload is given. The token goes only to a server that asks for one: by
    /// `mysql_clear_password`, or by MySQL's OpenID Connect plugin.
    async fn exchange_mysql(
        &self,
        proxy: &mut GreetedProxy,
        response: &[u8],
        token: &Jwt,
    ) -> Result<Vec<u8>, ProxyLoginError> {
        let GreetedProxy { stream, sequence, .. } = proxy;
        let failed = |error| self.violated(&error);
        sequence.write(stream, response).await.map_err(failed)?;
        for _ in 0..MAX_QUESTIONS {
            let packet = sequence.read(stream, MAX_LOGIN_PACKET).await.map_err(failed)?;
            match packet.kind() {
                Some(OK) => return Ok(packet.payload.clone()),
                Some(ERR) => return Err(ProxyLoginError::Refused(packet.payload.clone())),
                Some(AUTH_SWITCH) => {
                    let answer = answer(&packet, token);
                    let answer =
                        answer.ok_or_else(|| ProxyLoginError::OtherMethod { endpoint: self.name() })?;
                    sequence.write(stream, &answer).await.map_err(failed)?;
                }
                other => return Err(failed(WireError::Unexpected(other.unwrap_or_default()))),
            }
        }
        Err(failed(WireError::Unexpected(AUTH_SWITCH)))
    }

    /// An error in place of the greeting is not protected by TLS, so its words are not the proxy's for certain.
    fn no_greeting(&self, error: &GreetingError) -> ProxyLoginError {
        let (endpoint, problem) = (self.name(), error.to_string());
        match error {
            GreetingError::NoTls | GreetingError::TooOld => ProxyLoginError::Untrusted { endpoint, problem },
            GreetingError::Refused(_) | GreetingError::Wire(_) => {
                ProxyLoginError::Broken { endpoint, problem }
            }
        }
    }

    fn violated(&self, error: &WireError) -> ProxyLoginError {
        ProxyLoginError::Broken { endpoint: self.name(), problem: error.to_string() }
    }
}

/// The token in the form of the plugin that is asked for.
fn answer(question: &Packet, token: &Jwt) -> Option<Zeroizing<Vec<u8>>> {
    match plugin_of(question).as_bytes() {
        CLEAR_PLUGIN => Some(Zeroizing::new([token.expose(), b"\0"].concat())),
        OPENID_PLUGIN => {
            let mut answer = Zeroizing::new(Vec::with_capacity(token.expose().len() + 10));
            answer.push(OPENID_TOKEN);
            put_with_length(token.expose(), &mut answer);
            Some(answer)
        }
        _ => None,
    }
}
