//! Where a secret goes, and where it does not.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod kit;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kit::client::text;
use kit::{CANARY, FLOW, HOST, World, flow, run};
use pyro_egress::policy::VisibleName;
use pyro_egress::{Interceptor, OpenedFlow};
use pyro_intercept::SecretUse;

const BOTH: [&[&str]; 3] = [&["h2", "http/1.1"], &["http/1.1"], &[]];

#[test]
fn the_server_gets_the_secret_and_the_guest_gets_its_placeholder_back() {
    run(async {
        let mut world = World::new().await;
        for alpn in BOTH {
            let mut client = world.client(alpn).await;
            assert_eq!(client.is_http2(), alpn.len() == 2);
            let answer = client.get("/echo?q=1", &world.bearer()).await;
            let seen = world.server.seen.recv().await.unwrap();
            assert_eq!(seen.header("authorization"), format!("Bearer {CANARY}"));
            assert_eq!(seen.header("accept-encoding"), "identity");
            assert_eq!(answer.status, 200);
            assert_eq!(answer.headers["x-echo"], world.bearer().as_str());
            assert!(answer.body.contains(&world.bearer()) && !answer.body.contains(CANARY), "{}", answer.body);
            assert!(!answer.headers.contains_key("content-length"));
            let expected = SecretUse {
                flow: FLOW,
                secret: "TOKEN".parse().unwrap(),
                host: HOST.parse().unwrap(),
                method: "GET".to_owned(),
                path: "/echo".to_owned(),
                status: Some(200),
            };
            assert_eq!(world.uses.recv().await.unwrap(), expected);
        }
    });
}

#[test]
fn basic_credentials_are_taken_apart_and_their_echo_is_hidden() {
    run(async {
        let mut world = World::new().await;
        let mut client = world.client(&["http/1.1"]).await;
        let answer = client.get("/echo", &format!("Basic {}", STANDARD.encode(format!("me:{}", world.placeholder)))).await;
        let expected = STANDARD.encode(format!("me:{CANARY}"));
        assert_eq!(world.server.seen.recv().await.unwrap().header("authorization"), format!("Basic {expected}"));
        assert!(answer.body.contains(&world.placeholder), "{}", answer.body);
        assert!(!answer.body.contains(&expected[8..expected.len() - 8]), "{}", answer.body);
    });
}

#[test]
fn a_placeholder_elsewhere_stays_what_it_is_and_is_no_use() {
    run(async {
        let mut world = World::new().await;
        for alpn in BOTH {
            let mut client = world.client(alpn).await;
            let placeholder = world.placeholder.clone();
            let request = client
                .request("POST", &format!("/echo?token={placeholder}"))
                .header("x-token", &placeholder)
                .header("accept-encoding", "gzip")
                .body(text(&placeholder))
                .unwrap();
            let answer = client.send(request).await;
            let seen = world.server.seen.recv().await.unwrap();
            assert!(seen.uri.ends_with(&format!("/echo?token={placeholder}")));
            assert_eq!(seen.header("x-token"), placeholder);
            assert_eq!(seen.header("accept-encoding"), "gzip");
            assert!(answer.body.ends_with(&placeholder));
            assert!(answer.headers.contains_key("content-length") || client.is_http2());
            assert!(world.uses.try_recv().is_err());
        }
    });
}

#[test]
fn only_tls_for_the_secrets_hosts_is_wanted() {
    run(async {
        let world = World::new().await;
        let proxy = world.proxy.as_ref().unwrap();
        let address = world.server.address;
        assert!(proxy.wants(&flow(HOST, address)));
        assert!(!proxy.wants(&flow("other.example.com", address)));
        assert!(!proxy.wants(&flow(HOST, std::net::SocketAddrV4::new(*address.ip(), 1))));
        let hidden = VisibleName::Tls { server_name: None, encrypted: true };
        let plain = VisibleName::Http { names: vec![HOST.parse().unwrap()] };
        for visible in [hidden, plain, VisibleName::Other] {
            assert!(!proxy.wants(&OpenedFlow { visible, ..flow(HOST, address) }));
        }
    });
}

#[test]
fn a_use_that_nobody_notes_does_not_happen() {
    run(async {
        let mut world = World::new().await;
        world.uses.close();
        let mut client = world.client(&["h2"]).await;
        let answer = client.get("/", &world.bearer()).await;
        assert_eq!(answer.status, 503);
        assert_eq!(client.get("/", "Bearer other").await.status, 200);
        let seen = world.server.seen_now();
        assert_eq!(seen.len(), 1);
        assert_eq!(seen[0].header("authorization"), "Bearer other");
    });
}

#[test]
fn a_use_without_an_answer_is_told_when_it_is_given_up() {
    run(async {
        let mut world = World::new().await;
        let mut client = world.client(&["h2"]).await;
        // The server waits for a body that does not come.
        let body = http_body_util::StreamBody::new(Never);
        let request = client.request("POST", "/count").header("authorization", world.bearer());
        let request = request.body(http_body_util::BodyExt::boxed(body)).unwrap();
        let answer = tokio::spawn(async move { client.try_send(request).await.is_ok() });
        assert_eq!(world.server.seen.recv().await.unwrap().header("authorization"), format!("Bearer {CANARY}"));
        answer.abort();
        assert_eq!(world.uses.recv().await.unwrap().status, None);
    });
}

struct Never;

impl futures_util::Stream for Never {
    type Item = Result<http_body::Frame<bytes::Bytes>, std::convert::Infallible>;

    fn poll_next(self: std::pin::Pin<&mut Self>, _: &mut std::task::Context<'_>) -> std::task::Poll<Option<Self::Item>> {
        std::task::Poll::Pending
    }
}
