//! What a format's framework does unless it is told otherwise.

use http::HeaderName;

use super::Format;
use crate::session::Carrier;

/// What `[session.NAME]` says of a format unless it says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usual {
    /// Where the credential is.
    pub carriers: Vec<Carrier>,
    /// What stands before the identifier in the key.
    pub prefix: &'static str,
    /// Paths of the attribute that says who is logged in.
    pub user: &'static [&'static str],
    /// Whether the framework always signs or encrypts: there is no session without a secret.
    pub signed: bool,
}

impl Format {
    /// Its name in the configuration.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Hash => "hash",
            Self::Flask => "flask",
            Self::Express => "express",
            Self::Django => "django",
            Self::Php(_) => "php",
            Self::Laravel(_) => "laravel",
            Self::Rails => "rails",
            Self::Spring { .. } => "spring",
            Self::Custom(_) => "custom",
        }
    }

    /// What its framework does unless it is told otherwise.
    pub fn usual(&self) -> Usual {
        let of = |cookie: &str, prefix, user, signed| Usual {
            carriers: vec![Carrier::Cookie(cookie.to_owned())],
            prefix,
            user,
            signed,
        };
        match self {
            Self::Json | Self::Hash => Usual {
                carriers: vec![
                    Carrier::Bearer,
                    Carrier::Cookie("session".into()),
                    Carrier::Header(HeaderName::from_static("x-session-token")),
                ],
                prefix: "session:",
                user: &["user_id"],
                signed: false,
            },
            // Flask-Login's own attribute, or the app's.
            Self::Flask => of("session", "session:", &["_user_id", "user_id"], false),
            Self::Express => of("connect.sid", "sess:", &["passport.user", "user_id"], true),
            Self::Django => of("sessionid", ":1:django.contrib.sessions.cache", &["_auth_user_id"], false),
            Self::Php(_) => of("PHPSESSID", "PHPREDIS_SESSION:", &["user_id"], false),
            // The guard `web`; the digits are SHA-1 of `Illuminate\\Auth\\SessionGuard`.
            Self::Laravel(_) => of(
                "laravel_session",
                "laravel_database_laravel_cache:",
                &["login_web_59ba36addc2b2f9401580f014c7f58ea4e30989d"],
                true,
            ),
            // Devise's own attribute, or the app's.
            Self::Rails => of("_session_id", "session:", &["warden.user.user.key.0.0", "user_id"], false),
            // What an app sets for a principal-name index, which Spring keeps beside the sessions; or its own.
            Self::Spring { .. } => of(
                "SESSION",
                "spring:session:sessions:",
                &["org.springframework.session.FindByIndexNameSessionRepository.PRINCIPAL_NAME_INDEX_NAME", "user_id"],
                false,
            ),
            // Nobody knows where its credential is; its prefix is in its key.
            Self::Custom(custom) => {
                Usual { carriers: Vec::new(), prefix: "", user: &["user_id"], signed: custom.is_signed() }
            }
        }
    }

    /// Whether the app may be PHP, which takes a cookie for one that is spelt otherwise. Nobody knows of `custom`.
    fn has_aliases(&self) -> bool {
        matches!(self, Self::Php(_) | Self::Laravel(_) | Self::Custom(_))
    }

    /// Whether it makes anything of `secrets`.
    pub fn takes_secrets(&self) -> bool {
        match self {
            Self::Flask | Self::Express | Self::Laravel(_) => true,
            Self::Custom(custom) => custom.is_signed(),
            Self::Json | Self::Hash | Self::Django | Self::Php(_) | Self::Rails | Self::Spring { .. } => false,
        }
    }

    /// Whether the app takes a cookie called `sent` for the one called `name`, although it is spelt otherwise.
    ///
    /// # Why
    /// PHP makes variables of cookies: `.`, space and `[` in a name become `_`, and `name[x]` is an item of a list called `name`.
    /// Before 7.4.11 it percent-decoded names as well (CVE-2020-7070).
    pub fn confuses(&self, name: &str, sent: &[u8]) -> bool {
        if !self.has_aliases() || sent == name.as_bytes() {
            return false;
        }
        let as_variable = |byte: u8| if matches!(byte, b'.' | b' ' | b'[') { b'_' } else { byte };
        let mut own = name.bytes().map(as_variable);
        let mut rest = sent;
        loop {
            let next = match rest {
                [b'%', high, low, after @ ..] => match (hex(*high), hex(*low)) {
                    (Some(high), Some(low)) => Some((high << 4 | low, after)),
                    _ => Some((b'%', &rest[1..])),
                },
                [byte, after @ ..] => Some((*byte, after)),
                [] => None,
            };
            match (next, own.next()) {
                (None, None) | (Some((b'[', _)), None) => return true,
                (Some((byte, after)), Some(wanted)) if as_variable(byte) == wanted => rest = after,
                _ => return false,
            }
        }
    }
}

/// What a hexadecimal digit stands for.
fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::super::{Cipher, Handler};
    use super::*;

    #[test]
    fn php_takes_cookies_for_others() {
        let php = Format::Php(Handler::Php);
        for sent in ["my.session", "my session", "my[session", "my_session[]", "my_session[a][b]", "%6dy%2Esession"] {
            assert!(php.confuses("my_session", sent.as_bytes()), "{sent}");
        }
        for sent in
            ["my_session", "My.session", "my_sessio", "my_session2", "my-session", "%my_session", "", "[my_session"]
        {
            assert!(!php.confuses("my_session", sent.as_bytes()), "{sent}");
        }
        assert!(Format::Custom(std::sync::Arc::default()).confuses("my_session", b"my.session"), "it may be PHP");
        assert!(Format::Laravel(Cipher::Cbc).confuses("laravel_session", b"laravel[session"));
        assert!(!Format::Express.confuses("connect_sid", b"connect.sid"));
    }
}
