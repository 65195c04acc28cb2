//! What is changed in an answer to a request that carried a secret.

use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use http::response::Parts;
use http::{Method, StatusCode};
use hyper::body::{Body, Incoming};
use hyper::ext::ReasonPhrase;
use pyro_secret::Redactor;

use crate::answer::{AnswerBody, Refusal};
use crate::body::{HoldBack, RedactedBody};

/// What matters of a request when its answer comes.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) grpc: bool,
}

/// Returns whether a message is one of gRPC.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// Takes secrets out of an answer's head, and returns its body as one out of which they are taken.
///
/// # Errors
///
/// If the body cannot be looked through, since it is compressed although the request said that it must not be.
pub(crate) fn redact(parts: &mut Parts, body: Incoming, asked: &Asked, redactor: &Redactor) -> Result<AnswerBody, Refusal> {
    redact_headers(&mut parts.headers, redactor);
    // The words after an HTTP/1 status, which nothing reads and a server may put anything into.
    parts.extensions.remove::<ReasonPhrase>();
    let bodiless = asked.method == Method::HEAD || matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    // Both must say so: a guest decides what it asks, and some servers let it decide what they answer.
    if bodiless || body.is_end_stream() || (asked.grpc && is_grpc(&parts.headers)) {
        return Ok(AnswerBody::Relayed(body));
    }
    if is_coded(&parts.headers, CONTENT_ENCODING, "identity") || is_coded(&parts.headers, TRANSFER_ENCODING, "chunked") {
        return Err(Refusal::new(
            StatusCode::BAD_GATEWAY,
            "its answer is compressed although it must not be, so it cannot be searched for the secret that the request carried",
        ));
    }
    let hold_back = match parts.headers.remove(CONTENT_LENGTH) {
        Some(_) => HoldBack::ToTheEnd,
        None => HoldBack::UntilQuiet,
    };
    Ok(AnswerBody::Redacted(Box::new(RedactedBody::new(body, redactor, hold_back))))
}

fn is_coded(headers: &HeaderMap, name: http::HeaderName, plain: &str) -> bool {
    headers.get_all(name).iter().any(|coding| !coding.as_bytes().trim_ascii().eq_ignore_ascii_case(plain.as_bytes()))
}

/// Takes secrets out of the values of headers or trailers.
pub(crate) fn redact_headers(headers: &mut HeaderMap, redactor: &Redactor) {
    for value in headers.values_mut() {
        let redacted = redactor.redact_bytes(value.as_bytes());
        if redacted != value.as_bytes() {
            *value = HeaderValue::from_bytes(&redacted).unwrap_or_else(|_| HeaderValue::from_static(""));
        }
    }
}
