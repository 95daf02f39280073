//! Which paths a write may take back with all below them, of all routes.

use std::sync::Arc;

use crate::cache::rules::on_write::OnWrite;
use crate::cache::store::Wildcards;
use crate::config::settings::{RouteSettings, Settings};
use crate::route::pattern::Segment;

/// What of all routes' `on_write` takes back all below a path.
pub(super) fn wildcards(settings: &Settings) -> Arc<Wildcards> {
    let of_route = |route: &RouteSettings| {
        let names: Vec<&str> = route.pattern.parameters().map(|name| &**name).collect();
        let many = route.pattern.segments.iter().filter_map(|segment| match segment {
            Segment::Rest(name) => Some(&**name),
            _ => None,
        });
        let many: Vec<&str> = many.collect();
        let entries = route.on_write.iter().filter_map(|text| OnWrite::parse(text, &names).ok());
        entries.filter_map(|entry| entry.below(&many)).collect::<Vec<_>>()
    };
    Arc::new(Wildcards::new(settings.routes.iter().flat_map(of_route)))
}
