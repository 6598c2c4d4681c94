//! The `PolicyCondition` block: one operator, one key, its values.

use std::net::IpAddr;

use serde_json::Value;

use super::pattern::{PolicyPattern, RequestContext};
use super::texts;

#[derive(Clone, Debug)]
pub(super) struct PolicyCondition {
    quantifier: Quantifier,
    test: ConditionTest,
    negated: bool,
    /// `…IfExists`: a missing key is no obstacle.
    if_exists: bool,
    key: String,
    values: Vec<PolicyPattern>,
}

/// Treatment of a key with several values.
#[derive(Clone, Copy, Debug)]
enum Quantifier {
    Single,
    Any,
    All,
}

#[derive(Clone, Copy, Debug)]
enum ConditionTest {
    Equals,
    EqualsIgnoringCase,
    Like,
    Address,
    Bool,
    Null,
}

/// Reads a `PolicyCondition` block. An operator that is not written here is an error, never a condition that holds.
pub(super) fn parse(block: Option<&Value>, variables: bool) -> Result<Vec<PolicyCondition>, String> {
    let Some(block) = block else { return Ok(Vec::new()) };
    let mut conditions = Vec::new();
    for (name, keys) in block.as_object().ok_or("Condition is not an object")? {
        let (quantifier, plain) = match name.split_once(':') {
            None => (Quantifier::Single, name.as_str()),
            Some(("ForAnyValue", plain)) => (Quantifier::Any, plain),
            Some(("ForAllValues", plain)) => (Quantifier::All, plain),
            Some(_) => return Err(format!("unknown condition operator {name}")),
        };
        let (plain, if_exists) = plain.strip_suffix("IfExists").map_or((plain, false), |plain| (plain, true));
        let (test, negated) = match plain {
            "StringEquals" => (ConditionTest::Equals, false),
            "StringNotEquals" => (ConditionTest::Equals, true),
            "StringEqualsIgnoreCase" => (ConditionTest::EqualsIgnoringCase, false),
            "StringNotEqualsIgnoreCase" => (ConditionTest::EqualsIgnoringCase, true),
            "StringLike" => (ConditionTest::Like, false),
            "StringNotLike" => (ConditionTest::Like, true),
            "IpAddress" => (ConditionTest::Address, false),
            "NotIpAddress" => (ConditionTest::Address, true),
            "Bool" => (ConditionTest::Bool, false),
            "Null" => (ConditionTest::Null, false),
            _ => return Err(format!("unknown condition operator {name}")),
        };
        for (key, values) in keys.as_object().ok_or("a condition is not an object")? {
            let values = texts(values)?;
            check(test, &values)?;
            let values = values.iter().map(|value| PolicyPattern::new(value, variables)).collect();
            conditions.push(PolicyCondition {
                quantifier,
                test,
                negated,
                if_exists,
                key: key.clone(),
                values,
            });
        }
    }
    Ok(conditions)
}

fn check(test: ConditionTest, values: &[String]) -> Result<(), String> {
    let good = |value: &String| match test {
        ConditionTest::Address => network(value).is_some(),
        ConditionTest::Bool | ConditionTest::Null => matches!(value.as_str(), "true" | "false"),
        ConditionTest::Equals | ConditionTest::EqualsIgnoringCase | ConditionTest::Like => true,
    };
    values
        .iter()
        .find(|value| !good(value))
        .map_or(Ok(()), |bad| Err(format!("{bad} is no value for {test:?}")))
}

impl PolicyCondition {
    pub(super) fn holds(&self, context: &RequestContext) -> bool {
        let seen = context.values(&self.key);
        if matches!(self.test, ConditionTest::Null) {
            let absent = if seen.is_empty() { "true" } else { "false" };
            return self.values.iter().any(|value| value.literal().as_deref() == Some(absent));
        }
        if seen.is_empty() && self.if_exists {
            return true;
        }
        let one = |value: &String| {
            self.values.iter().any(|wanted| self.matches(wanted, value, context)) != self.negated
        };
        match (self.quantifier, seen) {
            (Quantifier::Any, seen) => seen.iter().any(one),
            (Quantifier::All, seen) => seen.iter().all(one),
            (Quantifier::Single, [value]) => one(value),
            // A missing key matches no value: so a positive operator fails and a negated one holds. The same goes for
            // a list where one value is expected.
            (Quantifier::Single, _) => self.negated,
        }
    }

    fn matches(&self, wanted: &PolicyPattern, value: &str, context: &RequestContext) -> bool {
        match self.test {
            ConditionTest::Equals => wanted.equals(value, context),
            ConditionTest::EqualsIgnoringCase => wanted.lower().equals(&value.to_lowercase(), context),
            ConditionTest::Like => wanted.matches_with_wildcards(value, context),
            ConditionTest::Bool => wanted.literal().is_some_and(|text| text == value),
            ConditionTest::Address => {
                let network = wanted.literal().as_deref().and_then(network);
                network.zip(value.parse().ok()).is_some_and(|(network, address)| contains(network, address))
            }
            ConditionTest::Null => false,
        }
    }
}

/// An address with the length of its prefix; a lone address is a network of one.
fn network(text: &str) -> Option<(IpAddr, u32)> {
    let (address, length) =
        text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
    let address: IpAddr = address.parse().ok()?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let length = length.map_or(Some(longest), |length| length.parse().ok())?;
    (length <= longest).then_some((address, length))
}

fn contains((network, length): (IpAddr, u32), address: IpAddr) -> bool {
    match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            let differing = network.to_bits() ^ address.to_bits();
            differing.leading_zeros() >= length
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => {
            let differing = network.to_bits() ^ address.to_bits();
            differing.leading_zeros() >= length
        }
        _ => false,
    }
}
