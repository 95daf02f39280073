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

    /// Whether it makes anything of `secrets`.
    pub fn takes_secrets(&self) -> bool {
        match self {
            Self::Flask | Self::Express | Self::Laravel(_) => true,
            Self::Custom(custom) => custom.is_signed(),
            Self::Json | Self::Hash | Self::Django | Self::Php(_) | Self::Rails | Self::Spring { .. } => false,
        }
    }
}
