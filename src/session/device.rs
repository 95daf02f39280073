//! What device a request comes from, as far as a session is bound to it. Pure.
//!
//! 1. A device is the family of its User-Agent, without any version, and the first bits of its address.
//! 2. Only what the configuration binds by is noted, and only what was noted is compared: a binding that is changed binds the
//!    sessions that begin after it.
//! 3. Where fewer bits are bound by than were noted, or more, the fewer count.
//! 4. An address of the other kind (IPv4, IPv6) is another network.
//! 5. An agent that no rule knows is its first product's name: `acme-app/3.1` is `acme-app`. No User-Agent is a family too.
//!
//! # Why
//! Browsers update themselves within a session, so a version must not matter. Rule 4: a client that changes between the two
//! cannot be told from a thief who has the other; where clients do, `mismatch = "report"` tells before anybody is refused.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::settings::Binding;

/// The longest name of a family.
const LONGEST: usize = 32;

/// Part of a User-Agent, and the family that it tells; the first that is found decides. Most browsers name others.
const FAMILIES: [(&str, &str); 36] = [
    ("Edg/", "edge"),
    ("EdgA/", "edge"),
    ("EdgiOS/", "edge"),
    ("Edge/", "edge"),
    ("OPR/", "opera"),
    ("OPT/", "opera"),
    ("Opera", "opera"),
    ("SamsungBrowser/", "samsung"),
    ("YaBrowser/", "yandex"),
    ("UCBrowser/", "uc"),
    ("Vivaldi/", "vivaldi"),
    ("DuckDuckGo/", "duckduckgo"),
    ("FBAN/", "facebook"),
    ("FBAV/", "facebook"),
    ("Instagram", "instagram"),
    ("Electron/", "electron"),
    ("Firefox/", "firefox"),
    ("FxiOS/", "firefox"),
    ("CriOS/", "chrome"),
    ("HeadlessChrome/", "chrome-headless"),
    ("Chromium/", "chrome"),
    ("; wv)", "android-webview"),
    ("Chrome/", "chrome"),
    ("MSIE ", "internet-explorer"),
    ("Trident/", "internet-explorer"),
    ("okhttp/", "okhttp"),
    ("CFNetwork/", "cfnetwork"),
    ("python-requests/", "python-requests"),
    ("Python-urllib/", "python-urllib"),
    ("aiohttp/", "aiohttp"),
    ("python-httpx/", "python-httpx"),
    ("Go-http-client/", "go"),
    ("Apache-HttpClient/", "apache-httpclient"),
    ("Dart/", "dart"),
    ("Java/", "java"),
    ("Safari/", "safari"),
];

/// What of a device a session is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    agent: Option<String>,
    network: Option<IpNet>,
}

impl Device {
    /// The device that sends this User-Agent from `address`.
    pub fn of(binding: &Binding, user_agent: &[u8], address: IpAddr) -> Self {
        let agent = binding.agent.then(|| family(user_agent).into_owned());
        Self { agent, network: binding.prefix_of(address).parse().ok() }
    }

    /// The device that was noted as `text`; `None`: that is none.
    pub fn read(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let mut device = Self { agent: None, network: None };
        for part in text.split(' ') {
            match part.split_once('=')? {
                ("agent", agent) => device.agent = Some(agent.to_owned()),
                ("network", network) => device.network = Some(network.parse().ok()?),
                _ => return None,
            }
        }
        Some(device)
    }

    /// Whether a request with this User-Agent from `address` comes from it.
    pub fn fits(&self, binding: &Binding, user_agent: &[u8], address: IpAddr) -> bool {
        let agent = self.agent.as_ref().filter(|_| binding.agent);
        let network = self.network.filter(|_| binding.address.is_some());
        let within = |network: IpNet| {
            network.contains(&address) || binding.prefix_of(network.addr()) == binding.prefix_of(address)
        };
        agent.is_none_or(|agent| *agent == family(user_agent)) && network.is_none_or(within)
    }
}

impl fmt::Display for Device {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.agent, self.network) {
            (Some(agent), Some(network)) => write!(out, "agent={agent} network={network}"),
            (Some(agent), None) => write!(out, "agent={agent}"),
            (None, Some(network)) => write!(out, "network={network}"),
            (None, None) => Ok(()),
        }
    }
}

/// The family of a User-Agent (RFC 9110 §10.1.5): a word of lower-case letters, digits, `-`, `_` and `.`.
pub fn family(user_agent: &[u8]) -> Cow<'static, str> {
    let text = String::from_utf8_lossy(user_agent);
    if text.trim().is_empty() {
        return "none".into();
    }
    if is_bot(&text) {
        return "bot".into();
    }
    if let Some((_, family)) = FAMILIES.iter().find(|(part, _)| text.contains(part)) {
        return (*family).into();
    }
    let product = text.trim_start().split(['/', ' ', ';', '(']).next().unwrap_or_default();
    let allowed = |byte: &char| byte.is_ascii_alphanumeric() || "-_.".contains(*byte);
    let name: String = product.chars().filter(allowed).take(LONGEST).map(|byte| byte.to_ascii_lowercase()).collect();
    if name.is_empty() { "other".into() } else { name.into() }
}

/// Whether it says that nobody sits before it.
fn is_bot(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    // CUBOT makes telephones.
    let bot = text.match_indices("bot").any(|(at, _)| !text[..at].ends_with("cu"));
    bot || ["spider", "crawl", "slurp"].iter().any(|word| text.contains(word))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::session::settings::Mismatch;

    const AGENTS: [(&str, &str); 22] = [
        ("Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:140.0) Gecko/20100101 Firefox/140.0", "firefox"),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) FxiOS/140.0 Mobile/15E148 Safari/605.1.15",
            "firefox",
        ),
        (
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/137.0.0.0 Safari/537.36",
            "chrome",
        ),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/137.0.7151.79 Mobile/15E148 Safari/604.1",
            "chrome",
        ),
        (
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/137.0.0.0 Safari/537.36 Edg/137.0.3296.62",
            "edge",
        ),
        (
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/137.0.0.0 Safari/537.36 OPR/119.0.0.0",
            "opera",
        ),
        (
            "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/28.0 Chrome/130.0.0.0 Mobile Safari/537.36",
            "samsung",
        ),
        (
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Safari/605.1.15",
            "safari",
        ),
        (
            "Mozilla/5.0 (Linux; Android 14; Pixel 8; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/137.0.0.0 Mobile Safari/537.36",
            "android-webview",
        ),
        (
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/137.0.0.0 Safari/537.36",
            "chrome-headless",
        ),
        ("Mozilla/5.0 (Windows NT 10.0; WOW64; Trident/7.0; rv:11.0) like Gecko", "internet-explorer"),
        ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", "bot"),
        ("Mozilla/5.0 (compatible; Yahoo! Slurp; http://help.yahoo.com/help/us/ysearch/slurp)", "bot"),
        (
            "Mozilla/5.0 (Linux; Android 9; CUBOT_X18_Plus) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/100.0.0.0 Mobile Safari/537.36",
            "chrome",
        ),
        ("curl/8.5.0", "curl"),
        ("okhttp/4.12.0", "okhttp"),
        ("python-requests/2.32.3", "python-requests"),
        ("Go-http-client/1.1", "go"),
        ("Acme App/3.1 (iOS 18.5)", "acme"),
        ("AcmeApp/42 CFNetwork/3826.500.131 Darwin/24.5.0", "cfnetwork"),
        ("", "none"),
        ("(\u{7f})", "other"),
    ];

    fn binding(agent: bool, address: Option<(u8, u8)>) -> Binding {
        Binding { agent, address, mismatch: Mismatch::Report }
    }

    #[test]
    fn agents_have_families_whatever_their_version() {
        for (agent, expected) in AGENTS {
            assert_eq!(family(agent.as_bytes()), expected, "{agent}");
        }
        let newer = AGENTS[0].0.replace("140.0", "141.0");
        assert_eq!(family(newer.as_bytes()), "firefox");
    }

    #[test]
    fn what_was_noted_is_compared_and_nothing_else() {
        let (home, abroad) = ("192.0.2.7".parse().unwrap(), "198.51.100.7".parse().unwrap());
        let both = binding(true, Some((24, 56)));
        let noted = Device::of(&both, b"curl/8.5.0", home).to_string();
        assert_eq!(noted, "agent=curl network=192.0.2.0/24");
        let device = Device::read(noted.as_bytes()).unwrap();
        assert!(device.fits(&both, b"curl/8.6.0", "192.0.2.200".parse().unwrap()));
        assert!(!device.fits(&both, b"curl/8.5.0", abroad) && !device.fits(&both, b"wget/1", home));
        assert!(!device.fits(&both, b"curl/8.5.0", "2001:db8::7".parse().unwrap()), "another network");
        assert!(device.fits(&binding(true, None), b"curl/1", abroad));
        assert!(device.fits(&binding(false, Some((16, 56))), b"x", "192.0.77.1".parse().unwrap()), "fewer bits");
        assert!(device.fits(&binding(false, Some((32, 128))), b"x", "192.0.2.9".parse().unwrap()), "more bits");
        let agent_alone = Device::read(b"agent=curl").unwrap();
        assert!(agent_alone.fits(&both, b"curl/1", abroad), "noted before addresses were bound by");
        for strange in ["", "agent", "agent=curl network=here", "other=1", "agent=curl  network=10.0.0.0/8"] {
            assert_eq!(Device::read(strange.as_bytes()), None, "{strange}");
        }
    }

    proptest! {
        #[test]
        fn any_device_is_read_as_it_was_noted(agent in prop::collection::vec(any::<u8>(), 0..80), bits in any::<u32>()) {
            let address = IpAddr::from(bits.to_be_bytes());
            let bound = binding(true, Some((24, 56)));
            let device = Device::of(&bound, &agent, address);
            let read = Device::read(device.to_string().as_bytes());
            prop_assert_eq!(read.as_ref(), Some(&device));
            prop_assert!(device.fits(&bound, &agent, address));
        }
    }
}
