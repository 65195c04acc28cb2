//! The seam for whoever must stand between a guest and its upstream, such as a proxy that ends TLS.

use std::fmt;
use std::net::SocketAddrV4;

use tokio::net::{TcpStream, UnixStream};

use crate::event::FlowId;
use crate::policy::{Name, VisibleName};

/// What is known of an allowed TCP connection when its first bytes have been looked at.
#[derive(Debug, Clone)]
pub struct OpenedFlow {
    /// Its number, as in events.
    pub id: FlowId,
    /// Where the guest dialled.
    pub destination: SocketAddrV4,
    /// The name it was judged to be for.
    pub name: Option<Name>,
    /// What its first bytes showed.
    pub visible: VisibleName,
}

/// Takes over connections. Called by the stack's task, so neither method may block; `serve` spawns what it needs.
///
/// Only connections whose guest speaks first can be taken over: if the upstream has already sent something, the guest has seen it.
pub trait Interceptor: Send + Sync + fmt::Debug {
    /// Returns whether this connection is to be taken over.
    fn wants(&self, flow: &OpenedFlow) -> bool;

    /// Takes it over. `guest` carries what the guest sent, from the first byte on, and takes what it is to receive; dropping it ends
    /// the guest's connection, ending its writing half closes that half. `upstream` is connected to the destination and unused.
    fn serve(&self, flow: OpenedFlow, guest: UnixStream, upstream: TcpStream);
}
