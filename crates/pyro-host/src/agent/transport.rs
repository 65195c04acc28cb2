//! HTTP/2 on one ready stream: what tonic's own channel would do, without reconnecting, with the windows a slow channel needs.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use pyro_proto::limits::{CONNECTION_WINDOW_BYTES, FRAME_MAX_BYTES, STREAM_WINDOW_BYTES};
use tokio::{net::UnixStream, task::JoinHandle};
use tonic::body::Body;

use crate::error::{HostError, HostResult};

/// Sends requests on the connection.
#[derive(Debug, Clone)]
pub(crate) struct Transport(http2::SendRequest<Body>);

/// The authority requests name; nothing looks at it.
pub(super) fn origin() -> hyper::Uri {
    hyper::Uri::from_static("http://guest")
}

impl Transport {
    /// Starts HTTP/2; the task ends with the connection.
    pub(super) async fn start(stream: UnixStream) -> HostResult<(Self, JoinHandle<()>)> {
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_frame_size(FRAME_MAX_BYTES)
            .max_send_buf_size(1 << 20)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| HostError::Channel { doing: "starting HTTP/2", source: std::io::Error::other(error) })?;
        let task = tokio::spawn(async move { drop(connection.await) });
        Ok((Self(sender), task))
    }
}

impl tower::Service<hyper::Request<Body>> for Transport {
    type Response = hyper::Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: hyper::Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}
