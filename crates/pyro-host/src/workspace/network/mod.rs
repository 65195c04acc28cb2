//! The network of a workspace with a card: a stack in user space behind it, the workspace's rules in the stack, and a log of what it did.
//!
//! The stack is started when the workspace adopts the machine, before the guest configures its card, and ends with the supervisor. Its rules
//! are the registry's; a client that changes them there asks the supervisor to take them over. A machine that was frozen with connections
//! open wakes up behind another stack, which resets them.

mod certificates;
mod log;
mod proxy;
mod refusals;
mod resolvers;

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddrV4},
    os::unix::net::UnixStream as StdUnixStream,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use pyro_egress::{
    Caps, Configuration, Handle, MacAddress, host_addresses,
    policy::{Policy, Rule},
};
use pyro_proto::v1::{Connection, Network as GuestNetwork, NetworkLearnAnswer};
use pyro_store::{NetworkRules, WorkspaceRecord};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    net::UnixStream,
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use tonic::Status;

use self::refusals::{Refusals, TELL_DEADLINE};
pub(super) use self::{certificates::Certificates, proxy::Outside};
use super::{EndReason, Supervisor, log_line};
use crate::{
    error::{Doing as _, HostError, HostResult},
    lock,
    machine::{NETWORK_CARD, NETWORK_MTU_BYTES},
};

/// How often the host's own addresses are looked at: they are refused, and they change when it joins another network.
const ADDRESSES_EVERY: Duration = Duration::from_secs(10);
/// How long a machine's end waits for its log.
const LOG_DEADLINE: Duration = Duration::from_secs(2);
/// Descriptors a stack at its caps needs, and everything else a supervisor opens.
const DESCRIPTORS_WANTED: u64 = 2048;
/// Of those, what everything else needs: connections of published ports most of all.
const DESCRIPTORS_ELSEWHERE: u64 = 700;

/// A workspace's network.
#[derive(Debug)]
pub(super) struct Network {
    handle: Handle,
    /// The host's own addresses when the policy was last made.
    own: tokio::sync::Mutex<BTreeSet<Ipv4Addr>>,
    /// How many clients learn: while there is one, everything may be reached that is not denied.
    learning: AtomicUsize,
    /// Writes the log; ends with the stack.
    keeper: Mutex<Option<JoinHandle<()>>>,
    /// What commands are told of when they end.
    refusals: Refusals,
    /// Whom the keeper is to tell when it has written everything.
    flushes: mpsc::Sender<oneshot::Sender<()>>,
}

impl Supervisor {
    /// Starts the network of a machine with a card for its workspace; returns how the guest is to set the card up.
    pub(super) fn start_network(self: &Arc<Self>, record: &WorkspaceRecord, outside: Option<Outside>) -> HostResult<Option<GuestNetwork>> {
        let Some(socket) = lock(&self.card).take() else { return Ok(None) };
        // A machine with a card for a workspace that may not use it: nobody is behind the card.
        if !record.network_policy.has_egress() {
            return Ok(None);
        }
        let (interceptor, proxied) = match outside {
            Some(Outside { interceptor, uses, refused, .. }) => (Some(interceptor), Some(log::Proxied { uses, refused })),
            None => (None, None),
        };
        let configuration = Configuration {
            guest_mac: MacAddress(NETWORK_CARD),
            mtu_bytes: NETWORK_MTU_BYTES,
            resolvers: resolvers::of_host(&self.settings().resolvers),
            caps: caps(),
            interceptor,
            ..Configuration::default()
        };
        let guest = GuestNetwork {
            address: configuration.guest_address.to_bits(),
            prefix_bits: configuration.prefix_bits.into(),
            gateway: configuration.gateway_address.to_bits(),
        };
        let own = own_addresses()?;
        let policy = policy(&record.network_rules, &own)?;
        let (handle, events) = pyro_egress::start(asynchronous(socket)?, configuration, policy).map_err(HostError::network)?;
        self.arguments.dirs.network_log(&record.id).prepare()?;
        let (flushes, flush_requests) = mpsc::channel(8);
        let keeper =
            tokio::spawn(log::keep(Arc::downgrade(self), record.id.clone(), log::Sources { events, proxied, flushes: flush_requests }));
        let network = Network {
            handle,
            own: tokio::sync::Mutex::new(own),
            learning: AtomicUsize::new(0),
            keeper: Mutex::new(Some(keeper)),
            refusals: Refusals::default(),
            flushes,
        };
        let set_once = self.network.set(network).is_ok();
        debug_assert!(set_once, "a machine is adopted once");
        tokio::spawn(watch_own_addresses(Arc::downgrade(self)));
        Ok(Some(guest))
    }

    fn running_network(&self) -> HostResult<&Network> {
        self.network.get().ok_or_else(|| HostError::WrongState { problem: "its machine has no network card".into() })
    }

    /// Lets a guest know that connections are over which it was frozen with. What it says is its own affair: all it gets for it is packets
    /// that it could send itself.
    pub(super) async fn part_with(&self, connections: &[Connection]) -> HostResult<()> {
        let Some(network) = self.network.get() else { return Ok(()) };
        let port = |port: u32| u16::try_from(port).ok();
        let end = |connection: &Connection| {
            let destination = SocketAddrV4::new(Ipv4Addr::from_bits(connection.address), port(connection.port)?);
            Some((port(connection.guest_port)?, destination))
        };
        network.handle.part_with(connections.iter().filter_map(end).collect()).await.map_err(HostError::network)
    }

    /// Opens egress until `finished` is, or what is returned is dropped; it ends once egress is closed again.
    pub(super) async fn learn_network(
        self: &Arc<Self>,
        finished: impl Future<Output = ()> + Send + 'static,
    ) -> HostResult<mpsc::Receiver<Result<NetworkLearnAnswer, Status>>> {
        let network = self.running_network()?;
        let (opened, receiver) = mpsc::channel(1);
        network.learning.fetch_add(1, Ordering::SeqCst);
        let applied = self.apply_network_rules().await;
        if applied.is_ok() {
            // The queue is empty, so this cannot wait.
            drop(opened.try_send(Ok(NetworkLearnAnswer {})));
        }
        let supervisor = self.clone();
        tokio::spawn(async move {
            if applied.is_ok() {
                tokio::select! {
                    () = opened.closed() => {}
                    () = finished => {}
                }
            }
            let Some(network) = supervisor.network.get() else { return };
            network.learning.fetch_sub(1, Ordering::SeqCst);
            if let Err(error) = supervisor.apply_network_rules().await {
                log_line(&format!("cannot close egress again: {error}"));
                // A guest must not keep what it was lent.
                supervisor.request_end(EndReason::Requested);
            }
        });
        Ok(receiver)
    }

    /// Returns when the log has everything that has happened.
    pub(super) async fn flush_network(&self) -> HostResult<()> {
        let (done, flushed) = oneshot::channel();
        // A keeper that has ended has nothing left to write.
        if self.running_network()?.flushes.send(done).await.is_ok() {
            drop(flushed.await);
        }
        Ok(())
    }

    /// Returns the rules that would have allowed what the network has refused since then.
    pub(super) async fn network_refused_since(&self, then: Instant) -> Vec<String> {
        let Some(network) = self.network.get() else { return Vec::new() };
        // Those that are on their way, if there are any.
        drop(tokio::time::timeout(TELL_DEADLINE, self.flush_network()).await);
        network.refusals.since(then)
    }

    /// Takes the registry's rules over; returns how many connections they ended.
    pub(super) async fn apply_network_rules(&self) -> HostResult<usize> {
        let network = self.running_network()?;
        // Held while they are applied, so that the rules applied last are the newest.
        let mut own = network.own.lock().await;
        let found = own_addresses()?;
        let mut rules = self.workspace_record()?.network_rules;
        rules.only_allowed &= network.learning.load(Ordering::SeqCst) == 0;
        let reset = network.handle.set_policy(policy(&rules, &found)?).await.map_err(HostError::network)?;
        *own = found;
        Ok(reset)
    }
}

impl Supervisor {
    /// Waits until the log of a machine that has ended is complete, but not for long.
    pub(super) async fn finish_network(&self) {
        let keeper = self.network.get().and_then(|network| lock(&network.keeper).take());
        if let Some(keeper) = keeper {
            drop(tokio::time::timeout(LOG_DEADLINE, keeper).await);
        }
    }
}

fn own_addresses() -> HostResult<BTreeSet<Ipv4Addr>> {
    host_addresses().map_err(HostError::network)
}

fn policy(rules: &NetworkRules, own: &BTreeSet<Ipv4Addr>) -> HostResult<Policy> {
    let parse = |rules: &[String]| -> HostResult<Vec<Rule>> {
        let invalid = |rule: &String| HostError::Invalid { problem: format!("`{rule}` is no network rule") };
        rules.iter().map(|rule| rule.parse().map_err(|_| invalid(rule))).collect()
    };
    Ok(Policy::new(parse(&rules.allow)?, parse(&rules.deny)?, own.iter().copied()).with_only_allowed(rules.only_allowed))
}

fn asynchronous(socket: StdUnixStream) -> HostResult<UnixStream> {
    socket.set_nonblocking(true).doing("prepare the network card's socket")?;
    UnixStream::from_std(socket).doing("prepare the network card's socket")
}

/// Makes room for the descriptors of a stack, as far as this user may; less room is smaller tables.
fn caps() -> Caps {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(DESCRIPTORS_WANTED, |maximum| maximum.min(DESCRIPTORS_WANTED));
    let mut current = limit.current.unwrap_or(u64::MAX);
    if current < wanted && setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum }).is_ok() {
        current = wanted;
    }
    let caps = Caps::default();
    let needed = caps.tcp_flows + caps.udp_associations + caps.echo_associations + 2 * caps.questions_in_flight;
    let room = usize::try_from(current.saturating_sub(DESCRIPTORS_ELSEWHERE)).unwrap_or(usize::MAX);
    if room >= needed {
        return caps;
    }
    let scaled = |count: usize| (count * room / needed).max(8);
    Caps {
        tcp_flows: scaled(caps.tcp_flows),
        half_open_flows: scaled(caps.half_open_flows),
        udp_associations: scaled(caps.udp_associations),
        echo_associations: scaled(caps.echo_associations),
        questions_in_flight: scaled(caps.questions_in_flight),
        ..caps
    }
}

/// Refuses addresses that became the host's own, and ends what was connected to them.
async fn watch_own_addresses(supervisor: Weak<Supervisor>) {
    let mut looks = tokio::time::interval(ADDRESSES_EVERY);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let Some(supervisor) = supervisor.upgrade() else { return };
        let Some(network) = supervisor.network.get() else { return };
        let changed = match own_addresses() {
            Ok(found) => *network.own.lock().await != found,
            Err(_) => false,
        };
        if changed && let Err(error) = supervisor.apply_network_rules().await {
            log_line(&format!("cannot refuse the host's new addresses: {error}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_of_the_registry_become_a_policy() {
        let rules = NetworkRules { allow: vec!["10.0.0.5:5432".into()], deny: vec!["*.example.org".into()], ..NetworkRules::default() };
        let made = policy(&rules, &BTreeSet::new()).unwrap();
        assert!(!made.is_allow_list());
        assert!(policy(&NetworkRules { only_allowed: true, ..NetworkRules::default() }, &BTreeSet::new()).unwrap().is_allow_list());
        assert!(policy(&NetworkRules { allow: vec!["no rule".into()], ..rules }, &BTreeSet::new()).is_err());
    }
}
