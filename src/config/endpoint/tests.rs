//! Names of endpoints, and what has to fit them.

use super::*;
use crate::config::Config;
use crate::config::problems::ConfigProblems;
use crate::config::test_fixture::parse;

#[test]
fn names_tell_kind_and_region() {
    use EndpointKind::{Aurora, Dsql, Rds, RdsProxy};
    for (host, kind, region) in [
        ("a.cluster-c1a2.eu-central-1.rds.amazonaws.com", Aurora, Some("eu-central-1")),
        ("a.cluster-ro-c1a2.eu-central-1.rds.amazonaws.com", Aurora, Some("eu-central-1")),
        ("a.cluster-custom-c1a2.eu-central-1.rds.amazonaws.com", Aurora, Some("eu-central-1")),
        ("a.shardgrp-c1a2.eu-central-1.rds.amazonaws.com", Aurora, Some("eu-central-1")),
        ("a.c1a2.eu-central-1.rds.amazonaws.com", Rds, Some("eu-central-1")),
        ("a-green-x1y2z3.c1a2.eu-central-1.rds.amazonaws.com", Rds, Some("eu-central-1")),
        ("a.proxy-c1a2.us-east-1.rds.amazonaws.com", RdsProxy, Some("us-east-1")),
        ("ro.endpoint.proxy-c1a2.us-east-1.rds.amazonaws.com", RdsProxy, Some("us-east-1")),
        ("a.cluster-c1a2.us-east-1.rds-fips.amazonaws.com", Aurora, Some("us-east-1")),
        ("a.global-c1a2.global.rds.amazonaws.com", Aurora, None),
        ("a.cluster-c1a2.rds.cn-north-1.amazonaws.com.cn", Aurora, Some("cn-north-1")),
        ("a.cluster-c1a2.cn-north-1.rds.amazonaws.com.cn", Aurora, Some("cn-north-1")),
        ("a.cluster-c1a2.rds.us-gov-west-1.amazonaws.com", Aurora, Some("us-gov-west-1")),
        ("a.cluster-c1a2.eusc-de-east-1.rds.amazonaws.eu", Aurora, Some("eusc-de-east-1")),
        ("abcdef.dsql.us-east-1.on.aws", Dsql, Some("us-east-1")),
        ("abcdef.dsql-x1y2.us-east-1.on.aws", Dsql, Some("us-east-1")),
    ] {
        assert_eq!(AwsName::parse(host), Some(AwsName { kind, region }), "{host}");
    }
    for host in [
        "db.acme.com",
        "localhost",
        "rds.amazonaws.com",
        "eu-central-1.rds.amazonaws.com",
        "a.eu-central-1.rds.amazonaws.com.acme.com",
        "a.cluster-c1a2.eu-central-1.redshift.amazonaws.com",
        "abc.lambda-url.us-east-1.on.aws",
        "evilamazonaws.com",
    ] {
        assert_eq!(AwsName::parse(host), None, "{host}");
    }
}

fn read(endpoint: &str, region: &str, keys: &str) -> Result<Config, ConfigProblems> {
    let issuer = "url = \"https://idp.example\"\naudience = \"a\"";
    parse(issuer, &format!("endpoint = \"{endpoint}\"\nregion = \"{region}\"\n{keys}"))
}

const ROLE: &str = "role_arn = \"arn:aws:iam::123456789012:role/app\"\n";
const AURORA: &str = "a.cluster-c1a2.eu-central-1.rds.amazonaws.com";
const PROXY: &str = "a.proxy-c1a2.eu-central-1.rds.amazonaws.com";
const INSTANCE: &str = "a.c1a2.eu-central-1.rds.amazonaws.com";
const DSQL: &str = "abcdef.dsql.eu-central-1.on.aws";

#[test]
fn the_kind_is_guessed_and_can_be_said() {
    use EndpointKind::{Aurora, Dsql, Rds, RdsProxy};
    let kind = |endpoint, key| {
        let config = read(endpoint, "eu-central-1", &format!("{ROLE}ca_file = \"x\"\n{key}"));
        config.map(|config| config.clusters[0].kind).map_err(|problems| problems.to_string())
    };
    for (endpoint, key, expected) in [
        (AURORA, "", Aurora),
        (INSTANCE, "", Rds),
        (INSTANCE, "kind = \"aurora\"", Aurora),
        (AURORA, "kind = \"rds\"", Rds),
        (PROXY, "", RdsProxy),
        (DSQL, "", Dsql),
        ("db.acme.com", "", Aurora),
        ("db.acme.com", "kind = \"rds-proxy\"", RdsProxy),
    ] {
        assert_eq!(kind(endpoint, key), Ok(expected), "{endpoint} {key}");
    }
    for (endpoint, key) in [
        (AURORA, "kind = \"rds-proxy\""),
        (PROXY, "kind = \"aurora\""),
        (DSQL, "kind = \"rds\""),
        (INSTANCE, "kind = \"dsql\""),
    ] {
        let text = kind(endpoint, key).unwrap_err();
        assert!(text.contains("cluster[0].kind: the endpoint's name is that of another kind"), "{text}");
    }
}

#[test]
fn resource_ids_are_those_of_the_kind() {
    let takes = |endpoint, id| {
        let keys = format!("{ROLE}ca_file = \"x\"\nresource_id = \"{id}\"");
        read(endpoint, "eu-central-1", &keys).is_ok()
    };
    for (endpoint, cluster, db, prx) in [
        (AURORA, true, false, false),
        (INSTANCE, true, true, false),
        (PROXY, false, false, true),
        (DSQL, false, false, false),
    ] {
        let taken = ["cluster-ABC1", "db-ABC1", "prx-0abc1"].map(|id| takes(endpoint, id));
        assert_eq!(taken, [cluster, db, prx], "{endpoint}");
        assert!(!takes(endpoint, "app") && !takes(endpoint, "cluster-") && !takes(endpoint, "cluster-a*"));
    }
}

#[test]
fn a_role_of_another_partition_is_refused() {
    for (endpoint, region, partition) in [
        (AURORA, "eu-central-1", "aws"),
        ("a.cluster-c1a2.rds.cn-north-1.amazonaws.com.cn", "cn-north-1", "aws-cn"),
        ("a.cluster-c1a2.us-gov-west-1.rds.amazonaws.com", "us-gov-west-1", "aws-us-gov"),
        ("a.cluster-c1a2.eusc-de-east-1.rds.amazonaws.eu", "eusc-de-east-1", "aws-eusc"),
    ] {
        let with = |partition: &str| {
            let role = format!("role_arn = \"arn:{partition}:iam::123456789012:role/app\"");
            read(endpoint, region, &format!("{role}\nca_file = \"x\""))
        };
        let sts = with(partition).unwrap().clusters.remove(0).sts_endpoint_url;
        assert!(sts.as_str().starts_with(&format!("https://sts.{region}.amazonaws.")), "{sts}");
        for other in ["aws", "aws-cn", "aws-us-gov"].into_iter().filter(|other| *other != partition) {
            let text = with(other).unwrap_err().to_string();
            assert!(text.contains(&format!("write arn:{partition}:iam::")), "{text}");
        }
    }
}

#[test]
fn what_will_not_work_is_a_warning_with_its_reason() {
    let warnings =
        |endpoint, keys: &str| read(endpoint, "eu-central-1", &format!("{ROLE}{keys}")).unwrap().warnings;
    assert_eq!(warnings(AURORA, "ca_file = \"x\""), [] as [&str; 0]);
    assert_eq!(warnings(PROXY, "ca_file = \"system\""), [] as [&str; 0]);
    let alias = warnings("db.acme.com", "ca_file = \"x\"");
    assert!(alias[0].starts_with("test.toml:11:20: cluster[0].endpoint: this is not a name"), "{alias:?}");
    assert!(alias[0].contains("CNAME") && alias.len() == 1, "{alias:?}");
    let public = warnings(AURORA, "ca_file = \"system\"");
    assert!(public[0].contains("cluster[0].ca_file: certificates of Aurora and RDS"), "{public:?}");
    assert_eq!(warnings(AURORA, "ca_file = \"rds\""), [] as [&str; 0]);
    let public = warnings(PROXY, "ca_file = \"rds\"");
    assert!(public[0].contains("cluster[0].ca_file: certificates of RDS Proxy and DSQL"), "{public:?}");
    let dsql = warnings(DSQL, "ca_file = \"system\"");
    assert!(dsql[0].contains("cluster[0].pin: ") && dsql[0].contains("AWS IAM GRANT"), "{dsql:?}");
    assert_eq!(warnings(DSQL, "ca_file = \"system\"\npin = \"none\""), [] as [&str; 0]);
}

#[test]
fn authorities_are_a_file_or_named_by_a_word() {
    let ca_file = |text: &str| {
        read(PROXY, "eu-central-1", &format!("{ROLE}ca_file = \"{text}\""))
            .unwrap()
            .clusters
            .remove(0)
            .authorities
    };
    let file = |path: &str| TrustAnchors::File(path.into());
    assert_eq!(ca_file("system"), TrustAnchors::System);
    assert_eq!(ca_file("./system"), file("./system"));
    assert_eq!(ca_file("rds"), TrustAnchors::Rds);
    assert_eq!(ca_file("./rds"), file("./rds"));
    let missing = read(PROXY, "eu-central-1", ROLE).unwrap_err().to_string();
    assert!(missing.contains("ca_file = \"system\""), "{missing}");
}

#[test]
fn sts_endpoints_are_chosen_by_key_and_only_where_they_exist() {
    let sts = |keys: &str| {
        let config = read(AURORA, "eu-central-1", &format!("{ROLE}ca_file = \"x\"\n{keys}"));
        config.map(|mut config| config.clusters.remove(0).sts_endpoint_url.to_string())
    };
    assert_eq!(sts("").unwrap(), "https://sts.eu-central-1.amazonaws.com/");
    assert_eq!(sts("sts_use_dualstack_endpoint = true").unwrap(), "https://sts.eu-central-1.api.aws/");
    let fips = sts("sts_use_fips_endpoint = true").unwrap_err().to_string();
    assert!(fips.contains("cluster[0].sts_use_fips_endpoint: AWS STS has no such FIPS endpoint"), "{fips}");
    let both = sts("sts_endpoint_url = \"https://a.example\"\nsts_use_fips_endpoint = true").unwrap_err();
    assert!(both.to_string().contains("is used as it is"), "{both}");
}
