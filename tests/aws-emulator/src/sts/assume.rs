//! The operation `AssumeRoleWithWebIdentity`: from a request to credentials or AWS's error.

use std::net::IpAddr;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::{Method, Request, header};
use serde_json::Value;

use super::answer::{ApiError, AssumedRole, xml};
use super::identity::{UnverifiedToken, WebIdentity, audiences};
use super::request::{ACTION, FormBody, StsRequest as Asked};
use super::tags::{self, RequestedTags as Tags};
use super::trail::{self, TrailRequest};
use super::{KnownRole, RoleSession, SourceIp, StsCall, StsFault, StsState};
use crate::encoding::{KEY_ID, SECRET, random_text};
use crate::http::{Answer, text};
use crate::policy::{AccessRequest, IamPolicy, RequestContext, provider_arn, provider_name};
use crate::sync::lock;

/// Bytes of session policy and tags that fill the packed size. AWS does not say how it packs; this stand-in packs
/// nothing and is therefore stricter.
const PACKED: usize = 4096;

pub(super) async fn serve(state: &StsState, request: Request<Incoming>, peer: IpAddr) -> Answer {
    state.arrived.add();
    let shape = shape(&request);
    let signed = request.headers().contains_key(header::AUTHORIZATION);
    let user_agent = request.headers().get(header::USER_AGENT).and_then(|value| value.to_str().ok());
    let from = (peer, user_agent.unwrap_or_default().to_owned());
    let form = text(request.into_body()).await.and_then(|body| FormBody::read(&body));
    let mut call = StsCall { signed, ..describe(form.as_ref()) };
    let fault = state.faults.next();
    let answer = match fault {
        Some(StsFault::Http(fault)) => match fault.show().await {
            Some(shown) => {
                "fault".clone_into(&mut call.code);
                shown
            }
            None => decide(state, shape, form, &from, None, &mut call).await,
        },
        Some(StsFault::Error { status, code, message }) => {
            refuse(&ApiError { status, code, message }, &mut call)
        }
        other => decide(state, shape, form, &from, other, &mut call).await,
    };
    lock(&state.calls).push(call);
    state.finished.add();
    answer
}

fn describe(form: Option<&FormBody>) -> StsCall {
    let field = |name: &str| form.and_then(|form| form.get(name)).map(str::to_owned);
    StsCall {
        role_arn: field("RoleArn").unwrap_or_default(),
        session_name: field("RoleSessionName").unwrap_or_default(),
        policy: field("Policy"),
        duration: field("DurationSeconds"),
        ..StsCall::default()
    }
}

/// The HTTP part: a POST of a form to the root, so that the token is in the body and in no log of addresses.
fn shape(request: &Request<Incoming>) -> Result<(), ApiError> {
    let kind =
        request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if request.method() != Method::POST || request.uri().path() != "/" || request.uri().query().is_some() {
        return Err(ApiError::new(400, "MissingAction", "only POST / with a form is served"));
    }
    if kind.split(';').next() != Some("application/x-www-form-urlencoded") {
        return Err(ApiError::new(400, "MissingAction", "the body is no form"));
    }
    Ok(())
}

fn refuse(error: &ApiError, call: &mut StsCall) -> Answer {
    call.code.clone_from(&error.code);
    call.message.clone_from(&error.message);
    error.answer()
}

async fn decide(
    state: &StsState,
    shape: Result<(), ApiError>,
    form: Option<FormBody>,
    (peer, user_agent): &(IpAddr, String),
    fault: Option<StsFault>,
    call: &mut StsCall,
) -> Answer {
    let malformed = || ApiError::new(400, "MalformedQueryString", "the form cannot be read");
    let asked = shape.and_then(|()| form.ok_or_else(malformed)).and_then(|form| form.check());
    let granted = match asked {
        Ok(asked) => {
            assume(state, asked, (*peer, user_agent), matches!(fault, Some(StsFault::AlreadyExpired))).await
        }
        Err(error) => Err(error),
    };
    let mut granted = match granted {
        Ok(granted) => granted,
        Err(error) => return refuse(&error, call),
    };
    "OK".clone_into(&mut call.code);
    call.access_key_id = Some(granted.access_key_id.clone());
    match &fault {
        Some(StsFault::OtherSubject(subject)) => granted.subject.clone_from(subject),
        Some(StsFault::OtherProvider(provider)) => granted.provider.clone_from(provider),
        Some(StsFault::OtherRole(arn)) => granted.arn.clone_from(arn),
        _ => {}
    }
    let mut body = granted.text(!matches!(fault, Some(StsFault::WithoutCredentials)));
    if matches!(fault, Some(StsFault::Truncated)) {
        let middle = body.find("<SessionToken>").unwrap_or(0);
        body.truncate(middle + 40);
    }
    if let Some(StsFault::TruncatedBehind(text)) = fault {
        let end = body.find(text).map_or(0, |start| start + text.len());
        body.truncate(end);
    }
    if let Some(StsFault::Altered(from, to)) = &fault {
        body = body.replacen(from, to, 1);
    }
    xml(200, body)
}

async fn assume(
    state: &StsState,
    asked: Asked,
    (peer, user_agent): (IpAddr, &str),
    already_expired: bool,
) -> Result<AssumedRole, ApiError> {
    let now = state.clock.unix();
    let malformed = |why: String| ApiError::new(400, "MalformedPolicyDocument", why);
    let session_policy = asked.policy.as_deref().map(IamPolicy::identity).transpose();
    let session_policy = session_policy.map_err(|error| malformed(error.to_string()))?;
    let token = UnverifiedToken::read(&asked.token)?;
    let provider = lock(&state.providers).get(&token.issuer).map(Arc::clone).ok_or_else(|| {
        ApiError::invalid_token(format!(
            "No OpenIDConnect provider found in your account for {}",
            token.issuer
        ))
    })?;
    let identity = provider.verify(token, now).await?;
    idp_allows_role(&identity, &asked.role_arn)?;
    let tags = tags::read(&identity.claims)?;
    let source = *lock(&state.source_ip);
    let trust = trust_context(&identity, &tags, &asked.session_name, source, peer);
    let role = lock(&state.roles).get(&asked.role_arn).cloned();
    // A role that does not exist looks like one that trusts nobody.
    let role = role.ok_or_else(|| ApiError::denied(&format!("sts:{ACTION}")))?;
    trusts(state, &role, &identity, &tags, &trust)?;
    if asked.duration > role.max_session_duration {
        return Err(ApiError::validation(
            "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
        ));
    }
    let packed_policy_size = packed(asked.policy.as_deref(), &tags)?;
    let expiration = if already_expired { now - 60 } else { now + asked.duration };
    let session = mint(state, &role, &identity, &tags, &asked.session_name, (expiration, session_policy));
    let role_name = role.arn.rsplit('/').next().unwrap_or_default();
    let granted = AssumedRole {
        access_key_id: session.access_key_id.clone(),
        secret: session.secret.clone(),
        session_token: session.session_token.clone(),
        expiration,
        subject: identity.subject,
        provider: identity.issuer,
        audience: identity.audience,
        arn: format!("arn:aws:sts::{}:assumed-role/{role_name}/{}", state.account, asked.session_name),
        role_id: format!("{}:{}", role.id, asked.session_name),
        packed_policy_size,
        source_identity: tags.source_identity,
    };
    let request = TrailRequest {
        role_arn: &asked.role_arn,
        session_name: &asked.session_name,
        duration: asked.duration,
        peer,
        user_agent,
        now,
    };
    lock(&state.trail).push(trail::event(&state.account, &request, &granted));
    state.store.put(session);
    Ok(granted)
}

/// The claim `https://aws.amazon.com/roles`: an issuer may list the roles that a token is for.
fn idp_allows_role(identity: &WebIdentity, role_arn: &str) -> Result<(), ApiError> {
    let allowed = match identity.claims.get("https://aws.amazon.com/roles") {
        None => true,
        Some(Value::Array(list)) => list.iter().any(|one| one.as_str() == Some(role_arn)),
        Some(Value::String(text)) => text.split(';').any(|one| one == role_arn),
        Some(_) => false,
    };
    if allowed { Ok(()) } else { Err(ApiError::invalid_token("The token is not for this role")) }
}

/// Condition keys of the trust policy.
fn trust_context(
    identity: &WebIdentity,
    tags: &Tags,
    session_name: &str,
    source: SourceIp,
    peer: IpAddr,
) -> RequestContext {
    let mut context = session_context(identity);
    let provider = provider_name(&identity.issuer);
    for audience in audiences(&identity.claims) {
        context.add(&format!("{provider}:oaud"), audience);
    }
    if let Some(email) = identity.claims.get("email").and_then(Value::as_str) {
        context.add(&format!("{provider}:email"), email);
    }
    for (key, value) in &tags.tags {
        context.add(&format!("aws:RequestTag/{key}"), value);
        context.add("aws:TagKeys", key);
    }
    for key in &tags.transitive {
        context.add("sts:TransitiveTagKeys", key);
    }
    if let Some(source_identity) = &tags.source_identity {
        context.add("sts:SourceIdentity", source_identity);
    }
    context.add("sts:RoleSessionName", session_name);
    match source {
        SourceIp::Peer => context.add("aws:SourceIp", peer.to_string()),
        SourceIp::Fixed(address) => context.add("aws:SourceIp", address.to_string()),
        SourceIp::Absent => {}
        SourceIp::Vpce(id) => {
            context.add("aws:SourceVpce", id);
            context.add("aws:VpcSourceIp", peer.to_string());
        }
    }
    context
}

/// Condition keys of the token that last for the session.
fn session_context(identity: &WebIdentity) -> RequestContext {
    let provider = provider_name(&identity.issuer);
    let mut context = RequestContext::default();
    context.add(&format!("{provider}:aud"), &identity.audience);
    context.add(&format!("{provider}:sub"), &identity.subject);
    match identity.claims.get("amr") {
        Some(Value::String(one)) => context.add(&format!("{provider}:amr"), one),
        Some(Value::Array(list)) => {
            list.iter()
                .filter_map(Value::as_str)
                .for_each(|one| context.add(&format!("{provider}:amr"), one));
        }
        _ => {}
    }
    context
}

fn trusts(
    state: &StsState,
    role: &KnownRole,
    identity: &WebIdentity,
    tags: &Tags,
    context: &RequestContext,
) -> Result<(), ApiError> {
    let provider = provider_arn(&state.account, &identity.issuer);
    let mut actions = vec!["sts:AssumeRoleWithWebIdentity"];
    if !tags.tags.is_empty() {
        actions.push("sts:TagSession");
    }
    if tags.source_identity.is_some() {
        actions.push("sts:SetSourceIdentity");
    }
    for action in actions {
        let question = AccessRequest { action, resource: None, provider: Some(&provider), context };
        if !role.trust.allows(&question) {
            return Err(ApiError::denied(action));
        }
    }
    Ok(())
}

fn packed(policy: Option<&str>, tags: &Tags) -> Result<usize, ApiError> {
    let tags: usize = tags.tags.iter().map(|(key, value)| key.len() + value.len()).sum();
    let percent = ((policy.map_or(0, str::len) + tags) * 100).div_ceil(PACKED);
    if percent > 100 {
        let message =
            format!("Packed size of session policies and tags consumes {percent}% of allotted space.");
        return Err(ApiError::new(400, "PackedPolicyTooLarge", message));
    }
    Ok(percent)
}

fn mint(
    state: &StsState,
    role: &KnownRole,
    identity: &WebIdentity,
    tags: &Tags,
    session_name: &str,
    (expiration, session_policy): (i64, Option<IamPolicy>),
) -> RoleSession {
    let mut context = session_context(identity);
    for (key, value) in &tags.tags {
        context.add(&format!("aws:PrincipalTag/{key}"), value);
    }
    RoleSession {
        access_key_id: new_id("ASIA"),
        secret: random_text(SECRET, 40),
        session_token: session_token(*lock(&state.session_token_length)),
        role_arn: role.arn.clone(),
        session_name: session_name.to_owned(),
        subject: identity.subject.clone(),
        tags: tags.tags.clone(),
        expiration,
        session_policy,
        role_policy: Arc::clone(&role.permission),
        context,
    }
}

/// An identifier as AWS makes them: four letters for the kind, 16 letters and digits.
pub(super) fn new_id(kind: &str) -> String {
    format!("{kind}{}", random_text(KEY_ID, 16))
}

/// An opaque text with all the characters that need encoding in a URL.
fn session_token(length: usize) -> String {
    let middle = length.saturating_sub("IQoJb3JpZ2luX2Vj+/=".len());
    format!("IQoJb3JpZ2luX2Vj+/{}=", random_text(SECRET, middle))
}
