//! The doors of a session: paths within its routes that need no login, and the login itself.
//!
//! 1. A public path becomes a route of its own, with everything of the route that its requests would meet otherwise, but that the
//!    session is optional and nothing is demanded of a login. From there on the table's own rules hold: a route of the file that
//!    is more specific still stands.
//! 2. Where its requests would meet several routes, by host and method, each of them is copied; those that do not require this
//!    session, as they are.
//! 3. The parameters of a copy are those of its original, so that what is written in their terms (`rewrite`, `on_write`) holds.
//! 4. A path that is a route already says there who passes: an error. One that lies in no route that requires the session: a
//!    warning, for nothing comes of it.
//! 5. A login that itself requires the login is warned of: nobody could log in. So is one of which the session's room does not hear,
//!    where sessions can be revoked and the app may keep to the identifier that it is shown: who was revoked could log in, and be let in
//!    nowhere.
//!
//! # Why
//! An exception inside the session's layer would need a second way to compare paths, and each difference between the two would be
//! a hole.

use std::sync::Arc;

use http::Method;

use super::{Definitions, Route, Session, label};
use crate::config::raw::{Fault, Placed, Reading};
use crate::route::pattern::{Pattern, Segment};
use crate::route::strictness::Strict;
use crate::route::table::{Found, Table};
use crate::route::{PathCase, Paths};
use crate::session::{Definition, Format, Mode};

/// A public path, and of which session.
type Public<'d> = (usize, &'d Placed<(String, Pattern)>);

/// Adds routes for the public paths of all sessions, and looks at their logins.
pub(super) fn open(reading: &Reading<'_>, definitions: &Definitions, routes: &mut Vec<Route>, paths: Paths) {
    let all: Vec<Public<'_>> = definitions
        .doors()
        .flat_map(|(session, doors)| doors.public.iter().map(move |public| (session, public)))
        .collect();
    let mut copies = Vec::new();
    for (index, &(session, Placed { value: (_, pattern), at })) in all.iter().enumerate() {
        let same = |(_, other): &&Public<'_>| is_same(&other.value.1, pattern, paths.case);
        let mut before = all[..index].iter().filter(same).peekable();
        if before.peek().is_some() {
            if before.any(|(other, _)| *other == session) {
                reading.error(at, "this stands twice");
            }
            continue;
        }
        // One path may be public to several sessions.
        let sharing: Vec<&Public<'_>> = all[index..].iter().filter(same).collect();
        copies.extend(copied(reading, routes, &sharing, paths.case));
    }
    routes.extend(copies);
    for (session, doors) in definitions.doors() {
        let Some((at, path)) = &doors.login else { continue };
        let met = met_by(routes, session, path, paths);
        if met.iter().any(|route| requires(route, session)) {
            let help = format!("public = [\"{path}\"] in the session, or a route of its own");
            let message = "the login requires a login: a request for it is answered 401";
            reading.warning(at, Fault { message: message.into(), help: Some(help) });
        } else if met.iter().any(|route| route.session.as_ref().is_none_or(|own| own.index != session))
            && definitions.session.at(session).is_some_and(may_keep_identifiers)
        {
            let message =
                "the login is on a route without this session: who was revoked may log in there, and be let in nowhere";
            let help =
                "session = { use = …, mode = \"optional\" } in that route: then the app gives another identifier";
            reading.warning(at, Fault::with_help(message, help));
        }
    }
}

/// Whether `route` lets nobody pass without this session.
fn requires(route: &Route, session: usize) -> bool {
    route.session.as_ref().is_some_and(|own| own.index == session && own.mode == Mode::Required)
}

/// Whether sessions can be revoked whose app may log in under the identifier that it is shown.
fn may_keep_identifiers(definition: &Definition) -> bool {
    let Definition { format, index, issue, .. } = definition;
    let keeps = matches!(format, Format::Json | Format::Hash | Format::Flask | Format::Php(_) | Format::Custom(_));
    keeps && index.is_some() && issue.is_none()
}

/// Rules 1 to 4, for one path.
fn copied(reading: &Reading<'_>, routes: &[Route], sharing: &[&Public<'_>], case: PathCase) -> Vec<Route> {
    let Some((_, Placed { value: (path, pattern), .. })) = sharing.first() else { return Vec::new() };
    let mut met: Vec<(&Route, &Pattern)> = routes
        .iter()
        .filter_map(|route| Some((route, route.pattern.as_ref()?)))
        .filter(|(_, own)| own.takes_paths_of(pattern, case))
        .collect();
    // As the table prefers them: the most specific path first, then those that name methods, then the file's order.
    met.sort_by_key(|(_, own)| std::cmp::Reverse((specificity(own), !own.methods.is_empty())));
    let met: Vec<_> = (0..met.len())
        .filter(|&at| !met[..at].iter().any(|(_, other)| takes_all_of(other, met[at].1)))
        .map(|at| met[at])
        .collect();
    let (written, around): (Vec<_>, Vec<_>) = met.into_iter().partition(|(_, own)| is_same(own, pattern, case));
    let mut opened = Vec::new();
    for (session, Placed { value: (path, _), at }) in sharing {
        if written.iter().any(|(route, _)| requires(route, *session)) {
            let help = "session = { use = …, mode = \"optional\" } in that route";
            reading.error(at, Fault::with_help(format!("`{path}` is a route of its own: it says who passes"), help));
        } else if around.iter().any(|(route, _)| requires(route, *session)) {
            opened.push(*session);
        } else {
            let message = format!("`{path}` lies in no route that requires this session: nothing comes of it");
            reading.warning(at, message);
        }
    }
    if opened.is_empty() {
        return Vec::new();
    }
    let copy = |(route, own): (&Route, &Pattern)| {
        let segments = pattern.segments.clone();
        let copied = Pattern { segments, read_as: Some(own.given().into()), ..own.clone() };
        let label = label(&own.methods, &own.hosts, path);
        let copy = Route { pattern: Some(copied), label: label.clone(), ..route.clone() };
        match &route.session {
            Some(Session { index, mode: Mode::Required, .. }) if opened.contains(index) => Route {
                label: Arc::from(format!("{label} (public)")),
                session: Some(Session { index: *index, mode: Mode::Optional, require: Vec::new() }),
                ..copy
            },
            _ => copy,
        }
    };
    around.into_iter().map(copy).collect()
}

/// Whether both take the same paths.
fn is_same(one: &Pattern, other: &Pattern, case: PathCase) -> bool {
    one.takes_paths_of(other, case) && other.takes_paths_of(one, case)
}

/// Whether no request for a path of both is left to `other`, which is not more specific.
fn takes_all_of(one: &Pattern, other: &Pattern) -> bool {
    let hosts =
        one.hosts.is_empty() == other.hosts.is_empty() && other.hosts.iter().all(|host| one.hosts.contains(host));
    let methods = match (&one.methods[..], &other.methods[..]) {
        ([], _) => true,
        (_, []) => false,
        (_, methods) => methods.iter().all(|method| one.takes(method)),
    };
    hosts && methods
}

/// Of patterns that take one path: the greater, the more specific, as the table has it.
fn specificity(pattern: &Pattern) -> Vec<u8> {
    let segments = pattern.segments.iter().map(|segment| match segment {
        Segment::Literal(_) => 3,
        Segment::One(_) => 2,
        Segment::Rest(_) => 0,
    });
    // To end is more than to leave the rest open.
    segments.chain([1]).collect()
}

/// A route by its place.
pub(super) struct Place(pub(super) usize);

impl Strict for Place {
    fn is_as_strict_as(&self, _: &Self) -> bool {
        false
    }
}

/// The routes that a GET of `path` meets on the hosts where `session` is required.
fn met_by<'r>(routes: &'r [Route], session: usize, path: &str, paths: Paths) -> Vec<&'r Route> {
    let patterns = routes.iter().enumerate().filter_map(|(at, route)| Some((route.pattern.clone()?, Place(at))));
    let table = Table::new(paths, patterns.collect());
    let meets = |host: Option<&str>| match table.find(host, &Method::GET, path) {
        Found::Route { target, .. } => routes.get(target.0),
        _ => None,
    };
    let guarded = routes.iter().filter(|route| requires(route, session)).filter_map(|route| route.pattern.as_ref());
    let met = guarded.flat_map(|pattern| match &pattern.hosts[..] {
        [] => vec![meets(None)],
        // Some host of those that a wildcard stands for.
        hosts => hosts.iter().map(|host| meets(Some(&host.replacen('*', "any", 1)))).collect(),
    });
    met.flatten().collect()
}
