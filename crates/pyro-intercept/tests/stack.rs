//! The proxy where it belongs: behind a stack, with a guest that sends frames.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

#[path = "../../pyro-egress/tests/kit/mod.rs"]
mod egress;
mod kit;

use std::io::{self, Read, Write};
use std::sync::Arc;

use kit::{CANARY, HOST};
use pyro_egress::Configuration;
use rustls::pki_types::ServerName;
use smoltcp::iface::SocketHandle;

/// A connection of the guest as a stream.
struct Wire<'g> {
    guest: &'g mut egress::Guest,
    handle: SocketHandle,
}

impl Read for Wire<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let byte = self.guest.receive(self.handle, 1).map_err(|_| io::ErrorKind::ConnectionReset)?;
        buffer[..byte.len()].copy_from_slice(&byte);
        Ok(byte.len())
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.guest.send(self.handle, bytes).map_err(|_| io::ErrorKind::ConnectionReset)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_secret_is_put_into_a_request_that_came_as_frames() {
    let outside = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut world = outside.block_on(kit::World::new());
    let (root_pem, address) = (world.authority_pem(), world.server.address);
    let interceptor = Arc::new(world.proxy.take().unwrap());
    let configuration = Configuration { interceptor: Some(interceptor), ..Configuration::default() };
    let (stack, mut guest) = egress::World::start(configuration, egress::world::policy(&["127.0.0.1"]));

    let handle = guest.connect(address).unwrap();
    let name = ServerName::try_from(HOST).unwrap();
    let mut session = rustls::ClientConnection::new(kit::client_config(&root_pem, &["http/1.1"]), name).unwrap();
    let mut wire = Wire { guest: &mut guest, handle };
    let mut stream = rustls::Stream::new(&mut session, &mut wire);
    let (authority, bearer) = (world.authority(), world.bearer());
    let request = format!("GET /echo HTTP/1.1\r\nHost: {authority}\r\nAuthorization: {bearer}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();

    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains(&bearer) && !answer.contains(CANARY), "{answer}");
    assert_eq!(world.server.seen.blocking_recv().unwrap().header("authorization"), format!("Bearer {CANARY}"));
    let told = world.uses.blocking_recv().unwrap();
    let opened = stack.event(|event| matches!(event, pyro_egress::Event::Opened { .. }));
    assert!(matches!(opened, pyro_egress::Event::Opened { id, .. } if id == told.flow));
    // It is the stack that holds the proxy.
    drop(stack);
    assert!(world.uses.blocking_recv().is_none());
}
