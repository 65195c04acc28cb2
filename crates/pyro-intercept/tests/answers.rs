//! What a guest can get out of answers.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod kit;

use http_body_util::BodyExt;
use kit::client::text;
use kit::{CANARY, HOST, Identity, Server, World, run};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[test]
fn a_value_split_over_writes_is_hidden() {
    run(async {
        let identity = Identity::new(HOST);
        for length in ["Transfer-Encoding: chunked", "Content-Length: 25", "Connection: close"] {
            let server = Server::raw(&identity, move |mut stream| async move {
                let _ = stream.read(&mut [0; 4096]).await;
                let chunked = length.starts_with("Transfer");
                let _ = stream.write_all(format!("HTTP/1.1 200 Fine {CANARY}\r\n{length}\r\n\r\n").as_bytes()).await;
                for part in ["a ", &CANARY[..7], &CANARY[7..], " b"] {
                    let part = if chunked { format!("{:x}\r\n{part}\r\n", part.len()) } else { part.to_owned() };
                    let _ = stream.write_all(part.as_bytes()).await;
                    let _ = stream.flush().await;
                    // So that they come in records, and reads, of their own.
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                }
                let _ = stream.write_all(if chunked { b"0\r\n\r\n" } else { b"" }).await;
                let _ = stream.shutdown().await;
            })
            .await;
            let world = World::with(server, &identity.authority_pem);
            let mut client = world.client(&["http/1.1"]).await;
            let request = client.request("GET", "/").header("authorization", world.bearer()).body(text("")).unwrap();
            let response = client.try_send(request).await.unwrap();
            assert!(!format!("{response:?}").contains(CANARY));
            let body = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(String::from_utf8_lossy(&body), format!("a {} b", world.placeholder), "{length}");
        }
    });
}

#[test]
fn a_compressed_answer_is_withheld_and_said_to_be() {
    run(async {
        let world = World::new().await;
        let mut client = world.client(&["h2"]).await;
        let answer = client.get("/compressed", &world.bearer()).await;
        assert_eq!(answer.status, 502);
        assert_eq!(
            answer.body,
            "Pyro refused this request: its answer is compressed although it must not be, so it cannot be searched for the secret that the request carried.\n"
        );
        // One that carried no secret is not looked into.
        assert_eq!(client.get("/compressed", "none").await.body, "not really");
    });
}

#[test]
fn trailers_pass_and_their_secrets_are_hidden() {
    run(async {
        let world = World::new().await;
        for alpn in ["h2", "http/1.1"] {
            let mut client = world.client(&[alpn]).await;
            let request = client.request("GET", "/trailers").header("te", "trailers").header("authorization", world.bearer());
            let request = if client.is_http2() { request } else { request.header("connection", "te") };
            let answer = client.send(request.body(text("")).unwrap()).await;
            assert_eq!(answer.body, "xxxxxxxxxx");
            assert_eq!(answer.trailers["x-end"], world.bearer().as_str(), "{alpn}");
        }
    });
}

#[test]
fn grpc_messages_pass_as_they_are() {
    run(async {
        let world = World::new().await;
        let mut client = world.client(&["h2"]).await;
        let mut request = client.request("POST", "/grpc").header("te", "trailers").header("authorization", world.bearer());
        request = request.header("content-type", "application/grpc+proto");
        let answer = client.send(request.body(text(&format!("message {CANARY}"))).unwrap()).await;
        assert_eq!(answer.body, format!("message {CANARY}"));
        // The server alone does not decide that an answer is one of gRPC.
        let request = client.request("POST", "/grpc").header("authorization", world.bearer()).body(text(CANARY)).unwrap();
        assert_eq!(client.send(request).await.body, world.placeholder);
    });
}

#[test]
fn a_stream_of_events_is_passed_on_as_it_comes() {
    run(async {
        let world = World::new().await;
        let mut client = world.client(&["h2"]).await;
        let (sender, receiver) = tokio::sync::mpsc::channel::<&'static str>(1);
        let stream = futures_util::stream::unfold(receiver, |mut receiver| async {
            let text = receiver.recv().await?;
            Some((Ok::<_, std::convert::Infallible>(http_body::Frame::data(bytes::Bytes::from(text))), receiver))
        });
        let body = BodyExt::boxed(http_body_util::StreamBody::new(SyncStream(std::sync::Mutex::new(Box::pin(stream)))));
        let request = client.request("POST", "/mirror").header("authorization", world.bearer()).body(body).unwrap();
        let mut answer = client.try_send(request).await.unwrap().into_body();
        for event in ["data: one\n\n", "data: two\n\n"] {
            sender.send(event).await.unwrap();
            assert_eq!(answer.frame().await.unwrap().unwrap().into_data().unwrap(), event);
        }
        drop(sender);
        assert!(answer.collect().await.unwrap().to_bytes().is_empty());
    });
}

type Parts = std::pin::Pin<Box<dyn futures_util::Stream<Item = Result<http_body::Frame<bytes::Bytes>, std::convert::Infallible>> + Send>>;

/// Boxed bodies must be shareable.
struct SyncStream(std::sync::Mutex<Parts>);

impl futures_util::Stream for SyncStream {
    type Item = Result<http_body::Frame<bytes::Bytes>, std::convert::Infallible>;

    fn poll_next(self: std::pin::Pin<&mut Self>, context: &mut std::task::Context<'_>) -> std::task::Poll<Option<Self::Item>> {
        self.get_mut().0.get_mut().unwrap().as_mut().poll_next(context)
    }
}
