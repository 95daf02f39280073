//! Methods that a request says it is of, besides its own. Pure.
//!
//! 1. They stand in `X-HTTP-Method-Override`, `X-HTTP-Method` and `X-Method-Override`, in any spelling that an app takes for one of
//!    these, and in the parameter `_method` of the query; in any case, and of several any may count.
//! 2. `_method` in content is not seen: what is forwarded is not read here.
//!
//! # Why
//! Rails, Laravel, Symfony, ASP.NET and `method-override` do what these say, most of them for POST alone. No standard knows them.

use http::{HeaderMap, HeaderName, Method, Request};

use super::spelling::{Decoded, alike, is_parameter_read_as};

const FIELDS: [&str; 3] = ["x-http-method-override", "x-http-method", "x-method-override"];
const PARAMETER: &[u8] = b"_method";

/// Methods that are looked at: what says more, says them to nobody.
const MOST: usize = 8;

/// Whether a field of `head` says another method.
pub fn is_said(head: &HeaderMap) -> bool {
    head.keys().any(says)
}

fn says(name: &HeaderName) -> bool {
    let name = name.as_str().as_bytes();
    FIELDS.iter().any(|field| alike(field.as_bytes(), name))
}

/// The methods that `request` says it is of, each once, without its own; at most [`MOST`].
pub fn others<B>(request: &Request<B>) -> Vec<Method> {
    let mut others = Vec::new();
    let mut add = |text: &[u8]| {
        for word in text.split(|byte| *byte == b',') {
            let Ok(method) = Method::from_bytes(&word.trim_ascii().to_ascii_uppercase()) else { continue };
            if method != request.method() && !others.contains(&method) && others.len() < MOST {
                others.push(method);
            }
        }
    };
    for (_, value) in request.headers().iter().filter(|(name, _)| says(name)) {
        add(value.as_bytes());
    }
    for pair in request.uri().query().unwrap_or_default().split(['&', ';']) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if is_parameter_read_as(PARAMETER, name.as_bytes()) {
            add(&Decoded(value.as_bytes()).collect::<Vec<u8>>());
        }
    }
    others
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(target: &str, fields: &[(&str, &str)]) -> String {
        let mut request = Request::post(target);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let request = request.body(()).unwrap();
        others(&request).iter().map(Method::as_str).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn other_methods_are_found_wherever_an_app_looks_for_them() {
        for field in ["X-HTTP-Method-Override", "X_HTTP_Method_Override", "x-http-method", "X-Method-Override"] {
            assert_eq!(said("/a", &[(field, " delete ")]), "DELETE", "{field}");
            assert!(is_said(&HeaderMap::from_iter([(field.parse().unwrap(), "x".parse().unwrap())])), "{field}");
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
        let nothing = [("X-HTTP-Method", ""), ("X-Method-Override", "Post"), ("X-HTTP-Method-Override", "a b")];
        assert_eq!(said("/a?_method=POST&method=PUT&x_method=PUT&_method", &nothing), "");
        let many: Vec<String> = (0..50).map(|number| format!("M{number}")).collect();
        assert_eq!(said("/a", &[("X-HTTP-Method", &many.join(","))]).split(' ').count(), MOST);
    }
}
