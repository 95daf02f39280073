//! Answers that sidegate gives itself.
