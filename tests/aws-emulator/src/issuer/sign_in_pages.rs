//! The issuer's pages for people: to sign in, to type a device code; and the endpoints that go with them.

use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode, header};
use serde_json::json;

use super::IssuerState;
use super::sign_in::Form;
use crate::encoding::{form_pairs, from_base64url, percent_decode, percent_encode};
use crate::http::{Answer, PeerClosed, ResponseBody, answer, text};
use crate::sync::lock;

const JSON: &str = "application/json";

/// Reads the body as a form. The secret of a header (RFC 6749, section 2.3.1) becomes a field.
pub(super) async fn form(request: Request<Incoming>) -> Form {
    let basic = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let basic = basic.and_then(|value| value.strip_prefix("Basic "));
    let basic = basic.map(|pair| pair.trim_end_matches('=').replace('+', "-").replace('/', "_"));
    let basic = basic.and_then(|pair| String::from_utf8(from_base64url(&pair)?).ok());
    let secret = basic.and_then(|pair| percent_decode(&pair.split_once(':')?.1.replace('+', " ")));
    let mut fields = text(request.into_body()).await.and_then(|body| form_pairs(&body)).unwrap_or_default();
    fields.extend(secret.map(|secret| ("client_secret".to_owned(), secret)));
    Form(fields)
}

fn refuse(status: u16, error: &str) -> Answer {
    answer(
        status,
        JSON,
        json!({ "error": error, "error_description": "as the stand-in sees it" }).to_string(),
    )
}

fn page(body: &str) -> Answer {
    let page = format!(
        "<!DOCTYPE html><meta charset=\"utf-8\"><title>Stand-in issuer</title><h1>Stand-in issuer</h1>{body}"
    );
    answer(200, "text/html; charset=utf-8", page)
}

/// The page to sign in, and its answer: a redirect with a code. The person types a user name; there is no password.
pub(super) async fn authorize(state: &IssuerState, request: Request<Incoming>) -> Answer {
    let query = Form(request.uri().query().and_then(form_pairs).unwrap_or_default());
    let wanted = match state.sign_in_request(&query) {
        Ok(wanted) => wanted,
        Err(problem) => return answer(400, "text/plain", problem),
    };
    if request.method() != Method::POST {
        return page(
            "<form method=\"post\"><label>User <input name=\"user\" value=\"alice\"></label> \
             <button id=\"go\">Sign in</button></form>",
        );
    }
    let user = form(request).await.get("user").unwrap_or_default().to_owned();
    let said = if user.is_empty() {
        "error=access_denied&error_description=not+assigned".to_owned()
    } else {
        format!("code={}", state.give_code(&wanted, &user))
    };
    let place = format!(
        "{}?{said}&state={}&iss={}",
        wanted.redirect,
        percent_encode(&wanted.state),
        percent_encode(&state.url())
    );
    let redirect = Response::builder().status(StatusCode::FOUND).header(header::LOCATION, place);
    redirect.body(ResponseBody::from(String::new())).map_err(|_| PeerClosed)
}

/// Tokens for a person's program.
pub(super) fn token(state: &IssuerState, form: &Form) -> Answer {
    let granted = state.grant(form);
    {
        let mut book = lock(&state.people);
        if book.lost_answers > 0 {
            book.lost_answers -= 1;
            return Err(PeerClosed);
        }
    }
    match granted {
        Ok(tokens) => answer(200, JSON, tokens.to_string()),
        Err(error) => refuse(if error == "invalid_client" { 401 } else { 400 }, error),
    }
}

/// A device code.
pub(super) async fn device_code(state: &IssuerState, request: Request<Incoming>) -> Answer {
    match state.device_code(&form(request).await) {
        Ok(code) => answer(200, JSON, code.to_string()),
        Err(error) => refuse(400, error),
    }
}

/// The page where a device code is typed.
pub(super) async fn device(state: &IssuerState, request: Request<Incoming>) -> Answer {
    if request.method() != Method::POST {
        return page(
            "<form method=\"post\"><input name=\"user_code\"> <input name=\"user\"> <button>Approve</button></form>",
        );
    }
    let form = form(request).await;
    let (code, user) = (form.get("user_code").unwrap_or_default(), form.get("user").unwrap_or_default());
    if state.decide_device(code, user) {
        page("Done.")
    } else {
        answer(404, "text/plain", "no such code".to_owned())
    }
}

/// Revocation.
pub(super) async fn revoke(state: &IssuerState, request: Request<Incoming>) -> Answer {
    let form = form(request).await;
    let Some(token) = form.get("token") else { return refuse(400, "invalid_request") };
    state.revoke(token);
    answer(200, JSON, String::new())
}
