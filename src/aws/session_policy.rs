//! The inline session policy. It limits the credentials to logging in as one database user, regardless of
//! what else the role allows.

use serde_json::json;

use crate::config::{ClusterSettings, EndpointKind};
use crate::names::{DbUser, RoleArn};

/// The policy document for `user` of `role` at `cluster`. For DSQL the policy cannot name the user, because a
/// role's users are granted in the database. If no resource id is configured, the policy uses `*`: a session
/// policy can only narrow the role's permissions.
pub fn session_policy(cluster: &ClusterSettings, role: &RoleArn, user: &DbUser) -> String {
    let resource_id = cluster.resource_id.as_deref().unwrap_or("*");
    let (action, resource) = login_permission(cluster, role, resource_id, &literal(user.as_str()));
    json!({
        "Version": "2012-10-17",
        "Statement": [{ "Effect": "Allow", "Action": action, "Resource": resource }],
    })
    .to_string()
}

/// The IAM action and resource of a login. `user` is in policy syntax.
pub fn login_permission(
    cluster: &ClusterSettings,
    role: &RoleArn,
    resource_id: &str,
    user: &str,
) -> (&'static str, String) {
    let (partition, region, account) = (role.partition(), cluster.region.as_str(), role.account());
    if cluster.kind == EndpointKind::Dsql {
        // The id is the first label of the endpoint's name.
        let id = cluster.endpoint.host().split('.').next().unwrap_or("*");
        return ("dsql:DbConnect", format!("arn:{partition}:dsql:{region}:{account}:cluster/{id}"));
    }
    ("rds-db:connect", format!("arn:{partition}:rds-db:{region}:{account}:dbuser:{resource_id}/{user}"))
}

/// Escapes a user for a policy. `${…}` is a policy variable, and `${$}` stands for a dollar sign (IAM user
/// guide, "Policy variables"). A [`DbUser`] cannot contain the wildcards `*` and `?`.
fn literal(user: &str) -> String {
    user.replace('$', "${$}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::test_fixture::cluster;

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

    #[test]
    fn the_policy_follows_kind_and_partition() {
        let mut cluster = cluster("http://127.0.0.1:1");
        cluster.region = crate::names::Region::parse("cn-north-1").unwrap();
        let role = RoleArn::parse("arn:aws-cn:iam::123456789012:role/app").unwrap();
        let user = DbUser::parse("alice").unwrap();
        cluster.resource_id = Some("prx-0abc".into());
        let policy = session_policy(&cluster, &role, &user);
        assert!(
            policy.contains("arn:aws-cn:rds-db:cn-north-1:123456789012:dbuser:prx-0abc/alice"),
            "{policy}"
        );
        cluster.kind = EndpointKind::Dsql;
        cluster.endpoint = crate::names::Endpoint::parse("abcdef.dsql.us-east-1.on.aws").unwrap();
        let policy = session_policy(&cluster, &role, &user);
        assert!(policy.contains("arn:aws-cn:dsql:cn-north-1:123456789012:cluster/abcdef\""), "{policy}");
        assert!(policy.contains("\"dsql:DbConnect\"") && !policy.contains("alice"), "{policy}");
    }
}
