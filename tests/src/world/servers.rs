//! The world's servers: one thread with a runtime, in the world's namespace, on every address of it.

use std::{
    future::Future,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::{Arc, Mutex, mpsc},
    thread::JoinHandle,
};

use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::oneshot,
};
use tokio_rustls::TlsAcceptor;

use super::{
    ELSEWHERE, LAN, METADATA, OUTSIDE, PUBLIC_RESOLVER, ROUTER,
    authority::Authority,
    names::Names,
    namespace::{Side, move_to},
    service::{self, Library},
};

/// TCP and UDP: sends back what comes; by TCP, when the client has finished, ends with `bye`.
pub const ECHO_PORT: u16 = 7;
/// TCP: takes connections and never says or reads anything.
pub const SILENT_PORT: u16 = 10;
/// TCP: greets, then echoes, as mail and SSH servers do.
pub const SPEAKS_FIRST_PORT: u16 = 25;
const DNS_PORT: u16 = 53;
const HTTP_PORTS: [u16; 2] = [80, 8000];
const HTTPS_PORTS: [u16; 2] = [443, 8443];

/// Where connections went.
pub(super) type Seen = Arc<Mutex<Vec<SocketAddrV4>>>;

/// The running servers; dropping it ends them.
#[derive(Debug)]
pub(super) struct Servers {
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Servers {
    pub(super) fn start(world: &Side, library: Library, seen: Seen, authority: &Authority) -> Self {
        let (end, ended) = oneshot::channel();
        let (ready, running) = mpsc::channel();
        let acceptor = TlsAcceptor::from(authority.server());
        let namespace = world.file();
        let thread = std::thread::spawn(move || {
            move_to(&namespace);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
            runtime.block_on(async {
                serve_all(library, seen, acceptor).await;
                ready.send(()).expect("the starter waits");
                // Whether told to or the teller is gone.
                drop(ended.await);
            });
        });
        running.recv().expect("the servers start");
        Self { end: Some(end), thread: Some(thread) }
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

async fn serve_all(library: Library, seen: Seen, acceptor: TlsAcceptor) {
    tcp(ECHO_PORT, &seen, |stream| echo(stream, false)).await;
    tcp(SPEAKS_FIRST_PORT, &seen, |stream| echo(stream, true)).await;
    tcp(SILENT_PORT, &seen, |stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    for port in HTTP_PORTS {
        let library = library.clone();
        tcp(port, &seen, move |stream| http(stream, library.clone())).await;
    }
    for port in HTTPS_PORTS {
        let (library, acceptor) = (library.clone(), acceptor.clone());
        tcp(port, &seen, move |stream| {
            let (library, acceptor) = (library.clone(), acceptor.clone());
            async move {
                // A client that hangs up or trusts nobody is no concern of a server.
                if let Ok(stream) = acceptor.accept(stream).await {
                    http(stream, library).await;
                }
            }
        })
        .await;
    }
    let names = library.names;
    let by_stream = names.clone();
    tcp(DNS_PORT, &seen, move |stream| dns_by_stream(stream, by_stream.clone())).await;
    udp(DNS_PORT, move |question| names.answer(question, false)).await;
    udp(ECHO_PORT, |datagram| vec![datagram.to_vec()]).await;
}

/// Serves each connection to a port with a task of its own, and notes where it went.
async fn tcp<F: Future<Output = ()> + Send + 'static>(port: u16, seen: &Seen, serve: impl Fn(TcpStream) -> F + Send + 'static) {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await.expect("the namespace is new");
    let seen = Arc::clone(seen);
    tokio::spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            if let Ok(SocketAddr::V4(address)) = stream.local_addr() {
                seen.lock().expect("readers do not panic").push(address);
            }
            tokio::spawn(serve(stream));
        }
    });
}

/// Answers datagrams, from the address they went to: one socket for all would answer from the router's.
async fn udp(port: u16, answer: impl Fn(&[u8]) -> Vec<Vec<u8>> + Clone + Send + 'static) {
    for address in [ROUTER, OUTSIDE, ELSEWHERE, LAN, METADATA, PUBLIC_RESOLVER] {
        let socket = UdpSocket::bind((address, port)).await.expect("the namespace is new");
        let answer = answer.clone();
        tokio::spawn(async move {
            let mut buffer = vec![0; 1 << 16];
            loop {
                let Ok((count, peer)) = socket.recv_from(&mut buffer).await else { continue };
                for reply in answer(&buffer[..count]) {
                    // A client that has gone is no concern of a server.
                    drop(socket.send_to(&reply, peer).await);
                }
            }
        });
    }
}

async fn echo(mut stream: TcpStream, speaks_first: bool) {
    if speaks_first && stream.write_all(b"220 hello\r\n").await.is_err() {
        return;
    }
    let mut buffer = vec![0; 1 << 16];
    while let Ok(count) = stream.read(&mut buffer).await {
        if count == 0 {
            // Half of the connection is closed; the other half says so.
            drop(stream.write_all(b"bye").await);
            return;
        }
        if stream.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

async fn http(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, library: Library) {
    let respond = service_fn(move |request| service::respond(request, library.clone()));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // A client that has said all it has to say still listens.
    builder.http1().half_close(true);
    // Clients go as they please.
    drop(builder.serve_connection_with_upgrades(TokioIo::new(stream), respond).await);
}

async fn dns_by_stream(mut stream: TcpStream, names: Names) {
    while let Ok(length) = stream.read_u16().await {
        let mut question = vec![0; length.into()];
        if stream.read_exact(&mut question).await.is_err() {
            return;
        }
        for reply in names.answer(&question, true) {
            let length = u16::try_from(reply.len()).expect("an answer of ours is short");
            if stream.write_all(&[&length.to_be_bytes(), reply.as_slice()].concat()).await.is_err() {
                return;
            }
        }
    }
}
