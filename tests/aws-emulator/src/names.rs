//! The names of the one made-up deployment that demo and tests share.

/// The AWS account.
pub const ACCOUNT: &str = "123456789012";
/// The Region.
pub const REGION: &str = "eu-central-1";
/// The name of the role that users assume.
pub const ROLE_NAME: &str = "pgpassport-app";
/// The ARN of that role.
pub const ROLE_ARN: &str = "arn:aws:iam::123456789012:role/pgpassport-app";
/// The cluster's DNS name.
pub const ENDPOINT_HOST: &str = "app.cluster-c1a2b3c4d5e6.eu-central-1.rds.amazonaws.com";
/// The cluster's DNS name and port.
pub const ENDPOINT: &str = "app.cluster-c1a2b3c4d5e6.eu-central-1.rds.amazonaws.com:5432";
/// The cluster's resource id, as `rds-db:connect` names it.
pub const RESOURCE_ID: &str = "cluster-ABCDEFGHIJKLMNOP";
/// The DNS name of the MySQL-compatible cluster.
pub const MYSQL_ENDPOINT_HOST: &str = "shop.cluster-c1a2b3c4d5e6.eu-central-1.rds.amazonaws.com";
/// The MySQL-compatible cluster's DNS name and port.
pub const MYSQL_ENDPOINT: &str = "shop.cluster-c1a2b3c4d5e6.eu-central-1.rds.amazonaws.com:3306";
/// The MySQL-compatible cluster's resource id.
pub const MYSQL_RESOURCE_ID: &str = "cluster-QRSTUVWXYZ234567";
/// The ARN of the role that may log in to the MySQL-compatible cluster.
pub const MYSQL_ROLE_ARN: &str = "arn:aws:iam::123456789012:role/pgpassport-shop";
/// The audience of tokens.
pub const AUDIENCE: &str = "pgpassport";
/// The database.
pub const DATABASE: &str = "app";
