//! Keys of protocol 3.0: 4 bytes, which have room only for the server's own secret, encrypted.

use aws_lc_rs::hmac;

use crate::net::cluster_id::ClusterId;

/// Rounds of the permutation, as in FF1 for domains this small (NIST SP 800-38G).
const ROUNDS: u8 = 10;

/// Encrypts and decrypts a server's 4-byte secret: a permutation of all 32-bit numbers, different for each
/// cluster and process id (a Feistel network with HMAC-SHA256 as round function).
///
/// The process id stays the server's own, so that `pg_backend_pid()`, NOTIFY and the driver agree as they do
/// without a proxy; then 32 bits are left, and the server's secret, which PostgreSQL draws at random, needs all
/// of them. So the key cannot say which server it is for, and no 4-byte key can be called forged by looking at
/// it: what keeps a guess from hitting is the server's secret itself and the limits on asking.
///
/// A permutation and not a mask (secret XOR a pad for the process id): process ids come again, and under one pad
/// a holder of one session's secret could cover and uncover that of the next session with its number. The cover
/// keeps the server's key from clients, so that each cancel passes the proxy.
pub(super) struct ShortSecrets {
    key: hmac::Key,
}

impl ShortSecrets {
    pub(super) fn new(key: hmac::Key) -> Self {
        Self { key }
    }

    /// Encrypts the server's `secret` for the client.
    pub(super) fn cover(&self, cluster: ClusterId, pid: i32, secret: [u8; 4]) -> [u8; 4] {
        let [a, b, c, d] = secret;
        let (mut left, mut right) = ([a, b], [c, d]);
        for round in 0..ROUNDS {
            (left, right) = (right, xor(left, self.round((cluster, pid, round), right)));
        }
        join(left, right)
    }

    /// Decrypts a secret.
    pub(super) fn uncover(&self, cluster: ClusterId, pid: i32, covered: [u8; 4]) -> [u8; 4] {
        let [a, b, c, d] = covered;
        let (mut left, mut right) = ([a, b], [c, d]);
        for round in (0..ROUNDS).rev() {
            (left, right) = (xor(right, self.round((cluster, pid, round), left)), left);
        }
        join(left, right)
    }

    fn round(&self, (cluster, pid, round): (ClusterId, i32, u8), half: [u8; 2]) -> [u8; 2] {
        let mut input = [0; 15];
        let parts = [&cluster.0[..], &pid.to_be_bytes(), &[round], &half];
        input.iter_mut().zip(parts.into_iter().flatten()).for_each(|(to, from)| *to = *from);
        let tag = hmac::sign(&self.key, &input);
        tag.as_ref().first_chunk().copied().unwrap_or_default() // it has 32 bytes
    }
}

fn xor([a, b]: [u8; 2], [c, d]: [u8; 2]) -> [u8; 2] {
    [a ^ c, b ^ d]
}

fn join([a, b]: [u8; 2], [c, d]: [u8; 2]) -> [u8; 4] {
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::postgres::cancel::CancelSecret;

    const HERE: ClusterId = ClusterId([1; 8]);

    fn short(secret: &CancelSecret) -> ShortSecrets {
        ShortSecrets::new(secret.keys().unwrap().1)
    }

    #[test]
    fn the_cover_depends_on_everything_it_should() {
        let secret = CancelSecret::random();
        let covers: BTreeSet<[u8; 4]> = [
            short(&secret).cover(HERE, 7, *b"keys"),
            short(&secret).cover(HERE, 7, *b"keyt"),
            short(&secret).cover(HERE, 8, *b"keys"),
            short(&secret).cover(ClusterId([2; 8]), 7, *b"keys"),
            short(&CancelSecret::random()).cover(HERE, 7, *b"keys"),
            *b"keys",
        ]
        .into();
        assert_eq!(covers.len(), 6, "by chance equal once in 10^8 runs");
        assert_eq!(short(&secret).cover(HERE, 7, *b"keys"), short(&secret).cover(HERE, 7, *b"keys"));
    }

    #[test]
    fn one_changed_bit_changes_about_half_of_the_others() {
        let short = short(&CancelSecret::random());
        let mut changed = 0;
        for n in 0..1_000_u32 {
            let (a, b) = (n.to_be_bytes(), (n ^ (1 << (n % 32))).to_be_bytes());
            let covered = [a, b].map(|secret| u32::from_be_bytes(short.cover(HERE, 7, secret)));
            changed += (covered[0] ^ covered[1]).count_ones();
        }
        assert!((15_000..17_000).contains(&changed), "{changed} of 32000 bits");
    }

    proptest! {
        #[test]
        fn what_is_covered_can_be_uncovered(pid in any::<i32>(), secret in any::<[u8; 4]>()) {
            let short = short(&CancelSecret::random());
            prop_assert_eq!(short.uncover(HERE, pid, short.cover(HERE, pid, secret)), secret);
            prop_assert_eq!(short.cover(HERE, pid, short.uncover(HERE, pid, secret)), secret);
        }
    }
}
