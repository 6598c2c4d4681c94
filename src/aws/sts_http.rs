//! Adapter of the bounded HTTPS client to the SDK. Incomplete answers, and answers that are not from STS, do not reach
//! the SDK.

use std::sync::Arc;

use aws_sdk_sts::config::{HttpClient, RuntimeComponents};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use zeroize::Zeroizing;

use super::sts_xml::{self, XmlFault};
use crate::net::https::{Answer, HttpsClient, HttpsError};

/// Longest answer of STS. Without the session token it has about 2 KiB, and the longest accepted session
/// token has 16 KiB ([`MAX_SESSION_TOKEN`](super::sts_answer::MAX_SESSION_TOKEN)).
pub(super) const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// An answer that is not from STS, such as a load balancer's page, or is incomplete.
#[derive(Debug, thiserror::Error)]
#[error("not an answer from STS (HTTP {status}): {fault}")]
struct ForeignResponse {
    status: u16,
    fault: XmlFault,
}

/// HTTP client of the SDK.
#[derive(Clone, Debug)]
pub(super) struct StsHttp(pub(super) Arc<HttpsClient>);

impl HttpClient for StsHttp {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for StsHttp {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let client = Arc::clone(&self.0);
        HttpConnectorFuture::new(async move {
            let answer = client.ask(sent(&request)?).await.map_err(failed)?;
            received(answer)
        })
    }
}

/// Converts the SDK's request. Its body contains the token, so the copy is zeroized after sending.
fn sent(request: &HttpRequest) -> Result<Request<Bytes>, ConnectorError> {
    let body = request.body().bytes().ok_or_else(|| ConnectorError::user("a streamed request".into()))?;
    let body = Bytes::from_owner(Zeroizing::new(body.to_vec()));
    let mut sent = Request::builder().method(request.method()).uri(request.uri());
    for (name, value) in request.headers() {
        sent = sent.header(name, value);
    }
    sent.body(body).map_err(|error| ConnectorError::user(error.into()))
}

fn failed(error: HttpsError) -> ConnectorError {
    match error {
        HttpsError::TimedOut(_) => ConnectorError::timeout(error.into()),
        _ => ConnectorError::io(error.into()),
    }
}

fn received(answer: Answer) -> Result<HttpResponse, ConnectorError> {
    let status = answer.status.as_u16();
    sts_xml::check(&answer.body)
        .map_err(|fault| ConnectorError::other(ForeignResponse { status, fault }.into(), None))?;
    let other = |error: Box<dyn std::error::Error + Send + Sync>| ConnectorError::other(error, None);
    let code = status.try_into().map_err(|_| other("an invalid status".into()))?;
    // The SDK traces in-memory bodies but not streams.
    let body = SdkBody::from_body_1_x(Full::new(answer.body));
    let mut response = HttpResponse::new(code, body);
    for (name, value) in &answer.headers {
        // Header values that are not text are dropped.
        if let Ok(value) = value.to_str() {
            response.headers_mut().append(name.as_str().to_owned(), value.to_owned());
        }
    }
    Ok(response)
}
