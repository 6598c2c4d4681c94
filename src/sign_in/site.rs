//! The sign-in page: its paths, and the sign-in between start and redirect.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{
    CONTENT_SECURITY_POLICY, COOKIE, HeaderName, HeaderValue, LOCATION, REFERRER_POLICY, SET_COOKIE,
};
use hyper::{Method, Request, StatusCode};
use zeroize::Zeroizing;

use super::access::{Entrance, Explanation};
use super::attempt::{AttemptSealer, MAX_AGE, SignInAttempt};
use super::html;
use super::tools::CA_FILE;
use super::web::{TEXT, WebAnswer, WebPage, answer};
use crate::accept::acceptor::Generation;
use crate::config::client::TokenKind;
use crate::login::SignInError;
use crate::login::issuer_client::IssuerClient;
use crate::login::redirect::ExpectedRedirect;
use crate::login::sign_in::{authorization_url, check_answer};
use crate::secret::{Jwt, Secret};
use crate::session::shared::Shared;

const HTML: &str = "text/html; charset=utf-8";
const PEM: &str = "application/x-pem-file";

/// Path of the redirect, below the public address.
pub const CALLBACK: &str = "/callback";

/// The cookie of a sign-in. The prefix binds it to this host, to HTTPS, and to all paths (RFC 6265bis, section 4.1.3.2).
const SIGN_IN_COOKIE: &str = "__Host-pgpassport-sign-in";

/// Longest time for the requests to the issuer after a redirect; below the lifetime of a connection.
const MAX_ISSUER_TIME: Duration = Duration::from_secs(20);

/// The sign-in page.
pub struct SignInPage {
    /// The page as a client of its issuer.
    issuer: IssuerClient,
    /// Address of the redirect.
    redirect: String,
    /// Token that the proxy takes.
    token: TokenKind,
    entrance: Entrance,
    /// Authorities of the proxy's certificate, PEM, for a download.
    authorities: Option<Bytes>,
    sealer: AttemptSealer,
    policy: HeaderValue,
    shared: Arc<Shared>,
    current: Arc<ArcSwap<Generation>>,
}

/// Parts of a sign-in page.
pub struct SignInParts {
    /// The page as a client of its issuer.
    pub issuer: IssuerClient,
    /// Public address, without a path.
    pub url: String,
    /// Token that the proxy takes.
    pub token: TokenKind,
    /// Address at which people connect.
    pub entrance: Entrance,
    /// Authorities of the proxy's certificate, PEM, for a download.
    pub authorities: Option<String>,
    /// The state that outlives a configuration.
    pub shared: Arc<Shared>,
    /// The current configuration, which decides who may use what.
    pub current: Arc<ArcSwap<Generation>>,
}

impl SignInPage {
    /// `None` if the TLS library refuses a key, or the policy of the page is no header value.
    pub fn new(parts: SignInParts) -> Option<Self> {
        let SignInParts { issuer, url, token, entrance, authorities, shared, current } = parts;
        Some(Self {
            issuer,
            redirect: format!("{}{CALLBACK}", url.trim_end_matches('/')),
            token,
            entrance,
            authorities: authorities.map(Bytes::from),
            sealer: AttemptSealer::random()?,
            policy: HeaderValue::from_str(&html::content_security_policy()).ok()?,
            shared,
            current,
        })
    }

    /// The way to the issuer.
    async fn start(&self) -> Result<WebAnswer, Explanation> {
        let endpoints = self.issuer.endpoints().await.map_err(|error| in_words(&error))?;
        let attempt = SignInAttempt::begin(self.shared.clock.unix_seconds());
        let fresh = [&*attempt.state, &attempt.nonce, &attempt.verifier.challenge()];
        let page = authorization_url(self.issuer.registration(), endpoints, &self.redirect, fresh)
            .map_err(|error| in_words(&error))?;
        let sealed = self.sealer.seal(&attempt).ok_or_else(internal)?;
        let mut response = self.html(StatusCode::SEE_OTHER, String::new());
        let place = HeaderValue::from_str(page.as_str()).map_err(|_| internal())?;
        response.headers_mut().insert(LOCATION, place);
        set_cookie(&mut response, &sealed, MAX_AGE);
        Ok(response)
    }

    /// The answer to a redirect.
    async fn finish(&self, request: &Request<Incoming>) -> Result<WebAnswer, Explanation> {
        let attempt = cookie(request)
            .and_then(|sealed| self.sealer.open(sealed, self.shared.clock.unix_seconds()))
            .ok_or_else(|| Explanation {
                detail: "this browser has no sign-in under way, or it began more than 10 minutes ago"
                    .to_owned(),
                hint: Some("Begin again. The page needs one cookie, which ends with the sign-in.".to_owned()),
            })?;
        let token = match tokio::time::timeout(MAX_ISSUER_TIME, self.token(request, attempt)).await {
            Ok(token) => token.map_err(|error| in_words(&error))?,
            Err(_) => return Err(in_words(&SignInError::TimedOut(MAX_ISSUER_TIME))),
        };
        let jwt = Jwt::new(token.expose().as_bytes().to_vec());
        let context = Arc::clone(&self.current.load().context);
        let access = self.entrance.access(&context, &jwt).await?;
        tracing::info!(
            subject = access.subject,
            databases = access.databases.len(),
            "a person has signed in at the sign-in page"
        );
        let left = seconds_left(access.expires_at, self.shared.clock.now());
        let page = html::signed_in(&access, token.expose(), left, self.authorities.is_some());
        Ok(self.html(StatusCode::OK, Bytes::from_owner(Page(page))))
    }

    /// The token for the code of a redirect.
    async fn token(
        &self,
        request: &Request<Incoming>,
        attempt: SignInAttempt,
    ) -> Result<Secret<String>, SignInError> {
        let endpoints = self.issuer.endpoints().await?;
        let client = self.issuer.registration();
        let SignInAttempt { state, nonce, verifier, .. } = attempt;
        let expected = ExpectedRedirect {
            state,
            issuer: client.issuer.clone(),
            iss_required: endpoints.redirect_has_iss,
        };
        let code = expected.code_in(request.uri().query().unwrap_or_default())?;
        let answer = self.issuer.exchange_code(&code, &verifier, &self.redirect).await?;
        check_answer(&answer, client, Some(&nonce))?;
        let (token, name) = match self.token {
            TokenKind::Access => (answer.access_token, "access"),
            TokenKind::Id => (answer.id_token, "ID"),
        };
        let missing = || SignInError::Answer(format!("it holds no {name} token"));
        token.map(Secret::new).ok_or_else(missing)
    }

    fn html(&self, status: StatusCode, body: impl Into<Bytes>) -> WebAnswer {
        let mut response = answer(status, HTML, body);
        let headers = response.headers_mut();
        headers.insert(CONTENT_SECURITY_POLICY, self.policy.clone());
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        for (name, value) in
            [("cross-origin-opener-policy", "same-origin"), ("cross-origin-resource-policy", "same-origin")]
        {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        response
    }
}

impl WebPage for SignInPage {
    async fn answer(&self, request: Request<Incoming>) -> WebAnswer {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return answer(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD\n");
        }
        let is_get = request.method() == Method::GET;
        match (request.uri().path(), &self.authorities) {
            ("/", _) => self.html(StatusCode::OK, html::welcome()),
            ("/start", _) if is_get => self.start().await.unwrap_or_else(|why| self.failure(&why)),
            (CALLBACK, _) if is_get => {
                let mut response = self.finish(&request).await.unwrap_or_else(|why| self.failure(&why));
                set_cookie(&mut response, "", Duration::ZERO);
                response
            }
            (path, Some(pem)) if path.strip_prefix('/') == Some(CA_FILE) => {
                answer(StatusCode::OK, PEM, pem.clone())
            }
            _ => answer(StatusCode::NOT_FOUND, TEXT, "there is nothing here; the page is at /\n"),
        }
    }
}

impl SignInPage {
    fn failure(&self, why: &Explanation) -> WebAnswer {
        self.html(StatusCode::BAD_REQUEST, html::failure(why))
    }
}

/// The bytes of a page with a token, zeroized when they are sent.
struct Page(Zeroizing<String>);

impl AsRef<[u8]> for Page {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

fn seconds_left(end: SystemTime, now: SystemTime) -> u64 {
    end.duration_since(now).map_or(0, |left| left.as_secs())
}

/// The sealed sign-in of the browser.
fn cookie(request: &Request<Incoming>) -> Option<&str> {
    let lines = request.headers().get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == SIGN_IN_COOKIE).map(|(_, value)| value)
}

/// The redirect comes from another site, by a link: `Lax` is the strictest value with which it brings the cookie.
fn set_cookie(response: &mut WebAnswer, value: &str, life: Duration) {
    let text = format!(
        "{SIGN_IN_COOKIE}={value}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age={}",
        life.as_secs()
    );
    if let Ok(text) = HeaderValue::from_str(&text) {
        response.headers_mut().insert(SET_COOKIE, text);
    }
}

fn in_words(error: &SignInError) -> Explanation {
    let hint = match error {
        SignInError::Refused(error) if error.code == "access_denied" => {
            "Ask the administrators of the issuer for access."
        }
        SignInError::Unreachable { .. } | SignInError::TimedOut(_) => "Try again in a moment.",
        SignInError::Redirect(_) => "Begin again, and answer only in the page that opens.",
        _ => {
            "Show this to the administrators of the proxy: the settings of the page and of the issuer do not fit."
        }
    };
    Explanation { detail: error.to_string(), hint: Some(hint.to_owned()) }
}

fn internal() -> Explanation {
    Explanation { detail: "this is a fault of pgpassport".to_owned(), hint: None }
}
