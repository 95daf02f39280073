//! What `[session.NAME]` says of paths: which need no login, and where the login is. Routes are needed to judge either.

use std::ops::Range;

use crate::config::raw::{Placed, Table};
use crate::route::pattern::Pattern;

/// Paths of a session, and where the file has them.
#[derive(Debug, Default)]
pub struct Doors {
    /// `public`: as written, and read.
    pub public: Vec<Placed<(String, Pattern)>>,
    /// `login_url`, and its path on this site.
    pub login: Option<(Range<usize>, String)>,
}

impl Doors {
    /// Reads them; what is wrong with `login_url` is noted where it is read as a whole.
    pub fn read(table: &mut Table<'_>) -> Self {
        let public = table.list("public", |value| {
            let path = value.text()?;
            Ok((path.to_owned(), Pattern::parse(path, Vec::new(), Vec::new())?))
        });
        let login = table.value("login_url").and_then(|value| {
            let url = value.text().ok().filter(|url| url.starts_with('/'))?;
            let path = url.split('?').next().unwrap_or_default();
            Some((value.at.clone(), path.to_owned()))
        });
        Self { public: public.map_or_else(Vec::new, |public| public.value), login }
    }
}
