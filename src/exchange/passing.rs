//! On to the next service, without a copy of its answer on the way back.
//!
//! # Why
//! An `async` block that ends in `pass(next, exchange).await` takes the answer out of one future and puts it into another:
//! two copies of 168 bytes, and a state of its own, for each layer that only looks at requests. A layer that is a plain
//! function which returns one of these costs neither.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::Response;
use pin_project_lite::pin_project;

use super::{Exchange, Next};
use crate::body::Body;

/// Hands an exchange to the next service and waits for its answer.
pub fn pass<S: Next>(mut next: S, exchange: Box<Exchange>) -> Passing<S::Future> {
    // Every service of the stack is always ready (`stack.rs` says why), so readiness is not asked for.
    Passing { answer: next.call(exchange) }
}

pin_project! {
    /// The answer of the next service, on its way.
    pub struct Passing<F> {
        #[pin]
        answer: F,
    }
}

impl<F: Future<Output = Result<Response<Body>, Infallible>>> Future for Passing<F> {
    type Output = Response<Body>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Response<Body>> {
        self.project().answer.poll(cx).map(|Ok(response)| response)
    }
}

pin_project! {
    /// What a layer returns that passes most requests on as they are, and sees to some itself.
    #[project = EitherOf]
    pub enum Either<F> {
        /// In a box, for it is rare.
        Itself { answer: Pin<Box<dyn Future<Output = Response<Body>>>> },
        /// The next service answers.
        Passed { #[pin] answer: Passing<F> },
    }
}

impl<F> Either<F> {
    /// The layer answers.
    pub fn itself(answer: impl Future<Output = Response<Body>> + 'static) -> Self {
        Self::Itself { answer: Box::pin(answer) }
    }

    /// The layer answers at once.
    pub fn answered(answer: Response<Body>) -> Self {
        Self::itself(std::future::ready(answer))
    }

    /// The next service does.
    pub fn passed(answer: Passing<F>) -> Self {
        Self::Passed { answer }
    }
}

impl<F: Future<Output = Result<Response<Body>, Infallible>>> Future for Either<F> {
    type Output = Response<Body>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Response<Body>> {
        match self.project() {
            EitherOf::Itself { answer } => answer.as_mut().poll(cx),
            EitherOf::Passed { answer } => answer.poll(cx),
        }
    }
}
