//! Methods that a request says it is of, besides its own, and which route it meets then. Pure.
//!
//! 1. They stand in the fields of [`overriding`], and in the parameter `_method` of the query; in any case, and of several any may count.
//! 2. `_method` in content is not seen: what is forwarded is not read here.
//! 3. What neither a route of the table names nor a standard (RFC 9110, RFC 5789) is no method. More than [`MOST`] others are
//!    refused, never left out.
//! 4. The request meets the route of its own method, if that demands as much of a login ([`Demanding`]) as the routes of all others;
//!    else the first that does; if none does, it is refused.
//! 5. If one of its methods meets no route, or a path that is refused, that is its answer.
//!
//! # Why
//! Rails, Laravel, Symfony, ASP.NET and `method-override` do what these say, for POST alone; WordPress (`serve_request` of its REST
//! API) for any method, GET too. No standard knows them.
//!
//! Rule 4 looks at the login alone: whom a route lets pass is what must not be got around. Limits, caches and what a write
//! invalidates are its own method's, which the request is of, whatever the app makes of it; to refuse wherever these differ refused
//! what usual clients send.

use http::header::HOST;
use http::{Method, Request};

use super::strictness::{Demanding, Strict};
use super::table::{Found, Table};
use crate::exchange::overriding;
use crate::exchange::spelling::{Decoded, is_parameter_read_as};

const PARAMETER: &[u8] = b"_method";

/// Methods that an app may know though no route names them.
const KNOWN: [Method; 9] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::DELETE,
    Method::CONNECT,
    Method::OPTIONS,
    Method::TRACE,
    Method::PATCH,
];

/// Methods that a request may say besides its own.
const MOST: usize = 8;

impl<T: Strict + Demanding> Table<T> {
    /// The most specific route for `request`, also if it says other methods than its own.
    pub fn find_for<B>(&self, request: &Request<B>) -> Found<'_, T> {
        let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
        let find = |method: &Method| self.find(host, method, request.uri().path());
        let own = find(request.method());
        if self.methods().is_empty() || !matches!(own, Found::Route { .. }) {
            return own;
        }
        match others(request, self.methods()) {
            None => Found::OfSeveralMethods,
            Some(others) if others.is_empty() => own,
            Some(others) => most_demanding(own, others.iter().map(find)),
        }
    }
}

/// Rules 4 and 5: of routes the first that demands as much of a login as all; of refusals the first.
fn most_demanding<'t, T: Demanding>(own: Found<'t, T>, others: impl Iterator<Item = Found<'t, T>>) -> Found<'t, T> {
    let mut met = Vec::new();
    for found in std::iter::once(own).chain(others) {
        match found {
            Found::Route { target, parameters } => met.push((target, parameters)),
            refused => return refused,
        }
    }
    let most = met.iter().position(|(one, _)| met.iter().all(|(other, _)| one.demands_as_much_as(other)));
    match most.map(|at| met.swap_remove(at)) {
        Some((target, parameters)) => Found::Route { target, parameters },
        None => Found::OfSeveralMethods,
    }
}

/// The methods that `request` says it is of, each once, without its own, if a route is `named` by them or a standard knows them;
/// `None`: more than [`MOST`].
fn others<B>(request: &Request<B>, named: &[Method]) -> Option<Vec<Method>> {
    let mut others = Vec::new();
    let mut add = |text: &[u8]| {
        for word in text.split(|byte| *byte == b',') {
            let Ok(method) = Method::from_bytes(&word.trim_ascii().to_ascii_uppercase()) else { continue };
            let is_method = KNOWN.contains(&method) || named.contains(&method);
            if is_method && method != request.method() && !others.contains(&method) {
                others.push(method);
            }
        }
    };
    for (_, value) in request.headers().iter().filter(|(name, _)| overriding::is_by(name)) {
        add(value.as_bytes());
    }
    for pair in request.uri().query().unwrap_or_default().split(['&', ';']) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if is_parameter_read_as(PARAMETER, name.as_bytes()) {
            add(&Decoded(value.as_bytes()).collect::<Vec<u8>>());
        }
    }
    (others.len() <= MOST).then_some(others)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::Paths;
    use crate::route::pattern::Pattern;

    fn request(method: &str, target: &str, fields: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    }

    fn said(target: &str, fields: &[(&str, &str)]) -> String {
        let named = ["BREW", "MOW", "PROPFIND"].map(|name| name.parse().unwrap());
        match others(&request("POST", target, fields), &named) {
            Some(others) => others.iter().map(Method::as_str).collect::<Vec<_>>().join(" "),
            None => "too many".into(),
        }
    }

    #[test]
    fn other_methods_are_found_wherever_an_app_looks_for_them() {
        for field in ["X-HTTP-Method-Override", "X_HTTP_Method_Override", "x-http-method", "X-Method-Override"] {
            assert_eq!(said("/a", &[(field, " delete ")]), "DELETE", "{field}");
            let head = http::HeaderMap::from_iter([(field.parse().unwrap(), "x".parse().unwrap())]);
            assert!(overriding::is_said(&head), "{field}");
        }
        assert_eq!(said("/a", &[("X-HTTP-Method", "PUT, post,PATCH"), ("X-Method-Override", "PUT")]), "PUT PATCH");
        for query in
            ["_method=DELETE", "a=1&%5Fmethod=%44elete", "a;_method=delete", ".method=DELETE", "?_method=DELETE"]
        {
            assert_eq!(said(&format!("/a?{query}"), &[]), "DELETE", "{query}");
        }
    }

    #[test]
    fn what_is_no_method_or_the_requests_own_is_no_other() {
        let nothing = [("X-HTTP-Method", "M1"), ("X-Method-Override", "Post"), ("X-HTTP-Method-Override", "a b")];
        assert_eq!(said("/a?_method=POST&method=PUT&x_method=PUT&_method", &nothing), "");
    }

    #[test]
    fn no_number_of_words_hides_a_method_and_too_many_methods_are_refused() {
        let junk: Vec<String> = (0..50).map(|number| format!("M{number}")).collect();
        assert_eq!(said("/a?_method=DELETE", &[("X-HTTP-Method", &junk.join(","))]), "DELETE");
        let most = "GET,HEAD,PUT,DELETE,OPTIONS,TRACE,PATCH,BREW";
        assert_eq!(said("/a?_method=get", &[("X-HTTP-Method", most)]).split(' ').count(), MOST);
        assert_eq!(said("/a?_method=MOW", &[("X-HTTP-Method", most)]), "too many");
    }

    /// What a route demands: letters, of which it may lack none.
    struct Demands(&'static str);

    impl Strict for Demands {
        fn is_as_strict_as(&self, _: &Self) -> bool {
            false
        }
    }

    impl Demanding for Demands {
        fn demands_as_much_as(&self, other: &Self) -> bool {
            other.0.chars().filter(char::is_ascii_lowercase).all(|demand| self.0.contains(demand))
        }
    }

    #[test]
    fn a_request_of_several_methods_meets_the_first_route_that_demands_as_much_of_a_login_as_all() {
        let route = |(methods, demands): (&str, &'static str)| {
            let methods = methods.split(',').map(|method| method.parse().unwrap()).collect();
            (Pattern::parse("/x", Vec::new(), methods).unwrap(), Demands(demands))
        };
        // The capital letter tells the route, the others what it demands.
        let routes = [("GET", "G"), ("POST", "P"), ("PUT", "Ua"), ("DELETE", "Dab"), ("PATCH", "Hc"), ("BREW", "B")];
        let table = Table::new(Paths::default(), routes.map(route).into());
        let meets = |method: &str, said: &str| match table.find_for(&request(method, "/x", &[("X-HTTP-Method", said)]))
        {
            Found::Route { target, .. } => target.0,
            Found::OfSeveralMethods => "400",
            Found::MethodNotAllowed { .. } => "405",
            _ => "another",
        };
        for (method, said, met) in [
            ("POST", "", "P"),
            ("POST", "GET", "P"),
            ("POST", "BREW,GET", "P"),
            ("POST", "junk", "P"),
            ("POST", "PUT", "Ua"),
            ("POST", "PUT,DELETE", "Dab"),
            ("POST", "DELETE,GET,PUT", "Dab"),
            ("DELETE", "POST,PUT", "Dab"),
            ("PUT", "PATCH", "400"),
            ("POST", "PUT,PATCH", "400"),
            ("POST", "OPTIONS", "405"),
            ("POST", "PUT,PATCH,OPTIONS", "405"),
            ("OPTIONS", "GET", "405"),
            ("GET", "DELETE", "Dab"),
            ("GET", "POST", "G"),
        ] {
            assert_eq!(meets(method, said), met, "{method} {said}");
        }
    }
}
