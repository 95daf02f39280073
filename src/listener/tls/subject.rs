//! Names in a certificate, as text. Pure.
//!
//! 1. A distinguished name is written as RFC 4514 says: the most specific part first, `,` between, every character that
//!    could be read as structure escaped. Two different names never give one text.
//! 2. The common name counts only if there is exactly one: with two, the app might take the other.
//! 3. A subjectAltName is its kind, a colon, and its text: `DNS:a.example`, `URI:spiffe://a/b`, `email:a@b`, `IP:::1`.
//!
//! # Why
//! x509-parser's own text escapes nothing: a common name `a, O=Admins` would read as a member of Admins.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use x509_parser::asn1_rs::ToDer;
use x509_parser::extensions::GeneralName;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

use super::pem::hexadecimal;

/// The attribute types that RFC 4514 §3 names.
const NAMED: [(&str, &str); 9] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.6", "C"),
    ("2.5.4.9", "STREET"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
];

/// A distinguished name (RFC 4514 §2).
pub fn distinguished_name(name: &X509Name<'_>) -> String {
    let parts: Vec<_> = name.iter_rdn().collect();
    let part = |attributes: Vec<String>| attributes.join("+");
    let texts = parts.into_iter().rev().map(|relative| part(relative.iter().map(attribute).collect()));
    texts.collect::<Vec<_>>().join(",")
}

/// The common name, if there is exactly one and it is text.
pub fn common_name(name: &X509Name<'_>) -> Option<String> {
    let mut names = name.iter_common_name();
    let only = names.next()?.as_str().ok()?;
    names.next().is_none().then(|| only.to_owned())
}

/// A subjectAltName; `None`: of a kind that nobody names.
pub fn alternative_name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some(format!("DNS:{name}")),
        GeneralName::URI(uri) => Some(format!("URI:{uri}")),
        GeneralName::RFC822Name(address) => Some(format!("email:{address}")),
        GeneralName::IPAddress(bytes) => Some(format!("IP:{}", address(bytes)?)),
        _ => None,
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(|octets| Ipv4Addr::from(octets).into()),
        _ => <[u8; 16]>::try_from(bytes).ok().map(|octets| Ipv6Addr::from(octets).into()),
    }
}

fn attribute(of: &AttributeTypeAndValue<'_>) -> String {
    let kind = of.attr_type().to_id_string();
    let named = NAMED.iter().find(|(known, _)| *known == kind).map(|(_, name)| *name);
    match (named, of.as_str()) {
        (Some(name), Ok(text)) => format!("{name}={}", escaped(text)),
        // Types without a name, and values that are no text, are written as their DER (RFC 4514 §2.4).
        (name, _) => {
            let der = of.attr_value().to_der_vec().unwrap_or_default();
            format!("{}=#{}", name.unwrap_or(&kind), hexadecimal(&der))
        }
    }
}

/// RFC 4514 §2.4.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let last = text.chars().count().saturating_sub(1);
    for (at, character) in text.chars().enumerate() {
        match character {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' | '=' => out.extend(['\\', character]),
            '#' if at == 0 => out.push_str("\\#"),
            ' ' if at == 0 || at == last => out.push_str("\\ "),
            control if control.is_control() => {
                let mut bytes = [0; 4];
                for byte in control.encode_utf8(&mut bytes).bytes() {
                    out.push('\\');
                    out.push_str(&hexadecimal(&[byte]));
                }
            }
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use rcgen::{DistinguishedName, DnType};
    use x509_parser::certificate::X509Certificate;
    use x509_parser::prelude::FromDer;

    use super::*;

    fn texts(parts: &[(DnType, &str)]) -> (String, Option<String>) {
        let mut name = DistinguishedName::new();
        for (kind, value) in parts {
            name.push(kind.clone(), *value);
        }
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = name;
        let made = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        let (_, read) = X509Certificate::from_der(made.der()).unwrap();
        (distinguished_name(read.subject()), common_name(read.subject()))
    }

    #[test]
    fn a_distinguished_name_is_most_specific_first_and_cannot_pretend_structure() {
        let plain = texts(&[(DnType::CountryName, "DE"), (DnType::OrganizationName, "A"), (DnType::CommonName, "bob")]);
        assert_eq!(plain, ("CN=bob,O=A,C=DE".into(), Some("bob".into())));
        let hostile = texts(&[(DnType::CommonName, "bob,O=Admins")]);
        assert_eq!(hostile, ("CN=bob\\,O\\=Admins".into(), Some("bob,O=Admins".into())));
        let odd = texts(&[(DnType::CustomDnType(vec![1, 2, 3]), "x"), (DnType::CommonName, "#\u{7f} Ä ")]);
        assert_eq!(odd.0, "CN=\\#\\7f Ä\\ ,1.2.3=#0c0178");
    }

    #[test]
    fn alternative_names_say_their_kind() {
        let text = |name: GeneralName<'_>| alternative_name(&name);
        assert_eq!(text(GeneralName::DNSName("a.example")).as_deref(), Some("DNS:a.example"));
        assert_eq!(text(GeneralName::URI("spiffe://a/b")).as_deref(), Some("URI:spiffe://a/b"));
        assert_eq!(text(GeneralName::IPAddress(&[192, 0, 2, 1])).as_deref(), Some("IP:192.0.2.1"));
        assert_eq!(text(GeneralName::IPAddress(&[1, 2, 3])), None);
    }
}
