//! What Laravel's `Encrypter` seals (Illuminate\Encryption, Laravel 8 to 13): cookies, and records by `session.encrypt`. Pure.
//!
//! 1. An envelope is base64 (RFC 4648 §4, padded) of the JSON object `{"iv", "value", "mac", "tag"}`; iv, value and tag are base64.
//! 2. AES-CBC: `mac` is the HMAC-SHA256, in lower-case hexadecimal digits, of the texts of iv and value, by the key itself; no
//!    `tag`. It is compared in constant time, and only what it vouches for is decrypted and its padding (PKCS #7) looked at.
//! 3. AES-GCM: an iv of 12 bytes, a tag of exactly 16, nothing associated; no `mac`.
//! 4. Each key is tried, newest first (`APP_PREVIOUS_KEYS`). A key has 16 bytes or 32: AES-128 or AES-256.
//! 5. Whatever is wrong, there is one reason.
//!
//! # Why
//! Rules 2 and 5: whoever is told whether a padding was right reads a cookie byte by byte (Vaudenay, 2002). A tag cut short
//! would be guessed.

use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{self, DecryptionContext, PaddedBlockDecryptingKey, UnboundCipherKey};
use aws_lc_rs::hmac;
use aws_lc_rs::iv::FixedLength;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::{Cipher, sign};
use crate::session::Secrets;

/// Why an envelope is not opened.
pub const NOT_OURS: &str = "not sealed by a known key";

/// What opens envelopes.
pub struct Keys(Vec<Key>);

/// One `APP_KEY`.
enum Key {
    Cbc(Box<Cbc>),
    Gcm(LessSafeKey),
}

/// What vouches for an envelope, and what opens it.
struct Cbc {
    mac: hmac::Key,
    cipher: PaddedBlockDecryptingKey,
}

/// Rule 1.
#[derive(Deserialize)]
struct Sealed<'a> {
    #[serde(borrow)]
    iv: Text<'a>,
    #[serde(borrow)]
    value: Text<'a>,
    #[serde(borrow)]
    mac: Text<'a>,
    #[serde(borrow, default)]
    tag: Text<'a>,
}

/// PHP writes `/` as `\/`, so a text is not always borrowed.
#[derive(Default, Deserialize)]
struct Text<'a>(#[serde(borrow)] std::borrow::Cow<'a, str>);

fn is_key_in_base64(secret: &str) -> bool {
    STANDARD.decode(secret).is_ok_and(|bytes| matches!(bytes.len(), 16 | 32))
}

/// The keys that `secrets` are: as in `APP_KEY`, bytes after `base64:` or in the clear.
///
/// # Errors
/// One of them is no key, or there is none; a sentence that quotes nothing of it.
pub fn keys(secrets: &Secrets) -> Result<Vec<Vec<u8>>, String> {
    if secrets.is_empty() {
        return Err("nothing is opened without `secrets`: the app's APP_KEY, then its APP_PREVIOUS_KEYS".into());
    }
    let read = |(place, secret): (usize, &str)| {
        let bytes = match secret.strip_prefix("base64:") {
            Some(text) => STANDARD.decode(text).map_err(|_| format!("secret {place} is not base64 after `base64:`"))?,
            None => secret.as_bytes().to_vec(),
        };
        match bytes.len() {
            16 | 32 => Ok(bytes),
            _ if is_key_in_base64(secret) => {
                Err(format!("secret {place} is base64 and does not say so: put `base64:` before it, as APP_KEY has it"))
            }
            other => Err(format!("secret {place} has {other} bytes; a key of Laravel (APP_KEY) has 16 or 32")),
        }
    };
    (1..).zip(secrets.exposed()).map(read).collect()
}

impl Keys {
    /// Made of the bytes of `keys`, 16 or 32 each, newest first.
    ///
    /// # Errors
    /// One of them cannot be used.
    pub fn new(cipher: Cipher, keys: &[Vec<u8>]) -> Result<Self, String> {
        let unusable = |_| "a secret cannot be used as a key of AES".to_owned();
        keys.iter().map(|key| Key::new(cipher, key)).collect::<Result<_, _>>().map(Self).map_err(unusable)
    }

    /// What is in the envelope.
    ///
    /// # Errors
    /// It is none, or none of the keys has sealed it.
    pub fn open(&self, envelope: &[u8]) -> Result<Vec<u8>, &'static str> {
        self.opened(envelope).ok_or(NOT_OURS)
    }

    fn opened(&self, envelope: &[u8]) -> Option<Vec<u8>> {
        let json = STANDARD.decode(envelope).ok()?;
        let sealed: Sealed<'_> = serde_json::from_slice(&json).ok()?;
        self.0.iter().find_map(|key| key.open(&sealed))
    }
}

impl Key {
    fn new(cipher: Cipher, key: &[u8]) -> Result<Self, aws_lc_rs::error::Unspecified> {
        let long = key.len() == 32;
        match cipher {
            Cipher::Cbc => {
                let algorithm = if long { &cipher::AES_256 } else { &cipher::AES_128 };
                let cipher = PaddedBlockDecryptingKey::cbc_pkcs7(UnboundCipherKey::new(algorithm, key)?)?;
                Ok(Self::Cbc(Box::new(Cbc { mac: sign::sha256_key(key), cipher })))
            }
            Cipher::Gcm => {
                let algorithm = if long { &aead::AES_256_GCM } else { &aead::AES_128_GCM };
                Ok(Self::Gcm(LessSafeKey::new(UnboundKey::new(algorithm, key)?)))
            }
        }
    }

    /// Rules 2 and 3.
    fn open(&self, sealed: &Sealed<'_>) -> Option<Vec<u8>> {
        match self {
            Self::Cbc(key) => {
                if !sealed.tag.0.is_empty() || !vouches(&key.mac, sealed) {
                    return None;
                }
                let iv: [u8; 16] = sealed.iv.bytes()?.try_into().ok()?;
                let mut value = sealed.value.bytes()?;
                let context = DecryptionContext::Iv128(FixedLength::from(iv));
                let length = key.cipher.decrypt(&mut value, context).ok()?.len();
                value.truncate(length);
                Some(value)
            }
            Self::Gcm(key) => {
                let iv: [u8; 12] = sealed.iv.bytes()?.try_into().ok()?;
                let tag: [u8; 16] = sealed.tag.bytes()?.try_into().ok()?;
                if !sealed.mac.0.is_empty() {
                    return None;
                }
                let mut value = sealed.value.bytes()?;
                let nonce = Nonce::assume_unique_for_key(iv);
                key.open_in_place_separate_tag(nonce, Aad::empty(), &tag, &mut value).ok()?;
                Some(value)
            }
        }
    }
}

/// Whether the envelope's code is that of `mac`, over the texts as they are written.
fn vouches(mac: &hmac::Key, sealed: &Sealed<'_>) -> bool {
    let code = sign::tag(mac, &[sealed.iv.0.as_bytes(), sealed.value.0.as_bytes()]);
    sign::same(sign::hex(code.as_ref()).as_bytes(), sealed.mac.0.as_bytes())
}

impl Text<'_> {
    fn bytes(&self) -> Option<Vec<u8>> {
        STANDARD.decode(self.0.as_bytes()).ok()
    }
}

#[cfg(test)]
pub mod tests {
    use aws_lc_rs::cipher::{EncryptionContext, PaddedBlockEncryptingKey};

    use super::super::php::odd::fuzz;
    use super::*;

    /// `clear`, sealed by `key` as Laravel does.
    pub fn sealed(cipher: Cipher, key: &[u8], clear: &[u8]) -> Vec<u8> {
        let mut value = clear.to_vec();
        let (iv, mac, tag) = match cipher {
            Cipher::Cbc => {
                let algorithm = if key.len() == 32 { &cipher::AES_256 } else { &cipher::AES_128 };
                let by = PaddedBlockEncryptingKey::cbc_pkcs7(UnboundCipherKey::new(algorithm, key).unwrap()).unwrap();
                by.less_safe_encrypt(&mut value, EncryptionContext::Iv128(FixedLength::from([7; 16]))).unwrap();
                let iv = STANDARD.encode([7; 16]);
                let mac = mac(key, &iv, &STANDARD.encode(&value));
                (iv, mac, String::new())
            }
            Cipher::Gcm => {
                let algorithm = if key.len() == 32 { &aead::AES_256_GCM } else { &aead::AES_128_GCM };
                let by = LessSafeKey::new(UnboundKey::new(algorithm, key).unwrap());
                let nonce = Nonce::assume_unique_for_key([7; 12]);
                let tag = by.seal_in_place_separate_tag(nonce, Aad::empty(), &mut value).unwrap();
                (STANDARD.encode([7; 12]), String::new(), STANDARD.encode(tag.as_ref()))
            }
        };
        written(&iv, &STANDARD.encode(&value), &mac, &tag)
    }

    fn mac(key: &[u8], iv: &str, value: &str) -> String {
        sign::hex(sign::tag(&sign::sha256_key(key), &[iv.as_bytes(), value.as_bytes()]).as_ref())
    }

    fn written(iv: &str, value: &str, mac: &str, tag: &str) -> Vec<u8> {
        let json = format!(r#"{{"iv":"{iv}","value":"{value}","mac":"{mac}","tag":"{tag}"}}"#);
        STANDARD.encode(json).into_bytes()
    }

    /// The texts of an envelope.
    fn parts(envelope: &[u8]) -> [String; 4] {
        let json: serde_json::Value = serde_json::from_slice(&STANDARD.decode(envelope).unwrap()).unwrap();
        ["iv", "value", "mac", "tag"].map(|name| json[name].as_str().unwrap().to_owned())
    }

    fn of(cipher: Cipher, secrets: &[&[u8]]) -> Keys {
        Keys::new(cipher, &secrets.iter().map(|key| key.to_vec()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn what_is_sealed_by_any_key_is_opened() {
        for cipher in [Cipher::Cbc, Cipher::Gcm] {
            let keys = of(cipher, &[&[1; 32], &[2; 16]]);
            for clear in [&b""[..], b"clear", &[0xff; 10_000]] {
                for key in [&[1; 32][..], &[2; 16]] {
                    assert_eq!(keys.open(&sealed(cipher, key, clear)).as_deref(), Ok(clear), "{cipher:?}");
                }
                for other in [&[3; 32][..], &[1; 16], &[2; 32]] {
                    assert_eq!(keys.open(&sealed(cipher, other, clear)), Err(NOT_OURS), "{cipher:?}");
                }
            }
        }
    }

    #[test]
    fn slashes_may_be_escaped_and_a_tag_may_be_missing() {
        let key = [1; 32];
        let [iv, value, mac, _] = parts(&sealed(Cipher::Cbc, &key, &[b'c'; 20]));
        let json = format!(r#"{{"iv":"{iv}","value":"{value}","mac":"{mac}"}}"#);
        assert_eq!(of(Cipher::Cbc, &[&key]).open(STANDARD.encode(json).as_bytes()).as_deref(), Ok(&[b'c'; 20][..]));
        // Another iv makes another first block, and leaves the padding as it is.
        let iv = STANDARD.encode([0xff; 16]);
        assert!(iv.contains('/'));
        let mac = self::mac(&key, &iv, &value);
        let json = format!(r#"{{"iv":"{}","value":"{value}","mac":"{mac}","tag":""}}"#, iv.replace('/', "\\/"));
        assert!(of(Cipher::Cbc, &[&key]).open(STANDARD.encode(json).as_bytes()).is_ok());
    }

    /// No oracle: a code that is wrong, a padding that is wrong under a right code, and what is no envelope look the same.
    #[test]
    fn whatever_is_wrong_there_is_one_reason() {
        let key = [1; 32];
        let keys = of(Cipher::Cbc, &[&key]);
        let [iv, value, good, _] = parts(&sealed(Cipher::Cbc, &key, b"clear"));
        let wrong = "0".repeat(64);
        let padding = STANDARD.encode([9; 32]);
        let odd = STANDARD.encode([9; 15]);
        let short = STANDARD.encode([7; 12]);
        let envelopes = [
            ("wrong code", written(&iv, &value, &wrong, "")),
            ("wrong code, wrong padding", written(&iv, &padding, &wrong, "")),
            ("wrong padding", written(&iv, &padding, &mac(&key, &iv, &padding), "")),
            ("not whole blocks", written(&iv, &odd, &mac(&key, &iv, &odd), "")),
            ("no block", written(&iv, "", &mac(&key, &iv, ""), "")),
            ("short iv", written(&short, &value, &mac(&key, &short, &value), "")),
            ("iv that is no base64", written("??", &value, &mac(&key, "??", &value), "")),
            ("code in capitals", written(&iv, &value, &good.to_uppercase(), "")),
            ("short code", written(&iv, &value, &good[..62], "")),
            ("no code", written(&iv, &value, "", "")),
            ("a tag", written(&iv, &value, &good, "AAAAAAAAAAAAAAAAAAAAAA==")),
            ("moved border", written(&iv[..20], &[&iv[20..], &value].concat(), &good, "")),
            ("no object", STANDARD.encode("[1]").into_bytes()),
            ("numbers", STANDARD.encode(r#"{"iv":1,"value":2,"mac":true}"#).into_bytes()),
            (
                "twice",
                STANDARD.encode(format!(r#"{{"iv":"{iv}","iv":"{iv}","value":"{value}","mac":"{good}"}}"#)).into(),
            ),
            ("no base64", b"%%%%".to_vec()),
            ("nothing", Vec::new()),
        ];
        for (name, envelope) in envelopes {
            assert_eq!(keys.open(&envelope), Err(NOT_OURS), "{name}");
        }
        assert!(keys.open(&written(&iv, &value, &good, "")).is_ok());
    }

    /// A code that does not vouch leaves nothing to be decrypted.
    #[test]
    fn the_code_is_compared_before_anything_is_decrypted() {
        let key = sign::sha256_key(&[1; 32]);
        let text = |text: &str| Text(text.to_owned().into());
        let sealed = |mac: &str| Sealed { iv: text("iv"), value: text("value"), mac: text(mac), tag: text("") };
        let right = mac(&[1; 32], "iv", "value");
        assert!(vouches(&key, &sealed(&right)), "although neither is base64: they have not been looked at");
        assert!(!vouches(&key, &sealed(&right[1..])) && !vouches(&key, &sealed("")));
        assert!(!vouches(&key, &sealed(&mac(&[2; 32], "iv", "value"))));
    }

    #[test]
    fn a_tag_of_gcm_is_whole() {
        let key = [1; 32];
        let keys = of(Cipher::Gcm, &[&key]);
        let [iv, value, mac, tag] = parts(&sealed(Cipher::Gcm, &key, b"clear"));
        let bytes = STANDARD.decode(&tag).unwrap();
        for length in [0, 4, 12, 15] {
            let short = STANDARD.encode(&bytes[..length]);
            assert_eq!(keys.open(&written(&iv, &value, &mac, &short)), Err(NOT_OURS), "{length}");
        }
        let long = STANDARD.encode([&bytes[..], &[0]].concat());
        assert_eq!(keys.open(&written(&iv, &value, &mac, &long)), Err(NOT_OURS));
        assert_eq!(keys.open(&written(&iv, &value, "00", &tag)), Err(NOT_OURS));
        assert_eq!(keys.open(&written(&STANDARD.encode([7; 16]), &value, &mac, &tag)), Err(NOT_OURS));
        assert!(keys.open(&written(&iv, &value, &mac, &tag)).is_ok());
    }

    #[test]
    fn a_secret_that_is_no_key_is_told_without_quoting_it() {
        let keys = |secrets: &[&str]| keys(&Secrets::new(secrets.iter().map(|secret| (*secret).into())));
        let sixteen = STANDARD.encode([5; 16]);
        assert_eq!(keys(&[&format!("base64:{sixteen}"), &"k".repeat(32)]).unwrap(), [vec![5; 16], vec![b'k'; 32]]);
        let told = |secrets: &[&str]| keys(secrets).unwrap_err();
        assert!(told(&[]).contains("`secrets`"));
        assert_eq!(told(&[&"k".repeat(32), "base64:hunter2!"]), "secret 2 is not base64 after `base64:`");
        assert_eq!(told(&["hunter2"]), "secret 1 has 7 bytes; a key of Laravel (APP_KEY) has 16 or 32");
        let said = told(&[&sixteen]);
        assert!(!said.contains(&sixteen) && said.contains("put `base64:` before it"), "{said}");
    }

    #[test]
    fn fuzz_envelopes() {
        for cipher in [Cipher::Cbc, Cipher::Gcm] {
            let keys = of(cipher, &[&[1; 32], &[2; 16]]);
            let seeds = [&[1; 32][..], &[2; 16]].map(|key| sealed(cipher, key, b"clear"));
            // Nothing opens to anything else: a mutation that opens has left the sealed texts as they are.
            fuzz("envelopes", &seeds, |envelope| {
                keys.open(envelope).is_ok_and(|clear| clear == b"clear" || panic!("forged"))
            });
        }
    }
}
