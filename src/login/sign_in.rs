//! The two ways to sign in: an authorization code with PKCE in the person's browser, and a device code.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::time::{Instant, sleep};
use url::Url;

use super::claims::UnverifiedClaims;
use super::issuer_client::{IssuerClient, IssuerEndpoints, TokenAnswer};
use super::redirect::{ExpectedRedirect, RedirectListener};
use super::registration::ClientRegistration;
use super::token_source::TokenSource;
use super::tokens::CodeVerifier;
use super::{Profile, SignInError};
use crate::names::{printable, random_bytes};

/// Longest life of a device code here, whatever the issuer says.
const MAX_DEVICE_TIME: Duration = Duration::from_mins(15);

/// Pause between two polls of a device code (RFC 8628, section 3.2).
const POLL_PAUSE: Duration = Duration::from_secs(5);

/// Shortest pause, whatever the issuer says.
const MIN_POLL_PAUSE: Duration = Duration::from_secs(1);

/// Longest pause between two polls.
const MAX_POLL_PAUSE: Duration = Duration::from_mins(1);

/// The person at the other end of a sign-in.
pub trait SignInPrompt {
    /// Shows the page where the person signs in, in a browser or as a line of text.
    fn show_page(&mut self, url: &str);
    /// Shows a page of the issuer and the code to type there.
    fn show_code(&mut self, page: &str, code: &str, profile: &Profile);
}

/// The name of a person who has just signed in, escaped; none when the issuer says none.
pub type PersonName = Option<String>;

/// Signs in with the person's own browser. The tokens are in the cache of `source` afterwards.
pub async fn with_browser(
    source: &TokenSource,
    prompt: &mut (dyn SignInPrompt + Send),
) -> Result<PersonName, SignInError> {
    let (profile, issuer) = (source.profile(), source.issuer());
    let endpoints = issuer.endpoints().await?;
    let listener = RedirectListener::bind(&profile.redirects).await?;
    let redirect = listener.uri();
    let (state, nonce, verifier) = (random_word(), random_word(), CodeVerifier::random());
    let page = authorization_url(
        issuer.registration(),
        endpoints,
        &redirect,
        [&state, &nonce, &verifier.challenge()],
    )?;
    prompt.show_page(page.as_str());
    let expected =
        ExpectedRedirect { state, issuer: profile.issuer.clone(), iss_required: endpoints.redirect_has_iss };
    let code = listener.code(expected).await?;
    let answer = issuer.exchange_code(&code, &verifier, &redirect).await?;
    finish(source, answer, Some(&nonce)).await
}

/// Signs in with a code that the person types in a browser of any machine (RFC 8628).
pub async fn with_device_code(
    source: &TokenSource,
    prompt: &mut (dyn SignInPrompt + Send),
) -> Result<PersonName, SignInError> {
    let (profile, issuer) = (source.profile(), source.issuer());
    if !profile.device {
        return Err(SignInError::Unsupported("device codes are turned off in this profile (device = false)"));
    }
    let given = issuer.device_code().await?;
    prompt.show_code(&given.verification_uri, &given.user_code, profile);
    let life = Duration::from_secs(given.expires_in).min(MAX_DEVICE_TIME);
    let pause = given.interval.map_or(POLL_PAUSE, Duration::from_secs).clamp(MIN_POLL_PAUSE, MAX_POLL_PAUSE);
    let answer = poll(issuer, &given.device_code, life, pause).await?;
    finish(source, answer, None).await
}

/// Asks until the person has approved or refused, or the code's life is over.
async fn poll(
    issuer: &IssuerClient,
    code: &str,
    life: Duration,
    mut pause: Duration,
) -> Result<TokenAnswer, SignInError> {
    let deadline = Instant::now() + life;
    while Instant::now() + pause < deadline {
        sleep(pause).await;
        match issuer.exchange_device_code(code).await {
            Err(SignInError::Refused(error)) if error.code == "authorization_pending" => {}
            Err(SignInError::Refused(error)) if error.code == "slow_down" => {
                pause = (pause + POLL_PAUSE).min(MAX_POLL_PAUSE); // RFC 8628, section 3.5
            }
            Err(SignInError::Refused(error)) if error.code == "expired_token" => break,
            Err(SignInError::Unreachable { .. }) => pause = (pause * 2).min(MAX_POLL_PAUSE),
            answer => return answer,
        }
    }
    Err(SignInError::TimedOut(life))
}

/// The page where the person signs in. `fresh` are state, nonce and challenge.
pub fn authorization_url(
    client: &ClientRegistration,
    endpoints: &IssuerEndpoints,
    redirect: &str,
    fresh: [&str; 3],
) -> Result<Url, SignInError> {
    let [state, nonce, challenge] = fresh;
    let missing = SignInError::Unsupported("the issuer has no page to sign in (authorization_endpoint)");
    let mut url = endpoints.authorization.clone().ok_or(missing)?;
    let mut query = url.query_pairs_mut();
    query
        .append_pair("response_type", "code")
        .append_pair("client_id", &client.client_id)
        .append_pair("redirect_uri", redirect)
        .append_pair("scope", &client.scopes.join(" "))
        .append_pair("state", state)
        .append_pair("code_challenge", challenge)
        .append_pair("code_challenge_method", "S256");
    if client.asks_for_id_token() {
        query.append_pair("nonce", nonce);
    }
    if let Some(audience) = &client.audience {
        query.append_pair("audience", audience);
    }
    if let Some(prompt) = &client.prompt {
        query.append_pair("prompt", prompt);
    }
    drop(query);
    Ok(url)
}

/// Checks the ID token, takes the tokens into the cache, and says whose they are.
async fn finish(
    source: &TokenSource,
    answer: TokenAnswer,
    nonce: Option<&str>,
) -> Result<PersonName, SignInError> {
    let mut person = check_answer(&answer, source.issuer().registration(), nonce)?;
    let tokens = source.read_answer(answer)?;
    if person.is_none() {
        let claims = tokens.current.claims();
        person = claims.as_ref().and_then(UnverifiedClaims::person).map(|name| printable(name, 200));
    }
    source.accept(tokens).await?;
    Ok(person)
}

/// Checks the ID token of an answer, if one was asked for, and says whose it is.
pub fn check_answer(
    answer: &TokenAnswer,
    client: &ClientRegistration,
    nonce: Option<&str>,
) -> Result<PersonName, SignInError> {
    if !client.asks_for_id_token() {
        return Ok(None);
    }
    let claims = answer.id_token.as_deref().and_then(UnverifiedClaims::read);
    let claims = claims.ok_or_else(|| {
        SignInError::Answer("it holds no ID token, although the scope openid was asked for".into())
    })?;
    check_id_token(&claims, client, nonce)?;
    Ok(claims.person().map(|name| printable(name, 200)))
}

/// OpenID Connect Core 1.0, section 3.1.3.7. The token comes from the issuer over TLS, so its signature is left to the
/// proxy (step 6); its times are compared there, too.
fn check_id_token(
    claims: &UnverifiedClaims,
    client: &ClientRegistration,
    nonce: Option<&str>,
) -> Result<(), SignInError> {
    let refuse = |why: &str| Err(SignInError::Answer(format!("the ID token {why}")));
    if claims.named("iss") != Some(&client.issuer) {
        return refuse("is of another issuer");
    }
    if !claims.is_for(&client.client_id) || claims.named("azp").is_some_and(|azp| azp != client.client_id) {
        return refuse("is for another client");
    }
    if nonce.is_some_and(|nonce| claims.named("nonce") != Some(nonce)) {
        return refuse("is not the answer to this sign-in (its nonce is another one)");
    }
    Ok(())
}

/// 128 random bits as a word of a URL.
pub fn random_word() -> String {
    URL_SAFE_NO_PAD.encode(random_bytes::<16>())
}
