//! The event stream of the sample app (`text/event-stream`): one event at once, then one a second, a minute long.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::time::Interval;

/// Events in one stream.
pub const COUNT: u32 = 60;

/// The content of one stream of events.
pub struct Events {
    tick: Interval,
    sent: u32,
}

impl Events {
    /// A stream that begins now. Call it on a runtime with a timer.
    pub fn new() -> Self {
        // The first tick of an interval is due at once.
        Self { tick: tokio::time::interval(Duration::from_secs(1)), sent: 0 }
    }
}

impl Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.sent == COUNT {
            return Poll::Ready(None);
        }
        ready!(self.tick.poll_tick(cx));
        self.sent += 1;
        let event = format!("id: {0}\nevent: tick\ndata: {{\"tick\":{0},\"of\":{COUNT}}}\n\n", self.sent);
        Poll::Ready(Some(Ok(Frame::data(event.into()))))
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_event_comes_at_once_and_the_last_after_a_minute() {
        let begin = tokio::time::Instant::now();
        let mut events = Events::new();
        let first = events.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(&first[..], b"id: 1\nevent: tick\ndata: {\"tick\":1,\"of\":60}\n\n");
        assert!(begin.elapsed() < Duration::from_millis(50));
        let mut count = 1;
        while events.frame().await.is_some() {
            count += 1;
        }
        assert_eq!(count, COUNT);
        assert_eq!(begin.elapsed().as_secs(), u64::from(COUNT) - 1);
    }
}
