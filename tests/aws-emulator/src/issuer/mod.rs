//! The OpenID Connect issuer: its keys, its tokens and what a test can do to it.

mod claims;
mod pages;
mod sign_in;
mod sign_in_pages;

use std::collections::BTreeMap;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

pub use self::claims::{TAGS_CLAIM, TokenClaims};
use crate::encoding::{KEY_ID, base64url, random_text};
use crate::fault::FaultQueue;
use crate::http::HttpServer;
use crate::keys::SigningKeys;
use crate::sync::{WatchedCounter, lock};
use crate::{EmulatorError, HttpFault, KeyChoice, SettableClock, names};

/// Options of an issuer.
#[derive(Clone, Debug)]
pub struct IssuerOptions {
    /// Address to listen on; port 0 for a free one.
    pub bind: SocketAddr,
    /// A path between host and `/.well-known`, as multi-tenant issuers have. `/` gives an issuer URL that ends in a
    /// slash, as Auth0's does.
    pub path_prefix: String,
    /// The issuer URL, when others reach it under another name than the listening address.
    pub url: Option<String>,
    /// True for an issuer of all tenants, as Entra ID's `common`: its discovery document names the template
    /// `{tenantid}` where its own address has `common`.
    pub all_tenants: bool,
    /// The `aud` of tokens.
    pub audience: String,
    /// Users of the token endpoint: client id (which becomes `sub`) and secret.
    pub clients: BTreeMap<String, String>,
    /// Public clients of people's programs, each with its redirect addresses.
    pub public_clients: BTreeMap<String, Vec<String>>,
    /// True if `POST …/mint` signs any claims that a client sends. Never on by default.
    pub mint_endpoint: bool,
    /// Clock of the issuer.
    pub clock: SettableClock,
}

impl Default for IssuerOptions {
    fn default() -> Self {
        Self {
            bind: SocketAddr::from(([127, 0, 0, 1], 0)),
            path_prefix: String::new(),
            url: None,
            all_tenants: false,
            audience: names::AUDIENCE.to_owned(),
            clients: BTreeMap::new(),
            public_clients: [sign_in::usual_client()].into(),
            mint_endpoint: false,
            clock: SettableClock::system(),
        }
    }
}

/// The pages an issuer serves, for faults and counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IssuerPage {
    /// `/.well-known/openid-configuration`.
    Discovery,
    /// `/jwks`.
    Jwks,
    /// `/token`.
    Token,
    /// `/mint`.
    Mint,
    /// `/authorize`.
    Authorize,
    /// `/device_authorization`.
    DeviceCode,
    /// `/device`.
    Device,
    /// `/revoke`.
    Revoke,
}

impl IssuerPage {
    const ALL: [Self; 8] = [
        Self::Discovery,
        Self::Jwks,
        Self::Token,
        Self::Mint,
        Self::Authorize,
        Self::DeviceCode,
        Self::Device,
        Self::Revoke,
    ];

    /// The page's path below the issuer's prefix.
    pub fn path(self) -> &'static str {
        match self {
            Self::Discovery => "/.well-known/openid-configuration",
            Self::Jwks => "/jwks",
            Self::Token => "/token",
            Self::Mint => "/mint",
            Self::Authorize => "/authorize",
            Self::DeviceCode => "/device_authorization",
            Self::Device => "/device",
            Self::Revoke => "/revoke",
        }
    }
}

/// A running issuer. Clones share it; it stops when the last one is dropped.
#[derive(Clone)]
pub struct Issuer {
    state: Arc<IssuerState>,
    server: Arc<HttpServer>,
}

/// Faults and requests of a page.
#[derive(Default)]
struct PageState {
    faults: FaultQueue<HttpFault>,
    seen: WatchedCounter,
}

struct IssuerState {
    options: IssuerOptions,
    prefix: String,
    /// Known once the listener is bound.
    url: Mutex<String>,
    keys: Mutex<Arc<SigningKeys>>,
    /// Keys of earlier days that are still published.
    old: Mutex<Vec<Value>>,
    cache_control: Mutex<Option<String>>,
    /// The member `issuer` of each current key.
    key_issuer: Mutex<Option<Value>>,
    pages: [PageState; 8],
    people: Mutex<sign_in::SignInBook>,
}

impl Issuer {
    /// Starts an issuer with fresh keys.
    pub fn start(options: IssuerOptions) -> Result<Self, EmulatorError> {
        let state = Arc::new(IssuerState {
            prefix: options.path_prefix.trim_end_matches('/').to_owned(),
            url: Mutex::default(),
            keys: Mutex::new(Arc::new(SigningKeys::unused()?)),
            old: Mutex::default(),
            cache_control: Mutex::default(),
            key_issuer: Mutex::default(),
            pages: Default::default(),
            people: Mutex::default(),
            options,
        });
        let server = {
            let state = Arc::clone(&state);
            HttpServer::http(state.options.bind, move |request, _| {
                let state = Arc::clone(&state);
                async move { pages::serve(&state, request).await }
            })?
        };
        let listening = format!("http://{}{}", server.addr(), state.options.path_prefix);
        *lock(&state.url) = state.options.url.clone().unwrap_or(listening);
        Ok(Self { state, server: Arc::new(server) })
    }

    /// The issuer URL: the `iss` of its tokens.
    pub fn url(&self) -> String {
        self.state.url()
    }

    /// Listening address.
    pub fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    /// Address at which the stand-in itself serves `page`; the issuer URL may have another name.
    pub fn page_url(&self, page: IssuerPage) -> String {
        let mut addr = self.addr();
        if addr.ip().is_unspecified() {
            addr.set_ip(Ipv4Addr::LOCALHOST.into());
        }
        format!("http://{addr}{}{}", self.state.prefix, page.path())
    }

    /// Claims of a good token: iss, sub, aud, iat, nbf, exp (15 minutes), jti, email.
    pub fn default_claims(&self, sub: &str) -> TokenClaims {
        self.state.default_claims(sub)
    }

    /// A good token for `sub`.
    pub fn token(&self, sub: &str) -> String {
        self.mint(self.default_claims(sub))
    }

    /// Signs claims with the RSA key under a right header (alg, typ, kid).
    pub fn mint(&self, claims: impl Into<Value>) -> String {
        self.mint_with(claims, &KeyChoice::Rs256)
    }

    /// Signs claims with a key of choice under a header that fits it.
    pub fn mint_with(&self, claims: impl Into<Value>, key: &KeyChoice) -> String {
        self.state.mint(&claims.into(), key)
    }

    /// A token of `length` characters, or one or two more where base64 has no such length: the claim `pad` fills it.
    /// Shorter than the token without padding is not possible.
    pub fn mint_sized(&self, claims: TokenClaims, length: usize) -> String {
        let bare = self.mint(claims.clone().padded(0)).len();
        let padding = (length.saturating_sub(bare) * 3).div_ceil(4);
        // Rounding in the bare token can make one step too many.
        let shorter = self.mint(claims.clone().padded(padding.saturating_sub(1)));
        if shorter.len() >= length { shorter } else { self.mint(claims.padded(padding)) }
    }

    /// Signs any header and any payload, however wrong.
    pub fn sign(&self, header_json: &str, payload: &[u8], key: &KeyChoice) -> String {
        self.state.sign(header_json, payload, key)
    }

    /// The id of the current key that `key` uses; empty for none.
    pub fn kid(&self, key: &KeyChoice) -> String {
        self.state.keys().kid(key).to_owned()
    }

    /// The key set as the issuer serves it.
    pub fn jwks(&self) -> Value {
        self.state.jwks()
    }

    /// The RSA public key as PEM.
    pub fn rsa_public_pem(&self) -> String {
        self.state.keys().rsa_public_pem()
    }

    /// The P-256 public key as PEM.
    pub fn ec_public_pem(&self) -> String {
        self.state.keys().ec_public_pem()
    }

    /// Makes new keys. The old ones stay in the key set if `keep_old`, else all but the new ones leave it.
    pub fn rotate(&self, keep_old: bool) -> Result<(), EmulatorError> {
        let fresh = Arc::new(SigningKeys::unused()?);
        let retired = std::mem::replace(&mut *lock(&self.state.keys), fresh);
        let mut old = lock(&self.state.old);
        if keep_old {
            old.extend(retired.jwks());
        } else {
            old.clear();
        }
        Ok(())
    }

    /// Says with each key, in member `issuer`, whose tokens it signs.
    pub fn set_key_issuer(&self, issuer: impl Into<Value>) {
        *lock(&self.state.key_issuer) = Some(issuer.into());
    }

    /// Sends this `Cache-Control` with discovery document and key set.
    pub fn set_cache_control(&self, value: Option<&str>) {
        *lock(&self.state.cache_control) = value.map(str::to_owned);
    }

    /// Shows a fault on a page until [`Issuer::heal`].
    pub fn fail(&self, page: IssuerPage, fault: HttpFault) {
        self.state.page(page).faults.add(None, fault);
    }

    /// Shows a fault on a page for the next `times` requests.
    pub fn fail_times(&self, page: IssuerPage, times: usize, fault: HttpFault) {
        self.state.page(page).faults.add(Some(times), fault);
    }

    /// Closes every connection without an answer, on every page.
    pub fn go_down(&self) {
        for page in IssuerPage::ALL {
            self.fail(page, HttpFault::Close);
        }
    }

    /// Takes every fault away.
    pub fn heal(&self) {
        for page in IssuerPage::ALL {
            self.state.page(page).faults.clear();
        }
    }

    /// Number of requests for a page.
    pub fn count(&self, page: IssuerPage) -> usize {
        self.state.page(page).seen.get()
    }

    /// Waits until a page has had `n` requests.
    pub fn reaches(&self, page: IssuerPage, n: usize) -> impl Future<Output = ()> + Send + use<> {
        self.state.page(page).seen.reaches(n)
    }
}

impl Drop for IssuerState {
    fn drop(&mut self) {
        self.keys().leave();
    }
}

impl IssuerState {
    fn url(&self) -> String {
        lock(&self.url).clone()
    }

    fn keys(&self) -> Arc<SigningKeys> {
        Arc::clone(&lock(&self.keys))
    }

    fn page(&self, page: IssuerPage) -> &PageState {
        let [discovery, jwks, token, mint, authorize, device_code, device, revoke] = &self.pages;
        match page {
            IssuerPage::Discovery => discovery,
            IssuerPage::Jwks => jwks,
            IssuerPage::Token => token,
            IssuerPage::Mint => mint,
            IssuerPage::Authorize => authorize,
            IssuerPage::DeviceCode => device_code,
            IssuerPage::Device => device,
            IssuerPage::Revoke => revoke,
        }
    }

    fn jwks(&self) -> Value {
        let mut keys = self.keys().jwks();
        if let Some(issuer) = &*lock(&self.key_issuer) {
            for key in keys.iter_mut().filter_map(Value::as_object_mut) {
                key.insert("issuer".to_owned(), issuer.clone());
            }
        }
        keys.extend(lock(&self.old).iter().cloned());
        json!({ "keys": keys })
    }

    fn default_claims(&self, sub: &str) -> TokenClaims {
        let now = self.options.clock.unix();
        let email = if sub.contains('@') { sub.to_owned() } else { format!("{sub}@example.com") };
        let claims = json!({
            "iss": self.url(), "sub": sub, "aud": self.options.audience, "iat": now, "nbf": now, "exp": now + 900,
            "jti": random_text(KEY_ID, 20), "email": email,
        });
        TokenClaims(claims.as_object().cloned().unwrap_or_default())
    }

    fn mint(&self, claims: &Value, key: &KeyChoice) -> String {
        let alg = match key {
            KeyChoice::Rs256 | KeyChoice::Bytes(_) => "RS256",
            KeyChoice::Rs384 => "RS384",
            KeyChoice::Rs512 => "RS512",
            KeyChoice::Ps256 => "PS256",
            KeyChoice::Es256 => "ES256",
            KeyChoice::Hs256(_) => "HS256",
            KeyChoice::Unsigned => "none",
        };
        let kid = match self.keys().kid(key) {
            "" => self.keys().kid(&KeyChoice::Rs256).to_owned(),
            kid => kid.to_owned(),
        };
        let header = json!({ "alg": alg, "typ": "JWT", "kid": kid });
        self.sign(&header.to_string(), claims.to_string().as_bytes(), key)
    }

    fn sign(&self, header_json: &str, payload: &[u8], key: &KeyChoice) -> String {
        let message = format!("{}.{}", base64url(header_json.as_bytes()), base64url(payload));
        let signature = self.keys().sign(key, message.as_bytes());
        format!("{message}.{}", base64url(&signature))
    }
}
