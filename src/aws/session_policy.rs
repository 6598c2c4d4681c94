//! The inline session policy: whatever the role may do, these credentials may only log in as this one user.

use serde_json::json;

use crate::config::ClusterSettings;
use crate::names::{DbUser, RoleArn};

/// The policy document for `user` of `role` at `cluster`. The resource id is `*` where it is not configured: a session
/// policy can only narrow what the role allows.
pub fn session_policy(cluster: &ClusterSettings, role: &RoleArn, user: &DbUser) -> String {
    let resource = format!(
        "arn:{}:rds-db:{}:{}:dbuser:{}/{}",
        role.partition(),
        cluster.region.as_str(),
        role.account(),
        cluster.resource_id.as_deref().unwrap_or("*"),
        literal(user.as_str()),
    );
    json!({
        "Version": "2012-10-17",
        "Statement": [{ "Effect": "Allow", "Action": "rds-db:connect", "Resource": resource }],
    })
    .to_string()
}

/// A policy reads `${…}` as a variable; `${$}` is its way to write a dollar sign (IAM user guide, "Policy
/// variables"). Its wildcards `*` and `?` cannot be part of a [`DbUser`].
fn literal(user: &str) -> String {
    user.replace('$', "${$}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws::test_cluster::cluster;

    fn resource(cluster: &ClusterSettings, user: &str) -> String {
        let policy = session_policy(cluster, cluster.roles.of("idp").unwrap(), &DbUser::parse(user).unwrap());
        assert!(policy.len() <= 2048);
        let policy: serde_json::Value = serde_json::from_str(&policy).unwrap();
        policy["Statement"][0]["Resource"].as_str().unwrap().to_owned()
    }

    #[test]
    fn p10_the_policy_names_one_user_and_no_pattern() {
        let mut cluster = cluster("http://127.0.0.1:1");
        let prefix = "arn:aws:rds-db:eu-central-1:123456789012:dbuser:cluster-ABC";
        assert_eq!(resource(&cluster, "alice"), format!("{prefix}/alice"));
        assert_eq!(resource(&cluster, r#"a"\b"#), format!(r#"{prefix}/a"\b"#));
        assert_eq!(resource(&cluster, "${aws:x}"), format!("{prefix}/${{$}}{{aws:x}}"));
        cluster.resource_id = None;
        assert_eq!(resource(&cluster, "alice"), "arn:aws:rds-db:eu-central-1:123456789012:dbuser:*/alice");
    }
}
