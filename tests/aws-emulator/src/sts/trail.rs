//! Events of `AssumeRoleWithWebIdentity` in the shape of `CloudTrail` (AWS IAM user guide, "Logging IAM and AWS STS API calls with
//! AWS CloudTrail").

use std::net::IpAddr;

use serde_json::{Value, json};

use super::answer::AssumedRole;
use super::request::ACTION;
use crate::clock;
use crate::encoding::random_text;
use crate::policy::provider_arn;

/// Characters of the parts of a UUID.
const HEX: &[u8] = b"0123456789abcdef";

/// The part of a request that an event repeats.
pub(super) struct TrailRequest<'a> {
    pub(super) role_arn: &'a str,
    pub(super) session_name: &'a str,
    pub(super) duration: i64,
    pub(super) peer: IpAddr,
    pub(super) user_agent: &'a str,
    pub(super) now: i64,
}

/// The event of a granted request. `CloudTrail` has an encoded session token; here it is left out.
pub(super) fn event(account: &str, request: &TrailRequest<'_>, granted: &AssumedRole) -> Value {
    let provider = provider_arn(account, &granted.provider);
    json!({
        "eventVersion": "1.08",
        "userIdentity": {
            "type": "WebIdentityUser",
            "principalId": format!("{provider}:{}:{}", granted.audience, granted.subject),
            "userName": granted.subject,
            "identityProvider": provider,
        },
        "eventTime": clock::extended(request.now),
        "eventSource": "sts.amazonaws.com",
        "eventName": ACTION,
        "awsRegion": crate::names::REGION,
        "sourceIPAddress": request.peer.to_string(),
        "userAgent": request.user_agent,
        "requestParameters": {
            "durationSeconds": request.duration,
            "roleArn": request.role_arn,
            "roleSessionName": request.session_name,
        },
        "responseElements": {
            "provider": provider,
            "subjectFromWebIdentityToken": granted.subject,
            "audience": granted.audience,
            "credentials": {
                "accessKeyId": granted.access_key_id,
                "expiration": clock::extended(granted.expiration),
            },
            "assumedRoleUser": { "assumedRoleId": granted.role_id, "arn": granted.arn },
        },
        "resources": [{ "accountId": account, "type": "AWS::IAM::Role", "ARN": request.role_arn }],
        "requestID": uuid(),
        "eventID": uuid(),
        "readOnly": true,
        "eventType": "AwsApiCall",
        "managementEvent": true,
        "recipientAccountId": account,
    })
}

fn uuid() -> String {
    [8, 4, 4, 4, 12].map(|length| random_text(HEX, length)).join("-")
}
