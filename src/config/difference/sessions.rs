//! What is said of sessions.

use super::{Said, Secret, Section, list, plain, size, time};
use crate::session::format::{Cipher, Handler};
use crate::session::settings::{
    Binding, Encoding, Identity, Index, Issue, Lifetime, Login, Mismatch, Requirement, SameSite, SignatureKind, Touch,
};
use crate::session::{Definition, Format, Mode, OnOutage, OnRoute, Preflight, Secrets};

/// `[session.NAME]`.
pub fn lines(session: &Definition) -> Section {
    let forward = session.forward.iter().map(|(field, path)| format!("{field} = {path}"));
    let lines = vec![
        ("format", plain(format(&session.format))),
        ("secrets", secretly(&session.secrets)),
        ("from", list(session.carriers.iter().map(ToString::to_string))),
        ("prefix", plain(&session.prefix)),
        ("max_record", plain(size(session.max_record as u64))),
        ("user", list(session.user.iter().cloned())),
        ("forward", list(forward)),
        ("identity", plain(identity(&session.identity))),
        ("identity.secrets", session.identity.signature.as_ref().map_or(plain("none"), |sign| secretly(&sign.secrets))),
        ("attributes", list(session.attributes.iter().cloned())),
        ("login_url", list(session.login.iter().map(|Login { url, back }| format!("{url} (back by {back})")))),
        ("forward_query", plain(session.keep_query)),
        ("preflight", plain(if session.preflight == Preflight::Pass { "pass" } else { "refuse" })),
        ("touch", list(session.touch.iter().map(touch))),
        ("max_age", list(session.lifetime.iter().map(lifetime))),
        ("bind", list(session.binding.iter().map(binding))),
        ("index", list(session.index.iter().map(index))),
        ("issue", list(session.issue.iter().map(issue))),
        ("retry_after", plain(time(session.retry_after))),
        ("on_outage", plain(if session.on_outage == OnOutage::Closed { "closed" } else { "grace" })),
        ("grace", plain(session.on_outage.grace().map_or("none".into(), time))),
    ];
    Section { name: format!("session.{}", session.name), lines }
}

/// A route's `session`.
pub fn on_route(session: &OnRoute) -> String {
    let mode = match session.mode {
        Mode::Required => "",
        Mode::Optional => " (optional)",
        Mode::Observe => " (only observes)",
    };
    let requires = session
        .require
        .iter()
        .map(|Requirement { attribute, values }| format!(", {attribute} must be {}", values.join(" or ")));
    format!("{}{mode}{}", session.definition.name, requires.collect::<String>())
}

fn secretly(secrets: &Secrets) -> Said {
    Said::Secretly(Secret(secrets.exposed().map(|secret| format!("{}:{secret}", secret.len())).collect()))
}

fn format(format: &Format) -> String {
    let option = match format {
        Format::Php(Handler::Php) | Format::Laravel(Cipher::Cbc) | Format::Spring { base64: true } => "",
        Format::Php(Handler::Serialize) => " (php_serialize)",
        Format::Php(Handler::Binary) => " (php_binary)",
        Format::Php(Handler::Igbinary) => " (igbinary)",
        Format::Laravel(Cipher::Gcm) => " (GCM)",
        Format::Spring { base64: false } => " (not base64)",
        Format::Custom(custom) => return format!("custom: {custom}"),
        _ => "",
    };
    format!("{}{option}", format.name())
}

fn identity(Identity { encoding, signature }: &Identity) -> String {
    let encoding = match encoding {
        Encoding::Percent => "percent",
        Encoding::Rfc8187 => "rfc8187",
        Encoding::Base64 => "base64",
    };
    let signed = signature.as_ref().map(|signature| {
        let kind = match signature.kind {
            SignatureKind::Hmac => "hmac",
            SignatureKind::Jwt => "jwt",
        };
        format!(", {kind} in {} for {}", signature.field, time(signature.ttl))
    });
    format!("{encoding}{}", signed.unwrap_or_default())
}

fn touch(Touch { ttl, interval }: &Touch) -> String {
    format!("{} at most every {}", time(*ttl), time(*interval))
}

fn lifetime(Lifetime { most, born }: &Lifetime) -> String {
    let since = born.as_ref().map(|path| format!(" since {path}"));
    format!("{}{}", time(*most), since.unwrap_or_default())
}

fn binding(Binding { agent, address, mismatch }: &Binding) -> String {
    let agent = agent.then_some("agent, ").unwrap_or_default();
    let address = address.map(|(v4, v6)| format!("/{v4} and /{v6}, ")).unwrap_or_default();
    let mismatch = match mismatch {
        Mismatch::Report => "report",
        Mismatch::Refuse => "refuse",
        Mismatch::Login => "login",
    };
    format!("{agent}{address}else {mismatch}")
}

fn index(Index { interval, most, ttl, revoked_for }: &Index) -> String {
    let revoked = time(*revoked_for);
    format!("every {}, at most {most}, for {}, revoked for {revoked}", time(*interval), time(*ttl))
}

fn issue(issue: &Issue) -> String {
    let Issue { ttl, cookie, path, domain, secure, same_site, persistent } = issue;
    let same_site = match same_site {
        SameSite::Strict => "Strict",
        SameSite::Lax => "Lax",
        SameSite::None => "None",
    };
    let domain = domain.as_deref().unwrap_or("no domain");
    let kind = if *persistent { "persistent" } else { "until the browser ends" };
    let secure = if *secure { "secure" } else { "not secure" };
    format!("{} in {cookie} for {path} of {domain}, {secure}, SameSite={same_site}, {kind}", time(*ttl))
}
