//! `sidegate sessions`: which sessions a user has, and that they are over.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::admin::{escaped, tell};
use crate::session::store::sightings::is_handle;

/// `sidegate sessions …`.
#[derive(Debug, Args)]
#[command(
    after_help = "It knows the sessions that have passed a running sidegate since `index` was set in [session.NAME]. One \
                        running sidegate is enough: it holds on all that share its Redis. Where the admin listener has a \
                        token, it is taken from the environment: SIDEGATE_ADMIN_TOKEN."
)]
pub struct Arguments {
    /// The admin listener of a running sidegate
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9901", global = true)]
    admin: String,
    /// Print the answer as JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    wanted: Wanted,
}

#[derive(Debug, Subcommand)]
enum Wanted {
    /// List the sessions of a user
    List {
        /// The user, as the session records name it
        #[arg(value_parser = named)]
        user: String,
        /// Of this definition ([session.NAME]) alone
        #[arg(long, value_name = "NAME", value_parser = named)]
        session: Option<String>,
    },
    /// End a session, or all of a user: the app's record is removed, whatever framework wrote it
    Revoke {
        /// The session, as `list` shows it
        #[arg(required_unless_present = "user", conflicts_with = "user", value_parser = handle)]
        handle: Option<String>,
        /// All sessions of this user
        #[arg(long, value_parser = named)]
        user: Option<String>,
        /// All but this one
        #[arg(long, value_name = "HANDLE", requires = "user", value_parser = handle)]
        but: Option<String>,
        /// With --user: of this definition ([session.NAME]) alone
        #[arg(long, value_name = "NAME", requires = "user", value_parser = named)]
        session: Option<String>,
    },
}

/// Asks, prints the answer, and exits with 0; with 1 if there is none, or no such session.
pub fn sessions(arguments: &Arguments) -> ExitCode {
    // No content, and the time that work is given: a user may have thousands.
    tell(&arguments.admin, &request(&arguments.wanted), Some(""), arguments.json, told)
}

fn named(text: &str) -> Result<String, &'static str> {
    if text.is_empty() { Err("it is empty") } else { Ok(text.to_owned()) }
}

fn handle(text: &str) -> Result<String, &'static str> {
    if is_handle(text) { Ok(text.to_owned()) } else { Err("a handle is 32 hexadecimal digits, as `list` shows it") }
}

fn request(wanted: &Wanted) -> String {
    let of = |start: &str, user: &str, session: &Option<String>| {
        let session = session.as_ref().map(|name| format!("&session={}", escaped(name))).unwrap_or_default();
        format!("{start}?user={}{session}", escaped(user))
    };
    match wanted {
        Wanted::List { user, session } => of("GET /sessions", user, session),
        Wanted::Revoke { handle: Some(handle), .. } => format!("POST /sessions/{handle}/revoke"),
        Wanted::Revoke { user, but, session, .. } => {
            let but = but.as_ref().map(|but| format!("&but={but}")).unwrap_or_default();
            of("POST /sessions/revoke", user.as_deref().unwrap_or_default(), session) + &but
        }
    }
}

/// The answer for people.
fn told(answer: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut out = String::new();
    if let Some(revoked) = answer.get("revoked") {
        for handle in list(revoked) {
            // Writing to a string cannot fail.
            let _ = writeln!(out, "revoked {}", text(&handle));
        }
        if out.is_empty() {
            out.push_str("no session to revoke\n");
        }
        return out;
    }
    for session in list(&answer["sessions"]) {
        let ends = session["ends_in"].as_u64().map_or("no end".to_owned(), |seconds| format!("ends in {seconds} s"));
        let [handle, name, first, last] = ["handle", "session", "first_seen", "last_seen"].map(|of| text(&session[of]));
        let [address, agent] = ["address", "agent"].map(|of| text(&session[of]));
        let _ = writeln!(out, "{handle}  {name}  {agent} at {address}  first {first}  last {last}  {ends}");
    }
    if out.is_empty() {
        out.push_str("this user has no session that has been seen\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const HANDLE: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn what_is_wanted_becomes_one_request() {
        let list = Wanted::List { user: "a b&c".into(), session: Some("web".into()) };
        assert_eq!(request(&list), "GET /sessions?user=a%20b%26c&session=web");
        let revoke = |handle: Option<&str>, user: Option<&str>, but: Option<&str>| {
            let [handle, user, but] = [handle, user, but].map(|text| text.map(str::to_owned));
            request(&Wanted::Revoke { handle, user, but, session: None })
        };
        assert_eq!(revoke(Some(HANDLE), None, None), format!("POST /sessions/{HANDLE}/revoke"));
        assert_eq!(revoke(None, Some("7"), None), "POST /sessions/revoke?user=7");
        assert_eq!(revoke(None, Some("7"), Some(HANDLE)), format!("POST /sessions/revoke?user=7&but={HANDLE}"));
    }

    #[test]
    fn answers_are_told_in_words() {
        let session = |ends: Option<u64>| {
            let session = json!({"handle": HANDLE, "session": "web", "first_seen": "A", "last_seen": "B",
                "address": "192.0.2.7", "agent": "curl", "ends_in": ends});
            told(&json!({ "user": "7", "sessions": [session] }))
        };
        assert_eq!(session(Some(9)), format!("{HANDLE}  web  curl at 192.0.2.7  first A  last B  ends in 9 s\n"));
        assert!(session(None).ends_with("  no end\n"));
        assert_eq!(told(&json!({"sessions": []})), "this user has no session that has been seen\n");
        assert_eq!(told(&json!({"revoked": [HANDLE]})), format!("revoked {HANDLE}\n"));
        assert_eq!(told(&json!({"revoked": []})), "no session to revoke\n");
    }
}
