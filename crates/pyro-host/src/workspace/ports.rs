//! Published ports: listeners on the host's 127.0.0.1 whose connections are carried to the guest through its channel. The guest needs no
//! network card for it.
//!
//! Each listener is a task that owns its connections: closing the port closes them. An end that does not read holds up its own direction
//! only, and what waits for it is bounded (see `agent::relay`). How many connections there are is bounded per port and for the machine;
//! beyond it clients wait in the kernel's queue.

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use pyro_proto::v1::ConnectOpen;
use pyro_store::{NetworkPolicy, PortRecord, PortSpec, ServiceName};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::{AbortHandle, JoinSet},
};

use super::Supervisor;
use crate::{
    agent::relay,
    error::{HostError, HostResult},
    lock,
};

/// Most connections of one port, and of a machine, at a time. A machine's leave room on the channel for everything else.
const PORT_CONNECTIONS_MAX: usize = 192;
pub(super) const MACHINE_CONNECTIONS_MAX: usize = 256;
/// Most ports of a workspace.
const PORTS_MAX: usize = 64;
/// How long a listener rests when the host has no descriptor to spare.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long the guest may take to connect to a port of its own.
const CONNECT_DEADLINE: Duration = Duration::from_secs(15);

/// The ports of a machine, by their numbers on the host.
pub(super) type Ports = BTreeMap<u16, Port>;

/// A published port.
#[derive(Debug)]
pub(super) struct Port {
    record: PortRecord,
    task: AbortHandle,
}

impl Drop for Port {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A port that is bound and not served yet.
#[derive(Debug)]
pub(super) struct Listener {
    listener: TcpListener,
    record: PortRecord,
}

impl Listener {
    /// Takes a port of the host's loopback.
    ///
    /// # Errors
    /// It is taken, or this user may not have it.
    pub(super) fn bind(spec: PortSpec) -> HostResult<Self> {
        let wanted = spec.host_port.unwrap_or(0);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, wanted));
        let bind = || -> io::Result<(TcpListener, u16)> {
            // The standard library sets SO_REUSEADDR: a port whose last connections linger can be taken again at once.
            let listener = std::net::TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            let host_port = listener.local_addr()?.port();
            Ok((TcpListener::from_std(listener)?, host_port))
        };
        let (listener, host_port) = bind().map_err(|source| {
            if source.kind() == io::ErrorKind::AddrInUse {
                HostError::PortTaken { port: wanted }
            } else if source.kind() == io::ErrorKind::PermissionDenied {
                HostError::PortForbidden { port: wanted }
            } else {
                HostError::File { operation: "listen on 127.0.0.1", source }
            }
        })?;
        let record = PortRecord { host_port, guest_port: spec.guest_port, fixed: spec.host_port.is_some(), service: None };
        Ok(Self { listener, record })
    }
}

impl Supervisor {
    /// Refuses when the workspace's policy has no published ports.
    pub(super) fn may_publish(&self) -> HostResult<()> {
        let policy = self.workspace_record()?.network_policy;
        if policy.has_published_ports() {
            return Ok(());
        }
        let with_ports = if policy.has_egress() { NetworkPolicy::EgressAndPublishedPorts } else { NetworkPolicy::PublishedPorts };
        let problem =
            format!("its network policy is `{}`: create the workspace with `--network-policy {}`", policy.as_str(), with_ports.as_str());
        Err(HostError::WrongState { problem })
    }

    /// Publishes a port of the guest; returns its number on the host. 0 takes a free one.
    pub(super) fn publish(self: &Arc<Self>, guest_port: u16, host_port: u16, service: Option<ServiceName>) -> HostResult<u16> {
        self.may_publish()?;
        if guest_port == 0 {
            return Err(HostError::Invalid { problem: "0 is no port of a guest".into() });
        }
        if let Some(name) = &service
            && !lock(&self.services).contains_key(name)
        {
            lock(&self.registry).service(self.adopted()?, name)?;
            return Err(HostError::WrongState { problem: format!("service `{name}` does not run") });
        }
        let host_port = Some(host_port).filter(|port| *port != 0);
        self.open_port(Listener::bind(PortSpec { guest_port, host_port })?, service)
    }

    /// Serves a port that is bound.
    pub(super) fn open_port(self: &Arc<Self>, listener: Listener, service: Option<ServiceName>) -> HostResult<u16> {
        let Listener { listener, record } = listener;
        let record = PortRecord { service, ..record };
        if lock(&self.ports).len() >= PORTS_MAX {
            return Err(HostError::TooMany { what: "published ports", maximum: PORTS_MAX });
        }
        lock(&self.registry).insert_port(self.adopted()?, &record)?;
        let task = tokio::spawn(serve(self.clone(), listener, record.guest_port)).abort_handle();
        let host_port = record.host_port;
        lock(&self.ports).insert(host_port, Port { record, task });
        Ok(host_port)
    }

    /// Closes ports with their connections; returns how many there were.
    pub(super) fn unpublish(&self, guest_port: u16, host_port: Option<u16>) -> HostResult<usize> {
        self.adopted()?;
        let closed = self.close_ports(|record| record.guest_port == guest_port && host_port.is_none_or(|port| port == record.host_port));
        if closed == 0 { Err(HostError::PortNotPublished { port: guest_port }) } else { Ok(closed) }
    }

    pub(super) fn close_ports_of(&self, service: &ServiceName) {
        self.close_ports(|record| record.service.as_ref() == Some(service));
    }

    #[expect(clippy::print_stderr, reason = "a supervisor's stderr is its log file")]
    fn close_ports(&self, which: impl Fn(&PortRecord) -> bool) -> usize {
        let closed: Vec<PortRecord> =
            lock(&self.ports).extract_if(.., |_, port| which(&port.record)).map(|(_, port)| port.record.clone()).collect();
        // The end of the machine forgets all of its ports at once.
        if !self.is_ending()
            && let Ok(workspace) = self.adopted()
        {
            for record in &closed {
                let removed = lock(&self.registry).remove_port(workspace, record);
                if let Err(error) = removed {
                    eprintln!("cannot forget port {}: {error}", record.host_port);
                }
            }
        }
        closed.len()
    }
}

/// Accepts connections for as long as the port is published; its connections end with it.
async fn serve(supervisor: Arc<Supervisor>, listener: TcpListener, guest_port: u16) {
    let mut connections = JoinSet::new();
    let own = Arc::new(Semaphore::new(PORT_CONNECTIONS_MAX));
    loop {
        // Places first: who finds none waits in the kernel's queue. Neither semaphore is ever closed.
        let (Ok(place), Ok(machine_place)) = (own.clone().acquire_owned().await, supervisor.connections.clone().acquire_owned().await)
        else {
            return;
        };
        let stream = loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => break stream,
                    Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
                },
                Some(_) = connections.join_next() => {}
            }
        };
        let supervisor = supervisor.clone();
        connections.spawn(async move {
            carry(&supervisor, stream, guest_port).await;
            drop((place, machine_place));
        });
    }
}

/// Carries one connection until both directions have ended.
async fn carry(supervisor: &Supervisor, mut stream: TcpStream, guest_port: u16) {
    // Small answers must not wait for each other's acknowledgements.
    let _ = stream.set_nodelay(true);
    let open = ConnectOpen { port: guest_port.into(), host: String::new() };
    let carried = match supervisor.agent() {
        Ok(agent) => match agent.connect_port(open, CONNECT_DEADLINE).await {
            Ok(connection) => relay(&mut stream, connection).await.is_ok(),
            Err(_) => false,
        },
        Err(_) => false,
    };
    if !carried {
        // A reset, so that the client does not take what came for the whole. Of a port nobody listens at in the guest, it is as near to a
        // refusal as one comes after the handshake.
        let _ = rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO));
    }
}
