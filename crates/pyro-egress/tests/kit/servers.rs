//! Real servers on threads. A thread ends when its listener's test process does; each serves what its test needs and no more.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc;

/// Serves each connection with `serve`, on any port.
pub(crate) fn tcp(address: Ipv4Addr, serve: impl Fn(TcpStream) + Send + Clone + 'static) -> SocketAddrV4 {
    tcp_at(SocketAddrV4::new(address, 0), serve)
}

pub(crate) fn tcp_at(address: SocketAddrV4, serve: impl Fn(TcpStream) + Send + Clone + 'static) -> SocketAddrV4 {
    let listener = TcpListener::bind(address).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, serve) = (stream.unwrap(), serve.clone());
            std::thread::spawn(move || serve(stream));
        }
    });
    SocketAddrV4::new(*address.ip(), port)
}

/// Sends back what comes, then ends.
pub(crate) fn echo(mut stream: TcpStream) {
    let mut buffer = vec![0; 65_536];
    while let Ok(count) = stream.read(&mut buffer) {
        if count == 0 || stream.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
}

/// Answers one HTTP request.
pub(crate) fn http(mut stream: TcpStream) {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).unwrap_or(0) == 0 {
            return;
        }
        request.push(byte[0]);
    }
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
}

/// Answers each datagram with what `answer` makes of it.
pub(crate) fn udp(address: SocketAddrV4, answer: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> SocketAddrV4 {
    let socket = UdpSocket::bind(address).unwrap();
    let port = socket.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut buffer = vec![0; 65_536];
        while let Ok((count, from)) = socket.recv_from(&mut buffer) {
            for reply in answer(&buffer[..count]) {
                // A guest that has gone is no concern of a server.
                let _ = socket.send_to(&reply, from);
            }
        }
    });
    SocketAddrV4::new(*address.ip(), port)
}

/// Accepts connections and tells the test of each.
pub(crate) fn told(address: Ipv4Addr) -> (SocketAddrV4, mpsc::Receiver<TcpStream>) {
    let (sender, receiver) = mpsc::channel();
    let sender = std::sync::Arc::new(std::sync::Mutex::new(sender));
    let address = tcp(address, move |stream| {
        let _ = sender.lock().unwrap().send(stream);
    });
    (address, receiver)
}
