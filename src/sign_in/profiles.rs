//! The document of published profiles, at `/.well-known/pgpassport` (docs/for-users/sign-in.md). Nothing in it is secret.

use bytes::Bytes;
use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::{Method, Request};

use super::web::{JSON, TEXT, WebAnswer, WebPage, answer};

/// Path of the document.
const PATH: &str = "/.well-known/pgpassport";

/// The page with the document.
#[derive(Debug)]
pub struct ProfilesPage {
    document: Bytes,
}

impl ProfilesPage {
    /// Publishes `document`, a JSON text.
    pub fn new(document: String) -> Self {
        Self { document: document.into() }
    }
}

impl WebPage for ProfilesPage {
    async fn answer(&self, request: Request<Incoming>) -> WebAnswer {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return answer(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD\n");
        }
        match request.uri().path() {
            PATH => answer(StatusCode::OK, JSON, self.document.clone()),
            _ => answer(StatusCode::NOT_FOUND, TEXT, "there is /.well-known/pgpassport\n"),
        }
    }
}
