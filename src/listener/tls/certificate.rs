//! A certificate that we show, with the key that proves it ours.
//!
//! 1. It is usable or it is not: key and certificate fit, every part is readable. That it has expired is only said.
//! 2. It serves the names it is configured for, else those of its subjectAltName (RFC 6125 §6.4); its common name is none.
//! 3. Two of them are the same if chain, names and origin are.
//!
//! # Why
//! Everything that can be wrong with it is found while the configuration is read, so that it is reported at its place,
//! and so that what was checked is what is used, although the file changes in between.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use super::pem;

/// Less than this before its end, and in the last third of its life, a certificate is about to expire.
const SOON: i64 = 14 * 24 * 3600;

/// A certificate chain and its key.
pub struct Certificate {
    /// Chain and key as rustls uses them.
    pub certified: Arc<CertifiedKey>,
    /// The names it serves, in lower case; `*.` at the start stands for one label.
    pub names: Vec<String>,
    /// Where it comes from, for people.
    shown: String,
    /// The names it proves.
    proves: Vec<String>,
    /// Its validity, in seconds of Unix time.
    valid: (i64, i64),
    digest: String,
}

/// What is wrong, as a clause that goes behind the origin's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// With the certificate.
    Certificate(String),
    /// With the key.
    Key(String),
}

impl Certificate {
    /// From PEM texts; `names` instead of its own, if there are any.
    ///
    /// # Errors
    /// [`Wrong`]: unreadable; the key unreadable, encrypted, or another's.
    pub fn new(shown: &str, chain: &[u8], key: &[u8], names: Vec<String>) -> Result<Self, Wrong> {
        let chain = pem::certificates(chain).map_err(Wrong::Certificate)?;
        let unreadable = || Wrong::Certificate("holds a certificate that cannot be read".into());
        let (_, leaf) = X509Certificate::from_der(&chain[0]).map_err(|_| unreadable())?;
        let proves = proven(&leaf);
        let valid = (leaf.validity().not_before.timestamp(), leaf.validity().not_after.timestamp());
        let key = pem::private_key(key).map_err(Wrong::Key)?;
        let key = any_supported_type(&key)
            .map_err(|_| Wrong::Key("is of a kind that is not supported, or damaged".into()))?;
        let digest = pem::digest(&chain);
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(Error::InconsistentKeys(_)) => return Err(Wrong::Key("does not match the certificate".into())),
            Err(error) => return Err(Wrong::Certificate(format!("cannot be used: {error}"))),
        }
        let names = if names.is_empty() { proves.clone() } else { names };
        Ok(Self { certified: Arc::new(certified), names, shown: shown.to_owned(), proves, valid, digest })
    }

    /// What is to be said about its days at the Unix second `now`, as a clause that goes behind its origin's name.
    ///
    /// # Why
    /// One that has expired is shown all the same: its clients may look away, those of other certificates and of cleartext
    /// have nothing to do with it, and a proxy that refused to start for it would take all of them down.
    pub fn about_its_days(&self, now: i64) -> Option<String> {
        let (first, last) = self.valid;
        let (left, life) = (last - now, last - first);
        match left {
            _ if now < first => Some(format!("is not valid before {}: clients will refuse it", day(first))),
            ..0 => Some(format!("expired on {}: clients will refuse it", day(last))),
            _ if left < SOON && left < life / 3 => Some(format!("expires on {}", day(last))),
            _ => None,
        }
    }

    /// When it expires, as a Unix second.
    pub fn end(&self) -> i64 {
        self.valid.1
    }

    /// The first of its names that clients would refuse it for.
    pub fn unproven(&self) -> Option<&str> {
        let proven = |name: &str| self.proves.iter().any(|proven| covers(proven, name));
        self.names.iter().map(String::as_str).find(|name| !proven(name))
    }
}

/// Whether a certificate for `pattern` is one for `name` (RFC 6125 §6.4.3).
fn covers(pattern: &str, name: &str) -> bool {
    pattern == name
        || pattern.strip_prefix("*.").is_some_and(|rest| name.split_once('.').is_some_and(|(_, after)| after == rest))
}

fn proven(leaf: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(names)) = leaf.subject_alternative_name() else { return Vec::new() };
    let dns = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    });
    dns.collect()
}

fn day(second: i64) -> String {
    // Beyond the years that can be written there is nobody to read it.
    let second = u64::try_from(second).unwrap_or(0).min(253_402_300_799);
    let written = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(second)).to_string();
    written.get(..10).map_or(String::new(), str::to_owned)
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        (&self.digest, &self.names, &self.shown) == (&other.digest, &other.names, &other.shown)
    }
}

impl Eq for Certificate {}

impl fmt::Display for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (", self.shown)?;
        for name in &self.names {
            write!(f, "{name} ")?;
        }
        write!(f, "until {}, {:.16})", day(self.valid.1), self.digest)
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn made(names: &[&str], from: i64, until: i64) -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params =
            rcgen::CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
        let time = |second: i64| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(second.try_into().unwrap());
        (params.not_before, params.not_after) = (time(from), time(until));
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    fn read(of: &(String, String), names: &[&str]) -> Result<Certificate, Wrong> {
        let names = names.iter().map(ToString::to_string).collect();
        Certificate::new("cert.pem", of.0.as_bytes(), of.1.as_bytes(), names)
    }

    #[test]
    fn names_are_those_of_the_certificate_unless_others_are_given() {
        let pem = made(&["A.example", "*.b.example"], NOW - 10, NOW + 10);
        let own = read(&pem, &[]).unwrap();
        assert_eq!((own.names.clone(), own.unproven()), (vec!["a.example".into(), "*.b.example".into()], None));
        assert_eq!(read(&pem, &["x.b.example"]).unwrap().unproven(), None);
        for unproven in ["x.y.b.example", "b.example", "c.example"] {
            assert_eq!(read(&pem, &["a.example", unproven]).unwrap().unproven(), Some(unproven));
        }
    }

    #[test]
    fn clients_refuse_a_certificate_outside_its_days() {
        let day = 24 * 3600;
        let said = |from, until| read(&made(&["a"], from, until), &[]).unwrap().about_its_days(NOW);
        assert_eq!(said(NOW - day, NOW).as_deref(), Some("expires on 2027-01-15"));
        assert_eq!(said(NOW - day, NOW - 1).as_deref(), Some("expired on 2027-01-15: clients will refuse it"));
        let early = said(NOW + 1, NOW + day);
        assert_eq!(early.as_deref(), Some("is not valid before 2027-01-15: clients will refuse it"));
    }

    #[test]
    fn the_last_third_of_a_life_is_soon_and_never_more_than_a_fortnight() {
        let day = 24 * 3600;
        let soon = |from: i64, until: i64| {
            read(&made(&["a"], NOW + from * day, NOW + until * day), &[]).unwrap().about_its_days(NOW).is_some()
        };
        assert!(soon(-80, 10));
        assert!(!soon(-80, 15));
        assert!(!soon(-1, 6), "one that lives a week is fresh on its second day");
    }

    #[test]
    fn anothers_key_is_refused() {
        let (one, other) = (made(&["a"], NOW, NOW + 9), made(&["a"], NOW, NOW + 9));
        let mixed = read(&(one.0, other.1), &[]);
        assert_eq!(mixed.err(), Some(Wrong::Key("does not match the certificate".into())));
    }
}
