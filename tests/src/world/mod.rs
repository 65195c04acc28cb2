//! The outside world of a story: two network namespaces with a wire between them.
//!
//! ```text
//!   test's thread, `pyro`, supervisors          servers of this kit, one thread
//!  ┌──────────── host ────────────┐            ┌──────────── world ───────────────────┐
//!  │ lo 127.0.0.1   a listener    │  192.0.2   │ 192.0.2.1   every other address there │
//!  │ near 192.0.2.2 ──────────────┼────────────┼─► is: 203.0.113.9, 10.0.0.5, 8.8.8.8… │
//!  └──────────────────────────────┘  watched   └───────────────────────────────────────┘
//! ```
//!
//! The thread that makes a [`World`] moves to the host side, and so do the commands it starts from then on, until the world is dropped.
//! Each side is kept by a process that ends when its standard input does, so nothing is left, however a test ends: no entry of
//! `ip netns`, no file, no address of the real host. The world answers for every address there is, so a rule that leaks shows at once:
//! everything that comes over the wire is watched, and servers on the host's own loopback count who reaches them.

mod authority;
mod names;
mod namespace;
mod servers;
mod service;
mod site;
mod watch;
mod wire;

use std::{
    collections::HashMap,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use namespace::Side;
use serde_json::Value;
use site::Site;

pub use names::{Answer, Names};
pub use servers::{ECHO_PORT, SILENT_PORT, SPEAKS_FIRST_PORT};
pub use service::Received;
pub use watch::{Packet, Watch};

use crate::{Home, eventually, pool};

/// The host's address on the wire.
pub const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// The world's end of the wire: the host's router and resolver.
pub const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// An address outside.
pub const OUTSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);
/// Another one.
pub const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
/// A machine of the host's local network.
pub const LAN: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);
/// The metadata service of a cloud.
pub const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// A resolver that programs have built in.
pub const PUBLIC_RESOLVER: Ipv4Addr = Ipv4Addr::new(8, 8, 8, 8);
/// An address to which there is no way.
pub const NOWHERE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 250);
/// An address that never answers anything.
pub const DEAF: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 251);

/// Where the host has a server of its own, on loopback and on the wire.
pub const HOST_PORT: u16 = 8080;

/// A client with which a guest tries out what it can reach, in the one interpreter the smallest environment has.
const PROBE: &str = include_str!("probe.pl");
/// A client with TLS, for environments that have Python.
const TLS: &str = include_str!("tls.py");
/// What a guest that is root can put on its card.
const RED_TEAM: &str = include_str!("redteam.pl");

/// The world of one test. Dropping it moves the thread back and ends everything but `pyro`'s processes, which a [`Home`] ends.
#[derive(Debug)]
pub struct World {
    // Fields are dropped in this order: the thread goes home before its namespace's keeper ends.
    _here: namespace::Stay,
    names: Names,
    seen: Arc<Mutex<Vec<SocketAddrV4>>>,
    received: Arc<Mutex<Vec<Received>>>,
    sites: Arc<Mutex<HashMap<String, Site>>>,
    watch: Watch,
    reached: Arc<AtomicUsize>,
    authority: authority::Authority,
    _servers: servers::Servers,
    _sides: [Side; 2],
}

impl World {
    /// Makes a world for guests of the smallest environment and moves this thread to its host side. Where the caller is not root there is none, which is said.
    #[must_use]
    pub fn new() -> Option<Self> {
        Self::make(pool::with_network)
    }

    /// Makes a world for guests of another environment, which is built first, since that needs the real network.
    #[must_use]
    pub fn with_environment(environment: &str) -> Option<Self> {
        Self::make(|| pool::pull(environment))
    }

    #[expect(clippy::print_stdout, reason = "a test that is skipped says why")]
    fn make(prepare: impl FnOnce()) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: root is needed to make network namespaces");
            return None;
        }
        prepare();
        let (host, world) = (Side::start(), Side::start());
        namespace::connect(&host, &world);
        let names = Names::default();
        let seen: Arc<Mutex<Vec<SocketAddrV4>>> = Arc::default();
        let authority = authority::Authority::new();
        let library = service::Library { names: names.clone(), received: Arc::default(), sites: Arc::default() };
        let (received, sites) = (Arc::clone(&library.received), Arc::clone(&library.sites));
        let servers = servers::Servers::start(&world, library, Arc::clone(&seen), &authority);
        let watch = Watch::start(&world);
        let here = host.enter();
        let reached = Arc::new(AtomicUsize::new(0));
        serve_host(&reached);
        let world = Self { _here: here, names, seen, received, sites, watch, reached, authority, _servers: servers, _sides: [host, world] };
        greet(OUTSIDE);
        world.seen.lock().expect("servers do not panic").clear();
        world.watch.forget();
        Some(world)
    }

    /// Makes a home whose supervisors live on the host side and ask this world's resolver.
    #[must_use]
    pub fn home(&self) -> Home {
        Home::new().with("PYRO_RESOLVERS", &format!("{ROUTER}:53"))
    }

    /// Returns what the world's resolver knows.
    #[must_use]
    pub const fn names(&self) -> &Names {
        &self.names
    }

    /// Returns what came over the wire.
    #[must_use]
    pub const fn watch(&self) -> &Watch {
        &self.watch
    }

    /// Returns where connections to the world's servers went, in the order they were made.
    #[must_use]
    pub fn connections(&self) -> Vec<SocketAddrV4> {
        self.seen.lock().expect("servers do not panic").clone()
    }

    /// Returns the requests that came to the world's web servers since this was asked last.
    #[must_use]
    pub fn take_requests(&self) -> Vec<Received> {
        std::mem::take(&mut self.received.lock().expect("servers do not panic"))
    }

    /// Has the web servers answer for this host with the files below a folder, and with nothing else.
    pub fn serve(&self, host: &str, folder: &Path) {
        self.set_site(host, Site::Folder(folder.to_owned()));
    }

    /// Has the web servers answer for this host with the Git repositories below a folder.
    pub fn serve_git(&self, host: &str, folder: &Path) {
        self.set_site(host, Site::Repositories(folder.to_owned()));
    }

    /// Has the web servers send whoever asks this host to the same path behind an address such as `https://files.test`.
    pub fn redirect(&self, host: &str, to: &str) {
        self.set_site(host, Site::Moved(to.to_owned()));
    }

    fn set_site(&self, host: &str, site: Site) {
        self.sites.lock().expect("servers do not panic").insert(host.to_owned(), site);
    }

    /// Returns how often a server of the host itself was reached.
    #[must_use]
    pub fn host_reached(&self) -> usize {
        self.reached.load(Ordering::Relaxed)
    }

    /// Returns the certificate of the authority that all of the world's servers are signed by.
    #[must_use]
    pub fn authority(&self) -> &str {
        self.authority.certificate()
    }

    /// Shows that what is to be refused is there: the host itself reaches all of it.
    pub fn assert_within_the_hosts_reach(&self, addresses: &[SocketAddrV4]) {
        self.seen.lock().expect("servers do not panic").clear();
        self.reached.store(0, Ordering::Relaxed);
        for address in addresses {
            let stream = TcpStream::connect(address).expect("the host itself reaches it, or a refusal would show nothing");
            // Reset when it is dropped, so that nothing of it follows later.
            rustix::net::sockopt::set_socket_linger(&stream, Some(std::time::Duration::ZERO)).expect("sockets linger");
        }
        let hosts = addresses.iter().filter(|address| address.ip().is_loopback() || *address.ip() == HOST).count();
        eventually("all servers have counted", 10, || self.host_reached() == hosts && self.connections().len() == addresses.len() - hosts);
        self.settle();
        self.reached.store(0, Ordering::Relaxed);
        self.seen.lock().expect("servers do not panic").clear();
        self.watch.forget();
    }

    /// Waits until everything that was sent before has come over the wire, and forgets none of it.
    pub fn settle(&self) {
        self.watch.settle(|| greet(ROUTER));
    }
}

/// A guest with the probe in it.
#[derive(Debug)]
pub struct Prober<'a> {
    home: &'a Home,
    workspace: String,
}

impl<'a> Prober<'a> {
    /// Creates a workspace with a network and the probe. `more` are arguments of `create`.
    #[must_use]
    pub fn create(home: &'a Home, more: &[&str]) -> Self {
        let workspace = home.create(&[&["--network-policy", "egress"], more].concat());
        let _ = home.pyro(&["workspace", "file", "write", &workspace, "probe.pl", "--text", PROBE]).ok();
        Self { home, workspace }
    }

    /// Takes a workspace that already has the probe, such as a fork of one.
    #[must_use]
    pub const fn of(home: &'a Home, workspace: String) -> Self {
        Self { home, workspace }
    }

    /// Returns the workspace's id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.workspace
    }

    /// Has the guest try out things one after the other: each line says what is tried, ` => ` and how the answer begins. `probe.pl` says
    /// what there is.
    ///
    /// # Panics
    /// An answer begins otherwise; the message shows all of them.
    pub fn meets(&self, lines: &str) {
        let expected: Vec<(&str, &str)> = lines.trim().lines().map(|line| line.split_once(" => ").expect("TRY => ANSWER")).collect();
        let tries: Vec<&str> = expected.iter().map(|(attempt, _)| attempt.trim()).collect();
        let said = self.tries(&tries);
        let met: Vec<String> = expected.iter().zip(&said).map(|((attempt, _), said)| format!("{} => {said}", attempt.trim())).collect();
        let as_expected = expected.iter().zip(&said).all(|((_, expected), said)| said.starts_with(expected) && !said.ends_with(" late"));
        assert!(as_expected, "expected:\n{lines}\nmet:\n{}", met.join("\n"));
    }

    /// Has the guest try out things and returns a line for each.
    #[must_use]
    pub fn tries(&self, tries: &[&str]) -> Vec<String> {
        let mut command = vec!["perl", "probe.pl"];
        command.extend(tries);
        let lines: Vec<String> = self.home.exec(&self.workspace, &command).ok().text().lines().map(str::to_owned).collect();
        assert_eq!(lines.len(), tries.len(), "a line for each try: {lines:#?}");
        lines
    }

    /// Has a guest with Python, which trusts the world's authority, try out TLS: see `tls.py` for the words. Each line is met as by
    /// [`Self::meets`].
    ///
    /// # Panics
    /// An answer begins otherwise.
    pub fn meets_by_tls(&self, world: &World, lines: &str) {
        let _ = self.home.pyro(&["workspace", "file", "write", &self.workspace, "world.pem", "--text", world.authority()]).ok();
        let expected: Vec<(&str, &str)> = lines.trim().lines().map(|line| line.split_once(" => ").expect("TRY => ANSWER")).collect();
        let mut command = vec!["python3", "-", "world.pem"];
        command.extend(expected.iter().map(|(attempt, _)| attempt.trim()));
        let said = self.home.exec_with_input(&self.workspace, &command, TLS.as_bytes()).ok().text();
        assert!(said.lines().count() == expected.len(), "{said}");
        assert!(
            expected.iter().zip(said.lines()).all(|((_, expected), said)| said.starts_with(expected)),
            "expected:\n{lines}\nmet:\n{said}"
        );
    }

    /// Puts raw frames on the guest's card: see `redteam.pl` for the kinds. `friend` and `deaf` are allowed servers, of which the second
    /// never answers. Returns how many frames each kind sent.
    #[must_use]
    pub fn attacks(&self, friend: Ipv4Addr, deaf: Ipv4Addr, kinds: &[&str]) -> Vec<(String, usize)> {
        let (friend, deaf) = (friend.to_string(), deaf.to_string());
        let mut command = vec!["perl", "-", &friend, &deaf];
        command.extend(kinds);
        let said = self.home.exec_with_input(&self.workspace, &command, RED_TEAM.as_bytes()).ok().text();
        let sent: Vec<(String, usize)> = said
            .lines()
            .map(|line| {
                let (kind, count) = line.split_once(' ').expect("KIND COUNT");
                (kind.to_owned(), count.parse().expect("a number"))
            })
            .collect();
        assert_eq!(sent.len(), kinds.len(), "{said}");
        sent
    }

    /// Returns the workspace's network log.
    #[must_use]
    pub fn log(&self) -> Vec<Value> {
        let answer = self.home.pyro(&["workspace", "logs", &self.workspace, "--network", "--tail", "1000", "--json"]).ok().json();
        answer["entries"].as_array().expect("a log has entries").clone()
    }

    /// Waits for a log entry with these fields, given as `field=value`, and returns it.
    #[must_use]
    pub fn logged(&self, fields: &[&str]) -> Value {
        let mut found = None;
        let fits = |entry: &Value| {
            fields.iter().all(|field| {
                let (name, value) = field.split_once('=').expect("FIELD=VALUE");
                entry[name].as_str().map_or_else(|| entry[name].to_string(), str::to_owned) == value
            })
        };
        let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while found.is_none() {
            let log = self.log();
            found = log.iter().rev().find(|entry| fits(entry)).cloned();
            assert!(found.is_some() || std::time::Instant::now() < end, "no entry with {fields:?} in {}", Value::from(log.clone()));
        }
        found.expect("the loop ends with it")
    }
}

/// Returns how the probe tells of a body of `/bytes/COUNT`.
#[must_use]
pub fn counted(count: usize) -> String {
    let bytes = service::counted_bytes(count);
    format!("200 {} ({count} bytes, sum {})", String::from_utf8_lossy(&bytes[..bytes.len().min(200)]), sum(&bytes))
}

/// Returns how the probe tells of the body it has posted and got back.
#[must_use]
pub fn posted(count: usize) -> String {
    let bytes: Vec<u8> = (b'a'..=b'z').cycle().take(count).collect();
    format!("200 {} ({count} bytes, sum {})", String::from_utf8_lossy(&bytes[..count.min(200)]), sum(&bytes))
}

fn sum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(u32::from(*byte)))
}

/// Exchanges a byte with an echo server, which has noted the connection by then.
fn greet(address: Ipv4Addr) {
    let mut stream = TcpStream::connect((address, ECHO_PORT)).expect("the world is there");
    stream.write_all(b".").and_then(|()| stream.read_exact(&mut [0])).expect("it echoes");
}

/// Servers of the host itself that no guest may reach; they count who does.
fn serve_host(reached: &Arc<AtomicUsize>) {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, HOST_PORT)).expect("the namespace is new");
    let counter = Arc::clone(reached);
    // It ends with the process; its namespace lives until then, but nothing in it.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            counter.fetch_add(usize::from(stream.is_ok()), Ordering::Relaxed);
        }
    });
}
