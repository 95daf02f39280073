//! The same answers for people: a small page.
//!
//! 1. A client that prefers `text/html` to JSON, as a browser's navigation does, gets it.
//! 2. A page stands alone: no script, no picture, nothing from elsewhere. It follows the system's light or dark colours, and
//!    has a language, a title, one heading and one region that a screen reader announces.
//! 3. Where a limit refuses, it says in plain words when to come back, never too early, with a link to do so.
//! 4. It comes back by itself after a wait of at most a minute, and only if a person began this navigation
//!    (`Sec-Fetch-User`, W3C Fetch Metadata §2.4) and it was a GET: the page that it comes back to does not do so again.
//!
//! # Why
//! A page that reloads itself until it gets through is a client that nobody watches and nobody stops; with many of them open a
//! limit never recovers. Browsers do not mark a reload that a page began as a person's, so rule 4 needs no memory, and browsers
//! that send no such field get a page that stands still.

use std::borrow::Cow;

use http::header::{self, HeaderMap};
use http::{Method, Request};

use super::LocalReply;

/// What a page ends with, after the status.
pub(super) const END: &str = "</small></p></main></body></html>\n";

/// The longest wait, in seconds, after which a page comes back by itself.
const COMES_BACK: u64 = 60;

const STYLE: &str = "body{font:1rem/1.5 system-ui,sans-serif;max-width:34rem;margin:20vh auto;padding:0 1rem;\
                     color:#222;background:#fff}h1{font-size:1.4rem}small{color:#5c5c5c}a{color:#0b57d0}\
                     @media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}small{color:#a0a0a0}\
                     a{color:#8ab4f8}}";

/// The page for `reply` to a request.
pub(super) fn page<B>(reply: &LocalReply, request: &Request<B>) -> Vec<u8> {
    let title = escaped(reply.title().1);
    let status = reply.status().as_u16();
    let repeatable = matches!(*request.method(), Method::GET | Method::HEAD);
    let wait = reply.refused().and_then(|refused| refused.seconds());
    let back = wait.filter(|wait| repeatable && *wait <= COMES_BACK && begun_by_a_person(request.headers()));
    let refresh = back.map(|wait| format!("<meta http-equiv=\"refresh\" content=\"{wait}\">")).unwrap_or_default();
    let said = match (wait, back) {
        (Some(wait), Some(_)) => format!("This page tries again by itself in {}.", in_words(wait)),
        (Some(wait), None) if repeatable => format!("Please <a href=\"\">try again</a> in {}.", in_words(wait)),
        (Some(wait), None) => format!("Please try again in {}.", in_words(wait)),
        (None, _) => escaped(&reply.detail()),
    };
    let allowance = reply.refused().filter(|_| wait.is_some()).map(|refused| escaped(&refused.allowance()));
    let facts = allowance.map(|allowance| format!("<p>{allowance}</p>")).unwrap_or_default();
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\">{refresh}<title>{title}</title>\n\
         <style>{STYLE}</style></head>\n\
         <body><main><h1>{title}</h1><p role=\"alert\">{said}</p>{facts}<p><small>{status}{END}"
    )
    .into_bytes()
}

/// Whether `Accept` (RFC 9110 §12.5.1) names `text/html` with more weight than any JSON it names. A wildcard is no wish.
pub fn prefers_html(fields: &HeaderMap) -> bool {
    let (mut html, mut json) = (0, 0);
    let lines = fields.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    for member in lines.flat_map(|line| line.split(',')).take(64) {
        let mut parts = member.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        let weight = weight.map_or(1000, thousandths);
        if media.eq_ignore_ascii_case("text/html") {
            html = html.max(weight);
        } else if ["application/json", "application/problem+json"].iter().any(|name| media.eq_ignore_ascii_case(name)) {
            json = json.max(weight);
        }
    }
    html > json
}

/// As text in HTML and XML, in attributes too.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(character),
        }
    }
    out
}

fn thousandths(weight: &str) -> u16 {
    weight.parse::<f32>().map_or(0, |weight| (weight.clamp(0.0, 1.0) * 1000.0) as u16)
}

fn begun_by_a_person(fields: &HeaderMap) -> bool {
    fields.get("sec-fetch-user").is_some_and(|value| value == "?1")
}

/// A wait as a person says it, in the largest unit that fits twice, rounded up.
fn in_words(seconds: u64) -> Cow<'static, str> {
    for (unit, length) in [("days", 86_400), ("hours", 3600), ("minutes", 60)] {
        if seconds >= 2 * length {
            return format!("{} {unit}", seconds.div_ceil(length)).into();
        }
    }
    match seconds {
        1 => "1 second".into(),
        _ => format!("{seconds} seconds").into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_in_words_is_never_shorter_than_the_wait() {
        for (seconds, words) in [
            (1, "1 second"),
            (2, "2 seconds"),
            (119, "119 seconds"),
            (120, "2 minutes"),
            (121, "3 minutes"),
            (3600, "60 minutes"),
            (7201, "3 hours"),
            (172_800, "2 days"),
            (172_801, "3 days"),
        ] {
            assert_eq!(in_words(seconds), words);
        }
    }
}
