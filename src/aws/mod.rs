//! AWS: role credentials for one person, and the IAM token signed with them. The proxy has no AWS identity of
//! its own and does not read the machine's credentials.

pub mod breaker;
pub mod credentials;
pub mod federation;
pub mod iam_token;
pub mod retry;
pub mod session_name;
pub mod session_policy;
pub mod sts;
pub mod sts_answer;
pub mod sts_client;
pub mod sts_endpoints;
pub mod sts_error;
mod sts_http;
pub mod sts_request;
mod sts_status;
mod sts_xml;
