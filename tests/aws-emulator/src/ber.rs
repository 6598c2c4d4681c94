//! The part of BER (ITU-T X.690) that LDAP binds and public keys need.

/// Splits the first element off `bytes`: its tag, its content, what comes after.
pub(crate) fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = if first & 0x80 == 0 {
        (usize::from(*first), rest)
    } else {
        let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
        (big_endian(digits)?, rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
}

/// A length written in at most four bytes.
pub(crate) fn big_endian(digits: &[u8]) -> Option<usize> {
    (1..=4)
        .contains(&digits.len())
        .then(|| digits.iter().fold(0, |sum, digit| sum << 8 | usize::from(*digit)))
}

/// Encodes one element.
pub(crate) fn encode(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut out = vec![tag];
    if let Ok(short @ 0..128) = u8::try_from(length) {
        out.push(short);
    } else {
        let digits: Vec<u8> = length.to_be_bytes().into_iter().skip_while(|digit| *digit == 0).collect();
        out.push(0x80 | u8::try_from(digits.len()).unwrap_or(0x7f));
        out.extend(digits);
    }
    out.extend_from_slice(content);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_read_back_at_every_change_of_length_form() {
        for length in [0, 1, 127, 128, 255, 256, 65_535, 65_536] {
            let content = vec![7; length];
            let mut bytes = encode(0x04, &content);
            bytes.push(9);
            assert_eq!(element(&bytes), Some((0x04, content.as_slice(), [9].as_slice())), "{length}");
        }
    }

    #[test]
    fn cut_elements_and_endless_lengths_are_refused() {
        for bytes in [
            &[0x30][..],
            &[0x30, 2, 1],
            &[0x30, 0x80, 0, 0],
            &[0x30, 0x85, 0, 0, 0, 0, 1, 1],
            &[0x30, 0x82, 1],
        ] {
            assert_eq!(element(bytes), None, "{bytes:?}");
        }
    }
}
