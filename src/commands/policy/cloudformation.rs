//! A plan as a `CloudFormation` template in JSON, for one account.

use serde_json::{Map, Value, json};

use super::shell::POLICY_NAME;
use super::{Placeholder, PlanError, PolicyPlan, ProviderPlan, RolePlan};

/// Version of the template format, the only one there is.
const VERSION: &str = "2010-09-09";

pub(super) fn template(plan: &PolicyPlan) -> Result<String, PlanError> {
    let mut accounts: Vec<_> = plan.roles.iter().map(|role| role.arn.account().to_owned()).collect();
    accounts.sort_unstable();
    accounts.dedup();
    if accounts.len() > 1 {
        return Err(PlanError::SeveralAccounts(accounts));
    }
    let mut resources = Map::new();
    let registered: Vec<_> = plan.providers.iter().filter(|provider| !provider.built_in).collect();
    let mut providers = Vec::new();
    for (number, provider) in registered.iter().enumerate() {
        let id = format!("Provider{}", number + 1);
        resources.insert(id.clone(), register(provider));
        providers.push(id);
    }
    for (number, role) in plan.roles.iter().enumerate() {
        resources.insert(format!("Role{}", number + 1), create(role, &providers, &plan.placeholders));
    }
    let mut parameters = Map::new();
    parameters.extend(plan.placeholders.iter().map(|one| (one.parameter(), parameter(one))));
    let mut sql = Map::new();
    sql.extend(plan.databases.iter().map(|one| (one.cluster.clone(), json!(one.statements))));
    let mut whole = json!({
        "AWSTemplateFormatVersion": VERSION,
        "Description": "Identity providers and roles for pgpassport; needs CAPABILITY_NAMED_IAM",
        "Metadata": { "DatabaseUsers": sql },
        "Resources": resources,
    });
    if let (Some(whole), false) = (whole.as_object_mut(), parameters.is_empty()) {
        whole.insert("Parameters".to_owned(), parameters.into());
    }
    Ok(format!("{whole:#}"))
}

fn parameter(placeholder: &Placeholder) -> Value {
    json!({
        "Type": "String",
        "AllowedPattern": "(cluster|db|prx)-[A-Za-z0-9]+",
        "Description": format!(
            "Resource id of cluster {}, as shown by: aws rds {}",
            placeholder.cluster, placeholder.command
        ),
    })
}

fn register(provider: &ProviderPlan) -> Value {
    json!({
        "Type": "AWS::IAM::OIDCProvider",
        "Metadata": { "Issuer": provider.issuer, "Arn": provider.arn, "Notes": provider.notes },
        "Properties": { "Url": provider.url, "ClientIdList": provider.audiences },
    })
}

fn create(role: &RolePlan, providers: &[String], placeholders: &[Placeholder]) -> Value {
    let (path, name) = role.arn.path_and_name();
    let mut properties = json!({
        "RoleName": name,
        "Path": path,
        "AssumeRolePolicyDocument": role.trust,
        "Policies": [{
            "PolicyName": POLICY_NAME,
            "PolicyDocument": filled(json!(role.permission), placeholders),
        }],
    });
    if let (Some(properties), Some(seconds)) = (properties.as_object_mut(), role.max_session_seconds) {
        properties.insert("MaxSessionDuration".to_owned(), seconds.into());
    }
    let mut whole = json!({
        "Type": "AWS::IAM::Role",
        "Metadata": { "Clusters": role.clusters, "Notes": role.notes },
        "Properties": properties,
    });
    // A principal that does not exist yet is an error of IAM.
    if let (Some(whole), false) = (whole.as_object_mut(), providers.is_empty()) {
        whole.insert("DependsOn".to_owned(), json!(providers));
    }
    whole
}

/// `document` with parameters in place of placeholders.
fn filled(document: Value, placeholders: &[Placeholder]) -> Value {
    match document {
        Value::String(text) => match placeholders.iter().find(|one| text.contains(&slashed(one))) {
            // Variables of IAM look like those of Fn::Sub; "!" keeps them as they are.
            Some(one) => {
                let escaped = text.replace("${", "${!");
                json!({ "Fn::Sub": escaped.replace(&slashed(one), &format!("${{{}}}/", one.parameter())) })
            }
            None => Value::String(text),
        },
        Value::Array(items) => items.into_iter().map(|item| filled(item, placeholders)).collect(),
        Value::Object(members) => {
            members.into_iter().map(|(name, member)| (name, filled(member, placeholders))).collect()
        }
        other => other,
    }
}

/// A placeholder as it stands in a resource: the names of others may begin with it.
fn slashed(placeholder: &Placeholder) -> String {
    format!("{}/", placeholder.text)
}
