//! `sidegate check`: reads a configuration exactly as `run` does, and says what is wrong with it, or what it does.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::path::Path;
use std::process::ExitCode;

use crate::app::Files;
use crate::config::settings::{RouteSettings, Settings};
use crate::config::{self, Loaded};
use crate::session::Mode;

/// Exit code for a configuration that cannot be used.
const UNUSABLE: u8 = 2;

/// Checks the file at `path`: errors and warnings go to standard error, the summary to standard output.
pub fn check(path: &Path) -> ExitCode {
    let coloured = std::io::stderr().is_terminal();
    match config::load(path, &config::environment) {
        Ok(Loaded { settings, warnings }) => {
            for warning in warnings {
                eprintln!("{}\n", warning.render(coloured));
            }
            // Where it is to run the limit may be another one.
            match Files::possible().bounds(&settings) {
                Ok((_, None)) => {}
                Ok((_, Some(said))) | Err(said) => eprintln!("warning: if it ran here: {said}\n"),
            }
            let said = write!(std::io::stdout(), "{}: well\n\n{}", path.display(), summary(&settings));
            if said.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(report) => {
            eprintln!("{}", report.render(coloured));
            ExitCode::from(UNUSABLE)
        }
    }
}

/// What a configuration does: listeners, stores, upstreams, and each route with its policies.
pub fn summary(settings: &Settings) -> String {
    let mut said = Said::default();
    let listen = settings.server.listen.iter().map(|bind| match settings.server.secured(bind) {
        Some(_) => format!("{bind} (TLS)"),
        None => bind.to_string(),
    });
    let listen = listen.collect::<Vec<_>>().join(", ");
    said.line("listens on", &listen);
    said.line("admin on", &settings.admin.listen.map_or("nowhere".to_owned(), |listen| listen.to_string()));
    match &settings.redis {
        Some(redis) => said.line("stores", &format!("Redis at {}", redis.shown())),
        None => said.line("stores", "process memory"),
    }
    for upstream in &settings.upstreams {
        let servers = upstream.servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        said.line("upstream", &format!("{} = {servers}", upstream.name));
    }
    for route in &settings.routes {
        said.line("route", &policies(route, settings));
    }
    said.0
}

/// `GET /users → app, limits per-address (100 per minute by address), session web, cache pages`.
fn policies(route: &RouteSettings, settings: &Settings) -> String {
    let upstream = settings.upstreams.get(route.upstream).map_or("", |upstream| &upstream.name);
    let mut said = vec![format!("{} → {upstream}", route.label)];
    for limit in &route.limits {
        said.push(format!("limit {} ({} by {})", limit.name, limit.quota, limit.key));
    }
    if let Some((definition, mode)) = &route.session {
        let mode = if *mode == Mode::Optional { " (optional)" } else { "" };
        said.push(format!("session {}{mode}", definition.name));
    }
    if let Some(policy) = &route.cache {
        said.push(format!("cache {}", policy.name));
    }
    if let Some(policy) = &route.cors {
        said.push(format!("cors {}", policy.name));
    }
    if !route.rewrite.is_empty() {
        said.push("rewritten".to_owned());
    }
    said.join(", ")
}

#[derive(Default)]
struct Said(String);

impl Said {
    fn line(&mut self, what: &str, words: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "{what:<12} {words}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_names_listeners_stores_and_the_policies_of_each_route() {
        let text = r#"
            [upstream.app]
            servers = "http://127.0.0.1:3000"
            [limit.each]
            key = ["address", "route"]
            quota = "100 per minute"
            [[route]]
            path = "/users"
            methods = ["GET"]
            limits = ["each"]
            cors = "spa"
            add_prefix = "/v2"
            [cors.spa]
            origins = "*"
        "#;
        let loaded = config::parse("sidegate.toml", text, &|_| None).unwrap();
        let expected = "\
listens on   127.0.0.1:8080
admin on     127.0.0.1:9901
stores       process memory
upstream     app = http://127.0.0.1:3000
route        GET /users → app, limit each (100 per minute by address + route), cors spa, rewritten
";
        assert_eq!(summary(&loaded.settings), expected);
    }
}
