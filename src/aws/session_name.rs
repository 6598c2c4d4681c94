//! The RoleSessionName: the subject in characters that AWS allows, and a fingerprint that is unique per
//! person.

use crate::names::{Issuer, Subject};

/// Longest RoleSessionName (STS API reference, `AssumeRoleWithWebIdentity`).
const MAX_BYTES: usize = 64;

/// Hex digits of the fingerprint.
const FINGERPRINT: usize = 8;

/// `<subject in allowed characters>-<fingerprint of issuer and subject>`. Stable for a person. Different for
/// two people whose subjects become equal after replacing characters.
pub fn role_session_name(issuer: &Issuer, subject: &Subject) -> String {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '+' | '=' | ',' | '.' | '@' | '-');
    let mut name: String = subject
        .as_str()
        .chars()
        .map(|c| if legal(c) { c } else { '-' })
        .take(MAX_BYTES - FINGERPRINT - 1)
        .collect();
    name.push('-');
    let named = format!("{}\n{}", issuer.as_str(), subject.as_str());
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, named.as_bytes());
    let fingerprint = digest.as_ref().iter().take(FINGERPRINT / 2);
    fingerprint.fold(name, |name, byte| name + &format!("{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p10_every_subject_makes_a_legal_name_of_its_own() {
        let issuer = Issuer::new("https://idp.example");
        let long = "x".repeat(255);
        let subjects = ["a", "auth0|123", "auth0/123", "jörg", "日本語", "a b\n", "alice@example.com", &long];
        let mut seen = std::collections::BTreeSet::new();
        for subject in subjects {
            let name = role_session_name(&issuer, &Subject::new(subject));
            assert!((2..=64).contains(&name.len()), "{name}");
            assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b)), "{name}");
            assert!(seen.insert(name.clone()), "{name} twice");
        }
        assert!(
            role_session_name(&issuer, &Subject::new("alice@example.com")).starts_with("alice@example.com-")
        );
        let elsewhere = role_session_name(&Issuer::new("https://other.example"), &Subject::new("a"));
        assert!(seen.insert(elsewhere), "the issuer is part of it");
    }
}
