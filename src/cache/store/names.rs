//! How the Redis keys of stored responses are spelt, and read back.
//!
//! | key | value |
//! |---|---|
//! | `PREFIX cache:{PLACE}:g` | the place's generation |
//! | `PREFIX cache:{PLACE}:DIGEST` | a stored response, or the list of its variants |
//! | `PREFIX cache:{PLACE}:DIGEST:VARIANT` | a variant |
//! | `PREFIX cache:{PLACE}:DIGEST:p:ID:NUMBER` | a piece of the content of either |
//! | `PREFIX cache:{PLACE}:DIGEST:lock` | who fetches it for the fleet (`redis/lock`) |
//! | `PREFIX tag:{TAG}` | a sorted set: the places where something that carries the tag is stored, by when that ends |
//! | `PREFIX tag:{TAG}:mark` | the mark of the last purge of the tag |
//!
//! 1. All keys of a place lie in one cluster slot: what stands in the braces is the place, escaped; its *tag*.
//! 2. DIGEST is the SHA-256 of the key's text, VARIANT that of the request's selecting fields, both in base64url.
//!    ID is that of the fill, in hex, NUMBER decimal.
//! 3. Both keys of a tag lie in one slot, too; which slots those of its places are does not matter.
//! 4. What [`Names`] spells [`read`] reads, but for pieces and locks: of them nothing is remembered. Everything else is no key
//!    of ours.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use crate::cache::rules::vary::Digest;
use crate::cache::store::purge::Target;
use crate::redis_pool::key::{push_escaped, push_literal, push_tagged, unescaped};

/// What stands before the place, after the prefix.
const KIND: &str = "cache";
/// What stands before a tag.
const TAG_KIND: &str = "tag";

/// The names of one tag's keys.
pub(super) struct TagNames(String);

/// The names of one place's keys.
pub(super) struct Names {
    /// `PREFIX cache:{PLACE}`.
    base: String,
    /// Where PLACE begins.
    tag: usize,
}

/// Which entry of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct EntryName {
    /// Of the key's text.
    pub(super) digest: Digest,
    /// Of the selecting fields.
    pub(super) variant: Option<Digest>,
}

/// What a key of a place names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// The place's generation.
    Generation,
    /// An entry.
    Entry(EntryName),
}

impl Names {
    /// Of the keys of `place`, under `prefix`.
    pub(super) fn of(prefix: &str, place: &str) -> Self {
        let mut escaped = String::with_capacity(place.len() + 16);
        push_escaped(&mut escaped, place);
        let mut base = String::with_capacity(prefix.len() + KIND.len() + escaped.len() + 3);
        push_tagged(&mut base, prefix, KIND, &escaped);
        Self { tag: base.len() - escaped.len() - 1, base }
    }

    /// The place, escaped.
    pub(super) fn tag(&self) -> &str {
        &self.base[self.tag..self.base.len() - 1]
    }

    /// The key of its generation.
    pub(super) fn generation(&self) -> String {
        [&self.base, ":g"].concat()
    }

    /// The key of the lock on fetches of what has this digest.
    pub(super) fn lock(&self, digest: Digest) -> String {
        [&self.entry(&EntryName { digest, variant: None }), ":lock"].concat()
    }

    /// The key of an entry.
    pub(super) fn entry(&self, EntryName { digest, variant }: &EntryName) -> String {
        let mut name = String::with_capacity(self.base.len() + 2 * 44);
        name.push_str(&self.base);
        for digest in [Some(digest), variant.as_ref()].into_iter().flatten() {
            name.push(':');
            BASE64_URL_SAFE_NO_PAD.encode_string(digest, &mut name);
        }
        name
    }

    /// The key of a piece of content.
    pub(super) fn piece(&self, digest: &Digest, id: u128, number: u64) -> String {
        let mut name = self.entry(&EntryName { digest: *digest, variant: None });
        // A String takes whatever is written to it.
        let _ = write!(name, ":p:{id:032x}:{number}");
        name
    }
}

impl TagNames {
    /// Of the keys of `tag`, under `prefix`.
    pub(super) fn of(prefix: &str, tag: &str) -> Self {
        let (mut escaped, mut base) = (String::with_capacity(tag.len() + 16), String::new());
        push_escaped(&mut escaped, tag);
        push_tagged(&mut base, prefix, TAG_KIND, &escaped);
        Self(base)
    }

    /// The key of its index.
    pub(super) fn index(&self) -> String {
        self.0.clone()
    }

    /// The key of its mark.
    pub(super) fn mark(&self) -> String {
        [&self.0, ":mark"].concat()
    }
}

/// What the names of all keys under `fleet` begin with.
pub(super) fn prefix(fleet: &str) -> String {
    [fleet, KIND, ":"].concat()
}

/// The tag of `key`, and what it names.
pub(super) fn read<'k>(prefix: &str, key: &'k [u8]) -> Option<(&'k str, Named)> {
    let key = std::str::from_utf8(key).ok()?;
    let (tag, name) = key.strip_prefix(prefix)?.strip_prefix(KIND)?.strip_prefix(":{")?.split_once("}:")?;
    if name == "g" {
        return Some((tag, Named::Generation));
    }
    let (digest, variant) = match name.split_once(':') {
        Some((digest, variant)) => (digest, Some(read_digest(variant)?)),
        None => (name, None),
    };
    Some((tag, Named::Entry(EntryName { digest: read_digest(digest)?, variant })))
}

fn read_digest(text: &str) -> Option<Digest> {
    let mut digest = Digest::default();
    let length = BASE64_URL_SAFE_NO_PAD.decode_slice(text, &mut digest).ok()?;
    (length == digest.len()).then_some(digest)
}

/// The place of `key`, and what it names there.
pub(super) fn read_place(prefix: &str, key: &[u8]) -> Option<(String, Named)> {
    let (tag, named) = read(prefix, key)?;
    Some((unescaped(tag)?, named))
}

/// What SCAN finds all generations under `prefix` by that `target` may cover, and perhaps others.
pub(super) fn generations_under(prefix: &str, target: &Target) -> String {
    let mut pattern = String::with_capacity(prefix.len() + 64);
    push_literal(&mut pattern, prefix);
    pattern.push_str(KIND);
    pattern.push_str(":{");
    if let Target::Prefix { authority: Some(authority), .. } | Target::Pattern { authority: Some(authority), .. } =
        target
    {
        push_escaped(&mut pattern, &authority.to_ascii_lowercase());
        pattern.push('/');
    }
    pattern.push_str("*}:g");
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spelt_reads_back_and_nothing_else_does() {
        let names = Names::of("side:", "example.com/{a}:g");
        assert_eq!((names.base.as_str(), names.tag()), ("side:cache:{example.com/%7ba%7d:g}", "example.com/%7ba%7d:g"));
        let generation = names.generation();
        assert_eq!(read("side:", generation.as_bytes()), Some((names.tag(), Named::Generation)));
        for variant in [None, Some([7; 32])] {
            let entry = EntryName { digest: [255; 32], variant };
            assert_eq!(read("side:", names.entry(&entry).as_bytes()), Some((names.tag(), Named::Entry(entry))));
        }
        for strange in ["", "side:cache:{a}", "side:cache:{a}:", "side:cache:{a}:gg", "side:limit:{a}:g", "cache:{a}:g"]
        {
            assert_eq!(read("side:", strange.as_bytes()), None, "{strange}");
        }
        let cut = &names.entry(&EntryName { digest: [1; 32], variant: None });
        assert_eq!(read("side:", &cut.as_bytes()[..cut.len() - 1]), None);
        assert_eq!(read("side:", b"side:cache:{\xff}:g"), None);
        let piece = names.piece(&[1; 32], 7, 12);
        assert!(piece.ends_with(":p:00000000000000000000000000000007:12") && read("side:", piece.as_bytes()).is_none());
    }
}
