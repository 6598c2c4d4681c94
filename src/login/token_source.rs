//! The token for a connection: the cached one while it is good, else a fresh one by the refresh token.

use std::time::Duration;

use tokio::sync::Mutex;

use super::cache::{CacheLock, TokenCache};
use super::claims::UnverifiedClaims;
use super::folders::ClientFolders;
use super::issuer_client::{IssuerClient, TokenAnswer};
use super::tokens::{RefreshToken, TokenSet};
use super::{ClientToken, Profile, SignInError};
use crate::clock::Clock;
use crate::config::client::{TokenKind, UserName};
use crate::net::outgoing::Outgoing;

/// A token is refreshed this long before its end, so that it is still good when it reaches the database.
pub const EARLY: Duration = Duration::from_mins(1);

/// Difference between the token's life and what the caller asked for that the way of the answer may cost.
const TOLERANCE: Duration = Duration::from_secs(10);

/// The tokens of one profile. One process refreshes at a time, and one caller in it.
#[derive(Debug)]
pub struct TokenSource {
    profile: Profile,
    cache: TokenCache,
    issuer: IssuerClient,
    clock: Clock,
    /// Tokens of a cache that keeps nothing.
    held: Mutex<Option<TokenSet>>,
}

impl TokenSource {
    /// Nothing is read or asked yet.
    pub fn new(
        profile: Profile,
        folders: &ClientFolders,
        outgoing: &Outgoing,
        clock: Clock,
    ) -> Result<Self, SignInError> {
        let cache = TokenCache::new(&profile, folders);
        let issuer = IssuerClient::new(&profile, outgoing)?;
        Ok(Self { profile, cache, issuer, clock, held: Mutex::new(None) })
    }

    /// The profile.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// The requests to the issuer.
    pub fn issuer(&self) -> &IssuerClient {
        &self.issuer
    }

    /// A token that is good for `min_lifetime` and for [`EARLY`]. An older one is never given, whatever fails.
    pub async fn token(&self, min_lifetime: Duration) -> Result<ClientToken, SignInError> {
        self.token_with(min_lifetime, |_| true).await
    }

    /// A token in the place of `refused`, which the proxy has refused although its time was not over.
    pub async fn token_after_refusal(&self, refused: &ClientToken) -> Result<ClientToken, SignInError> {
        self.token_with(Duration::ZERO, |token| !refused.is_same(token)).await
    }

    /// A token that is good for `min_lifetime` and that `is_wanted`; a fresh one is given in any case.
    async fn token_with(
        &self,
        min_lifetime: Duration,
        is_wanted: impl Fn(&ClientToken) -> bool,
    ) -> Result<ClientToken, SignInError> {
        let is_good = |set: &TokenSet| self.is_good(set, min_lifetime) && is_wanted(&set.current);
        let mut held = self.held.lock().await;
        if !self.cache.is_kept() {
            let set = held.as_ref().ok_or_else(|| self.signed_out())?;
            if is_good(set) {
                return Ok(set.current.clone());
            }
            let renewed = self.renewed(set, None).await;
            if let Err(SignInError::Ended { .. }) = renewed {
                *held = None; // after any other error the sign-in goes on
            }
            let token = held.insert(renewed?).current.clone();
            return self.long_enough(token, min_lifetime);
        }
        let cached = self.cache.load().await?.ok_or_else(|| self.signed_out())?;
        if is_good(&cached) {
            return Ok(cached.current);
        }
        let lock = self.cache.lock().await?;
        // Another process may have refreshed, or signed out, in the meantime.
        let cached = self.cache.load().await?.ok_or_else(|| self.signed_out())?;
        if is_good(&cached) {
            return Ok(cached.current);
        }
        let set = self.renewed(&cached, Some(&lock)).await?;
        self.long_enough(set.current, min_lifetime)
    }

    /// The tokens as they are, without any request; they can be over.
    pub async fn cached(&self) -> Result<TokenSet, SignInError> {
        self.cache.load().await?.ok_or_else(|| self.signed_out())
    }

    /// Time to the end of a token.
    pub fn lifetime(&self, token: &ClientToken) -> Duration {
        token.lifetime(self.clock.unix_seconds())
    }

    /// Takes the tokens of a sign-in into the cache.
    pub async fn accept(&self, tokens: TokenSet) -> Result<(), SignInError> {
        let mut held = self.held.lock().await;
        if self.cache.is_kept() {
            let lock = self.cache.lock().await?;
            self.cache.save(&tokens, &lock).await?;
        } else {
            *held = Some(tokens);
        }
        Ok(())
    }

    /// Signs out: revokes the refresh token at the issuer (RFC 7009), then deletes the tokens here. The tokens are deleted
    /// whatever the issuer says; its answer is given. None when nobody was signed in.
    pub async fn sign_out(&self) -> Result<Option<Result<bool, SignInError>>, SignInError> {
        let mut held = self.held.lock().await;
        let lock = self.cache.lock().await?;
        let set = held.take().or(self.cache.load().await?);
        let revoked = match set.as_ref().map(|set| &set.refresh) {
            None => None,
            Some(None) => Some(Ok(false)),
            Some(Some(refresh)) => Some(self.issuer.revoke(refresh).await),
        };
        self.cache.erase(&lock).await?;
        Ok(revoked)
    }

    /// Tokens of an answer of the token endpoint, with the token that the profile asks for.
    pub fn read_answer(&self, answer: TokenAnswer) -> Result<TokenSet, SignInError> {
        let now = self.clock.unix_seconds();
        let TokenAnswer { access_token, id_token, refresh_token, expires_in } = answer;
        let refresh = refresh_token.map(RefreshToken::new);
        let (text, limit) = match self.profile.token {
            TokenKind::Access => (access_token, expires_in),
            TokenKind::Id => (id_token, None),
        };
        let text = text.ok_or_else(|| SignInError::Answer(format!("it holds no {}", self.token_name())))?;
        let claims = UnverifiedClaims::read(&text).ok_or_else(|| {
            let text = "the access token is not a JWT; set token = \"id\", or audience and scopes for an API, in the profile";
            SignInError::Answer(text.into())
        })?;
        // By the token's own times, so that a wrong clock of this machine does not count.
        let from_claims =
            claims.time("exp").zip(claims.time("iat")).map(|(exp, iat)| exp.saturating_sub(iat));
        let lifetime = match (limit, from_claims) {
            (Some(limit), Some(claimed)) => limit.min(claimed),
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => return Err(SignInError::Answer("it does not say when the token ends".into())),
        };
        Ok(TokenSet { current: ClientToken::new(text, now.saturating_add(lifetime)), refresh })
    }

    /// Database user of the connection string: the profile's, or from a claim of the token.
    pub fn user(&self, token: &ClientToken) -> Result<String, SignInError> {
        match &self.profile.user {
            UserName::Fixed(user) => Ok(user.as_str().to_owned()),
            UserName::Claim(path) => token
                .claims()
                .and_then(|claims| claims.text(path).map(str::to_owned))
                .ok_or_else(|| SignInError::Answer(format!("the token has no claim {}", path.join(".")))),
        }
    }

    /// Replaces a set by its refresh token. The old one is spent from the moment of the request.
    async fn renewed(&self, old: &TokenSet, lock: Option<&CacheLock>) -> Result<TokenSet, SignInError> {
        let ended = |reason: String| SignInError::Ended { profile: self.profile.name.clone(), reason };
        let Some(refresh) = &old.refresh else {
            return Err(ended(
                "the issuer gave no refresh token (most ask for the scope offline_access, and some for prompt = \"consent\" in the profile)".into(),
            ));
        };
        let answer = match self.issuer.refresh(refresh).await {
            Err(SignInError::Refused(error)) if error.code == "invalid_grant" => {
                if let Some(lock) = lock {
                    self.cache.erase(lock).await?; // asking again would look like a thief
                }
                return Err(ended(error.to_string()));
            }
            answer => answer?,
        };
        let mut set = self.read_answer(answer)?;
        set.refresh = set.refresh.or_else(|| old.refresh.clone()); // issuers that do not rotate send none
        if let Some(lock) = lock {
            self.cache.save(&set, lock).await?;
        }
        Ok(set)
    }

    fn is_good(&self, set: &TokenSet, min_lifetime: Duration) -> bool {
        set.current.lifetime(self.clock.unix_seconds()) > min_lifetime.max(EARLY)
    }

    fn long_enough(&self, token: ClientToken, wanted: Duration) -> Result<ClientToken, SignInError> {
        let lifetime = token.lifetime(self.clock.unix_seconds());
        if lifetime.is_zero() || lifetime + TOLERANCE < wanted {
            return Err(SignInError::ShortLived { lifetime, wanted });
        }
        Ok(token)
    }

    fn signed_out(&self) -> SignInError {
        SignInError::SignedOut { profile: self.profile.name.clone() }
    }

    fn token_name(&self) -> &'static str {
        match self.profile.token {
            TokenKind::Access => "access_token",
            TokenKind::Id => "id_token",
        }
    }
}
