//! The certificate that a client has presented.

/// What a client's certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// Whom it is for (RFC 4514).
    pub subject: String,
    /// Who signed it (RFC 4514).
    pub issuer: String,
    /// The common name, if there is exactly one.
    pub common_name: Option<String>,
    /// Its serial number, in hexadecimal.
    pub serial: String,
    /// SHA-256 of the whole certificate, in hexadecimal.
    pub fingerprint: String,
    /// Its subjectAltName: `DNS:a.example`, `URI:spiffe://a/b`, `email:a@b`, `IP:192.0.2.1`.
    pub alternative_names: Vec<String>,
}

/// A fact of a client's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateFact {
    /// `subject`.
    Subject,
    /// `issuer`.
    Issuer,
    /// `cn`.
    CommonName,
    /// `serial`.
    Serial,
    /// `sha256`.
    Fingerprint,
    /// `san`.
    AlternativeNames,
}

impl CertificateFact {
    /// All, by the words of the configuration.
    pub const WORDS: [(&str, Self); 6] = [
        ("subject", Self::Subject),
        ("issuer", Self::Issuer),
        ("cn", Self::CommonName),
        ("serial", Self::Serial),
        ("sha256", Self::Fingerprint),
        ("san", Self::AlternativeNames),
    ];

    /// Its word in the configuration.
    pub fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, fact)| *fact == self).map_or("", |(word, _)| word)
    }

    /// Its texts: none, one, or, of alternative names, several.
    pub fn of(self, certificate: &ClientCertificate) -> &[String] {
        match self {
            Self::Subject => std::slice::from_ref(&certificate.subject),
            Self::Issuer => std::slice::from_ref(&certificate.issuer),
            Self::CommonName => certificate.common_name.as_slice(),
            Self::Serial => std::slice::from_ref(&certificate.serial),
            Self::Fingerprint => std::slice::from_ref(&certificate.fingerprint),
            Self::AlternativeNames => &certificate.alternative_names,
        }
    }
}
