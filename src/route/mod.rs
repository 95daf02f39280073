//! Which policy a request meets: by host, method and path; the most specific route wins.

pub mod pattern;
