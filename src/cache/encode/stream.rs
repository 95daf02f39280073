//! Content that is coded as it passes.
//!
//! 1. What the app has sent is never held back: when it pauses, what the coder has is flushed.
//! 2. Content that was cut short, or cannot be coded further, ends with an error and without the coding's end.
//! 3. Of a large frame [`STEP`] bytes are coded at a time, and after as many the worker's other requests have a turn.
//! 4. Trailers come after the content.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame};

use super::Place;
use super::coder::Coder;
use crate::body::{Body, BodyError};

/// Bytes of content that are coded in one go.
const STEP: usize = 64 << 10;

/// Bytes that are worth a frame of their own while more is at hand.
const FRAME: usize = 8 << 10;

/// See the module's rules.
pub(super) struct Coded {
    source: Body,
    state: State,
    /// What of the last frame is still to be coded.
    rest: Bytes,
    /// The coder may have bytes that nobody has seen.
    holding: bool,
    /// Bytes coded since the others had a turn.
    spent: usize,
    _place: Place,
}

enum State {
    Coding(Coder),
    /// The content has ended, or ends after these trailers.
    Ended(Option<HeaderMap>),
    Broken,
}

type Step = Option<Result<Frame<Bytes>, BodyError>>;

impl Coded {
    /// `source` coded by `coder`, which has a place for as long.
    pub(super) fn new(source: Body, coder: Coder, place: Place) -> Self {
        Self { source, state: State::Coding(coder), rest: Bytes::new(), holding: false, spent: 0, _place: place }
    }

    /// Codes a piece of what is there, and gives what comes of it, if anything does.
    fn code(&mut self) -> Result<Bytes, BodyError> {
        let State::Coding(coder) = &mut self.state else { return Err(broken()) };
        let piece = self.rest.split_to(self.rest.len().min(STEP));
        coder.write(&piece).map_err(|_| broken())?;
        self.spent += piece.len();
        self.holding = true;
        Ok(coder.take(FRAME))
    }

    fn flush(&mut self) -> Result<Bytes, BodyError> {
        let State::Coding(coder) = &mut self.state else { return Err(broken()) };
        self.holding = false;
        coder.flush().map_err(|_| broken())?;
        Ok(coder.take(0))
    }

    fn finish(&mut self, trailers: Option<HeaderMap>) -> Result<Bytes, BodyError> {
        match std::mem::replace(&mut self.state, State::Ended(trailers)) {
            State::Coding(coder) => coder.finish().map_err(|_| broken()),
            State::Ended(_) | State::Broken => Err(broken()),
        }
    }

    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        loop {
            match &mut self.state {
                State::Ended(trailers) => {
                    return Poll::Ready(trailers.take().map(|fields| Ok(Frame::trailers(fields))));
                }
                State::Broken => return Poll::Ready(Some(Err(broken()))),
                State::Coding(_) => {}
            }
            let coded = if !self.rest.is_empty() {
                if self.spent >= STEP {
                    self.spent = 0;
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                self.code()
            } else {
                match Pin::new(&mut self.source).poll_frame(cx) {
                    Poll::Pending => {
                        self.spent = 0;
                        if !self.holding {
                            return Poll::Pending;
                        }
                        self.flush()
                    }
                    Poll::Ready(None) => self.finish(None),
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                    Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                        Ok(content) => {
                            self.rest = content;
                            continue;
                        }
                        Err(frame) => self.finish(frame.into_trailers().ok()),
                    },
                }
            };
            match coded {
                Ok(bytes) if bytes.is_empty() => {}
                Ok(bytes) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
    }
}

fn broken() -> BodyError {
    BodyError::Broken("it could not be coded")
}

impl HttpBody for Coded {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Step> {
        let this = self.get_mut();
        let step = this.poll_step(cx);
        if matches!(step, Poll::Ready(Some(Err(_)))) {
            this.state = State::Broken;
        }
        step
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.state, State::Ended(None))
    }
}

#[cfg(test)]
mod tests {
    use super::super::coder::tests::decoded;
    use super::super::{MemorySettings, Places};
    use super::*;
    use crate::cache::Coding;
    use std::collections::VecDeque;
    use std::task::Waker;

    /// What a source does at each poll; `None`: it has nothing yet.
    struct Script(VecDeque<Option<Step>>);

    impl HttpBody for Script {
        type Data = Bytes;
        type Error = BodyError;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Step> {
            match self.0.pop_front() {
                Some(Some(step)) => Poll::Ready(step),
                Some(None) => Poll::Pending,
                None => Poll::Ready(None),
            }
        }
    }

    fn coded(coding: Coding, script: Vec<Option<Step>>) -> Coded {
        let place = Places::new(MemorySettings::default()).take().unwrap();
        Coded::new(Body::boxed(Script(script.into())), Coder::new(coding, None).unwrap(), place)
    }

    fn data(text: impl Into<Bytes>) -> Option<Step> {
        Some(Some(Ok(Frame::data(text.into()))))
    }

    fn poll(content: &mut Coded) -> Poll<Step> {
        Pin::new(content).poll_frame(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_source_that_pauses_is_not_held_back() {
        for coding in Coding::ALL {
            let mut content = coded(coding, vec![data("first"), None, None, data("second"), None]);
            let Poll::Ready(Some(Ok(frame))) = poll(&mut content) else { panic!("{coding:?} holds back") };
            let mut seen = frame.into_data().unwrap().to_vec();
            assert!(poll(&mut content).is_pending(), "there is nothing more to flush");
            let Poll::Ready(Some(Ok(frame))) = poll(&mut content) else { panic!("{coding:?} holds back") };
            seen.extend(frame.into_data().unwrap());
            let Poll::Ready(Some(Ok(frame))) = poll(&mut content) else { panic!("{coding:?} has no end") };
            assert!(content.is_end_stream());
            seen.extend(frame.into_data().unwrap());
            assert!(matches!(poll(&mut content), Poll::Ready(None)));
            assert_eq!(decoded(coding, &seen).unwrap(), b"firstsecond");
        }
    }

    #[test]
    fn content_that_is_cut_short_never_ends_as_whole() {
        for coding in Coding::ALL {
            let cut = Some(Some(Err(BodyError::Broken("cut"))));
            let mut content = coded(coding, vec![data(vec![b'x'; 5000]), None, cut]);
            let Poll::Ready(Some(Ok(frame))) = poll(&mut content) else { panic!("nothing came") };
            assert!(matches!(poll(&mut content), Poll::Ready(Some(Err(_)))));
            assert!(matches!(poll(&mut content), Poll::Ready(Some(Err(_)))), "and never anything else");
            assert!(!content.is_end_stream());
            assert!(decoded(coding, &frame.into_data().unwrap()).is_err());
        }
    }

    #[test]
    fn a_large_frame_leaves_turns_to_others() {
        let mut random = fastrand::Rng::with_seed(7);
        let large: Vec<u8> = (0..5 * STEP + 1).map(|_| random.u8(..)).collect();
        for coding in Coding::ALL {
            let mut content = coded(coding, vec![data(large.clone())]);
            let (mut seen, mut turns) = (Vec::new(), 0);
            loop {
                match poll(&mut content) {
                    Poll::Pending => turns += 1,
                    Poll::Ready(Some(Ok(frame))) => seen.extend(frame.into_data().unwrap()),
                    Poll::Ready(Some(Err(error))) => panic!("{error}"),
                    Poll::Ready(None) => break,
                }
            }
            assert_eq!(turns, 5, "{coding:?}");
            assert_eq!(decoded(coding, &seen).unwrap(), large);
        }
    }

    #[test]
    fn trailers_come_after_the_content() {
        let trailers = HeaderMap::from_iter([(http::header::ETAG, http::HeaderValue::from_static("\"x\""))]);
        let mut content = coded(Coding::Gzip, vec![data("a"), Some(Some(Ok(Frame::trailers(trailers.clone()))))]);
        let Poll::Ready(Some(Ok(frame))) = poll(&mut content) else { panic!("nothing came") };
        let mut seen = frame.into_data().unwrap().to_vec();
        let mut last = poll(&mut content);
        if let Poll::Ready(Some(Ok(frame))) = last {
            match frame.into_data() {
                Ok(rest) => {
                    seen.extend(rest);
                    last = poll(&mut content);
                }
                Err(frame) => last = Poll::Ready(Some(Ok(frame))),
            }
        }
        let Poll::Ready(Some(Ok(frame))) = last else { panic!("no trailers") };
        assert_eq!(frame.into_trailers().unwrap(), trailers);
        assert_eq!(decoded(Coding::Gzip, &seen).unwrap(), b"a");
    }
}
