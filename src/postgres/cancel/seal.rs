//! Keys of protocol 3.2: a sealed record with the session's server and cancel key. Only holders of the secret
//! can read or make one.

use std::net::{IpAddr, SocketAddr};

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce};
use zeroize::Zeroizing;

use super::CancelTarget;
use super::key::CancelKey;
use crate::names::random_bytes;
use crate::net::cluster_id::ClusterId;
use crate::postgres::version::MinorVersion;

/// First byte of a sealed key; another layout gets another version.
const VERSION: u8 = 1;

/// Longest sealed key, from the protocol.
const MAX_KEY: usize = *MinorVersion::V3_2.key_lengths().end();

/// Seals and opens records:
///
/// ```text
/// version (1) | nonce (12) | AES-256-GCM-SIV( cluster (8) | 4 or 6 (1) | IP (4, 16) | port (2) | secret ) | tag (16)
/// ```
///
/// Version and process id are authenticated too; the process id travels beside the key. GCM-SIV (RFC 8452)
/// and not GCM because the nonces are random: replicas cannot count together, and here two equal nonces
/// would tell no more than that two records are the same. A server's secret of 32 bytes (PostgreSQL 18) makes a
/// key of 76 bytes, 88 over IPv6.
pub(super) struct KeySealer {
    key: LessSafeKey,
}

impl KeySealer {
    pub(super) fn new(key: LessSafeKey) -> Self {
        Self { key }
    }

    /// Seals `target` into a client's key; `None` if the server's secret does not fit into 256 bytes (212
    /// bytes fit over IPv4, 200 over IPv6).
    pub(super) fn seal(&self, target: &CancelTarget) -> Option<CancelKey> {
        let nonce: [u8; NONCE_LEN] = random_bytes();
        let mut record = Zeroizing::new(target.cluster.0.to_vec());
        match target.addr.ip() {
            IpAddr::V4(ip) => record.extend([&[4][..], &ip.octets()].concat()),
            IpAddr::V6(ip) => record.extend([&[6][..], &ip.octets()].concat()),
        }
        record.extend(target.addr.port().to_be_bytes());
        record.extend_from_slice(&target.key.secret);
        if 1 + NONCE_LEN + record.len() + AES_256_GCM_SIV.tag_len() > MAX_KEY {
            return None;
        }
        let aad = associated(target.key.pid);
        self.key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut *record).ok()?;
        Some(CancelKey::new(target.key.pid, [&[VERSION][..], &nonce, &record].concat()))
    }

    /// Opens a key; `None` if it was not made with the secret.
    pub(super) fn open(&self, key: &CancelKey) -> Option<CancelTarget> {
        let sealed = key.secret.strip_prefix(&[VERSION])?;
        let (nonce, record) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let mut record = Zeroizing::new(record.to_vec());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let record = self.key.open_in_place(nonce, associated(key.pid), &mut record).ok()?;
        let (cluster, record) = record.split_first_chunk()?;
        let (family, record) = record.split_first()?;
        let (ip, record) = match family {
            4 => record.split_first_chunk::<4>().map(|(ip, rest)| (IpAddr::from(*ip), rest))?,
            6 => record.split_first_chunk::<16>().map(|(ip, rest)| (IpAddr::from(*ip), rest))?,
            _ => return None,
        };
        let (port, secret) = record.split_first_chunk()?;
        let addr = SocketAddr::new(ip, u16::from_be_bytes(*port));
        Some(CancelTarget { cluster: ClusterId(*cluster), addr, key: CancelKey::new(key.pid, secret) })
    }
}

/// Associated data: authenticated but not part of the record.
fn associated(pid: i32) -> Aad<[u8; 5]> {
    let [a, b, c, d] = pid.to_be_bytes();
    Aad::from([VERSION, a, b, c, d])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::postgres::cancel::CancelSecret;

    fn sealer(secret: &CancelSecret) -> KeySealer {
        KeySealer::new(secret.keys().unwrap().0)
    }

    fn target(addr: &str, secret: usize) -> CancelTarget {
        let key = CancelKey::new(7, vec![b's'; secret]);
        CancelTarget { cluster: ClusterId([1; 8]), addr: addr.parse().unwrap(), key }
    }

    #[test]
    fn a_sealed_key_opens_with_the_shared_secret() {
        let secret = CancelSecret::random();
        for (addr, length, sealed) in
            [("10.0.0.7:5432", 4, 48), ("10.0.0.7:5432", 32, 76), ("[2001:db8::7]:5432", 32, 88)]
        {
            let key = sealer(&secret).seal(&target(addr, length)).unwrap();
            assert_eq!((key.pid, key.secret.len()), (7, sealed));
            // Another replica.
            let opened = sealer(&secret).open(&key).unwrap();
            assert_eq!((opened.cluster, opened.addr.to_string().as_str()), (ClusterId([1; 8]), addr));
            assert!(opened.key.pid == 7 && opened.key.has_secret(&vec![b's'; length]));
            assert!(sealer(&CancelSecret::random()).open(&key).is_none());
            assert!(memchr::memmem::find(&key.secret, &vec![b's'; length]).is_none());
        }
    }

    #[test]
    fn the_longest_secret_fits_and_one_byte_more_gives_no_key() {
        let sealer = sealer(&CancelSecret::random());
        for (addr, longest) in [("10.0.0.7:5432", 212), ("[2001:db8::7]:5432", 200)] {
            assert_eq!(sealer.seal(&target(addr, longest)).unwrap().secret.len(), 256);
            assert!(sealer.seal(&target(addr, longest + 1)).is_none());
        }
    }

    #[test]
    fn u6_every_byte_of_a_sealed_key_and_its_process_id_counts() {
        let sealer = sealer(&CancelSecret::random());
        let key = sealer.seal(&target("10.0.0.7:5432", 32)).unwrap();
        for at in 0..key.secret.len() {
            let mut secret = key.secret.to_vec();
            secret[at] ^= 1;
            assert!(sealer.open(&CancelKey::new(7, secret)).is_none(), "{at}");
            assert!(sealer.open(&CancelKey::new(7, &key.secret[..at])).is_none(), "{at}");
        }
        assert!(sealer.open(&CancelKey::new(8, key.secret.to_vec())).is_none());
        let again = sealer.seal(&target("10.0.0.7:5432", 32)).unwrap();
        assert_ne!(again.secret, key.secret, "a nonce of its own");
    }

    proptest! {
        #[test]
        fn u6_no_other_bytes_open_a_sealed_key(pid in any::<i32>(), secret in prop::collection::vec(any::<u8>(), 0..257)) {
            let sealer = sealer(&CancelSecret::random());
            prop_assert!(sealer.open(&CancelKey::new(pid, secret)).is_none());
        }
    }
}
