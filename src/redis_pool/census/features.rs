//! Which feature a key belongs to. Pure.
//!
//! 1. What the configuration names is told by its name; whatever else is under our prefix is told without one: a key may
//!    contain what a client sent, a row never does.
//! 2. The longest prefix decides: the app's sessions and clients' plans may lie under our own prefix, or under each other's.
//! 3. A place is walked once: a prefix that another one covers needs no walk of its own.

use crate::redis_pool::key::push_literal;

/// Whose keys are told apart.
#[derive(Clone, Debug, Default)]
pub struct Features {
    /// Before every key of ours (`redis.prefix`).
    pub prefix: String,
    /// Limits: NAME, and how a key says it (with the colon that ends it).
    pub limits: Vec<(String, String)>,
    /// Session definitions: NAME, and what stands before an identifier.
    pub sessions: Vec<(String, String)>,
    /// Plans: NAME, and what stands before an API key.
    pub plans: Vec<(String, String)>,
}

/// Whose a key is, in the order in which they are told; indices are those of [`Features`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Feature {
    /// A counter of a limit.
    Limit(usize),
    /// A counter of a limit that the configuration does not have.
    FormerLimit,
    /// A stored response, or the fields that select its variants.
    Response,
    /// The generation of what is stored for a path.
    Generation,
    /// Who else is running.
    Instances,
    /// What is kept of sessions besides their records: devices, and which a user has.
    Sighting,
    /// A session record.
    Session(usize),
    /// A record of what a client has been promised.
    Plan(usize),
    /// Under our prefix, and nothing that this version knows.
    Unknown,
}

impl Feature {
    /// Whether its keys are ours, so that each has a TTL.
    pub fn is_ours(self) -> bool {
        !matches!(self, Self::Session(_) | Self::Plan(_))
    }
}

impl Features {
    /// Whose `key` is; `None`: nobody's that is asked about.
    pub fn of(&self, key: &[u8]) -> Option<Feature> {
        let under = |prefix: &str| key.strip_prefix(prefix.as_bytes());
        let sessions = self.sessions.iter().enumerate().map(|(index, (_, prefix))| (Feature::Session(index), prefix));
        let plans = self.plans.iter().enumerate().map(|(index, (_, prefix))| (Feature::Plan(index), prefix));
        let others = sessions.chain(plans).filter(|(_, prefix)| under(prefix).is_some());
        match (others.max_by_key(|(_, prefix)| prefix.len()), under(&self.prefix)) {
            (Some((other, prefix)), ours) if ours.is_none() || prefix.len() > self.prefix.len() => Some(other),
            (_, ours) => ours.map(|rest| self.own(rest)),
        }
    }

    fn own(&self, rest: &[u8]) -> Feature {
        if let Some(tag) = rest.strip_prefix(b"limit:{") {
            let named = self.limits.iter().position(|(_, start)| tag.starts_with(start.as_bytes()));
            return named.map_or(Feature::FormerLimit, Feature::Limit);
        }
        match rest {
            b"instances" => Feature::Instances,
            _ if rest.starts_with(b"cache:{") && rest.ends_with(b"}:g") => Feature::Generation,
            _ if rest.starts_with(b"cache:{") => Feature::Response,
            _ if [&b"device:{"[..], b"session:{", b"user:{"].iter().any(|kind| rest.starts_with(kind)) => {
                Feature::Sighting
            }
            _ => Feature::Unknown,
        }
    }

    /// The patterns (of `SCAN … MATCH`) that find every key, and few others.
    pub fn patterns(&self) -> Vec<String> {
        let others = || self.sessions.iter().chain(&self.plans).map(|(_, prefix)| prefix);
        let all = || std::iter::once(&self.prefix).chain(others());
        let mut patterns = Vec::new();
        for (index, prefix) in all().enumerate() {
            let covers = |(other, by): (usize, &String)| {
                other != index && prefix.starts_with(by.as_str()) && (by.len() < prefix.len() || other < index)
            };
            if !all().enumerate().any(covers) {
                patterns.push(pattern(prefix));
            }
        }
        patterns
    }

    /// The feature, and the name that it has in the configuration.
    pub fn words(&self, feature: Feature) -> (&'static str, Option<&str>) {
        match feature {
            Feature::Limit(index) => ("limit", self.limits.get(index).map(|(name, _)| name.as_str())),
            Feature::FormerLimit => ("other limits", None),
            Feature::Response => ("stored responses", None),
            Feature::Generation => ("generations", None),
            Feature::Instances => ("instances", None),
            Feature::Sighting => ("devices and users", None),
            Feature::Session(index) => ("session", self.sessions.get(index).map(|(name, _)| name.as_str())),
            Feature::Plan(index) => ("plan", self.plans.get(index).map(|(name, _)| name.as_str())),
            Feature::Unknown => ("unknown", None),
        }
    }
}

/// A glob that stands for `prefix` and whatever follows it.
fn pattern(prefix: &str) -> String {
    let mut pattern = String::with_capacity(prefix.len() + 1);
    push_literal(&mut pattern, prefix);
    pattern.push('*');
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    fn features(prefix: &str, sessions: &[&str]) -> Features {
        Features {
            prefix: prefix.into(),
            limits: vec![("each".into(), "each:".into()), ("a:b".into(), "a%3ab:".into())],
            sessions: sessions.iter().map(|prefix| (format!("of {prefix}"), (*prefix).to_owned())).collect(),
            plans: vec![("api".into(), "sidegate:plan:".into())],
        }
    }

    #[test]
    fn each_key_has_its_feature() {
        let features = features("sidegate:", &["session:", "sidegate:login:"]);
        let of = |key: &str| features.of(key.as_bytes());
        assert_eq!(of("sidegate:limit:{each:192.0.2.7}"), Some(Feature::Limit(0)));
        assert_eq!(of("sidegate:limit:{a%3ab:x}"), Some(Feature::Limit(1)));
        assert_eq!(of("sidegate:limit:{eachother:x}"), Some(Feature::FormerLimit));
        assert_eq!(of("sidegate:cache:{a.test/b}:g"), Some(Feature::Generation));
        assert_eq!(of("sidegate:cache:{a.test/b}:0Fg"), Some(Feature::Response));
        assert_eq!(of("sidegate:instances"), Some(Feature::Instances));
        for key in ["sidegate:device:{0f}", "sidegate:session:{0f}", "sidegate:user:{web:0f}"] {
            assert_eq!(of(key), Some(Feature::Sighting), "{key}");
        }
        assert_eq!(of("sidegate:instances2"), Some(Feature::Unknown));
        assert_eq!(of("sidegate:plan:abc"), Some(Feature::Plan(0)));
        assert_eq!(of("session:abc"), Some(Feature::Session(0)));
        assert_eq!(of("sidegate:login:abc"), Some(Feature::Session(1)));
        assert_eq!(of("sess:abc"), None);
    }

    #[test]
    fn the_longest_prefix_decides_whichever_it_is() {
        let everything = features("", &["session:"]);
        assert_eq!(everything.of(b"session:abc"), Some(Feature::Session(0)));
        assert_eq!(everything.of(b"limit:{each:x}"), Some(Feature::Limit(0)));
        let within = features("app:sidegate:", &["app:", "app:s:"]);
        assert_eq!(within.of(b"app:sidegate:instances"), Some(Feature::Instances));
        assert_eq!(within.of(b"app:1"), Some(Feature::Session(0)));
        assert_eq!(within.of(b"app:s:1"), Some(Feature::Session(1)));
    }

    #[test]
    fn what_another_walk_finds_is_not_walked_again() {
        assert_eq!(features("sidegate:", &["session:", "sess:"]).patterns(), ["sidegate:*", "session:*", "sess:*"]);
        assert_eq!(features("", &["session:"]).patterns(), ["*"]);
        assert_eq!(features("app:sidegate:", &["app:", "app:s:", "app:"]).patterns(), ["app:*", "sidegate:plan:*"]);
        assert_eq!(features("a*b?[c]\\", &[]).patterns(), ["a\\*b\\?\\[c\\]\\\\*", "sidegate:plan:*"]);
    }
}
