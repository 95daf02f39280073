//! `sidegate check`: reads a configuration exactly as `run` does, and says what is wrong with it, or what it does.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use http::{Method, StatusCode};
use humantime::format_duration;
use tokio::time::timeout;

use crate::app::{self, Files};
use crate::cache::{self, KeyPart, Policy};
use crate::config::settings::{RouteSettings, Settings};
use crate::config::{self, Loaded};
use crate::rate_limit::{Count, Plan, Unknown};
use crate::redis_pool;
use crate::redis_pool::address::{Endpoint, Topology};
use crate::redis_pool::fault::Fault;
use crate::redis_pool::near::{Mode as Told, covering};
use crate::redis_pool::topology::roll_call;
use crate::redis_pool::tracking::probe;
use crate::route::strictness::Demanding;
use crate::route::table::Table;
use crate::session::settings::Requirement;
use crate::session::{Definition, Mode};
use crate::upstream::hop;

/// Exit code for a configuration that cannot be used.
const UNUSABLE: u8 = 2;

/// How long Redis may take to say one thing.
const PATIENCE: Duration = Duration::from_secs(2);

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
            for (what, prefix) in app::untrackable(&settings) {
                eprintln!("warning: {what} under `{prefix}` are not remembered near: limits are counted under it\n");
            }
            let masters = masters(&settings);
            if let Some(refused) = masters.as_ref().and_then(|masters| refused_database(&settings, masters)) {
                eprintln!("error: {refused}\n");
                return ExitCode::from(UNUSABLE);
            }
            let warnings = [unkeyed(&settings), unlike(&settings), overridable(&settings), too_late(&settings)];
            for warning in warnings.iter().flatten() {
                eprintln!("warning: {warning}\n");
            }
            let mut summary = summary(&settings);
            summary.push_str(&named(&settings, masters.as_ref()));
            summary.push_str(&near(&settings));
            let said = write!(std::io::stdout(), "{}: well\n\n{summary}", path.display());
            if said.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(report) => {
            eprintln!("{}", report.render(coloured));
            ExitCode::from(UNUSABLE)
        }
    }
}

/// What an app may answer by that is in no cache's key, and that not sidegate but a proxy before it has the last word on.
fn unkeyed(settings: &Settings) -> Vec<String> {
    if settings.client_addr.trusted.is_empty() && !settings.client_addr.trust_unix {
        return Vec::new();
    }
    let in_key = |policy: &Policy| policy.keying.by.contains(&KeyPart::Field(hop::X_FORWARDED_HOST));
    let mut caches: Vec<&str> = Vec::new();
    for policy in settings.routes.iter().filter_map(|route| route.cache.as_deref()).filter(|policy| !in_key(policy)) {
        if !caches.contains(&&*policy.name) {
            caches.push(&policy.name);
        }
    }
    let warning = |name: &&str| {
        format!(
            "cache `{name}`: the app gets X-Forwarded-Host as a trusted proxy sends it, and it is not in the key. A proxy that \
             passes on what clients send there lets one client choose what all others get. The app should go by Host, which \
             is in the key; or key = [\"field:X-Forwarded-Host\"]"
        )
    };
    caches.iter().map(warning).collect()
}

/// Sessions of one prefix of which one asks of a record what the other does not: whether it was revoked, or where it stays.
fn unlike(settings: &Settings) -> Vec<String> {
    let mut definitions: Vec<&Definition> = Vec::new();
    for session in settings.routes.iter().filter_map(|route| route.session.as_ref()) {
        if !definitions.iter().any(|known| known.name == session.definition.name) {
            definitions.push(&session.definition);
        }
    }
    let mut warnings = Vec::new();
    for (number, one) in definitions.iter().enumerate() {
        for other in definitions[number + 1..].iter().filter(|other| other.prefix == one.prefix) {
            let (names, prefix) = (format!("sessions `{}` and `{}`", one.name, other.name), &one.prefix);
            if one.index.is_some() != other.index.is_some() {
                warnings.push(format!(
                    "{names} have one prefix (`{prefix}`), and one has no `index`: a session that was revoked, and is written again by \
                     a request that was under way, passes there"
                ));
            }
            if one.binding != other.binding {
                warnings.push(format!(
                    "{names} have one prefix (`{prefix}`), and another `bind`: a cookie that one refuses on another device may pass the other"
                ));
            }
        }
    }
    warnings
}

/// Routes that demand more for some methods than what a POST of the same path meets: `_method` in content is not seen.
fn overridable(settings: &Settings) -> Vec<String> {
    let routes = &settings.routes;
    let table = Table::new(settings.paths, routes.iter().map(|route| (route.pattern.clone(), route)).collect());
    let guarded = routes.iter().filter(|route| {
        let methods = &route.pattern.methods;
        route.session.is_some() && methods.iter().any(is_overriding) && !methods.contains(&Method::POST)
    });
    let warning = |guarded: &RouteSettings| {
        let (pattern, strictness) = (&guarded.pattern, guarded.strictness(routes));
        let met = table.met_by(&Method::POST, pattern);
        let instead = met.into_iter().find(|met| !met.strictness(routes).demands_as_much_as(&strictness))?;
        Some(format!(
            "route `{}`: a POST whose content says another method (`_method`, as Rails, Laravel and Symfony read it) meets \
             route `{}`, which demands less of a login. Content is not read here: turn that off in the app, or demand \
             the same for POST",
            guarded.label, instead.label
        ))
    };
    guarded.filter_map(warning).collect()
}

/// Limits on refused logins that are asked only behind the session, which refuses them.
fn too_late(settings: &Settings) -> Vec<String> {
    let mut warnings = Vec::new();
    for route in &settings.routes {
        let Some(session) = &route.session else { continue };
        let refuses = session.mode == Mode::Required || session.mode == Mode::Optional && !session.require.is_empty();
        let counts = |count: &Count| matches!(count, Count::Statuses(_)) && count.counts(StatusCode::UNAUTHORIZED);
        for limit in route.limits.iter().filter(|limit| refuses && limit.needs_session() && counts(&limit.count)) {
            warnings.push(format!(
                "limit `{}` on route `{}` goes by the session, and counts no 401 of session `{}`: whom that refuses never gets as far. \
                 To count guesses, let key, missing and exempt be known before the session: address, a header, a cookie …",
                limit.name, route.label, session.definition.name
            ));
        }
    }
    warnings
}

/// Whether apps let a POST stand for it.
fn is_overriding(method: &Method) -> bool {
    [Method::PUT, Method::PATCH, Method::DELETE].contains(method)
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
    for plan in plans(settings) {
        let otherwise = if plan.unknown == Unknown::Refuse { "401" } else { "the limits' own quotas" };
        said.line("plan", &format!("{} = {}, by {}; otherwise {otherwise}", plan.name, plan.record, plan.key));
    }
    for route in &settings.routes {
        said.line("route", &policies(route, settings));
    }
    said.0
}

/// The masters, and why those are away that do not answer; or why nobody knows.
type Masters = Result<Vec<(Endpoint, Option<&'static str>)>, &'static str>;

/// Who the masters are now, where the URL does not say it or names a database: asks.
fn masters(settings: &Settings) -> Option<Masters> {
    let redis = settings.redis.as_ref()?;
    let asks = redis.server.database != 0 || !matches!(redis.server.topology, Topology::Single(_));
    asks.then(|| within(2 * PATIENCE, roll_call(&redis.server, PATIENCE)))
}

/// A sentence, where a master refuses the database that is meant: no request would ever find it.
fn refused_database(settings: &Settings, masters: &Masters) -> Option<String> {
    let database = settings.redis.as_ref()?.server.database;
    let refuses = |(_, away): &&(Endpoint, Option<&str>)| *away == Some(Fault::Database.word());
    let (master, _) = masters.as_ref().ok()?.iter().find(refuses)?;
    Some(format!(
        "Redis at {master} refuses database {database} (redis.url): it has none of that number (`databases` in redis.conf, 16 \
         unless it says otherwise), or its user may not SELECT"
    ))
}

/// Who the masters are, where the URL does not say it.
fn named(settings: &Settings, masters: Option<&Masters>) -> String {
    let mut said = Said::default();
    let named = |redis: &&redis_pool::Settings| !matches!(redis.server.topology, Topology::Single(_));
    let (Some(_), Some(masters)) = (settings.redis.as_ref().filter(named), masters) else { return said.0 };
    let shown = |(master, away): &(Endpoint, Option<&str>)| match away {
        None => master.to_string(),
        Some(reason) => format!("{master} (away: {reason})"),
    };
    said.line(
        "masters",
        &match masters {
            Ok(masters) => masters.iter().map(shown).collect::<Vec<_>>().join(", "),
            Err(reason) => format!("unknown: Redis cannot be asked now ({reason})"),
        },
    );
    said.0
}

/// What Redis says, if it says it in time.
fn within<T>(patience: Duration, asking: impl Future<Output = Result<T, &'static str>>) -> Result<T, &'static str> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|_| "no runtime")?;
    let asked = runtime.block_on(async { timeout(patience, asking).await });
    // A lookup of a host name may still be waiting for its resolver.
    runtime.shutdown_background();
    asked.unwrap_or(Err("timeout"))
}

/// How changes of what is remembered near would be told: asks Redis, which need not be there.
fn near(settings: &Settings) -> String {
    let mut said = Said::default();
    let prefixes = app::prefixes(settings);
    let Some(redis) = settings.redis.as_ref().filter(|_| !prefixes.is_empty()) else { return said.0 };
    let covering = covering(prefixes.iter().map(|prefix| &**prefix));
    let told = within(PATIENCE, probe(redis, &covering));
    said.line("near", &match told {
        Ok(Told::Tracking) => "Redis tells of every change (client tracking)".to_owned(),
        Ok(Told::PubSub) => {
            let near = &settings.near;
            let ages = [near.session_age(Told::PubSub), near.plan_age(Told::PubSub), near.response_max_age];
            let [sessions, plans, responses] = ages.map(format_duration);
            format!(
                "Redis refuses client tracking: changes by others are noticed after {sessions} (sessions), {plans} (plans), \
                 {responses} (responses)"
            )
        }
        Err("refused") => "Redis refuses client tracking and pub/sub: nothing is remembered".to_owned(),
        Err(reason) => format!("unknown: Redis cannot be asked now ({reason})"),
    });
    said.0
}

/// Those that limits go by, each once.
fn plans(settings: &Settings) -> Vec<&Plan> {
    let mut plans: Vec<&Plan> = Vec::new();
    for plan in settings.routes.iter().flat_map(|route| &route.limits).filter_map(|limit| limit.plan.as_deref()) {
        if !plans.contains(&plan) {
            plans.push(plan);
        }
    }
    plans
}

/// `GET /users → app, limits per-address (100 per minute by address), session web, cache pages`.
fn policies(route: &RouteSettings, settings: &Settings) -> String {
    let upstream = settings.upstreams.get(route.upstream).map_or("", |upstream| &upstream.name);
    let mut said = vec![format!("{} → {upstream}", route.label)];
    for limit in &route.limits {
        said.push(format!("limit {} ({limit})", limit.name));
    }
    if let Some(session) = &route.session {
        let mode = match session.mode {
            Mode::Required => "",
            Mode::Optional => " (optional)",
            Mode::Observe => " (only observes)",
        };
        let demands = session
            .require
            .iter()
            .map(|Requirement { attribute, values }| format!(", {attribute} {}", values.join(" or ")));
        said.push(format!("session {}{mode}{}", session.definition.name, demands.collect::<String>()));
    }
    if let Some(policy) = &route.cache {
        let mode = if policy.mode == cache::Mode::Observe { " (only observes)" } else { "" };
        said.push(format!("cache {}{mode}", policy.name));
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
            [limit.shad]
            key = "address"
            quota = "2 per minute"
            shadow = true
            [limit.login]
            key = "address"
            quota = "5 per hour"
            algorithm = "fixed-window"
            calendar = "UTC"
            count = [401, "500-503"]
            cost = "response:X-Cost"
            trial = "2 per hour"
            [limit.calm]
            key = "address"
            quota = "10 per second"
            burst = 1
            cost = 1
            on_exceed = "delay"
            [[route]]
            path = "/users"
            methods = ["GET"]
            limits = ["each", "shad", "login", "calm"]
            cors = "spa"
            cache = "pages"
            add_prefix = "/v2"
            [cache.pages]
            mode = "observe"
            [cors.spa]
            origins = "*"
        "#;
        let loaded = config::parse("sidegate.toml", text, &|_| None).unwrap();
        let expected = "\
listens on   127.0.0.1:8080
admin on     127.0.0.1:9901
stores       process memory
upstream     app = http://127.0.0.1:3000
route        GET /users → app, limit each (100 per minute by address + route), \
limit shad (2 per minute by address, shadow), \
limit login (5 per hour by address, fixed-window, calendar UTC, count 401 or 500-503, cost response:x-cost, trial 2 per hour), \
limit calm (10 per second by address, burst 1, delay at most 1s), cache pages (only observes), cors spa, rewritten
";
        assert_eq!(summary(&loaded.settings), expected);
    }

    #[test]
    fn a_method_that_content_may_say_is_warned_of_where_post_demands_less() {
        let warned = |deletes: &str, posts: &str| {
            let text = format!(
                "[upstream.app]\nservers = \"http://127.0.0.1:3000\"\n[redis]\nurl = \"redis://127.0.0.1:6379\"\n\
                 [session.web]\nformat = \"json\"\n[[route]]\npath = \"/a/{{id}}\"\n{deletes}\n\
                 [[route]]\npath = \"/{{*rest}}\"\n{posts}\n"
            );
            overridable(&config::parse("sidegate.toml", &text, &|_| None).unwrap().settings)
        };
        let admins = "methods = [\"DELETE\"]\nsession = { use = \"web\", require = { role = \"admin\" } }";
        let warnings = warned(admins, "session = \"web\"");
        assert!(warnings.len() == 1 && warnings[0].contains("route `/{*rest}`, which demands less"), "{warnings:?}");
        assert_eq!(warned(admins, "").len(), 1);
        let everywhere = "session = { use = \"web\", require = { role = \"admin\" } }";
        let quiet = Vec::<String>::new();
        assert_eq!(warned(admins, everywhere), quiet);
        assert_eq!(warned(admins, "methods = [\"GET\"]"), quiet, "a POST meets none");
        assert_eq!(warned(&admins.replace("DELETE", "GET"), ""), quiet, "no app lets a POST stand for it");
        assert_eq!(warned(&admins.replace("[\"", "[\"POST\", \""), ""), quiet, "it takes the POST itself");
        let posts =
            format!("methods = [\"GET\"]\n[[route]]\npath = \"/a/{{id}}\"\n{}", admins.replace("DELETE", "POST"));
        assert_eq!(
            warned(admins, &format!("{posts}\n[[route]]\npath = \"/{{*rest}}\"")),
            quiet,
            "a POST meets the guarded one"
        );
    }

    #[test]
    fn a_limit_that_never_sees_the_refusals_it_counts_is_warned_of() {
        let warned = |limit: &str, session: &str| {
            let text = format!(
                "[upstream.app]\nservers = \"http://127.0.0.1:3000\"\n[redis]\nurl = \"redis://127.0.0.1:6379\"\n\
                 [session.web]\nformat = \"json\"\n[limit.guesses]\nquota = \"9 per hour\"\n{limit}\n\
                 [[route]]\npath = \"/a\"\nlimits = [\"guesses\"]\nsession = {session}\n"
            );
            too_late(&config::parse("sidegate.toml", &text, &|_| None).unwrap().settings)
        };
        let (by_session, required) = ("key = \"session\"\ncount = [401, 403]", "\"web\"");
        let warnings = warned(by_session, required);
        let begins = "limit `guesses` on route `/a` goes by the session, and counts no 401 of session `web`";
        assert!(warnings.len() == 1 && warnings[0].starts_with(begins), "{warnings:?}");
        let missing = "key = \"header:X-Key\"\nmissing = \"session\"\ncount = [\"4xx\"]";
        assert_eq!(warned(missing, required).len(), 1);
        let demanding = "{ use = \"web\", mode = \"optional\", require = { role = \"admin\" } }";
        assert_eq!(warned(by_session, demanding).len(), 1);
        for (limit, session) in [
            ("key = \"address\"\ncount = [401]", required),
            ("key = \"session\"\ncount = [403]", required),
            ("key = \"session\"", required),
            (by_session, "{ use = \"web\", mode = \"optional\" }"),
            (by_session, "{ use = \"web\", mode = \"observe\" }"),
        ] {
            assert_eq!(warned(limit, session), Vec::<String>::new(), "{limit} {session}");
        }
    }

    #[test]
    fn a_forwarded_host_that_is_not_in_the_key_is_warned_of_where_a_proxy_has_the_last_word() {
        let warned = |trusted: &str, key: &str| {
            let text = format!(
                "[server]\ntrusted_proxies = {trusted}\n[upstream.app]\nservers = \"http://127.0.0.1:3000\"\n\
                 [cache.pages]\nkey = {key}\n[[route]]\npath = \"/a\"\ncache = \"pages\"\n\
                 [[route]]\npath = \"/b\"\ncache = \"pages\"\n"
            );
            unkeyed(&config::parse("sidegate.toml", &text, &|_| None).unwrap().settings)
        };
        let warnings = warned("[\"10.0.0.0/8\"]", "[]");
        assert!(
            warnings.len() == 1 && warnings[0].starts_with("cache `pages`: the app gets X-Forwarded-Host"),
            "{warnings:?}"
        );
        assert_eq!(warned("[\"unix\"]", "[]").len(), 1);
        assert_eq!(warned("[\"10.0.0.0/8\"]", "[\"field:X-Forwarded-Host\"]"), Vec::<String>::new());
        assert_eq!(warned("[]", "[]"), Vec::<String>::new(), "a client's own never reaches the app");
    }

    #[test]
    fn sessions_of_one_prefix_that_ask_different_things_of_it_are_warned_of() {
        let warned = |one: &str, other: &str| {
            let text = format!(
                "[upstream.app]\nservers = \"http://127.0.0.1:3000\"\n[redis]\nurl = \"redis://127.0.0.1\"\n\
                 [session.web]\nformat = \"json\"\nfrom = [\"bearer\"]\n{one}\n[session.adm]\nformat = \"json\"\nfrom = [\"bearer\"]\n{other}\n\
                 [[route]]\npath = \"/a\"\nsession = \"web\"\n[[route]]\npath = \"/b\"\nsession = \"adm\"\n\
                 [[route]]\npath = \"/c\"\nsession = \"web\"\n"
            );
            unlike(&config::parse("sidegate.toml", &text, &|_| None).unwrap().settings)
        };
        let warnings = warned("index = true", "");
        assert!(
            warnings.len() == 1
                && warnings[0]
                    .starts_with("sessions `web` and `adm` have one prefix (`session:`), and one has no `index`"),
            "{warnings:?}"
        );
        let warnings = warned("bind = { agent = true }", "bind = { ipv4 = 24, ipv6 = 56 }");
        assert!(warnings.len() == 1 && warnings[0].contains("another `bind`"), "{warnings:?}");
        assert_eq!(warned("index = true\nbind = { agent = true }", "").len(), 2);
        assert_eq!(warned("index = true", "index = { most = 5 }"), Vec::<String>::new());
        assert_eq!(warned("index = true", "prefix = \"adm:\""), Vec::<String>::new());
    }
}
