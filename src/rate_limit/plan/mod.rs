//! What clients have been promised: quotas of their own, in Redis, found by the API key that they present.
//!
//! 1. The API key is the one value of the configured field, cookie or query parameter. None, or several: there is no key,
//!    for the app may read another than we do.
//! 2. A key of more than 256 bytes, or with control bytes in it, is unknown without a question (`presented`).
//! 3. A client's record is a Redis hash. `quota` and `burst` are for all limits that go by the plan, `NAME.quota` and
//!    `NAME.burst` for the limit NAME. What cannot be read counts as not there, is counted, and logged once (`record`).
//! 4. What Redis said is remembered as long as it is certain that it stands, and a hot request makes no trip: while every
//!    change is told, and `near.plan_max_age` at most. That a key is unknown is remembered only then, and in a place of
//!    its own: no number of invented keys drives out what is known of true ones (`remembered`).
//! 5. Redis away, or unwilling: the last that it said of a client counts, however long ago; of whom it said nothing, the limits' own
//!    quotas. An outage is never a 401.
//! 6. `unknown = "refuse"`: whoever presents no key, or one without a record, gets one and the same 401, before anything
//!    else is asked or counted. A CORS preflight (Fetch §4.8) carries no key by design, and passes.
//! 7. API keys are never shown: neither in logs, where a digest stands for one, nor in metrics.
//!
//! # Why
//! By which quota a request is judged has to be known before its limits are asked, so a cold key costs a trip of its own.
//! Rule 6: where an unknown key has the limits' own quotas, each that is invented has them anew; a limit by address
//! beside, or `refuse`, is what bounds that.
//!
//! Rule 5: whoever has paid for a large quota must not be refused because Redis is away; limits are counted in process
//! then, and each instance gives its share of the quota that it last knew.

mod layer;
mod named;
mod presented;
mod record;
mod remembered;

pub use layer::{Lookup, layer};
pub use named::promised;
pub use presented::Name;
pub use remembered::{Bounds, Remembered};
