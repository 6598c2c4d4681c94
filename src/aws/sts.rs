//! `AssumeRoleWithWebIdentity`: one unsigned call with the person's own token. What comes back is checked
//! before it is believed, and what goes wrong is sorted by whose turn it is to act.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use aws_sdk_sts::Client;
use aws_sdk_sts::config::retry::RetryConfig;
use aws_sdk_sts::config::timeout::TimeoutConfig;
use aws_sdk_sts::config::{BehaviorVersion, Region, SharedHttpClient};
use aws_sdk_sts::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_sts::operation::RequestId;
use aws_sdk_sts::operation::assume_role_with_web_identity::{
    AssumeRoleWithWebIdentityError, AssumeRoleWithWebIdentityOutput,
};
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use tokio::sync::Semaphore;

use super::credentials::RoleCredentials;
use crate::clock::Clock;
use crate::config::ClusterSettings;
use crate::names::{Issuer, RoleArn, Subject, printable};
use crate::secret::Jwt;

/// Calls at the same time; more wait their turn inside the login's deadline.
const MAX_IN_FLIGHT: usize = 64;

/// Longest accepted lifetime of credentials: STS gives at most 12 hours (API reference, `DurationSeconds`).
const MAX_LIFETIME: Duration = Duration::from_hours(12);

/// Longest part of a message of STS that is logged.
const MAX_LOGGED: usize = 256;

/// Waits and tries of one call.
#[derive(Clone, Copy, Debug)]
pub struct StsTimes {
    /// TCP and TLS.
    pub connect: Duration,
    /// One try.
    pub attempt: Duration,
    /// All tries.
    pub operation: Duration,
    /// Tries in all, for errors that another try may cure.
    pub attempts: u32,
    /// Wait before the second try; doubled for the third, with jitter.
    pub first_pause: Duration,
}

impl Default for StsTimes {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            attempt: Duration::from_secs(5),
            operation: Duration::from_secs(10),
            attempts: 3,
            first_pause: Duration::from_millis(100),
        }
    }
}

/// Why there are no credentials. Its text is for the log; clients are told the class only.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StsError {
    /// STS says no to this person or token.
    #[error("STS refused with {code}: {message}")]
    Refused {
        /// The error code.
        code: String,
        /// STS's words, escaped and cut, with the request id.
        message: String,
    },
    /// STS says no to what we ask: the role, the policy or the Region is set up wrongly.
    #[error("STS cannot do what is configured, {code}: {message}")]
    Misconfigured {
        /// The error code.
        code: String,
        /// STS's words, escaped and cut, with the request id.
        message: String,
    },
    /// STS is slow, throttling, failing or away, or cannot reach the issuer.
    #[error("STS is unavailable: {0}")]
    Unavailable(String),
    /// STS answered with something that cannot be believed.
    #[error("STS answered wrongly: {0}")]
    BadResponse(&'static str),
}

/// The STS client cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum StsSetupError {
    /// The file of certificate authorities cannot be read.
    #[error("{}: {source}", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// The TLS library refuses it.
    #[error("the TLS context for STS: {0}")]
    Tls(String),
}

/// One call to make.
#[derive(Debug)]
pub struct Assume {
    /// The person's token; it is spent here.
    pub jwt: Jwt,
    /// The verified issuer.
    pub issuer: Issuer,
    /// The verified subject.
    pub subject: Subject,
    /// The role to assume.
    pub role: RoleArn,
    /// The RoleSessionName.
    pub session_name: String,
    /// The inline session policy.
    pub policy: Option<String>,
}

/// STS for one cluster.
#[derive(Debug)]
pub struct Sts {
    client: Client,
    duration_seconds: i32,
    in_flight: Semaphore,
    clock: Clock,
}

impl Sts {
    /// A client that signs nothing and asks no credential provider of the machine.
    pub fn new(cluster: &ClusterSettings, times: StsTimes, clock: Clock) -> Result<Self, StsSetupError> {
        let mut config = aws_sdk_sts::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(cluster.region.as_str().to_owned()))
            .http_client(http_client(cluster)?)
            .allow_no_auth()
            .retry_config(
                RetryConfig::standard()
                    .with_max_attempts(times.attempts)
                    .with_initial_backoff(times.first_pause)
                    .with_max_backoff(Duration::from_secs(2)),
            )
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(times.connect)
                    .operation_attempt_timeout(times.attempt)
                    .operation_timeout(times.operation)
                    .build(),
            );
        config.set_endpoint_url(cluster.sts_endpoint_url.as_ref().map(ToString::to_string));
        Ok(Self {
            client: Client::from_conf(config.build()),
            duration_seconds: i32::try_from(cluster.sts_duration.as_secs()).unwrap_or(900),
            in_flight: Semaphore::new(MAX_IN_FLIGHT),
            clock,
        })
    }

    /// Trades the token for credentials. When STS could not fetch the issuer's keys it says so with the code
    /// of a bad token; that is worth one more try.
    pub async fn assume(&self, assume: Assume) -> Result<RoleCredentials, StsError> {
        let _turn = self.in_flight.acquire().await.map_err(|_| StsError::Unavailable("stopping".into()))?;
        let mut answer = self.call(&assume).await;
        if answer.as_ref().is_err_and(is_key_fetch_failure) {
            answer = self.call(&assume).await;
        }
        self.believe(answer.map_err(|error| classify(&error))?, &assume)
    }

    async fn call(
        &self,
        assume: &Assume,
    ) -> Result<AssumeRoleWithWebIdentityOutput, SdkError<AssumeRoleWithWebIdentityError>> {
        self.client
            .assume_role_with_web_identity()
            .role_arn(assume.role.as_str())
            .role_session_name(&assume.session_name)
            // A verified token is ASCII. The SDK keeps a copy of its own until the call ends.
            .web_identity_token(String::from_utf8_lossy(assume.jwt.expose()))
            .duration_seconds(self.duration_seconds)
            .set_policy(assume.policy.clone())
            .send()
            .await
    }

    fn believe(
        &self,
        answer: AssumeRoleWithWebIdentityOutput,
        assume: &Assume,
    ) -> Result<RoleCredentials, StsError> {
        let bad = |what| Err(StsError::BadResponse(what));
        if answer.subject_from_web_identity_token.as_deref().is_some_and(|sub| sub != assume.subject.as_str())
        {
            return bad("the credentials are for another subject");
        }
        if answer.provider.as_deref().is_some_and(|provider| !same_provider(provider, &assume.issuer)) {
            return bad("the credentials are for another provider");
        }
        let Some(credentials) = answer.credentials else { return bad("no credentials") };
        if credentials.access_key_id.is_empty()
            || credentials.secret_access_key.is_empty()
            || credentials.session_token.is_empty()
        {
            return bad("credentials with an empty part");
        }
        let Ok(expires_at) = SystemTime::try_from(credentials.expiration) else {
            return bad("an expiration that is no time");
        };
        match expires_at.duration_since(self.clock.now()) {
            Err(_) => return bad("credentials that have expired"),
            // A minute more, for the way and the clocks.
            Ok(left) if left > MAX_LIFETIME + Duration::from_mins(1) => {
                return bad("credentials that live longer than STS gives any");
            }
            Ok(_) => {}
        }
        Ok(RoleCredentials::new(
            credentials.access_key_id,
            credentials.secret_access_key,
            Some(credentials.session_token),
            expires_at,
            assume.session_name.clone(),
        ))
    }
}

/// STS names the provider by its URL or, as the ARN does, without `https://`.
fn same_provider(provider: &str, issuer: &Issuer) -> bool {
    let issuer = issuer.as_str();
    let bare = issuer.split_once("://").map_or(issuer, |(_, rest)| rest);
    provider == issuer || provider == bare || provider.ends_with(&format!(":oidc-provider/{bare}"))
}

fn http_client(cluster: &ClusterSettings) -> Result<SharedHttpClient, StsSetupError> {
    let trust = match &cluster.sts_ca_file {
        None => TrustStore::default(),
        Some(path) => {
            let pem =
                std::fs::read(path).map_err(|source| StsSetupError::CaFile { path: path.clone(), source })?;
            TrustStore::empty().with_pem_certificate(pem)
        }
    };
    let context = TlsContext::builder()
        .with_trust_store(trust)
        .build()
        .map_err(|error| StsSetupError::Tls(error.to_string()))?;
    Ok(aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
        .tls_context(context)
        .pool_max_idle_per_host(4)
        .build_https())
}

fn is_key_fetch_failure(error: &SdkError<AssumeRoleWithWebIdentityError>) -> bool {
    error.code() == Some("InvalidIdentityToken")
        && error.message().is_some_and(|text| text.contains("Couldn't retrieve verification key"))
}

/// By code, not by variant: the SDK models only some of STS's errors.
fn classify(error: &SdkError<AssumeRoleWithWebIdentityError>) -> StsError {
    if is_key_fetch_failure(error) {
        return StsError::Unavailable("it cannot fetch the issuer's keys".into());
    }
    let SdkError::ServiceError(service) = error else {
        return StsError::Unavailable(printable(&DisplayErrorContext(error).to_string(), MAX_LOGGED));
    };
    let status = service.raw().status().as_u16();
    let request_id = error.request_id().unwrap_or("none");
    let message = format!(
        "{} (HTTP {status}, request id {})",
        printable(error.message().unwrap_or("no message"), MAX_LOGGED),
        printable(request_id, 64)
    );
    match error.code() {
        None => StsError::Unavailable(format!("an answer that is not STS's: {message}")),
        Some("IDPCommunicationError" | "InternalFailure" | "ServiceUnavailable") => {
            StsError::Unavailable(message)
        }
        Some(code)
            if status == 429 || status >= 500 || code.contains("Throttl") || code.contains("TooMany") =>
        {
            StsError::Unavailable(format!("{}: {message}", printable(code, 64)))
        }
        Some(
            code @ ("ValidationError"
            | "MalformedPolicyDocument"
            | "PackedPolicyTooLarge"
            | "RegionDisabledException"),
        ) => StsError::Misconfigured { code: code.to_owned(), message },
        Some(code) => StsError::Refused { code: printable(code, 64), message },
    }
}

#[cfg(test)]
#[path = "sts_tests.rs"]
mod tests;
