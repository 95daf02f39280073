//! HTTP/2 from the client: what of it the app sees, what comes back, what it may cost, and how long it lasts.

mod abuse;
mod answers;
mod blocks;
mod fuzz;
mod life;
mod requests;
