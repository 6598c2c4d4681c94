//! PostgreSQL proxy that turns an OIDC token into an AWS IAM database login.
