//! The issuer's pages (OpenID Connect Discovery 1.0, RFC 6749, section 4.4).

use hyper::body::Incoming;
use hyper::{Method, Request, header};
use serde_json::{Value, json};

use super::{IssuerPage, IssuerState, sign_in_pages};
use crate::KeyChoice;
use crate::http::{Answer, answer, text};
use crate::sync::lock;

const JSON: &str = "application/json";

pub(super) async fn serve(state: &IssuerState, request: Request<Incoming>) -> Answer {
    let path = request.uri().path();
    let Some(page) =
        IssuerPage::ALL.into_iter().find(|page| path.strip_prefix(&*state.prefix) == Some(page.path()))
    else {
        return answer(404, "text/plain", "no such page".to_owned());
    };
    state.page(page).seen.add();
    if let Some(fault) = state.page(page).faults.next()
        && let Some(shown) = fault.show().await
    {
        return shown;
    }
    match (page, request.method() == Method::POST) {
        (IssuerPage::Discovery, false) => cacheable(state, &discovery(state)),
        (IssuerPage::Jwks, false) => cacheable(state, &state.jwks()),
        (IssuerPage::Token, true) => token(state, request).await,
        (IssuerPage::Authorize, _) => sign_in_pages::authorize(state, request).await,
        (IssuerPage::DeviceCode, true) => sign_in_pages::device_code(state, request).await,
        (IssuerPage::Device, _) => sign_in_pages::device(state, request).await,
        (IssuerPage::Revoke, true) => sign_in_pages::revoke(state, request).await,
        (IssuerPage::Mint, true) if state.options.mint_endpoint => mint(state, request).await,
        (IssuerPage::Mint, _) => answer(404, "text/plain", "no such page".to_owned()),
        _ => answer(405, "text/plain", "wrong method".to_owned()),
    }
}

fn discovery(state: &IssuerState) -> Value {
    let issuer = state.url();
    let base = issuer.trim_end_matches('/');
    let named =
        if state.options.all_tenants { issuer.replace("common", "{tenantid}") } else { issuer.clone() };
    json!({
        "issuer": named,
        "jwks_uri": format!("{base}{}", IssuerPage::Jwks.path()),
        "token_endpoint": format!("{base}{}", IssuerPage::Token.path()),
        "authorization_endpoint": format!("{base}{}", IssuerPage::Authorize.path()),
        "device_authorization_endpoint": format!("{base}{}", IssuerPage::DeviceCode.path()),
        "revocation_endpoint": format!("{base}{}", IssuerPage::Revoke.path()),
        "authorization_response_iss_parameter_supported": true,
        "code_challenge_methods_supported": ["S256"],
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
        "grant_types_supported": ["client_credentials", "authorization_code", "refresh_token",
            "urn:ietf:params:oauth:grant-type:device_code"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
        "id_token_signing_alg_values_supported": ["RS256", "ES256"],
    })
}

fn cacheable(state: &IssuerState, document: &Value) -> Answer {
    let mut page = answer(200, JSON, document.to_string())?;
    if let Some(value) = lock(&state.cache_control).as_deref().and_then(|value| value.parse().ok()) {
        page.headers_mut().insert(header::CACHE_CONTROL, value);
    }
    Ok(page)
}

/// The client-credentials grant, where the client is the user, and those of people's programs.
async fn token(state: &IssuerState, request: Request<Incoming>) -> Answer {
    let form = sign_in_pages::form(request).await;
    let field = |name: &str| form.get(name);
    let refuse = |status, error: &str| answer(status, JSON, json!({ "error": error }).to_string());
    if field("grant_type") != Some("client_credentials") {
        return sign_in_pages::token(state, &form);
    }
    let known = field("client_id").and_then(|id| state.options.clients.get_key_value(id));
    let Some((user, _)) = known.filter(|(_, secret)| Some(secret.as_str()) == field("client_secret")) else {
        return refuse(401, "invalid_client");
    };
    let token = state.mint(&state.default_claims(user).into(), &KeyChoice::Rs256);
    answer(200, JSON, json!({ "access_token": token, "token_type": "Bearer", "expires_in": 900 }).to_string())
}

/// Signs what the test sends: `{"claims": …, "alg": …, "kid": …}`. Claims that are left out are the default ones.
async fn mint(state: &IssuerState, request: Request<Incoming>) -> Answer {
    let wanted: Option<Value> =
        text(request.into_body()).await.and_then(|body| serde_json::from_str(&body).ok());
    let Some(Value::Object(wanted)) = wanted else {
        return answer(400, "text/plain", "a JSON object is needed".to_owned());
    };
    let alg = wanted.get("alg").and_then(Value::as_str).unwrap_or("RS256");
    let key = match alg {
        "ES256" => KeyChoice::Es256,
        "RS384" => KeyChoice::Rs384,
        "RS512" => KeyChoice::Rs512,
        "PS256" => KeyChoice::Ps256,
        "RS256" => KeyChoice::Rs256,
        _ => return answer(400, "text/plain", format!("no key for {alg}")),
    };
    let asked = wanted.get("claims").and_then(Value::as_object).cloned().unwrap_or_default();
    let sub = asked.get("sub").and_then(Value::as_str).unwrap_or("alice").to_owned();
    let claims = asked.into_iter().fold(state.default_claims(&sub), |all, (name, value)| match value {
        Value::Null => all.without(&name),
        value => all.set(&name, value),
    });
    let kid = wanted
        .get("kid")
        .and_then(Value::as_str)
        .map_or_else(|| state.keys().kid(&key).to_owned(), str::to_owned);
    let header = json!({ "alg": alg, "typ": "JWT", "kid": kid }).to_string();
    let token = state.sign(&header, Value::from(claims).to_string().as_bytes(), &key);
    answer(200, "application/jwt", token)
}
