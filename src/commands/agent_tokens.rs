//! Tokens for the agent: of the person who is signed in, or who signs in in the browser that the agent opens.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;

use super::client::{self, SignInWay};
use crate::agent::{NoToken, PersonalLogin, TokenProvider};
use crate::login::{ClientToken, SignInError, TokenSource};
use crate::secret::Jwt;
use crate::sync::lock;

/// Longest wait of a tool whose person signs in: 180 s for the redirect, and the requests to the issuer.
const SIGN_IN_PATIENCE: Duration = Duration::from_mins(4);

type TokenOutcome = Result<ClientToken, NoToken>;

/// The tokens of one profile. Tools that wait at the same time share one request, which goes on when they leave: an
/// issuer may have spent the refresh token already.
#[derive(Debug)]
pub(super) struct AgentTokens {
    source: TokenSource,
    /// True if a browser opens where a person is needed.
    opens_browser: bool,
    state: Mutex<TokenState>,
}

#[derive(Debug, Default)]
struct TokenState {
    /// The request under way, or the last one.
    request: Option<watch::Receiver<Option<TokenOutcome>>>,
    /// True after a sign-in that nobody completed. No further browser opens until there has been a token.
    is_unanswered: bool,
    /// The last token that came in the place of a refused one.
    renewed: Option<ClientToken>,
}

impl AgentTokens {
    /// Nothing is asked yet.
    pub(super) fn new(source: TokenSource, opens_browser: bool) -> Arc<Self> {
        Arc::new(Self { source, opens_browser, state: Mutex::default() })
    }

    /// The tokens, as the agent takes them.
    pub(super) fn provider(self: &Arc<Self>) -> TokenProvider {
        let (fresh, again) = (Arc::clone(self), Arc::clone(self));
        let provider = TokenProvider::from_fn(move || Arc::clone(&fresh).login(None));
        let provider = provider.with_renewal(move |refused| Arc::clone(&again).renewal(&refused));
        if self.opens_browser { provider.with_patience(SIGN_IN_PATIENCE) } else { provider }
    }

    /// Waits for the request under way, so that its refresh token is not lost.
    pub(super) async fn settled(&self) {
        let request = lock(&self.state).request.clone();
        if let Some(mut request) = request {
            let _ = request.wait_for(Option::is_some).await; // a request that has failed is settled, too
        }
    }

    /// A login with a token in the place of `refused`. None in the place of one that came in this way itself: the
    /// proxy would refuse each, and the issuer would be asked for each connection.
    fn renewal(
        self: Arc<Self>,
        refused: &Jwt,
    ) -> Option<impl Future<Output = Result<PersonalLogin, NoToken>> + use<>> {
        let refused = String::from_utf8(refused.expose().to_vec()).ok()?;
        let refused = ClientToken::new(refused, 0);
        let is_renewed = lock(&self.state).renewed.as_ref().is_some_and(|renewed| renewed.is_same(&refused));
        (!is_renewed).then(|| self.login(Some(refused)))
    }

    async fn login(self: Arc<Self>, refused: Option<ClientToken>) -> Result<PersonalLogin, NoToken> {
        let token = self.token(refused).await?;
        let user = self.source.user(&token).map_err(|error| no_token(&error))?;
        Ok(PersonalLogin { token: Jwt::new(token.expose().as_bytes().to_vec()), user })
    }

    /// The outcome of the request under way, or of a new one.
    async fn token(self: &Arc<Self>, refused: Option<ClientToken>) -> TokenOutcome {
        loop {
            let (mut request, is_own) = self.request(refused.as_ref());
            let outcome = match request.wait_for(Option::is_some).await {
                Ok(outcome) => outcome.clone(),
                Err(_) => None,
            };
            match outcome {
                Some(Ok(token)) if !is_own && refused.as_ref().is_some_and(|one| one.is_same(&token)) => {}
                Some(outcome) => return outcome,
                None => return Err(interrupted()),
            }
        }
    }

    /// The request to wait for, and whether it was begun for this caller.
    fn request(
        self: &Arc<Self>,
        refused: Option<&ClientToken>,
    ) -> (watch::Receiver<Option<TokenOutcome>>, bool) {
        let mut state = lock(&self.state);
        if let Some(request) = state.request.as_ref().filter(|request| is_under_way(request)) {
            return (request.clone(), false);
        }
        let (tell, request) = watch::channel(None);
        state.request = Some(request.clone());
        let (tokens, refused) = (Arc::clone(self), refused.cloned());
        tokio::spawn(async move {
            let outcome = tokens.fetch(refused).await;
            tell.send_replace(Some(outcome));
        });
        (request, true)
    }

    async fn fetch(&self, refused: Option<ClientToken>) -> TokenOutcome {
        let answer = match &refused {
            None => self.source.token(Duration::ZERO).await,
            Some(refused) => self.source.token_after_refusal(refused).await,
        };
        let answer = match answer {
            Err(error @ (SignInError::SignedOut { .. } | SignInError::Ended { .. }))
                if self.opens_browser && !lock(&self.state).is_unanswered =>
            {
                self.sign_in(&error).await?
            }
            answer => answer.map_err(|error| no_token(&error))?,
        };
        let mut state = lock(&self.state);
        state.is_unanswered = false;
        if refused.is_some() {
            state.renewed = Some(answer.clone());
        }
        Ok(answer)
    }

    /// Opens the browser, and waits until the person has signed in there.
    async fn sign_in(&self, cause: &SignInError) -> TokenOutcome {
        let signed_in = client::sign_in(&self.source, SignInWay::Browser).await;
        // A person may have signed in in a terminal instead.
        let token = self.source.token(Duration::ZERO).await;
        match (signed_in, token) {
            (_, Ok(token)) => Ok(token),
            (Err(failure), Err(_)) => {
                lock(&self.state).is_unanswered = true;
                let reason = format!("{cause}, and the sign-in in the browser has failed: {failure}");
                Err(NoToken { reason, remedy: cause.remedy(), is_transient: false })
            }
            (Ok(_), Err(error)) => Err(no_token(&error)),
        }
    }
}

fn is_under_way(request: &watch::Receiver<Option<TokenOutcome>>) -> bool {
    request.borrow().is_none() && request.has_changed().is_ok()
}

fn no_token(error: &SignInError) -> NoToken {
    NoToken {
        reason: error.to_string(),
        remedy: error.remedy(),
        is_transient: matches!(error, SignInError::Unreachable { .. }),
    }
}

fn interrupted() -> NoToken {
    NoToken {
        reason: "the request for a token was interrupted".to_owned(),
        remedy: "Connect again.".to_owned(),
        is_transient: true,
    }
}
