//! Which requests a response answers besides the one it was made for (RFC 9111 §4.1).
//!
//! 1. The fields that `Vary` names, over all its lines, are the *selecting fields*; `*` anywhere: no other request. So it is
//!    with a field that sidegate writes or removes as it forwards, and whose value is not in the key: the
//!    app has chosen by something else than the client's request says.
//! 2. Two requests have the same *variant* if every selecting field is the same in both, or absent from both. Several
//!    lines are joined with a comma, and space around commas is dropped.
//! 3. `Accept-Language` and `Accept-Encoding` are compared by what they mean ([`super::preferences`]); of other fields
//!    nothing else is made equal: what they mean to the app is not known here.
//! 4. A variant is known by a digest of its selecting fields, each preceded by its length, so that no two lists of
//!    values read the same.
//! 5. Where nothing but `Accept-Language` selects, a response in the language that a request likes best of all, and no other
//!    as much, answers it as well: there is nothing that the app could rather send.
//!
//! # Why
//! Rule 5 asks for the very word: a request for `de-AT` gets `de` only from the app, which may have something nearer, and
//! so does one that likes two languages alike. It is for stores that can look at all variants without a trip.

use http::header::{ACCEPT_ENCODING, ACCEPT_LANGUAGE, CONTENT_LANGUAGE, VARY};
use http::{HeaderMap, HeaderName};
use sha2::{Digest as _, Sha256};

use super::preferences::Preferences;
use crate::client_addr::claims::is_claim;

/// Selecting fields beyond which a response is not stored.
pub const MAX_FIELDS: usize = 16;

/// Fields that are written anew for each request that goes to the app, besides those that say who calls ([`is_claim`]).
const WRITTEN: [&str; 3] = ["via", "traceparent", "tracestate"];

/// SHA-256 of what two requests must have in common.
pub type Digest = [u8; 32];

/// The selecting fields of a response: sorted, each once, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selecting(Vec<HeaderName>);

/// What `Vary` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Vary {
    /// There is none: the response answers every request for its URI.
    Nothing,
    /// It answers requests with the same selecting fields.
    By(Selecting),
    /// It answers nobody else: `*`, a member that is no field name, one that sidegate writes, or too many fields.
    Everything,
}

impl Selecting {
    /// The fields as they were stored; `None` if there are none or too many.
    pub fn new(mut names: Vec<HeaderName>) -> Option<Self> {
        names.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        names.dedup();
        (!names.is_empty() && names.len() <= MAX_FIELDS).then_some(Self(names))
    }

    /// The fields.
    pub fn names(&self) -> &[HeaderName] {
        &self.0
    }

    /// The variant that a request with these fields asks for.
    pub fn variant(&self, request: &HeaderMap) -> Digest {
        let mut digest = Sha256::new();
        let mut value = Vec::new();
        for name in &self.0 {
            digest.update((name.as_str().len() as u64).to_le_bytes());
            digest.update(name.as_str());
            value.clear();
            // An empty field is not an absent one.
            let is_there = put_meaning(request, name, &mut value);
            let length = if is_there { value.len() as u64 } else { u64::MAX };
            digest.update(length.to_le_bytes());
            digest.update(&value);
        }
        digest.finalize().into()
    }

    /// Whether nothing but the language selects (rule 5).
    pub fn is_by_language(&self) -> bool {
        self.0 == [ACCEPT_LANGUAGE]
    }

    /// Whether a response is in the language that the request likes best (rule 5).
    pub fn pleases(&self, request: &HeaderMap, response: &HeaderMap) -> bool {
        let mut lines = response.get_all(CONTENT_LANGUAGE).iter();
        let (true, Some(line), None) = (self.is_by_language(), lines.next(), lines.next()) else { return false };
        let preferences = Preferences::of(request, &ACCEPT_LANGUAGE);
        preferences.and_then(|found| found.best()).is_some_and(|best| line.as_bytes().eq_ignore_ascii_case(best))
    }
}

/// What a selecting field is compared by; false if it is not there.
fn put_meaning(request: &HeaderMap, name: &HeaderName, out: &mut Vec<u8>) -> bool {
    if (*name == ACCEPT_ENCODING || *name == ACCEPT_LANGUAGE)
        && let Some(preferences) = Preferences::of(request, name)
    {
        preferences.put(out);
        return true;
    }
    join(request, name, out);
    request.contains_key(name)
}

fn join(request: &HeaderMap, name: &HeaderName, out: &mut Vec<u8>) {
    for (index, line) in request.get_all(name).iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        for (index, member) in line.as_bytes().split(|byte| *byte == b',').enumerate() {
            if index > 0 {
                out.push(b',');
            }
            out.extend_from_slice(member.trim_ascii());
        }
    }
}

/// Reads all `Vary` lines of a response. `written`: fields that sidegate writes besides those of rule 1.
pub fn vary(response: &HeaderMap, written: &[HeaderName]) -> Vary {
    let mut names = Vec::new();
    for line in response.get_all(VARY) {
        for member in line.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            if member.is_empty() {
                continue;
            }
            match HeaderName::from_bytes(member) {
                Ok(name)
                    if member != b"*"
                        && !is_written(&name)
                        && !written.contains(&name)
                        && names.len() < 4 * MAX_FIELDS =>
                {
                    names.push(name)
                }
                _ => return Vary::Everything,
            }
        }
    }
    match (names.is_empty(), Selecting::new(names)) {
        (true, _) => Vary::Nothing,
        (_, Some(selecting)) => Vary::By(selecting),
        (_, None) => Vary::Everything,
    }
}

/// Whether the app may see another value of the field than the client has sent. A stranger's own claims are removed, and must
/// select nothing either. Of all of these the scheme alone is in the key.
fn is_written(name: &HeaderName) -> bool {
    let name = name.as_str();
    (is_claim(name) && name != "x-forwarded-proto") || WRITTEN.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::head_of as head;

    #[test]
    fn vary_lines_are_one_list_without_repetition() {
        assert_eq!(vary(&head(&[]), &[]), Vary::Nothing);
        assert_eq!(vary(&head(&[("vary", " , ")]), &[]), Vary::Nothing);
        let Vary::By(selecting) = vary(&head(&[("vary", "Origin, accept"), ("vary", "ACCEPT")]), &[]) else { panic!() };
        assert_eq!(selecting.names(), ["accept", "origin"]);
    }

    #[test]
    fn a_star_or_a_field_of_ours_anywhere_answers_nobody_else() {
        for value in [
            "*",
            "accept, *",
            "* , accept",
            "accept encoding",
            "Accept, X-Forwarded-For",
            "via",
            "Traceparent",
            "x-real-ip",
        ] {
            assert_eq!(vary(&head(&[("vary", value)]), &[]), Vary::Everything, "{value:?}");
        }
        assert_eq!(vary(&head(&[("vary", "accept"), ("vary", "*")]), &[]), Vary::Everything);
        assert!(matches!(vary(&head(&[("vary", "x-forwarded-proto")]), &[]), Vary::By(_)), "the scheme is in the key");
        let signature = [HeaderName::from_static("x-identity-signature")];
        let by_signature = head(&[("vary", "Accept, X-Identity-Signature")]);
        assert_eq!(vary(&by_signature, &signature), Vary::Everything);
        assert!(matches!(vary(&by_signature, &[]), Vary::By(_)));
    }

    #[test]
    fn requests_share_a_variant_only_if_their_selecting_fields_agree() {
        let selecting = Selecting::new(vec!["a".parse().unwrap(), "b".parse().unwrap()]).unwrap();
        let same = |left: &[_], right: &[_]| selecting.variant(&head(left)) == selecting.variant(&head(right));
        assert!(same(&[], &[]));
        assert!(same(&[("a", "1"), ("c", "x")], &[("a", "1"), ("c", "y")]));
        assert!(same(&[("a", "1"), ("a", "2")], &[("a", "1 , 2")]));
        assert!(!same(&[("a", "1")], &[]));
        assert!(!same(&[("a", "")], &[]));
        assert!(!same(&[("a", "1")], &[("b", "1")]));
        assert!(!same(&[("a", "1,2")], &[("a", "2,1")]));
        assert!(!same(&[("a", "x")], &[("a", "X")]));
    }

    #[test]
    fn what_means_the_same_selects_the_same() {
        let selecting = Selecting::new(vec![ACCEPT_LANGUAGE, ACCEPT_ENCODING, VARY]).unwrap();
        let same = |left: &[_], right: &[_]| selecting.variant(&head(left)) == selecting.variant(&head(right));
        for name in ["accept-language", "accept-encoding"] {
            assert!(same(&[(name, "en, de")], &[(name, "De"), (name, "eN;q=1")]), "{name}");
            assert!(!same(&[(name, "en, de")], &[(name, "en, de;q=0.9")]), "{name}");
            assert!(!same(&[(name, "en, de")], &[(name, "en")]), "{name}");
            assert!(!same(&[(name, "")], &[]), "{name}");
            // Not understood: as it is written.
            assert!(same(&[(name, "en;v=1, de")], &[(name, "en;v=1,de")]), "{name}");
            assert!(!same(&[(name, "en;v=1, de")], &[(name, "de, en;v=1")]), "{name}");
        }
        assert!(!same(&[("vary", "en, de")], &[("vary", "de, en")]));
    }

    #[test]
    fn a_response_in_the_best_language_answers_as_well() {
        let by_language = Selecting::new(vec![ACCEPT_LANGUAGE]).unwrap();
        for (asked, language, expected) in [
            ("fr;q=0.5, de;q=1.0", "de", true),
            ("DE", "de", true),
            ("de-AT, de;q=0.9", "de-at", true),
            ("de-AT, de;q=0.9", "de", false), // the app may have something nearer
            ("de, en", "de", false),          // liked alike
            ("de;q=0.9, en", "de", false),
            ("de;q=0", "de", false),
            ("*", "*", false),
            ("de;v=1", "de", false),
            ("de", "de, en", false),
            ("de", "", false),
        ] {
            let (request, response) = (head(&[("accept-language", asked)]), head(&[("content-language", language)]));
            assert_eq!(by_language.pleases(&request, &response), expected, "{asked:?} {language:?}");
        }
        let (german, in_german) = (head(&[("accept-language", "de")]), head(&[("content-language", "de")]));
        assert!(!by_language.pleases(&german, &head(&[])));
        assert!(!by_language.pleases(&head(&[]), &in_german));
        assert!(!by_language.pleases(&german, &head(&[("content-language", "de"), ("content-language", "de")])));
        let by_more = Selecting::new(vec![ACCEPT_LANGUAGE, ACCEPT_ENCODING]).unwrap();
        assert!(!by_more.pleases(&german, &in_german));
    }
}
