//! Which policy a request meets: by host, method and path; the most specific route wins.
//!
//! 1. Paths are compared in canonical form ([`canonical`]), so that no spelling of a path escapes the route that another
//!    spelling of it meets. What is forwarded stays as sent.
//! 2. Of the routes that match, the host decides first (exact, then the longest wildcard, then any), then the path,
//!    segment by segment (text, then `{name}`, then `{*rest}`), then the method (given, then any), then the file's order.
//! 3. A slash at the end is no difference, and `{*rest}` matches also nothing: `/admin/{*rest}` covers `/admin` and `/admin/`.
//! 4. HEAD meets what GET meets. OPTIONS meets only routes that name it, or name no method.
//! 5. A path that an app may read in more than one way is refused (400) if its readings do not all meet one route.
//!
//! # Why
//! Host before path is how virtual hosts are read everywhere (Gateway API, RFC 9110 §7.4): a host's own routes are a world
//! of their own. Rule 3 because most frameworks answer both spellings alike: a policy that one of them escapes is none.
//! A tree per host rather than a list: what a request costs depends on its own length, not on the number of routes.

pub mod canonical;
mod layer;
pub mod pattern;
pub mod table;

pub use layer::{Bound, service};
