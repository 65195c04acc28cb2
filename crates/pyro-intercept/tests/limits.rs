//! Guests that take their time, and guests that take too much.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod kit;

use std::time::{Duration, Instant};

use kit::{World, run};
use pyro_intercept::{PROXIED_FLOWS_MAX, Patience};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Longer than a test may take.
const EVER: Duration = Duration::from_secs(600);
const SHORT: Duration = Duration::from_millis(300);

/// Waits until the proxy ends the connection, however it does, and returns how long that took.
async fn ended(mut guest: impl AsyncReadExt + Unpin) -> Duration {
    let began = Instant::now();
    let _ = guest.read_to_end(&mut Vec::new()).await;
    began.elapsed()
}

#[test]
fn a_guest_that_does_not_shake_hands_is_let_go() {
    run(async {
        let world = World::new().await.impatient(Patience { handshake: SHORT, head: EVER });
        for beginning in [&b""[..], &[22, 3, 1, 0, 200, 1]] {
            let mut guest = world.serve().await;
            guest.write_all(beginning).await.unwrap();
            assert!(ended(guest).await > SHORT / 2);
        }
    });
}

#[test]
fn a_guest_that_does_not_finish_a_request_is_let_go() {
    run(async {
        let mut world = World::new().await.impatient(Patience { handshake: EVER, head: SHORT });
        for beginning in ["", "GET / HTTP/1.1\r\nHost: api.exa"] {
            let mut guest = world.tls(&[]).await;
            guest.write_all(beginning.as_bytes()).await.unwrap();
            guest.flush().await.unwrap();
            let _ = ended(guest).await;
        }
        assert!(world.server.seen_now().is_empty());
    });
}

#[test]
fn more_connections_than_there_may_be_are_closed_and_room_comes_back() {
    run(async {
        let world = World::new().await;
        let mut guests = Vec::new();
        for _ in 0..PROXIED_FLOWS_MAX {
            guests.push(world.serve().await);
        }
        let mut refused = world.serve().await;
        assert_eq!(refused.read(&mut [0]).await.unwrap(), 0, "one too many is closed");
        drop(guests);
        // The proxy hears of it when its tasks have had their turn.
        let mut client = loop {
            let guest = world.serve().await;
            if let Ok(stream) = kit::client::handshake(&world.authority_pem(), kit::HOST, &[], guest).await {
                break kit::Client::new(stream, &world.authority()).await;
            }
        };
        assert_eq!(client.get("/", &world.bearer()).await.status, 200);
    });
}
