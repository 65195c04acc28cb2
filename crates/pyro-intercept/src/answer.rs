//! What a guest is answered, by the upstream or by us.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode, Version};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;

use crate::body::RedactedBody;

/// The body of an answer.
#[derive(Debug)]
pub(crate) enum AnswerBody {
    /// The upstream's, as it is.
    Relayed(Incoming),
    /// The upstream's without secrets.
    Redacted(Box<RedactedBody<Incoming>>),
    /// Ours.
    Own(Full<Bytes>),
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Relayed(body) => Pin::new(body).poll_frame(context),
            Self::Redacted(body) => Pin::new(body.as_mut()).poll_frame(context),
            Self::Own(body) => Pin::new(body).poll_frame(context).map_err(|never| match never {}),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Relayed(body) => body.is_end_stream(),
            Self::Redacted(body) => body.is_end_stream(),
            Self::Own(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Relayed(body) => body.size_hint(),
            Self::Redacted(body) => body.size_hint(),
            Self::Own(body) => body.size_hint(),
        }
    }
}

/// A request or its answer that we do not pass on, and what the guest reads instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) text: String,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, text: text.into() }
    }

    /// Returns the answer. It ends an HTTP/1 connection: the rest of a refused request is not waited for.
    pub(crate) fn answer(self, version: Version) -> Response<AnswerBody> {
        let body = format!("Pyro refused this request: {}.\n", self.text);
        let mut response = Response::new(AnswerBody::Own(Full::from(body)));
        *response.status_mut() = self.status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if version < Version::HTTP_2 {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}
