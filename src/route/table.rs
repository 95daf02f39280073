//! All routes, so arranged that finding the most specific one costs no more than walking the path once. Pure.
//!
//! Each host pattern has a tree of segments. At each node the literal child is tried first, then `{name}`, then `{*rest}`;
//! a node is visited at most once, so the work is bounded by the routes, whatever the path.

use std::borrow::Cow;
use std::sync::Arc;

use ahash::AHashMap;
use http::header::HOST;
use http::{Method, Request};

use super::canonical::{Ambiguity, canonical};
use super::case::folded;
use super::pattern::{Pattern, Segment};
use super::readings::readings;
use super::strictness::Strict;
use super::{OnAmbiguity, PathCase, Paths};
use crate::exchange::overriding::others;

/// Values of the parameters in a path, in the pattern's order: canonical text, still percent-encoded.
pub type Parameters = Vec<(Arc<str>, String)>;

/// Routes by what they match.
#[derive(Debug)]
pub struct Table<T> {
    paths: Paths,
    routes: Vec<(Pattern, T)>,
    exact: AHashMap<String, Node>,
    /// By suffix (`.example.com`), the longest first.
    wildcard: Vec<(String, Node)>,
    any: Node,
    /// Some route gives methods.
    by_method: bool,
}

/// Methods that an app may know though no route names them.
const USUAL: [Method; 7] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];

/// What became of a search.
#[derive(Debug, PartialEq, Eq)]
pub enum Found<'t, T> {
    /// The most specific route that matches.
    Route {
        /// What it leads to.
        target: &'t T,
        /// Its path parameters, if the pattern captures them.
        parameters: Parameters,
    },
    /// Routes match host and path, but not the method: 405.
    MethodNotAllowed {
        /// The methods that are allowed (RFC 9110 §10.2.1).
        allow: Vec<Method>,
    },
    /// No route matches host and path: 404.
    Nowhere,
    /// The app may read the path in a way that meets another route: 400. Says why.
    Ambiguous(Ambiguity),
    /// The request is of several methods, and none of their routes is the strictest: 400.
    OfSeveralMethods,
}

#[derive(Debug, Default)]
struct Node {
    literals: AHashMap<Box<str>, Node>,
    one: Option<Box<Node>>,
    /// Routes that end here, in order of preference.
    here: Vec<usize>,
    /// Routes whose rest begins here, in order of preference.
    rest: Vec<usize>,
}

impl<T> Table<T> {
    /// A table of `routes`, whose paths are read so; among equals the first wins.
    pub fn new(paths: Paths, routes: Vec<(Pattern, T)>) -> Self {
        let by_method = routes.iter().any(|(pattern, _)| !pattern.methods.is_empty());
        let any = Node::default();
        let mut table = Self { paths, routes, exact: AHashMap::new(), wildcard: Vec::new(), any, by_method };
        // Those that give methods go first; the sort is stable, so the file's order decides among the rest.
        let mut order: Vec<usize> = (0..table.routes.len()).collect();
        order.sort_by_key(|&index| table.routes[index].0.methods.is_empty());
        for index in order {
            let pattern = &table.routes[index].0;
            let segments = cased(paths.case, &pattern.segments);
            if pattern.hosts.is_empty() {
                table.any.insert(&segments, index);
            }
            for host in &pattern.hosts {
                let root = match host.strip_prefix('*') {
                    None => table.exact.entry(host.clone()).or_default(),
                    Some(suffix) => {
                        let known = table.wildcard.iter().position(|(other, _)| other == suffix);
                        let at = known.unwrap_or_else(|| {
                            table.wildcard.push((suffix.to_owned(), Node::default()));
                            table.wildcard.len() - 1
                        });
                        &mut table.wildcard[at].1
                    }
                };
                root.insert(&segments, index);
            }
        }
        table.wildcard.sort_by_key(|(suffix, _)| std::cmp::Reverse(suffix.len()));
        table
    }

    /// Routes that no request can reach, each with an earlier one that takes what it would match.
    pub fn unreachable(&self) -> Vec<(usize, usize)> {
        (0..self.routes.len()).filter_map(|later| Some((later, self.shadow(later)?))).collect()
    }

    /// The route of `path`, which is one reading of the path sent.
    fn index(&self, host: Option<&str>, path: &str, fits: &dyn Fn(usize) -> bool) -> Option<usize> {
        let path = match self.paths.case {
            PathCase::Sensitive => Cow::Borrowed(path),
            PathCase::Insensitive => folded(path),
        };
        let path = below_root(&path);
        if !(self.exact.is_empty() && self.wildcard.is_empty())
            && let Some(host) = host
        {
            let host = bare_host(host);
            let exact = self.exact.get(&*host).and_then(|root| root.find(path, fits));
            let found = exact.or_else(|| {
                let mut roots =
                    self.wildcard.iter().filter(|(suffix, _)| host.len() > suffix.len() && host.ends_with(suffix));
                roots.find_map(|(_, root)| root.find(path, fits))
            });
            if found.is_some() {
                return found;
            }
        }
        self.any.find(path, fits)
    }

    fn refusal(&self, host: Option<&str>, path: &str) -> Found<'_, T> {
        let mut allow: Vec<Method> = Vec::new();
        let seen = std::cell::RefCell::new(Vec::new());
        // Asks for a route that is none of those already seen, until there is none.
        while let Some(index) = self.index(host, path, &|index| !seen.borrow().contains(&index)) {
            seen.borrow_mut().push(index);
        }
        for index in seen.into_inner() {
            for method in &self.routes[index].0.methods {
                if !allow.contains(method) {
                    allow.push(method.clone());
                }
                if method == Method::GET && !allow.contains(&Method::HEAD) {
                    allow.push(Method::HEAD);
                }
            }
        }
        if allow.is_empty() { Found::Nowhere } else { Found::MethodNotAllowed { allow } }
    }

    /// An earlier route that takes part of what `later` would match, if earlier ones take all of it.
    fn shadow(&self, later: usize) -> Option<usize> {
        let pattern = &self.routes[later].0;
        let hosts = if pattern.hosts.is_empty() { vec![None] } else { pattern.hosts.iter().map(Some).collect() };
        let methods = if pattern.methods.is_empty() { vec![None] } else { pattern.methods.iter().map(Some).collect() };
        let mut first = None;
        for host in hosts {
            for &method in &methods {
                let taker = self.routes[..later].iter().position(|(earlier, _)| {
                    same_shape(&cased(self.paths.case, &earlier.segments), &cased(self.paths.case, &pattern.segments))
                        && host.map_or(earlier.hosts.is_empty(), |host| earlier.hosts.contains(host))
                        && match method {
                            None => earlier.methods.is_empty(),
                            Some(method) => !earlier.methods.is_empty() && earlier.takes(method),
                        }
                })?;
                first.get_or_insert(taker);
            }
        }
        first
    }
}

impl<T: Strict> Table<T> {
    /// The most specific route for a request. `host` as in the authority or the Host field: a port is ignored.
    /// `path` without query, as sent.
    pub fn find(&self, host: Option<&str>, method: &Method, path: &str) -> Found<'_, T> {
        let canonical = canonical(path);
        let meets = |path: &str| self.index(host, path, &|index| self.routes[index].0.takes(method));
        let found = meets(&canonical.path);
        match canonical.ambiguity {
            Some(ambiguity) if !self.is_one_for_all() => match self.settle(found, path, &meets) {
                Some(Settled::Nowhere) => self.refusal(host, &canonical.path),
                Some(Settled::As(index)) => self.route(index, &canonical.path),
                Some(Settled::Instead(index, reading)) => self.route(index, &reading),
                None => Found::Ambiguous(ambiguity),
            },
            _ => match found {
                Some(index) => self.route(index, &canonical.path),
                None => self.refusal(host, &canonical.path),
            },
        }
    }

    /// The most specific route for `request`, also if it says other methods than its own (rule 7).
    pub fn find_for<B>(&self, request: &Request<B>) -> Found<'_, T> {
        let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
        let others = if self.by_method { others(request) } else { Vec::new() };
        self.find_overridden(host, request.method(), &others, request.uri().path())
    }

    /// Rule 7: the route of a request that some app takes for one of each of `others`, besides its own `method`. A method that is
    /// neither named by a route nor one of RFC 9110 and RFC 5789 is nobody's.
    fn find_overridden(&self, host: Option<&str>, method: &Method, others: &[Method], path: &str) -> Found<'_, T> {
        let known = |method: &&Method| {
            USUAL.contains(method) || self.routes.iter().any(|(pattern, _)| pattern.methods.contains(method))
        };
        let mut found = self.find(host, method, path);
        for other in others.iter().filter(known) {
            let Found::Route { target, .. } = &found else { break };
            found = match self.find(host, other, path) {
                Found::Route { target: theirs, .. } if target.is_as_strict_as(theirs) => continue,
                Found::Route { target: theirs, .. } if !theirs.is_as_strict_as(target) => Found::OfSeveralMethods,
                stricter => stricter,
            };
        }
        found
    }

    /// A single route for everything has no second policy to escape to.
    fn is_one_for_all(&self) -> bool {
        matches!(&self.routes[..], [(only, _)] if matches!(only.segments[..], [Segment::Rest(_)]))
    }

    /// Rules 5 and 6: what becomes of a path that may be read in several ways; `None`: it is refused.
    fn settle(&self, found: Option<usize>, path: &str, meets: &dyn Fn(&str) -> Option<usize>) -> Option<Settled> {
        let slash_is_text = found.is_some_and(|index| self.routes[index].0.slash_is_text);
        let readings = readings(path, slash_is_text)?;
        let met: Vec<Option<usize>> = readings.iter().map(|reading| meets(reading)).collect();
        if met.iter().all(|met| *met == found) {
            return Some(found.map_or(Settled::Nowhere, Settled::As));
        }
        // What no route takes is refused; nothing is stricter than that.
        let met: Vec<usize> = met.into_iter().collect::<Option<_>>()?;
        let is_strictest =
            |one: usize| met.iter().all(|other| self.routes[one].1.is_as_strict_as(&self.routes[*other].1));
        match self.paths.ambiguity {
            OnAmbiguity::Refuse => None,
            OnAmbiguity::Strictest => {
                let at = met.iter().position(|index| is_strictest(*index))?;
                Some(Settled::Instead(met[at], readings.into_iter().nth(at)?))
            }
        }
    }

    fn route(&self, index: usize, path: &str) -> Found<'_, T> {
        let (pattern, target) = &self.routes[index];
        let parameters = match pattern.captures {
            true => parameters(pattern.given(), below_root(path)),
            false => Parameters::new(),
        };
        Found::Route { target, parameters }
    }
}

/// What becomes of an ambiguous path.
enum Settled {
    /// All readings meet this route.
    As(usize),
    /// Readings meet several routes; this is the strictest, and this reading meets it.
    Instead(usize, String),
    /// No reading meets a route.
    Nowhere,
}

/// Segments as their text is compared.
fn cased(case: PathCase, segments: &[Segment]) -> Vec<Segment> {
    let compared = |segment: &Segment| match (case, segment) {
        (PathCase::Insensitive, Segment::Literal(text)) => Segment::Literal(folded(text).into_owned()),
        _ => segment.clone(),
    };
    segments.iter().map(compared).collect()
}

impl Node {
    fn insert(&mut self, segments: &[Segment], index: usize) {
        match segments {
            [] => self.here.push(index),
            [Segment::Rest(_), ..] => self.rest.push(index),
            [Segment::One(_), further @ ..] => self.one.get_or_insert_default().insert(further, index),
            [Segment::Literal(text), further @ ..] => {
                self.literals.entry(text.as_str().into()).or_default().insert(further, index);
            }
        }
    }

    fn find(&self, path: &str, fits: &dyn Fn(usize) -> bool) -> Option<usize> {
        let first = |routes: &[usize]| routes.iter().copied().find(|&index| fits(index));
        if path.is_empty() {
            return first(&self.here).or_else(|| first(&self.rest));
        }
        let (segment, further) = path.split_once('/').unwrap_or((path, ""));
        if let Some(literal) = self.literals.get(segment)
            && let Some(found) = literal.find(further, fits)
        {
            return Some(found);
        }
        self.one.as_ref().and_then(|one| one.find(further, fits)).or_else(|| first(&self.rest))
    }
}

fn below_root(path: &str) -> &str {
    path.strip_prefix('/').unwrap_or(path)
}

/// A host without port and final dot, in lower case.
pub fn bare_host(host: &str) -> std::borrow::Cow<'_, str> {
    let end = match host.rfind(']') {
        Some(bracket) => bracket + 1,
        None => host.find(':').unwrap_or(host.len()),
    };
    let name = host[..end].strip_suffix('.').unwrap_or(&host[..end]);
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) { name.to_ascii_lowercase().into() } else { name.into() }
}

fn parameters(segments: &[Segment], mut path: &str) -> Parameters {
    let mut found = Vec::new();
    for segment in segments {
        let (text, further) = path.split_once('/').unwrap_or((path, ""));
        match segment {
            Segment::Literal(_) => {}
            Segment::One(name) => found.push((name.clone(), text.to_owned())),
            Segment::Rest(name) => found.push((name.clone(), path.to_owned())),
        }
        path = further;
    }
    found
}

/// Both match the same paths.
fn same_shape(one: &[Segment], other: &[Segment]) -> bool {
    one.len() == other.len()
        && one.iter().zip(other).all(|pair| match pair {
            (Segment::Literal(one), Segment::Literal(other)) => one == other,
            (Segment::One(_), Segment::One(_)) | (Segment::Rest(_), Segment::Rest(_)) => true,
            _ => false,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Strict for &'static str {
        fn is_as_strict_as(&self, other: &Self) -> bool {
            self == other
        }
    }

    /// `METHODS HOSTS PATH`, with `-` for any.
    fn pattern(text: &str) -> Pattern {
        let [methods, hosts, path] = text.split(' ').collect::<Vec<_>>()[..] else { panic!("{text}") };
        let list = |text: &str| match text {
            "-" => Vec::new(),
            _ => text.split(',').map(str::to_owned).collect::<Vec<_>>(),
        };
        let methods = list(methods).iter().map(|method| method.parse().unwrap()).collect();
        Pattern::parse(path, list(hosts), methods).unwrap()
    }

    fn table(routes: &[&'static str]) -> Table<&'static str> {
        Table::new(Paths::default(), routes.iter().map(|&route| (pattern(route), route)).collect())
    }

    fn found(table: &Table<&'static str>, method: &str, host: &str, path: &str) -> String {
        match table.find(Some(host), &method.parse().unwrap(), path) {
            Found::Route { target, .. } => (*target).to_owned(),
            Found::MethodNotAllowed { allow } => format!("allow {allow:?}"),
            Found::Nowhere => "nowhere".into(),
            Found::Ambiguous(why) => why.reason().into(),
            Found::OfSeveralMethods => "of several methods".into(),
        }
    }

    #[test]
    fn the_most_specific_path_wins_whatever_the_order() {
        let table = table(&["- - /{*rest}", "- - /users/{id}", "- - /users/me", "- - /users/{*rest}", "- - /{a}/me"]);
        for (path, route) in [
            ("/users/me", "- - /users/me"),
            ("/users/7", "- - /users/{id}"),
            ("/users/7/", "- - /users/{id}"),
            ("/users/7/x", "- - /users/{*rest}"),
            ("/users", "- - /users/{*rest}"),
            ("/users/", "- - /users/{*rest}"),
            ("/x/me", "- - /{a}/me"),
            ("/x", "- - /{*rest}"),
            ("/", "- - /{*rest}"),
            ("*", "- - /{*rest}"),
            ("//users//me", "- - /users/me"),
            ("/x/../y", "- - /{*rest}"),
            ("/users/%37", "- - /users/{id}"),
            ("/%75sers//m%65", "needless percent-encoding"),
        ] {
            assert_eq!(found(&table, "GET", "h", path), route, "{path}");
        }
    }

    #[test]
    fn a_literal_branch_that_leads_nowhere_is_left_again() {
        let table = table(&["- - /a/b/c", "- - /{x}/b/d", "- - /a/{*rest}"]);
        assert_eq!(found(&table, "GET", "h", "/a/b/c"), "- - /a/b/c");
        assert_eq!(found(&table, "GET", "h", "/a/b/d"), "- - /a/{*rest}");
        assert_eq!(found(&table, "GET", "h", "/z/b/d"), "- - /{x}/b/d");
        assert_eq!(found(&table, "GET", "h", "/z/b"), "nowhere");
    }

    #[test]
    fn the_host_decides_before_the_path_and_exact_before_wildcard() {
        let table = table(&["- - /a", "- *.x.org /a", "- *.b.x.org /a", "- c.x.org /{*rest}", "- [::1] /a"]);
        for (host, route) in [
            ("c.x.org", "- c.x.org /{*rest}"),
            ("C.X.ORG.:8080", "- c.x.org /{*rest}"),
            ("d.x.org", "- *.x.org /a"),
            ("d.b.x.org", "- *.b.x.org /a"),
            ("x.org", "- - /a"),
            ("other", "- - /a"),
            ("[::1]:80", "- [::1] /a"),
            ("", "- - /a"),
        ] {
            assert_eq!(found(&table, "GET", host, "/a"), route, "{host}");
        }
        assert!(matches!(table.find(None, &Method::GET, "/a"), Found::Route { .. }));
    }

    #[test]
    fn a_given_method_wins_and_the_first_among_equals() {
        let table = table(&["- - /a", "GET,POST - /a", "GET - /a"]);
        assert_eq!(found(&table, "GET", "h", "/a"), "GET,POST - /a");
        assert_eq!(found(&table, "PUT", "h", "/a"), "- - /a");
    }

    #[test]
    fn head_meets_what_get_meets_and_options_only_what_takes_it() {
        let table = table(&["GET - /a", "POST - /a", "PUT - /{x}"]);
        assert_eq!(found(&table, "HEAD", "h", "/a"), "GET - /a");
        assert_eq!(found(&table, "PUT", "h", "/a"), "PUT - /{x}");
        assert_eq!(found(&table, "OPTIONS", "h", "/a"), "allow [GET, HEAD, POST, PUT]");
    }

    #[test]
    fn parameters_are_given_in_the_patterns_order() {
        let table = table(&["- - /u/{id}/f/{*path}"]);
        let Found::Route { parameters, .. } = table.find(None, &Method::GET, "/u/7//f/a/b%20c") else { panic!() };
        assert_eq!(parameters, [("id".into(), "7".to_owned()), ("path".into(), "a/b%20c".to_owned())]);
    }

    #[test]
    fn an_ambiguous_path_passes_only_where_all_its_readings_meet_one_route() {
        let several = table(&["- - /{*rest}", "- - /admin/{*rest}"]);
        for path in [
            "/x/..%2fadmin",
            "/admin;x",
            "/x\\..\\admin",
            "/x%00",
            "/%252e%252e/admin",
            "/admin%2fx",
            "/a%",
            "/admin/../x",
            "/x/../admin/y",
        ] {
            assert!(matches!(several.find(None, &Method::GET, path), Found::Ambiguous(_)), "{path}");
        }
        for path in ["/projects/group%2Fname", "/a;v=1/b", "/admin/a%2Fb"] {
            assert!(matches!(several.find(None, &Method::GET, path), Found::Route { .. }), "{path}");
        }
        let single = table(&["- - /{*rest}"]);
        assert!(matches!(single.find(None, &Method::GET, "/x%00"), Found::Route { .. }));
    }

    #[test]
    fn a_route_is_unreachable_if_earlier_equals_take_all_of_it() {
        let unreachable = |routes: &[&'static str]| table(routes).unreachable();
        assert_eq!(unreachable(&["- - /a/{x}", "- - /a/{y}"]), [(1, 0)]);
        assert_eq!(unreachable(&["GET,POST - /a", "GET - /a"]), [(1, 0)]);
        assert_eq!(unreachable(&["GET - /a", "POST - /a", "GET,POST - /a"]), [(2, 0)]);
        assert_eq!(unreachable(&["- a,b /", "- b /"]), [(1, 0)]);
        assert_eq!(unreachable(&["- - /a", "GET - /a", "- h /a", "- - /{x}", "- - /a/b"]), []);
    }
}
