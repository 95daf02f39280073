//! Which policy a request meets: by host, method and path; the most specific route wins.
//!
//! 1. Paths are compared in canonical form ([`canonical`]), so that no spelling of a path escapes the route that another
//!    spelling of it meets. What is forwarded stays as sent.
//! 2. Of the routes that match, the host decides first (exact, then the longest wildcard, then any), then the path,
//!    segment by segment (text, then `{name}`, then `{*rest}`), then the method (given, then any), then the file's order.
//! 3. A slash at the end is no difference, and `{*rest}` matches also nothing: `/admin/{*rest}` covers `/admin` and `/admin/`.
//! 4. HEAD meets what GET meets. OPTIONS meets only routes that name it, or name no method; a CORS preflight meets what the
//!    request that it asks for would meet, if that has a CORS policy.
//! 5. A path that an app may read in more than one way ([`readings`]) passes if all its readings meet one route; it does not
//!    exist if none meets any. Otherwise it is refused (400),
//! 6. or, where the configuration says so, it meets the strictest of these routes ([`strictness`]), and is refused only if
//!    none is as strict as all others, or one of the readings meets none.
//! 7. Where routes differ by method, a request that says it is of another one (`overriding`) meets the route of its own method, if
//!    that demands as much of a login as those of the others; else the one that demands most. It is refused if none demands all that
//!    the others do (400), or if one of its methods meets none (405).
//!
//! # Why
//! Host before path is how virtual hosts are read everywhere (Gateway API, RFC 9110 §7.4): a host's own routes are a world
//! of their own. Rule 3 because most frameworks answer both spellings alike: a policy that one of them escapes is none.
//! A tree per host rather than a list: what a request costs depends on its own length, not on the number of routes.
//! To refuse is rule 5's default because it is seen: who sends such a path by mistake learns of it, and an answer by a
//! policy that the path does not name would surprise everybody else.

pub mod canonical;
pub mod case;
pub mod cors;
pub mod fields;
mod layer;
mod overriding;
pub mod pattern;
pub mod readings;
pub mod strictness;
pub mod table;

#[cfg(test)]
mod tests;

pub use layer::{Bound, Refusals, service};

/// How paths are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Paths {
    /// What becomes of a path whose readings meet several routes.
    pub ambiguity: OnAmbiguity,
    /// Whether the app tells upper from lower case.
    pub case: PathCase,
}

/// What becomes of a path whose readings meet several routes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnAmbiguity {
    /// 400.
    #[default]
    Refuse,
    /// It meets the strictest of them.
    Strictest,
}

/// Whether the app tells upper from lower case in paths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PathCase {
    /// It does: `/Admin` is not `/admin`.
    #[default]
    Sensitive,
    /// It does not.
    Insensitive,
}
