//! What an app signs or encrypts its sessions with. Never shown.

use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretString};

/// Secrets, newest first: a credential that any of them vouches for is good.
#[derive(Clone, Debug, Default)]
pub struct Secrets(Arc<[SecretString]>);

impl Secrets {
    /// These, newest first.
    pub fn new(secrets: impl IntoIterator<Item = SecretString>) -> Self {
        Self(secrets.into_iter().collect())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Their texts, newest first. To be made into keys, and shown to nobody.
    pub fn exposed(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(SecretString::expose_secret)
    }
}

impl PartialEq for Secrets {
    fn eq(&self, other: &Self) -> bool {
        self.exposed().eq(other.exposed())
    }
}

impl Eq for Secrets {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_compared_and_never_shown() {
        let secrets = |texts: &[&str]| Secrets::new(texts.iter().map(|text| SecretString::from(*text)));
        assert_eq!(secrets(&["new", "old"]), secrets(&["new", "old"]));
        assert_ne!(secrets(&["new", "old"]), secrets(&["old", "new"]));
        assert!(secrets(&[]).is_empty() && !secrets(&["new"]).is_empty());
        assert!(!format!("{:?}", secrets(&["hunter2"])).contains("hunter2"));
    }
}
