//! Steps from the credential of a custom session to its identifier.

use aws_lc_rs::hmac::{self, HMAC_SHA1_FOR_LEGACY_USE_ONLY, HMAC_SHA256, HMAC_SHA512, Key};

use super::value::Encoding;
use crate::session::format::{percent, sign};

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    written: String,
    does: Does,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Does {
    /// Undoes percent-encoding.
    Percent,
    /// Takes the quotes around it off, if it has them.
    Unquote,
    /// Decodes it.
    Decode(Encoding),
    /// It must begin so; this is cut off.
    Prefix(String),
    /// It must end so; this is cut off.
    Suffix(String),
    /// Leaves what stands before the first of these; there must be one.
    Before(u8),
    /// Leaves what stands behind the first of these; there must be one.
    After(u8),
    /// Behind the last of these there must be a signature of what stands before; that is left.
    Signed(Signed),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Signed {
    algorithm: Algorithm,
    encoding: Encoding,
    separator: u8,
    /// The key is the HMAC of this under the secret (itsdangerous' `key_derivation = "hmac"`).
    salt: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Algorithm {
    Sha1,
    Sha256,
    Sha512,
}

/// All steps there are, for the operator.
pub const STEPS: &str = "percent, unquote, base64, base64url, hex, prefix:TEXT, suffix:TEXT, before:CHARACTER, after:CHARACTER, \
                         signed:ALGORITHM:ENCODING:SEPARATOR, like signed:hmac-sha256:base64:.";

impl Step {
    /// The step that is `written` so.
    ///
    /// # Errors
    /// There is none; in a sentence for the operator.
    pub fn parse(written: &str) -> Result<Self, String> {
        let character = |text: &str| match text.as_bytes() {
            [byte] if byte.is_ascii_graphic() => Ok(*byte),
            _ => Err(format!("`{written}`: one visible ASCII character is wanted")),
        };
        let some = |text: &str| {
            let text = (!text.is_empty()).then(|| text.to_owned());
            text.ok_or_else(|| format!("`{written}` names nothing after the colon"))
        };
        let does = match written.split_once(':') {
            None => match (written, Encoding::parse(written)) {
                ("percent", _) => Does::Percent,
                ("unquote", _) => Does::Unquote,
                (_, Some(encoding)) => Does::Decode(encoding),
                _ => return Err(format!("`{written}` is no step")),
            },
            Some(("prefix", text)) => Does::Prefix(some(text)?),
            Some(("suffix", text)) => Does::Suffix(some(text)?),
            Some(("before", text)) => Does::Before(character(text)?),
            Some(("after", text)) => Does::After(character(text)?),
            Some(("signed", terms)) => {
                let signed = Signed::parse(terms).ok_or_else(|| format!("`{written}` is no signature"))?;
                let (separator, encoding) = (signed.separator, signed.encoding);
                if encoding.has(separator) {
                    let separator = char::from(separator);
                    return Err(format!(
                        "`{written}`: a signature may have `{separator}` itself, so nothing tells where it begins"
                    ));
                }
                Does::Signed(signed)
            }
            Some(_) => return Err(format!("`{written}` is no step")),
        };
        Ok(Self { written: written.to_owned(), does })
    }

    /// As it is in the configuration.
    pub fn written(&self) -> &str {
        &self.written
    }

    /// Whether it checks a signature.
    pub fn is_signed(&self) -> bool {
        matches!(self.does, Does::Signed(_))
    }

    /// The key that vouches where `secret` is the secret, if it checks a signature.
    pub fn key(&self, secret: &[u8]) -> Option<Key> {
        let Does::Signed(signed) = &self.does else { return None };
        let algorithm = signed.algorithm.hmac();
        let key = Key::new(algorithm, secret);
        Some(match &signed.salt {
            Some(salt) => Key::new(algorithm, sign::tag(&key, &[salt.as_bytes()]).as_ref()),
            None => key,
        })
    }

    /// What is left of `text`; any of `keys` may vouch for it.
    ///
    /// # Errors
    /// It does not go through; says why.
    pub fn apply(&self, text: Vec<u8>, keys: &[Key]) -> Result<Vec<u8>, &'static str> {
        const OTHERWISE: &str = "credential has another form";
        let first = |wanted: u8| text.iter().position(|byte| *byte == wanted).ok_or(OTHERWISE);
        let left: &[u8] = match &self.does {
            Does::Percent => return percent::decoded(&text).map(std::borrow::Cow::into_owned),
            Does::Decode(encoding) => return encoding.decode(&text).ok_or("credential is not encoded as it should be"),
            Does::Unquote => match &*text {
                [b'"', inside @ .., b'"'] => inside,
                whole => whole,
            },
            Does::Prefix(prefix) => text.strip_prefix(prefix.as_bytes()).ok_or(OTHERWISE)?,
            Does::Suffix(suffix) => text.strip_suffix(suffix.as_bytes()).ok_or(OTHERWISE)?,
            Does::Before(byte) => &text[..first(*byte)?],
            Does::After(byte) => &text[first(*byte)? + 1..],
            Does::Signed(Signed { encoding, separator, .. }) => {
                let end = text.iter().rposition(|byte| byte == separator).ok_or("credential is not signed")?;
                let (signed, given) = (&text[..end], &text[end + 1..]);
                let vouches = |key: &Key| encoding.is_written(sign::tag(key, &[signed]).as_ref(), given);
                if !keys.iter().fold(false, |good, key| good | vouches(key)) {
                    return Err("bad signature");
                }
                signed
            }
        };
        Ok(left.to_vec())
    }
}

impl Signed {
    /// `ALGORITHM:ENCODING:SEPARATOR`, perhaps with `:SALT`.
    fn parse(terms: &str) -> Option<Self> {
        let (algorithm, rest) = terms.split_once(':')?;
        let (encoding, rest) = rest.split_once(':')?;
        let algorithm = match algorithm {
            "hmac-sha1" => Algorithm::Sha1,
            "hmac-sha256" => Algorithm::Sha256,
            "hmac-sha512" => Algorithm::Sha512,
            _ => return None,
        };
        let (&separator, behind) = rest.as_bytes().split_first()?;
        let behind = std::str::from_utf8(behind).ok()?;
        let salt = if behind.is_empty() { None } else { Some(behind.strip_prefix(':')?.to_owned()) };
        let apart = separator.is_ascii_punctuation() && salt.as_deref() != Some("");
        apart.then_some(Self { algorithm, encoding: Encoding::parse(encoding)?, separator, salt })
    }
}

impl Algorithm {
    fn hmac(self) -> hmac::Algorithm {
        match self {
            Self::Sha1 => HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => HMAC_SHA256,
            Self::Sha512 => HMAC_SHA512,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(step: &str, text: &str) -> Result<String, &'static str> {
        let step = Step::parse(step).unwrap();
        let keys: Vec<Key> = ["new", "old"].iter().filter_map(|secret| step.key(secret.as_bytes())).collect();
        step.apply(text.as_bytes().to_vec(), &keys).map(|left| String::from_utf8_lossy(&left).into_owned())
    }

    #[test]
    fn steps_decode_and_cut() {
        for (step, text, left) in [
            ("percent", "s%3Aa%2bb", "s:a+b"),
            ("unquote", "\"abc\"", "abc"),
            ("unquote", "abc\"", "abc\""),
            ("unquote", "\"", "\""),
            ("base64", "YWI/Pw==", "ab??"),
            ("base64", "YWI/Pw", "ab??"),
            ("base64url", "YWI_Pw", "ab??"),
            ("hex", "6162fF", "ab\u{fffd}"),
            ("prefix:s:", "s:abc", "abc"),
            ("suffix:.v1", "abc.v1", "abc"),
            ("before:.", "a.b.c", "a"),
            ("after:.", "a.b.c", "b.c"),
        ] {
            assert_eq!(apply(step, text).as_deref(), Ok(left), "{step}");
        }
    }

    #[test]
    fn what_does_not_go_through_is_no_credential() {
        for (step, text) in [("prefix:s:", "abc"), ("suffix:x", "abc"), ("before:.", "abc"), ("after:.", "")] {
            assert_eq!(apply(step, text), Err("credential has another form"), "{step}");
        }
        for (step, text) in
            [("base64", "YWI_Pw"), ("base64", "YWJ"), ("base64url", "YWI/Pw"), ("hex", "616"), ("hex", "6g")]
        {
            let what = "credential is not encoded as it should be";
            assert_eq!(apply(step, text), Err(what), "{step} {text}");
        }
        assert_eq!(apply("percent", "%"), Err("percent-encoding is damaged"));
    }

    #[test]
    fn a_signature_is_by_any_of_the_secrets_and_in_one_spelling() {
        // Python: hmac.new(b"old", b"a.b", hashlib.sha512).hexdigest()
        let hex = sign::hex(sign::tag(&Key::new(HMAC_SHA512, b"old"), &[b"a.b"]).as_ref());
        assert_eq!(apply("signed:hmac-sha512:hex:.", &format!("a.b.{hex}")).as_deref(), Ok("a.b"));
        for bent in [format!("a.b.{}", hex.to_uppercase()), format!("a.c.{hex}"), format!("a.b.{hex}0"), "a.b.".into()]
        {
            assert_eq!(apply("signed:hmac-sha512:hex:.", &bent), Err("bad signature"), "{bent}");
        }
        assert_eq!(apply("signed:hmac-sha512:hex:.", "ab"), Err("credential is not signed"));
        let tag = sign::tag(&sign::sha256_key(b"new"), &[b"id"]);
        use base64::Engine as _;
        use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
        for tag in [STANDARD.encode(tag), STANDARD_NO_PAD.encode(tag)] {
            assert_eq!(apply("signed:hmac-sha256:base64::", &format!("id:{tag}")).as_deref(), Ok("id"), "{tag}");
        }
    }

    #[test]
    fn what_is_no_step_says_so() {
        for wrong in ["", "percents", "prefix", "prefix:", "before:ab", "after:", "before: ", "jwt:x", "base64:x"] {
            assert!(Step::parse(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "hmac-sha256", "hmac-sha256:base64", "hmac-sha256:base64:", "md5:hex:.", "hmac-sha1:hexa:."] {
            assert!(Step::parse(&format!("signed:{wrong}")).is_err(), "{wrong}");
        }
        for (wrong, separator) in
            [("base64:+", '+'), ("base64:/", '/'), ("base64:=", '='), ("base64url:-", '-'), ("base64url:_:salt", '_')]
        {
            let why = Step::parse(&format!("signed:hmac-sha1:{wrong}")).unwrap_err();
            assert!(
                why.ends_with(&format!("a signature may have `{separator}` itself, so nothing tells where it begins")),
                "{why}"
            );
        }
        for right in ["base64:-", "base64url:+", "hex:-", "hex:="] {
            assert!(Step::parse(&format!("signed:hmac-sha1:{right}")).is_ok(), "{right}");
        }
        for wrong in ["hmac-sha1:hex:.salt", "hmac-sha1:hex:.:", "hmac-sha1:hex:a"] {
            assert!(Step::parse(&format!("signed:{wrong}")).is_err(), "{wrong}");
        }
    }
}
