//! A body out of which secrets are taken while it passes.
//!
//! What a redacting stream holds back depends on the secret, so when bytes arrive tells about it: a guest that can have its own bytes sent
//! back could find out a secret letter by letter. A body that announces its length is over soon; of it, the same number of bytes is held
//! back whatever they are. One that does not may be a stream of events, whose reader waits for each, and holds back what it must.

use std::borrow::Cow;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame};
use pyro_secret::{RedactedStream, Redactor};

use crate::relay::redact_headers;

/// How much of a body is held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HoldBack {
    /// What may begin a secret.
    AsNeeded,
    /// As many bytes as may ever be needed.
    Always,
}

/// A body without secrets; its length is not known in advance.
#[derive(Debug)]
pub(crate) struct RedactedBody<B> {
    inner: B,
    redactor: Redactor,
    stream: RedactedStream,
    /// How many bytes have to be behind, here and in the stream together, until the end.
    behind_bytes: usize,
    ready: BytesMut,
    trailers: Option<HeaderMap>,
    ended: bool,
}

impl<B> RedactedBody<B> {
    pub(crate) fn new(inner: B, redactor: &Redactor, hold_back: HoldBack) -> Self {
        let behind_bytes = match hold_back {
            HoldBack::AsNeeded => 0,
            HoldBack::Always => redactor.held_bytes_max(),
        };
        let stream = redactor.stream();
        Self { inner, redactor: redactor.clone(), stream, behind_bytes, ready: BytesMut::new(), trailers: None, ended: false }
    }

    /// Takes bytes and returns what may be passed on.
    fn take(&mut self, data: &Bytes) -> Bytes {
        let shown = self.stream.push(data);
        if let Cow::Borrowed(shown) = shown
            && self.behind_bytes == 0
        {
            return data.slice_ref(shown);
        }
        self.ready.extend_from_slice(&shown);
        let behind_here = self.behind_bytes.saturating_sub(self.stream.held_bytes());
        self.ready.split_to(self.ready.len().saturating_sub(behind_here)).freeze()
    }

    fn finish(&mut self) -> Bytes {
        self.ended = true;
        self.ready.extend_from_slice(&self.stream.finish());
        self.ready.split().freeze()
    }
}

impl<B> Body for RedactedBody<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        while !this.ended {
            let data = match ready!(Pin::new(&mut this.inner).poll_frame(context)).transpose()? {
                None => this.finish(),
                Some(frame) => match frame.into_data() {
                    Ok(data) => this.take(&data),
                    Err(frame) => match frame.into_trailers() {
                        Ok(mut trailers) => {
                            redact_headers(&mut trailers, &this.redactor);
                            this.trailers = Some(trailers);
                            this.finish()
                        }
                        Err(_) => continue,
                    },
                },
            };
            if !data.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
        }
        Poll::Ready(this.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended && self.trailers.is_none()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::convert::Infallible;

    use pyro_secret::SecretValue;

    use super::*;

    /// A body of frames that are all there.
    struct Frames(VecDeque<Frame<Bytes>>);

    impl Body for Frames {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.0.pop_front().map(Ok))
        }
    }

    fn shown(chunks: &[&str], hold_back: HoldBack) -> Vec<String> {
        let value = SecretValue::new("canary".to_owned()).unwrap();
        let redactor = Redactor::with_replacements([(&value, "<placeholder>")]).unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-echo", "a canary".parse().unwrap());
        let frames = chunks.iter().map(|chunk| Frame::data(Bytes::copy_from_slice(chunk.as_bytes())));
        let mut body = RedactedBody::new(Frames(frames.chain([Frame::trailers(trailers)]).collect()), &redactor, hold_back);
        let mut context = Context::from_waker(std::task::Waker::noop());
        let mut shown = Vec::new();
        while let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut body).poll_frame(&mut context) {
            match frame.into_data() {
                Ok(data) => shown.push(String::from_utf8(data.to_vec()).unwrap()),
                Err(frame) => shown.push(frame.into_trailers().ok().unwrap()["x-echo"].to_str().unwrap().to_owned()),
            }
        }
        assert!(body.is_end_stream());
        shown
    }

    #[test]
    fn a_split_value_is_replaced_and_trailers_come_last() {
        assert_eq!(shown(&["a can", "ary b"], HoldBack::AsNeeded), ["a ", "<placeholder> b", "a <placeholder>"]);
        assert_eq!(shown(&["a can"], HoldBack::AsNeeded), ["a ", "can", "a <placeholder>"]);
    }

    #[test]
    fn what_is_held_back_of_a_body_with_a_length_tells_nothing_of_the_value() {
        let lengths = |text: &str| shown(&[text, "--"], HoldBack::Always).iter().map(String::len).collect::<Vec<_>>();
        assert_eq!(lengths("0123456789abcdef-canar"), lengths("0123456789abcdef-xxxxx"));
        assert_eq!(shown(&["a can", "ary b"], HoldBack::Always).concat(), "a <placeholder> ba <placeholder>");
    }
}
