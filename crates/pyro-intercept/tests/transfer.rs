//! Bodies, pipes, and peers that are slow or half gone.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod kit;

use std::time::{Duration, Instant};

use http::HeaderMap;
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use kit::client::{Stream, text};
use kit::{HOST, Identity, Server, World, run};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const BODY_BYTES: usize = 10_000_000;

#[test]
fn large_bodies_pass_both_ways_with_and_without_secrets() {
    run(async {
        let world = World::new().await;
        for (alpn, authorization) in
            [("h2", world.bearer()), ("http/1.1", world.bearer()), ("h2", String::new()), ("http/1.1", String::new())]
        {
            let mut client = world.client(&[alpn]).await;
            let begin = Instant::now();
            let mut trailers = HeaderMap::new();
            trailers.insert("x-end", "done".parse().unwrap());
            let body = BodyExt::boxed(Stream { left: BODY_BYTES, trailers: Some(trailers) });
            let request = client.request("POST", "/count").header("authorization", &authorization).header("trailer", "x-end");
            assert_eq!(client.send(request.body(body).unwrap()).await.body, format!("{BODY_BYTES} \"done\""));
            let sent = begin.elapsed();

            let request = client.request("GET", "/stream").header("authorization", &authorization).body(text("")).unwrap();
            let mut body = client.try_send(request).await.unwrap().into_body();
            let mut received = 0;
            while let Some(frame) = body.frame().await {
                let data = frame.unwrap().into_data().unwrap();
                assert!(data.iter().all(|byte| *byte == b'x'));
                received += data.len();
            }
            assert_eq!(received, BODY_BYTES);
            println!("{alpn}, secret: {}: 10 MB sent in {sent:?}, received in {:?}", !authorization.is_empty(), begin.elapsed() - sent);
        }
    });
}

#[test]
fn a_guest_that_does_not_read_stops_the_server() {
    run(async {
        let identity = Identity::new(HOST);
        let (sender, mut written) = tokio::sync::mpsc::unbounded_channel();
        let server = Server::raw(&identity, move |mut stream| {
            let sender = sender.clone();
            async move {
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n").await;
                while stream.write_all(&[b'x'; 65536]).await.is_ok() {
                    let _ = sender.send(65536);
                }
            }
        })
        .await;
        let world = World::with(server, &identity.authority_pem);
        let mut client = world.client(&["http/1.1"]).await;
        let request = client.request("GET", "/").header("authorization", world.bearer()).body(text("")).unwrap();
        let answer = client.try_send(request).await.unwrap();
        // Until nothing more is written for a while: what the sockets' buffers hold and no more.
        let mut total = 0_usize;
        while let Ok(Some(bytes)) = tokio::time::timeout(Duration::from_millis(500), written.recv()).await {
            total += bytes;
            assert!(total < 100_000_000, "the body is gathered somewhere");
        }
        drop(answer);
    });
}

#[test]
fn an_upgrade_becomes_a_pipe_that_can_be_half_closed() {
    run(async {
        let mut world = World::new().await;
        let mut client = world.client(&["http/1.1"]).await;
        let request = client
            .request("GET", "/upgrade")
            .header("connection", "Upgrade")
            .header("upgrade", "echo")
            .header("authorization", world.bearer())
            .body(text(""))
            .unwrap();
        let mut answer = client.try_send(request).await.unwrap();
        assert_eq!(answer.status(), 101);
        assert_eq!(answer.headers()["upgrade"], "echo");
        assert_eq!(world.uses.recv().await.unwrap().status, Some(101));
        let mut pipe = TokioIo::new(hyper::upgrade::on(&mut answer).await.unwrap());
        for message in [&b"ping"[..], &[b'y'; 100_000]] {
            let mut echo = vec![0; message.len()];
            pipe.write_all(message).await.unwrap();
            pipe.read_exact(&mut echo).await.unwrap();
            assert_eq!(echo, message);
        }
        pipe.write_all(b"last").await.unwrap();
        pipe.shutdown().await.unwrap();
        let mut rest = Vec::new();
        pipe.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"last");
    });
}

#[test]
fn a_guest_that_has_closed_its_half_still_gets_its_answer() {
    run(async {
        let world = World::new().await;
        let mut stream = world.tls(&["http/1.1"]).await;
        let request = format!("GET / HTTP/1.1\r\nHost: {}\r\nAuthorization: {}\r\n\r\n", world.authority(), world.bearer());
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("hello"), "{answer}");
    });
}

#[test]
fn names_of_headers_keep_their_case_and_requests_their_bytes() {
    run(async {
        let identity = Identity::new(HOST);
        let (sender, mut seen) = tokio::sync::mpsc::unbounded_channel();
        let server = Server::raw(&identity, move |mut stream| {
            let sender = sender.clone();
            async move {
                let mut head = vec![0; 4096];
                let length = stream.read(&mut head).await.unwrap();
                sender.send(String::from_utf8(head[..length].to_vec()).unwrap()).unwrap();
                let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\nX-CaSe: Kept\r\n\r\n").await;
            }
        })
        .await;
        let world = World::with(server, &identity.authority_pem);
        let mut stream = world.tls(&[]).await;
        let request = format!("GET /a%2Fb?c=%20 HTTP/1.1\r\nHost: {}\r\nX-CaSe: Kept\r\n\r\n", world.authority());
        stream.write_all(request.as_bytes()).await.unwrap();
        assert_eq!(seen.recv().await.unwrap(), request);
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer).await;
        assert!(answer.starts_with("HTTP/1.1 204 No Content\r\nX-CaSe: Kept\r\n"), "{answer}");
    });
}

#[test]
fn a_connection_ends_with_its_upstream_and_with_the_proxy() {
    run(async {
        let identity = Identity::new(HOST);
        // Gone as soon as it has shaken hands.
        let server = Server::raw(&identity, |mut stream| async move {
            let _ = stream.shutdown().await;
        })
        .await;
        let world = World::with(server, &identity.authority_pem);
        let mut stream = world.tls(&["http/1.1"]).await;
        assert_eq!(stream.read(&mut [0; 16]).await.unwrap_or(0), 0);

        let mut world = World::new().await;
        let mut streams = [world.tls(&["h2"]).await, world.tls(&["http/1.1"]).await];
        // One is busy, too.
        let mut client = world.client(&["h2"]).await;
        let request = client.request("GET", "/stream").header("authorization", world.bearer()).body(text("")).unwrap();
        let mut body = client.try_send(request).await.unwrap().into_body();
        drop(world.proxy.take());
        for stream in &mut streams {
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
        while let Some(Ok(_)) = body.frame().await {}
    });
}

#[test]
fn a_guest_that_is_gone_does_not_keep_its_upstream_busy() {
    run(async {
        let identity = Identity::new(HOST);
        let (sender, mut told) = tokio::sync::mpsc::unbounded_channel();
        // Answers nothing, and tells when it has been asked and when it has been left.
        let server = Server::raw(&identity, move |mut stream| {
            let sender = sender.clone();
            async move {
                while let Ok(1..) = stream.read(&mut [0; 4096]).await {
                    let _ = sender.send("asked");
                }
                let _ = sender.send("left");
            }
        })
        .await;
        let world = World::with(server, &identity.authority_pem);
        let request = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", world.authority());
        let mut stream = world.tls(&["http/1.1"]).await;
        stream.write_all(request.as_bytes()).await.unwrap();
        assert_eq!(told.recv().await, Some("asked"));
        stream.shutdown().await.unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(200), told.recv()).await.is_err(), "it waits for its answer");
        drop(stream);
        assert_eq!(told.recv().await, Some("left"));
    });
}
