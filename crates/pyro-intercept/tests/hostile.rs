//! Guests that want the secret, and upstreams that are not who they should be.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod kit;

use kit::client::text;
use kit::{FLOW, HOST, Identity, Server, World, run};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[test]
fn an_upstream_that_cannot_be_trusted_gets_nothing_and_the_guest_reads_why() {
    run(async {
        let trusted = Identity::new(HOST);
        let cases = [
            (Identity::new(HOST), None, "UnknownIssuer"),
            (Identity::new("other.example.com"), Some(()), "not valid for name"),
            (Identity::valid_until(HOST, 2020), Some(()), "expired"),
        ];
        for (identity, known, expected) in cases {
            let server = Server::http(&identity).await;
            let root = if known.is_some() { &identity.authority_pem } else { &trusted.authority_pem };
            let mut world = World::with(server, root);
            for alpn in [&["h2", "http/1.1"][..], &["h2"], &[]] {
                let mut client = world.client(alpn).await;
                let answer = client.get("/", &world.bearer()).await;
                assert_eq!(answer.status, 502);
                assert!(answer.body.contains("the certificate of api.example.com cannot be trusted"), "{}", answer.body);
                assert!(answer.body.contains(expected), "{}", answer.body);
            }
            assert!(world.server.seen_now().is_empty());
            assert!(world.uses.try_recv().is_err());
        }
    });
}

#[test]
fn an_upstream_without_tls_is_said_to_have_none() {
    run(async {
        let identity = Identity::new(HOST);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let std::net::SocketAddr::V4(address) = listener.local_addr().unwrap() else { unreachable!() };
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let _ = socket.write_all(b"220 mail ready\r\n").await;
            }
        });
        let server = Server { address, seen: tokio::sync::mpsc::unbounded_channel().1 };
        let world = World::with(server, &identity.authority_pem);
        let answer = world.client(&["http/1.1"]).await.get("/", &world.bearer()).await;
        assert_eq!(answer.status, 502);
        assert!(answer.body.contains("no TLS connection can be made to api.example.com: "), "{}", answer.body);
    });
}

#[test]
fn an_upstream_that_has_no_http2_is_spoken_to_in_http1() {
    run(async {
        let identity = Identity::new(HOST);
        let world = World::with(Server::http_offering(&identity, &["http/1.1"]).await, &identity.authority_pem);
        let mut client = world.client(&["h2", "http/1.1"]).await;
        assert!(!client.is_http2());
        assert_eq!(client.get("/", &world.bearer()).await.body, "hello");
    });
}

#[test]
fn a_request_for_another_host_of_the_same_front_end_is_refused() {
    run(async {
        let mut world = World::new().await;
        let mut client = world.client(&["http/1.1"]).await;
        let request = http::Request::get("/").header("host", "evil.example").header("authorization", world.bearer());
        let answer = client.send(request.body(text("")).unwrap()).await;
        assert_eq!(answer.status, 421);
        assert!(answer.body.starts_with("Pyro refused this request: it is for another host than the connection"), "{}", answer.body);

        let mut client = world.client(&["h2"]).await;
        let request = http::Request::get("https://evil.example/").header("authorization", world.bearer());
        assert_eq!(client.send(request.body(text("")).unwrap()).await.status, 421);
        let request = client.request("GET", "/").header("host", "evil.example").header("authorization", world.bearer());
        assert_eq!(client.send(request.body(text("")).unwrap()).await.status, 421);
        // The connection lives on for those that are right.
        assert_eq!(client.get("/", &world.bearer()).await.status, 200);
        assert_eq!(world.server.seen_now().len(), 1);
    });
}

/// Sends bytes and returns all that comes back until the proxy ends the connection.
async fn raw(world: &World, request: &str) -> String {
    let mut stream = world.tls(&[]).await;
    // It may be ended before all is sent.
    let _ = stream.write_all(request.as_bytes()).await;
    let mut answer = Vec::new();
    // A connection that is not ended cleanly is as ended.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

#[test]
fn a_refused_request_is_told_of() {
    run(async {
        let (sender, mut refused) = tokio::sync::mpsc::channel(4);
        let mut world = World::new().await;
        world.proxy = world.proxy.take().map(|proxy| proxy.with_refusals(sender));
        let answer = raw(&world, "GET /x?token=1 HTTP/1.1\r\nHost: evil.example\r\n\r\n").await;
        let told = refused.recv().await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 421") && answer.contains(&told.reason), "{answer} {told:?}");
        assert_eq!((told.flow, told.host.as_str(), told.method.as_str(), told.path.as_str(), told.status), (FLOW, HOST, "GET", "/x", 421));
        // Nobody has to listen, and what is passed on is not told.
        drop(refused);
        assert!(raw(&world, "GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n").await.starts_with("HTTP/1.1 421"));
        assert_eq!(world.client(&[]).await.get("/", &world.bearer()).await.status, 200);
    });
}

#[test]
fn requests_that_two_readers_would_read_differently_do_not_pass() {
    run(async {
        let mut world = World::new().await;
        let (host, bearer) = (world.authority(), world.bearer());
        let good = format!("Host: {host}\r\nAuthorization: {bearer}\r\n");
        for request in [
            format!("GET / HTTP/1.1\r\n{good}Host: evil.example\r\n\r\n"),
            format!("GET / HTTP/1.1\r\nHost: evil.example\r\n{good}\r\n"),
            format!("GET / HTTP/1.1\r\n{good}Host: {host}\r\n\r\n"),
            format!("GET / HTTP/1.1\r\nAuthorization: {bearer}\r\n\r\n"),
            format!("GET / HTTP/1.0\r\nAuthorization: {bearer}\r\n\r\n"),
            format!("GET https://evil.example/ HTTP/1.1\r\n{good}\r\n"),
            format!("GET https://{host}/ HTTP/1.1\r\n{good}\r\n"),
            format!("CONNECT evil.example:443 HTTP/1.1\r\n{good}\r\n"),
            format!("GET / HTTP/1.1\r\nHost : {host}\r\nAuthorization: {bearer}\r\n\r\n"),
            format!("GET / HTTP/1.1\r\nX: a\r\n Host: evil.example\r\n{good}\r\n"),
            format!("POST / HTTP/1.1\r\n{good}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
            format!("POST / HTTP/1.1\r\n{good}Content-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
            format!("POST / HTTP/1.1\r\n{good}Content-Length: +1\r\n\r\na"),
            format!("GET / HTTP/1.1\r\n{good}X: {}\r\n\r\n", "x".repeat(100_000)),
            format!("GET / HTTP/1.1\r\n{good}{}\r\n", "X: y\r\n".repeat(1000)),
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
            "\0\0\0\0".to_owned(),
        ] {
            let shown: String = request.chars().take(200).collect();
            let answer = raw(&world, &request).await;
            assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4") || answer.starts_with("HTTP/1.0 4"), "{shown:?}\n{answer}");
            assert!(world.server.seen_now().is_empty(), "{shown:?}");
        }
        assert!(world.uses.try_recv().is_err());
    });
}

#[test]
fn what_is_hidden_behind_two_lengths_is_not_a_second_request() {
    run(async {
        let mut world = World::new().await;
        let (host, bearer) = (world.authority(), world.bearer());
        let hidden = format!("GET /hidden HTTP/1.1\r\nHost: evil.example\r\nAuthorization: {bearer}\r\n\r\n");
        let request = format!(
            "POST /echo HTTP/1.1\r\nHost: {host}\r\nContent-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}",
            hidden.len() + 5
        );
        raw(&world, &request).await;
        for seen in world.server.seen_now() {
            assert_eq!((&seen.uri[..], seen.header("authorization"), seen.header("content-length")), ("/echo", "", ""), "{seen:?}");
        }
    });
}

#[test]
fn a_request_that_would_grow_without_bound_is_refused() {
    run(async {
        let identity = Identity::new(HOST);
        let mut world = World::with(Server::http(&identity).await, &identity.authority_pem);
        let mut roots = pyro_intercept::Roots::none();
        roots.add_pem(identity.authority_pem.as_bytes()).unwrap();
        let (sender, _uses) = tokio::sync::mpsc::channel(1);
        let value = pyro_secret::SecretValue::new("v".repeat(60_000)).unwrap();
        let long = pyro_intercept::Substitution::new(
            "TOKEN".parse().unwrap(),
            world.placeholder.clone(),
            value,
            format!("{HOST}:{}", world.server.address.port()).parse().unwrap(),
            http::header::AUTHORIZATION,
        );
        let authority = pyro_intercept::Authority::new("Pyro test").unwrap();
        world.proxy = Some(pyro_intercept::Proxy::new(authority, vec![long.unwrap()], roots, sender).unwrap());
        let answer = world.client(&["http/1.1"]).await.get("/", &world.placeholder.repeat(100)).await;
        assert_eq!(answer.status, 431);
        assert!(world.server.seen_now().is_empty());
    });
}

#[test]
fn garbage_instead_of_a_handshake_ends_the_connection() {
    run(async {
        let world = World::new().await;
        for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[22, 3, 1, 0, 4, 1, 0, 0, 0], &[0x16; 70_000], b""] {
            let mut guest = world.serve().await;
            // It may be ended before all is sent.
            let _ = guest.write_all(garbage).await;
            let _ = guest.shutdown().await;
            let mut answer = Vec::new();
            let _ = guest.read_to_end(&mut answer).await;
            assert!(answer.len() < 20, "an alert at most: {answer:?}");
        }
        // A handshake for another name than the stack saw.
        let guest = world.serve().await;
        assert!(kit::client::handshake(&world.authority_pem(), "other.example.com", &[], guest).await.is_err());
        // Protocols that are not HTTP.
        let guest = world.serve().await;
        assert!(kit::client::handshake(&world.authority_pem(), HOST, &["mqtt"], guest).await.is_err());
    });
}
