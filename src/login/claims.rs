//! The claims of a token, read without its key: the issuer has just given it over TLS (OpenID Connect Core 1.0, section
//! 3.1.3.7, step 6), and the proxy verifies it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

/// Claims of a JWT that nobody has verified.
#[derive(Clone, Debug)]
pub struct UnverifiedClaims(Map<String, Value>);

impl UnverifiedClaims {
    /// Reads the payload of a compact JWS; `None` when `token` is none.
    pub fn read(token: &str) -> Option<Self> {
        let mut parts = token.split('.');
        let (Some(_), Some(payload), Some(_), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return None;
        };
        let payload = URL_SAFE_NO_PAD.decode(payload).ok()?;
        serde_json::from_slice(&payload).ok().map(Self)
    }

    /// A claim that is a text; the path names claims inside claims.
    pub fn text(&self, path: &[String]) -> Option<&str> {
        let (first, rest) = path.split_first()?;
        let start = self.0.get(first)?;
        rest.iter().try_fold(start, |value, name| value.get(name))?.as_str()
    }

    /// A claim that is a text, by its name.
    pub fn named(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }

    /// A time in seconds since 1970 (RFC 7519, section 2, `NumericDate`); fractions are cut.
    pub fn time(&self, name: &str) -> Option<u64> {
        let value = self.0.get(name)?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a time below 2^53")]
        let whole = |time: f64| (0.0..9e15).contains(&time).then_some(time as u64);
        value.as_u64().or_else(|| value.as_f64().and_then(whole))
    }

    /// True if `aud` is or holds `audience`.
    pub fn is_for(&self, audience: &str) -> bool {
        match self.0.get("aud") {
            Some(Value::String(one)) => one == audience,
            Some(Value::Array(several)) => several.iter().any(|one| one == audience),
            _ => false,
        }
    }

    /// A name that the person knows: e-mail address, user name, or subject.
    pub fn person(&self) -> Option<&str> {
        ["email", "preferred_username", "upn", "name", "sub"].into_iter().find_map(|name| self.named(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(payload: &str) -> UnverifiedClaims {
        UnverifiedClaims::read(&format!("e30.{}.x", URL_SAFE_NO_PAD.encode(payload))).unwrap()
    }

    #[test]
    fn claims_are_read_by_name_and_path() {
        let claims = read(r#"{"sub":"s","acme":{"db":"alice"},"aud":["a","b"],"exp":1e3,"iat":5}"#);
        let path = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(claims.text(&path(&["acme", "db"])), Some("alice"));
        assert_eq!((claims.text(&path(&["acme", "x"])), claims.text(&[])), (None, None));
        assert_eq!((claims.time("exp"), claims.time("iat"), claims.time("sub")), (Some(1000), Some(5), None));
        assert!(claims.is_for("b") && !claims.is_for("c"));
        assert_eq!(claims.person(), Some("s"));
        for bad in ["", "a.b", "e30.e30.x.y", "e30.!!.x", "opaque"] {
            assert!(UnverifiedClaims::read(bad).is_none(), "{bad}");
        }
    }
}
