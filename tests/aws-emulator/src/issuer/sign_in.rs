//! People who sign in at the issuer: codes with PKCE (RFC 6749 and 7636), rotating refresh tokens with reuse detection
//! (RFC 9700, section 4.14.2), device codes (RFC 8628), revocation (RFC 7009).

use std::collections::{BTreeMap, BTreeSet};

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Map, Value, json};

use super::{Issuer, IssuerState};
use crate::KeyChoice;
use crate::encoding::{KEY_ID, base64url, random_text};
use crate::sync::lock;

/// Redirect addresses of a public client, exactly; one of this machine without a port takes any port (RFC 8252, section
/// 7.3).
pub(super) type RedirectUris = Vec<String>;

/// The public client that every issuer has.
pub(super) fn usual_client() -> (String, RedirectUris) {
    let uris = ["http://127.0.0.1/callback", "http://localhost/callback"].map(str::to_owned);
    ("pgpassport".to_owned(), uris.into())
}

/// A request to sign in.
#[derive(Clone, Debug)]
pub(super) struct SignInRequest {
    pub(super) client: String,
    pub(super) redirect: String,
    pub(super) scope: String,
    pub(super) challenge: String,
    pub(super) state: String,
    pub(super) nonce: Option<String>,
}

/// A sign-in from its first token to its end.
#[derive(Debug)]
struct TokenFamily {
    client: String,
    user: String,
    scope: String,
    current: String,
    spent: BTreeSet<String>,
    revoked: bool,
}

/// A web site with a secret.
#[derive(Debug)]
struct WebClient {
    redirect: String,
    secret: String,
}

#[derive(Debug)]
struct DeviceRequest {
    code: String,
    user_code: String,
    client: String,
    scope: String,
    /// The user who approved; an empty one for a refusal.
    decision: Option<String>,
    slow_downs: usize,
}

/// Sign-ins that the issuer knows.
#[derive(Debug)]
pub(super) struct SignInBook {
    codes: BTreeMap<String, (SignInRequest, String)>,
    spent_codes: BTreeMap<String, usize>,
    families: Vec<TokenFamily>,
    devices: Vec<DeviceRequest>,
    /// Life of tokens in seconds.
    pub(super) token_life: u64,
    /// Clients that are web sites.
    web_clients: BTreeMap<String, WebClient>,
    /// True if a refresh token is good once.
    pub(super) rotates: bool,
    /// Answers of the token endpoint that are lost after they took effect.
    pub(super) lost_answers: usize,
    /// Polls of a device code that are told to slow down.
    pub(super) slow_downs: usize,
}

impl Default for SignInBook {
    fn default() -> Self {
        Self {
            codes: BTreeMap::new(),
            spent_codes: BTreeMap::new(),
            families: Vec::new(),
            devices: Vec::new(),
            web_clients: BTreeMap::new(),
            token_life: 900,
            rotates: true,
            lost_answers: 0,
            slow_downs: 0,
        }
    }
}

/// A body, or the error code of RFC 6749, section 5.2, or RFC 8628, section 3.5.
pub(super) type Granted = Result<Value, &'static str>;

/// The fields of a form.
pub(super) struct Form(pub(super) Vec<(String, String)>);

impl Form {
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

impl IssuerState {
    /// Checks a request to sign in; the error is for the person, not for the redirect.
    pub(super) fn sign_in_request(&self, query: &Form) -> Result<SignInRequest, String> {
        let field = |name: &str| query.get(name).map(str::to_owned).ok_or_else(|| format!("no {name}"));
        let (client, redirect) = (field("client_id")?, field("redirect_uri")?);
        let web = lock(&self.people).web_clients.get(&client).map(|web| vec![web.redirect.clone()]);
        let known = web.or_else(|| self.options.public_clients.get(&client).cloned());
        let known = known.ok_or("the client is not known")?;
        if !known.iter().any(|one| *one == redirect || *one == without_port(&redirect)) {
            return Err(format!("{redirect} is not registered"));
        }
        if field("response_type")? != "code" || field("code_challenge_method")? != "S256" {
            return Err("only codes with S256 are given".to_owned());
        }
        let challenge = field("code_challenge")?;
        if challenge.len() != 43 {
            return Err("the challenge is not a SHA-256 digest".to_owned());
        }
        let (scope, state) = (field("scope")?, field("state")?);
        Ok(SignInRequest {
            client,
            redirect,
            scope,
            challenge,
            state,
            nonce: query.get("nonce").map(str::to_owned),
        })
    }

    /// A code for `user`.
    pub(super) fn give_code(&self, request: &SignInRequest, user: &str) -> String {
        let code = random_text(KEY_ID, 32);
        lock(&self.people).codes.insert(code.clone(), (request.clone(), user.to_owned()));
        code
    }

    /// The grants of people's programs.
    pub(super) fn grant(&self, form: &Form) -> Granted {
        let grant_type = form.get("grant_type").ok_or("invalid_request")?;
        let client = form.get("client_id").ok_or("invalid_client")?;
        let secret = lock(&self.people).web_clients.get(client).map(|web| web.secret.clone());
        let known = secret.is_some() || self.options.public_clients.contains_key(client);
        if !known || form.get("client_secret") != secret.as_deref() {
            return Err("invalid_client");
        }
        match grant_type {
            "authorization_code" => self.grant_code(client, form),
            "refresh_token" => self.grant_refresh(client, form),
            "urn:ietf:params:oauth:grant-type:device_code" => self.grant_device(client, form),
            _ => Err("unsupported_grant_type"),
        }
    }

    fn grant_code(&self, client: &str, form: &Form) -> Granted {
        let code = form.get("code").ok_or("invalid_request")?;
        let mut book = lock(&self.people);
        if let Some(family) = book.spent_codes.get(code).copied() {
            book.families.get_mut(family).into_iter().for_each(|family| family.revoked = true);
        }
        let (request, user) = book.codes.remove(code).ok_or("invalid_grant")?;
        let verifier = form.get("code_verifier").unwrap_or_default();
        let digest = base64url(digest(&SHA256, verifier.as_bytes()).as_ref());
        let long_enough = (43..=128).contains(&verifier.len());
        let same = request.client == client && form.get("redirect_uri") == Some(&request.redirect);
        if digest != request.challenge || !long_enough || !same {
            return Err("invalid_grant");
        }
        let family = book.families.len();
        book.spent_codes.insert(code.to_owned(), family);
        Ok(self.begin(&mut book, client, &user, &request.scope, request.nonce.as_deref()))
    }

    /// The first tokens of a sign-in.
    fn begin(
        &self,
        book: &mut SignInBook,
        client: &str,
        user: &str,
        scope: &str,
        nonce: Option<&str>,
    ) -> Value {
        let current = random_text(KEY_ID, 40);
        let refresh = scope.split(' ').any(|word| word == "offline_access").then(|| current.clone());
        book.families.push(TokenFamily {
            client: client.to_owned(),
            user: user.to_owned(),
            scope: scope.to_owned(),
            current,
            spent: BTreeSet::new(),
            revoked: false,
        });
        self.tokens(client, (user, scope, nonce), refresh, book.token_life)
    }

    fn grant_refresh(&self, client: &str, form: &Form) -> Granted {
        let token = form.get("refresh_token").ok_or("invalid_request")?;
        let mut book = lock(&self.people);
        let (rotates, life) = (book.rotates, book.token_life);
        let family = book.families.iter_mut().find(|one| one.current == token || one.spent.contains(token));
        let family = family.filter(|one| one.client == client && !one.revoked).ok_or("invalid_grant")?;
        if family.current != token {
            family.revoked = true; // somebody has used it before
            return Err("invalid_grant");
        }
        let mut refresh = None;
        if rotates {
            let next = random_text(KEY_ID, 40);
            family.spent.insert(std::mem::replace(&mut family.current, next.clone()));
            refresh = Some(next);
        }
        let (user, scope) = (family.user.clone(), family.scope.clone());
        Ok(self.tokens(client, (&user, &scope, None), refresh, life))
    }

    fn tokens(
        &self,
        client: &str,
        about: (&str, &str, Option<&str>),
        refresh: Option<String>,
        life: u64,
    ) -> Value {
        let (user, scope, nonce) = about;
        let end = self.options.clock.unix().saturating_add(life.try_into().unwrap_or(i64::MAX));
        let access = self.default_claims(user).set("exp", end).set("client_id", client).set("scope", scope);
        let mut answer = Map::new();
        answer.insert("access_token".to_owned(), self.mint(&access.into(), &KeyChoice::Rs256).into());
        answer.insert("token_type".to_owned(), "Bearer".into());
        answer.insert("expires_in".to_owned(), life.into());
        if scope.split(' ').any(|word| word == "openid") {
            let id = self.default_claims(user).set("exp", end).set("aud", client);
            let id = nonce.map_or(id.clone(), |nonce| id.set("nonce", nonce));
            answer.insert("id_token".to_owned(), self.mint(&id.into(), &KeyChoice::Rs256).into());
        }
        if let Some(refresh) = refresh {
            answer.insert("refresh_token".to_owned(), refresh.into());
        }
        Value::Object(answer)
    }

    /// Begins the device flow.
    pub(super) fn device_code(&self, form: &Form) -> Granted {
        let client = form.get("client_id").filter(|id| self.options.public_clients.contains_key(*id));
        let client = client.ok_or("invalid_client")?.to_owned();
        let (code, user_code) = (random_text(KEY_ID, 40), random_text(b"BCDFGHJKLMNPQRSTVWXZ", 8));
        let page = format!("{}/device", self.url().trim_end_matches('/'));
        let mut book = lock(&self.people);
        let slow_downs = book.slow_downs;
        let scope = form.get("scope").unwrap_or_default().to_owned();
        book.devices.push(DeviceRequest {
            code: code.clone(),
            user_code: user_code.clone(),
            client,
            scope,
            decision: None,
            slow_downs,
        });
        Ok(json!({
            "device_code": code, "user_code": user_code, "verification_uri": page, "expires_in": 600, "interval": 0,
        }))
    }

    /// A person's decision about a device; false for an unknown code.
    pub(super) fn decide_device(&self, user_code: &str, user: &str) -> bool {
        let mut book = lock(&self.people);
        let device = book.devices.iter_mut().find(|device| device.user_code == user_code);
        device.map(|device| device.decision = Some(user.to_owned())).is_some()
    }

    fn grant_device(&self, client: &str, form: &Form) -> Granted {
        let code = form.get("device_code").ok_or("invalid_request")?;
        let mut book = lock(&self.people);
        let place = book.devices.iter().position(|device| device.code == code && device.client == client);
        let place = place.ok_or("invalid_grant")?;
        let device = book.devices.get_mut(place).ok_or("invalid_grant")?;
        if device.slow_downs > 0 {
            device.slow_downs -= 1;
            return Err("slow_down");
        }
        let user = device.decision.clone().ok_or("authorization_pending")?;
        let device = book.devices.remove(place);
        if user.is_empty() {
            return Err("access_denied");
        }
        Ok(self.begin(&mut book, client, &user, &device.scope, None))
    }

    /// Ends the sign-in that a token belongs to; unknown tokens are fine (RFC 7009, section 2.2).
    pub(super) fn revoke(&self, token: &str) {
        let mut book = lock(&self.people);
        let ours = |family: &&mut TokenFamily| family.current == token || family.spent.contains(token);
        book.families.iter_mut().filter(ours).for_each(|family| family.revoked = true);
    }
}

/// Control of sign-ins by a test.
impl Issuer {
    /// Gives people tokens of so many seconds from now on.
    pub fn set_token_life(&self, seconds: u64) {
        lock(&self.state.people).token_life = seconds;
    }

    /// Registers a web site with a secret.
    pub fn register_web_client(&self, client: &str, redirect: &str, secret: &str) {
        let web = WebClient { redirect: redirect.to_owned(), secret: secret.to_owned() };
        lock(&self.state.people).web_clients.insert(client.to_owned(), web);
    }

    /// Gives no new refresh token with a refresh.
    pub fn stop_rotation(&self) {
        lock(&self.state.people).rotates = false;
    }

    /// Loses the next answers of the token endpoint to people's programs, after they took effect.
    pub fn lose_answers(&self, times: usize) {
        lock(&self.state.people).lost_answers = times;
    }

    /// Tells the first polls of each device code to slow down.
    pub fn slow_down(&self, times: usize) {
        lock(&self.state.people).slow_downs = times;
    }

    /// Ends all sign-ins of a user, as an administrator does.
    pub fn revoke_user(&self, user: &str) {
        let mut book = lock(&self.state.people);
        book.families
            .iter_mut()
            .filter(|family| family.user == user)
            .for_each(|family| family.revoked = true);
    }

    /// Number of sign-ins that are not revoked.
    pub fn open_sign_ins(&self) -> usize {
        lock(&self.state.people).families.iter().filter(|family| !family.revoked).count()
    }
}

/// A redirect address of this machine without its port.
fn without_port(uri: &str) -> String {
    let Some((host, path)) = uri.strip_prefix("http://").and_then(|rest| rest.split_once('/')) else {
        return uri.to_owned();
    };
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    if ["127.0.0.1", "[::1]", "localhost"].contains(&name) {
        format!("http://{name}/{path}")
    } else {
        uri.to_owned()
    }
}
