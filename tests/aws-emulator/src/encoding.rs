//! Base64, hexadecimal and percent encoding, each as strict as the protocol that uses it.

use std::fmt::Write as _;

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL_SAFE: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

fn base64_with(alphabet: &[u8; 64], bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 4 / 3 + 3);
    for chunk in bytes.chunks(3) {
        let group =
            chunk.iter().fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..=chunk.len() {
            let index = (group >> (18 - 6 * place)) as usize & 63;
            out.push(char::from(alphabet.get(index).copied().unwrap_or(b'?')));
        }
    }
    out
}

/// Base64 with padding (RFC 4648, section 4), as in PEM.
pub(crate) fn base64(bytes: &[u8]) -> String {
    let mut out = base64_with(STANDARD, bytes);
    while !out.len().is_multiple_of(4) {
        out.push('=');
    }
    out
}

/// Base64url without padding (RFC 7515, section 2), as in a JWT.
pub(crate) fn base64url(bytes: &[u8]) -> String {
    base64_with(URL_SAFE, bytes)
}

/// Reads what [`base64url`] writes; padding, other alphabets and stray last bits are refused.
pub(crate) fn from_base64url(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() * 3 / 4);
    for chunk in text.as_bytes().chunks(4) {
        let mut group = 0_u32;
        for byte in chunk {
            let value = URL_SAFE.iter().position(|symbol| symbol == byte)?;
            group = group << 6 | u32::try_from(value).ok()?;
        }
        group <<= 6 * (4 - chunk.len());
        let [_, bytes @ ..] = group.to_be_bytes();
        out.extend_from_slice(bytes.get(..(chunk.len().checked_sub(1)?))?);
    }
    // One byte has one spelling: this refuses a lone last symbol and bits that say nothing.
    (base64url(&out) == text).then_some(out)
}

/// PEM of one DER structure.
pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let text = base64(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(out, "{byte:02x}"); // writing to a String cannot fail
    }
    out
}

/// Percent-encodes all but `A-Za-z0-9-_.~`, as SigV4's `UriEncode` does.
pub fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}"); // writing to a String cannot fail
        }
    }
    out
}

/// Decodes percent-encoding. A `%` without two hexadecimal digits and a result that is not UTF-8 are refused.
pub(crate) fn percent_decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        if *first == b'%' {
            let (digits, tail) = tail.split_at_checked(2)?;
            if !digits.iter().all(u8::is_ascii_hexdigit) {
                return None;
            }
            out.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            rest = tail;
        } else {
            out.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(out).ok()
}

/// Decodes one part of an HTML form (`application/x-www-form-urlencoded`), where `+` is a space.
pub(crate) fn form_decode(text: &str) -> Option<String> {
    percent_decode(&text.replace('+', " "))
}

/// The pairs of an HTML form; `None` if a part is not well encoded.
pub(crate) fn form_pairs(body: &str) -> Option<Vec<(String, String)>> {
    body.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((form_decode(name)?, form_decode(value)?))
        })
        .collect()
}

/// Random bytes for keys, identifiers and names.
pub(crate) fn random(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    aws_lc_rs::rand::fill(&mut bytes).expect("random bytes");
    bytes
}

/// `length` random characters from `alphabet`.
pub(crate) fn random_text(alphabet: &[u8], length: usize) -> String {
    let pick = |byte: u8| alphabet.get(usize::from(byte) % alphabet.len()).copied().map_or('?', char::from);
    random(length).into_iter().map(pick).collect()
}

/// Capital letters and digits, as in an access key id.
pub(crate) const KEY_ID: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// The base64 alphabet, as in a secret access key.
pub(crate) const SECRET: &[u8] = STANDARD;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_matches_the_examples_of_rfc_4648() {
        for (plain, coded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(plain.as_bytes()), coded);
            assert_eq!(from_base64url(coded.trim_end_matches('=')).as_deref(), Some(plain.as_bytes()));
        }
        assert_eq!(base64url(&[0xfb, 0xff]), "-_8");
    }

    #[test]
    fn base64url_has_one_spelling_per_byte_string() {
        for bad in ["Zg==", "Zh", "Z", "Zm9vY", "-+", "a b", "Zm 8"] {
            assert_eq!(from_base64url(bad), None, "{bad}");
        }
    }

    #[test]
    fn percent_encoding_round_trips_and_refuses_stray_percent_signs() {
        let text = "a/b?c=d&e%20f#g~h'i*(j)! ünï";
        assert_eq!(percent_decode(&percent_encode(text)).as_deref(), Some(text));
        for bad in ["%", "%2", "%zz", "%+1", "%ff"] {
            assert_eq!(percent_decode(bad), None, "{bad}");
        }
    }
}
