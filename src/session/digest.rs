//! Names a session in logs without giving it away.
//!
//! # Why
//! Whoever reads a log must not be able to log in with what stands there, nor to try out identifiers against it: hence
//! a key, random for each process and never shown. Two lines of one process with one digest are one session.

use std::sync::OnceLock;

use sha2::{Digest as _, Sha256};

use super::format::sign::hex;

/// A secret that digests are made with.
pub struct Key([u8; 32]);

impl Key {
    /// The key of this process, drawn from the operating system at first use.
    pub fn of_process() -> &'static Self {
        static KEY: OnceLock<Key> = OnceLock::new();
        KEY.get_or_init(|| {
            let mut bytes = [0; 32];
            if getrandom::fill(&mut bytes).is_err() {
                // Weaker, but a digest is no reason not to serve.
                fastrand::fill(&mut bytes);
            }
            Self(bytes)
        })
    }

    /// A key given by hand.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// 128 bits as 32 hexadecimal digits.
    pub fn digest(&self, identifier: &str) -> String {
        // One block holds key and a usual identifier; the output is cut, so that it cannot be extended.
        let hash = Sha256::new().chain_update(self.0).chain_update(identifier.as_bytes()).finalize();
        hex(&hash[..16])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_depends_on_key_and_identifier() {
        let key = Key::new([1; 32]);
        assert_eq!(key.digest("abcdefgh"), key.digest("abcdefgh"));
        assert_ne!(key.digest("abcdefgh"), key.digest("abcdefgi"));
        assert_ne!(key.digest("abcdefgh"), Key::new([2; 32]).digest("abcdefgh"));
        assert_eq!(key.digest("").len(), 32);
    }
}
