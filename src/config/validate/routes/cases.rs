//! Apps that tell no case, behind routes that do.
//!
//! 1. Express takes `/Account` for `/account` unless it is told otherwise. Where `path_case` is `sensitive`, a path that needs a
//!    login has other spellings, which meet another route or none. If that one leads to the same app without asking for as
//!    much, it is warned of.
//! 2. It is found by asking the route table for such a spelling, on each host and by each method that the file names.

use http::Method;

use super::doors::Place;
use super::{Definitions, Route, Session};
use crate::config::raw::{Fault, Reading};
use crate::route::pattern::{Pattern, Segment};
use crate::route::table::{Found, Table};
use crate::route::{PathCase, Paths};
use crate::session::{Format, Mode};

/// Warns of routes whose session another spelling of their paths goes around.
pub(super) fn warn(reading: &Reading<'_>, definitions: &Definitions, routes: &[Route], paths: Paths) {
    if paths.case == PathCase::Insensitive {
        return;
    }
    let patterns = routes.iter().enumerate().filter_map(|(at, route)| Some((route.pattern.clone()?, Place(at))));
    let table = Table::new(paths, patterns.collect());
    for route in routes {
        let Some((pattern, session)) = guarded(definitions, route) else { continue };
        let passes = |other: &&Route| other.upstream == route.upstream && !asks_as_much(other, session);
        let around = spellings(pattern).into_iter().find_map(|path| {
            let meets = |host: &Option<String>, method| match table.find(host.as_deref(), method, &path) {
                Found::Route { target, .. } => routes.get(target.0).filter(passes),
                _ => None,
            };
            let methods = methods(pattern, routes);
            let other = hosts(pattern, routes).iter().find_map(|host| methods.iter().find_map(|by| meets(host, by)))?;
            Some((path, other.label.clone()))
        });
        if let Some((path, label)) = around {
            let message =
                format!("Express takes `{path}` for this path, and `{label}` lets it in without this session");
            let help = "path_case = \"insensitive\" in [server], unless the app sets `case sensitive routing`";
            reading.warning(&route.at, Fault::with_help(message, help));
        }
    }
}

/// The path and session of a route that asks for a login of Express, or for something of one.
fn guarded<'r>(definitions: &Definitions, route: &'r Route) -> Option<(&'r Pattern, &'r Session)> {
    let (pattern, session) = (route.pattern.as_ref()?, route.session.as_ref()?);
    let is_express = definitions.session.at(session.index).is_some_and(|own| own.format == Format::Express);
    let asks = match session.mode {
        Mode::Required => true,
        Mode::Optional => !session.require.is_empty(),
        Mode::Observe => false,
    };
    (is_express && asks && pattern.read_as.is_none()).then_some((pattern, session))
}

fn asks_as_much(other: &Route, session: &Session) -> bool {
    other.session.as_ref().is_some_and(|own| {
        let as_strict = own.mode == Mode::Required || own.mode == session.mode;
        own.index == session.index && as_strict && session.require.iter().all(|each| own.require.contains(each))
    })
}

/// Paths that the pattern takes but for the case of their letters.
fn spellings(pattern: &Pattern) -> Vec<String> {
    let spelt = |with_rest: bool| {
        let mut path = String::new();
        for segment in &pattern.segments {
            let text = match segment {
                Segment::Literal(text) => other_case(text),
                Segment::Rest(_) if !with_rest => continue,
                Segment::One(_) | Segment::Rest(_) => "x".to_owned(),
            };
            path.push('/');
            path.push_str(&text);
        }
        if path.is_empty() { "/".to_owned() } else { path }
    };
    vec![spelt(true), spelt(false)]
}

fn other_case(text: &str) -> String {
    let upper = text.to_ascii_uppercase();
    if upper == text { text.to_ascii_lowercase() } else { upper }
}

/// Hosts to ask on: those of the pattern, or all that the file names, and any other.
fn hosts(pattern: &Pattern, routes: &[Route]) -> Vec<Option<String>> {
    // Some host of those that a wildcard stands for.
    let one_of = |host: &String| Some(host.replacen('*', "any", 1));
    if !pattern.hosts.is_empty() {
        return pattern.hosts.iter().map(one_of).collect();
    }
    let named = routes.iter().filter_map(|route| route.pattern.as_ref()).flat_map(|other| &other.hosts);
    std::iter::once(None).chain(named.map(one_of)).collect()
}

/// Methods to ask by: those of the pattern, or all that the file names, and GET.
fn methods(pattern: &Pattern, routes: &[Route]) -> Vec<Method> {
    if !pattern.methods.is_empty() {
        return pattern.methods.clone();
    }
    let named = routes.iter().filter_map(|route| route.pattern.as_ref()).flat_map(|other| other.methods.clone());
    std::iter::once(Method::GET).chain(named).collect()
}
