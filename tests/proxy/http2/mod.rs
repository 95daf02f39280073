//! HTTP/2 from the client: what the app sees, what comes back.
