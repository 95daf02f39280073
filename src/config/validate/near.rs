//! `[near]`.

use super::process::sized;
use crate::config::quantity;
use crate::config::raw::{Fault, Table, Value, text};
use crate::redis_pool::near::Settings;

/// The most that a tier may hold.
const MOST: u64 = 1 << 40;

/// Reads what is said of the near tiers; without Redis they have nothing to be near of.
pub fn read(root: &mut Table<'_>, redis: bool) -> Settings {
    let settings = root.section("near", near).unwrap_or_default();
    if let Some(near) = root.value("near").filter(|_| !redis) {
        root.reading.warning(&near.at, "this does nothing: no Redis is configured");
    }
    settings
}

fn near(table: &mut Table<'_>) -> Settings {
    let mut near = Settings::default();
    table.set("enabled", &mut near.enabled, Value::flag);
    table.set("max_response_bytes", &mut near.max_response_bytes, sized(0, MOST));
    table.set("max_session_bytes", &mut near.max_session_bytes, sized(0, MOST));
    table.set("max_plan_bytes", &mut near.max_plan_bytes, sized(0, MOST));
    table.set("response_max_age", &mut near.response_max_age, text(quantity::duration));
    table.set("session_max_age", &mut near.session_max_age, text(quantity::duration));
    table.set("untracked_session_max_age", &mut near.untracked_session_max_age, text(quantity::duration));
    table.set("plan_max_age", &mut near.plan_max_age, text(quantity::duration));
    table.set("untracked_plan_max_age", &mut near.untracked_plan_max_age, text(quantity::duration));
    table.set("ping", &mut near.ping, text(quantity::duration));
    table.set("silence", &mut near.silence, text(quantity::duration));
    if near.silence <= near.ping {
        let at = table.value("silence").or_else(|| table.value("ping")).map_or(table.at.clone(), |value| value.at);
        let help = "silence = \"2s\" with ping = \"1s\"";
        let message = "a connection that is asked for a sign of life this seldom would always count as lost";
        table.reading.error(&at, Fault::with_help(message, help));
    }
    near
}
