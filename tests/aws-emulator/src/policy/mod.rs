//! IAM policy documents: reading them as strictly as IAM does, and deciding a request by them.

mod condition;
mod pattern;
mod template;

use serde_json::{Map, Value};

use self::condition::PolicyCondition;
pub use self::pattern::RequestContext;
use self::pattern::{PolicyPattern, glob_ignoring_case};
pub use self::template::{PolicyTemplate, PolicyValues};
pub(crate) use self::template::{provider_arn, provider_name};
use crate::EmulatorError;

/// A policy document that has been read.
#[derive(Clone, Debug)]
pub struct IamPolicy(Vec<PolicyStatement>);

#[derive(Clone, Debug)]
struct PolicyStatement {
    allow: bool,
    principals: Vec<String>,
    actions: OneOrMany<String>,
    resources: OneOrMany<PolicyPattern>,
    conditions: Vec<PolicyCondition>,
}

/// `Action` or `NotAction`, `Resource` or `NotResource`.
#[derive(Clone, Debug)]
enum OneOrMany<T> {
    Any(Vec<T>),
    None(Vec<T>),
}

/// Request to a policy.
#[derive(Clone, Copy, Debug)]
pub struct AccessRequest<'a> {
    /// The action, for example `rds-db:connect`.
    pub action: &'a str,
    /// The resource's ARN; trust policies have none.
    pub resource: Option<&'a str>,
    /// The identity provider's ARN; only trust policies ask for it.
    pub provider: Option<&'a str>,
    /// The values of condition keys and policy variables.
    pub context: &'a RequestContext,
}

/// Decision of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// An `Allow` matched and no `Deny` did.
    Allow,
    /// A `Deny` matched.
    Deny,
    /// Nothing matched, which is a refusal too.
    Silent,
}

/// The two places a policy can be in: they have different members.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PolicyKind {
    Trust,
    Identity,
}

impl IamPolicy {
    /// Reads a role's trust policy.
    pub fn trust(text: &str) -> Result<Self, EmulatorError> {
        parse(text, PolicyKind::Trust).map_err(EmulatorError::Policy)
    }

    /// Reads a role's permission policy or a session policy.
    pub fn identity(text: &str) -> Result<Self, EmulatorError> {
        parse(text, PolicyKind::Identity).map_err(EmulatorError::Policy)
    }

    /// Decides. An explicit `Deny` wins over every `Allow`.
    pub fn decide(&self, question: &AccessRequest<'_>) -> Effect {
        let mut effect = Effect::Silent;
        for statement in self.0.iter().filter(|statement| statement.matches(question)) {
            if !statement.allow {
                return Effect::Deny;
            }
            effect = Effect::Allow;
        }
        effect
    }

    /// True if the request is allowed.
    pub fn allows(&self, question: &AccessRequest<'_>) -> bool {
        self.decide(question) == Effect::Allow
    }
}

impl PolicyStatement {
    fn matches(&self, question: &AccessRequest<'_>) -> bool {
        let principal =
            question.provider.is_none_or(|arn| self.principals.iter().any(|listed| listed == arn));
        let action = |listed: &String| glob_ignoring_case(listed, question.action);
        let resource = |listed: &PolicyPattern| {
            question.resource.is_none_or(|arn| listed.matches_with_wildcards(arn, question.context))
        };
        principal
            && self.actions.matches(action)
            && (question.resource.is_none() || self.resources.matches(resource))
            && self.conditions.iter().all(|condition| condition.holds(question.context))
    }
}

impl<T> OneOrMany<T> {
    fn matches(&self, one: impl Fn(&T) -> bool) -> bool {
        match self {
            Self::Any(listed) => listed.iter().any(one),
            Self::None(listed) => !listed.iter().any(one),
        }
    }
}

fn parse(text: &str, kind: PolicyKind) -> Result<IamPolicy, String> {
    let document: Value = serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
    let document = document.as_object().ok_or("not a JSON object")?;
    known(document, &["Version", "Id", "Statement"])?;
    let variables = match document.get("Version").map(Value::as_str) {
        Some(Some("2012-10-17")) => true,
        // In the older language `${…}` is ordinary text.
        None | Some(Some("2008-10-17")) => false,
        Some(_) => return Err("Version must be 2012-10-17 or 2008-10-17".to_owned()),
    };
    let statements = match document.get("Statement") {
        Some(Value::Array(list)) if !list.is_empty() => list.as_slice(),
        Some(one @ Value::Object(_)) => std::slice::from_ref(one),
        _ => return Err("Statement is missing or empty".to_owned()),
    };
    statements.iter().map(|one| statement(one, kind, variables)).collect::<Result<_, _>>().map(IamPolicy)
}

fn statement(value: &Value, kind: PolicyKind, variables: bool) -> Result<PolicyStatement, String> {
    let map = value.as_object().ok_or("a statement is not an object")?;
    let common = ["Sid", "Effect", "Action", "NotAction", "Condition"];
    let own: &[&str] = match kind {
        PolicyKind::Trust => &["Principal"],
        PolicyKind::Identity => &["Resource", "NotResource"],
    };
    known(map, &[&common, own].concat())?;
    let allow = match map.get("Effect").and_then(Value::as_str) {
        Some("Allow") => true,
        Some("Deny") => false,
        _ => return Err("Effect must be Allow or Deny".to_owned()),
    };
    let actions = listed(map, "Action", "NotAction")?;
    let (OneOrMany::Any(names) | OneOrMany::None(names)) = &actions;
    if let Some(bad) = names.iter().find(|name| *name != "*" && !name.contains(':')) {
        return Err(format!("the action {bad} names no service"));
    }
    let compile = |texts: Vec<String>| texts.iter().map(|text| PolicyPattern::new(text, variables)).collect();
    let resources = match kind {
        PolicyKind::Trust => OneOrMany::None(Vec::new()),
        PolicyKind::Identity => match listed(map, "Resource", "NotResource")? {
            OneOrMany::Any(texts) => OneOrMany::Any(compile(texts)),
            OneOrMany::None(texts) => OneOrMany::None(compile(texts)),
        },
    };
    let principals = if kind == PolicyKind::Trust { federated(map)? } else { Vec::new() };
    let conditions = condition::parse(map.get("Condition"), variables)?;
    Ok(PolicyStatement { allow, principals, actions, resources, conditions })
}

/// The identity providers of a trust policy's `Principal`. Other kinds of principal cannot use a web identity.
fn federated(map: &Map<String, Value>) -> Result<Vec<String>, String> {
    let principal = map.get("Principal").and_then(Value::as_object).ok_or("Principal is missing")?;
    known(principal, &["Federated", "AWS", "Service", "CanonicalUser"])?;
    principal.get("Federated").map_or_else(|| Ok(Vec::new()), texts)
}

fn listed(map: &Map<String, Value>, plain: &str, negated: &str) -> Result<OneOrMany<String>, String> {
    match (map.get(plain), map.get(negated)) {
        (Some(value), None) => texts(value).map(OneOrMany::Any),
        (None, Some(value)) => texts(value).map(OneOrMany::None),
        _ => Err(format!("one of {plain} and {negated} is needed")),
    }
}

/// A string or a list of strings.
fn texts(value: &Value) -> Result<Vec<String>, String> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let found = match value {
        Value::Array(list) => list.iter().map(text).collect(),
        one => text(one).map(|one| vec![one]),
    };
    found
        .filter(|list: &Vec<String>| !list.is_empty())
        .ok_or_else(|| format!("{value} is no string or list of them"))
}

fn known(map: &Map<String, Value>, names: &[&str]) -> Result<(), String> {
    match map.keys().find(|key| !names.contains(&key.as_str())) {
        Some(unknown) => Err(format!("unknown element {unknown}")),
        None => Ok(()),
    }
}
