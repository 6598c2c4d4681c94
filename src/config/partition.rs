//! AWS partitions and their STS endpoints.

use super::ClusterSettings;
use crate::names::Region;

/// A partition: its name in ARNs, the prefix of its Regions, and the suffixes of its host names. From the
/// endpoint rules in AWS's SDKs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct AwsPartition {
    pub(super) name: &'static str,
    prefix: &'static str,
    /// Suffix of ordinary endpoints.
    suffix: &'static str,
    /// Suffix of dual-stack endpoints.
    dual_stack: &'static str,
}

/// Partitions with their own Region prefix, longer prefixes first.
const OTHERS: [AwsPartition; 5] = [
    partition("aws-cn", "cn-", "amazonaws.com.cn", "api.amazonwebservices.com.cn"),
    partition("aws-us-gov", "us-gov-", "amazonaws.com", "api.aws"),
    partition("aws-eusc", "eusc-", "amazonaws.eu", "api.amazonwebservices.eu"),
    partition("aws-iso-b", "us-isob-", "sc2s.sgov.gov", "api.aws.scloud"),
    partition("aws-iso", "us-iso-", "c2s.ic.gov", "api.aws.ic.gov"),
];

/// Partition of all other Regions.
const COMMERCIAL: AwsPartition = partition("aws", "", "amazonaws.com", "api.aws");

const fn partition(
    name: &'static str,
    prefix: &'static str,
    suffix: &'static str,
    dual_stack: &'static str,
) -> AwsPartition {
    AwsPartition { name, prefix, suffix, dual_stack }
}

impl AwsPartition {
    /// The partition of `region`.
    pub(super) fn of(region: &Region) -> &'static Self {
        let other = OTHERS.iter().find(|partition| region.as_str().starts_with(partition.prefix));
        other.unwrap_or(&COMMERCIAL)
    }

    /// Host name suffixes of all partitions.
    pub(super) fn suffixes() -> impl Iterator<Item = &'static str> {
        OTHERS.iter().chain([&COMMERCIAL]).map(|partition| partition.suffix)
    }
}

/// Suffix of DSQL's host names, in all partitions that have it.
const DSQL_SUFFIX: &str = "on.aws";

impl ClusterSettings {
    /// True if the endpoint's name is one of AWS.
    pub fn has_aws_name(&self) -> bool {
        let mut suffixes = AwsPartition::suffixes().chain([DSQL_SUFFIX]);
        let name = |suffix| self.endpoint.host().strip_suffix(suffix).is_some_and(|name| name.ends_with('.'));
        suffixes.any(name)
    }
}

/// Regions with a separate FIPS endpoint of STS (AWS General Reference, "AWS STS endpoints").
const FIPS: [&str; 4] = ["us-east-1", "us-east-2", "us-west-1", "us-west-2"];

/// Regions with a dual-stack FIPS endpoint of STS: the United States and Canada (IAM user guide, "Dual-stack
/// endpoint support").
const FIPS_DUAL_STACK: [&str; 6] =
    ["us-east-1", "us-east-2", "us-west-1", "us-west-2", "ca-central-1", "ca-west-1"];

/// URL of STS in `region`. Nonexistent endpoints are rejected here, because a name that does not resolve
/// would be harder to diagnose.
pub(super) fn sts_url(region: &Region, fips: bool, dual_stack: bool) -> Result<String, String> {
    let partition = AwsPartition::of(region);
    let region = region.as_str();
    let with_name = if dual_stack { &FIPS_DUAL_STACK[..] } else { &FIPS[..] };
    let service = match (fips, partition.name) {
        // In GovCloud the ordinary endpoint is the FIPS endpoint.
        (false, _) | (true, "aws-us-gov") => "sts",
        (true, "aws") if with_name.contains(&region) => "sts-fips",
        (true, _) => {
            let text = format!(
                "AWS STS has no such FIPS endpoint in {region}; there is one in {} and in GovCloud",
                with_name.join(", ")
            );
            return Err(text);
        }
    };
    let suffix = if dual_stack { partition.dual_stack } else { partition.suffix };
    Ok(format!("https://{service}.{region}.{suffix}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::Endpoint;

    fn url(region: &str, fips: bool, dual_stack: bool) -> Result<String, String> {
        sts_url(&Region::parse(region).unwrap(), fips, dual_stack)
    }

    #[test]
    fn a_name_of_any_partition_is_one_of_aws() {
        let mut cluster = crate::config::test_fixture::cluster("http://127.0.0.1:1");
        for (host, of_aws) in [
            ("x.cluster-a.eu-central-1.rds.amazonaws.com", true),
            ("x.a.rds.cn-north-1.amazonaws.com.cn", true),
            ("x.a.eusc-de-east-1.rds.amazonaws.eu", true),
            ("x.a.us-iso-east-1.rds.c2s.ic.gov", true),
            ("x.a.us-isob-east-1.rds.sc2s.sgov.gov", true),
            ("x.dsql.eu-central-1.on.aws", true),
            ("orders.example.com", false),
            ("notamazonaws.com", false),
            ("amazonaws.com.example", false),
        ] {
            cluster.endpoint = Endpoint::parse(host).unwrap();
            assert_eq!(cluster.has_aws_name(), of_aws, "{host}");
        }
    }

    #[test]
    fn sts_has_the_name_that_aws_gives_it() {
        for (region, fips, dual_stack, expected) in [
            ("eu-central-1", false, false, "https://sts.eu-central-1.amazonaws.com"),
            ("eu-central-1", false, true, "https://sts.eu-central-1.api.aws"),
            ("us-east-1", true, false, "https://sts-fips.us-east-1.amazonaws.com"),
            ("us-west-2", true, true, "https://sts-fips.us-west-2.api.aws"),
            ("ca-central-1", true, true, "https://sts-fips.ca-central-1.api.aws"),
            ("cn-north-1", false, false, "https://sts.cn-north-1.amazonaws.com.cn"),
            ("cn-north-1", false, true, "https://sts.cn-north-1.api.amazonwebservices.com.cn"),
            ("us-gov-west-1", false, false, "https://sts.us-gov-west-1.amazonaws.com"),
            ("us-gov-west-1", true, false, "https://sts.us-gov-west-1.amazonaws.com"),
            ("us-gov-east-1", true, true, "https://sts.us-gov-east-1.api.aws"),
            ("eusc-de-east-1", false, false, "https://sts.eusc-de-east-1.amazonaws.eu"),
            ("us-iso-east-1", false, false, "https://sts.us-iso-east-1.c2s.ic.gov"),
            ("us-isob-east-1", false, false, "https://sts.us-isob-east-1.sc2s.sgov.gov"),
        ] {
            assert_eq!(url(region, fips, dual_stack).unwrap(), expected);
        }
    }

    #[test]
    fn an_endpoint_that_does_not_exist_is_refused() {
        for (region, dual_stack) in [
            ("eu-west-1", false),
            ("eu-west-1", true),
            ("ca-central-1", false),
            ("cn-north-1", false),
            ("eusc-de-east-1", true),
        ] {
            let text = url(region, true, dual_stack).unwrap_err();
            assert!(text.contains(region) && text.contains("us-east-1"), "{text}");
        }
    }
}
