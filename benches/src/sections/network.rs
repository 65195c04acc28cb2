//! The way out of a guest: Pyro's user-space network against QEMU's own, in the same bare guest, and as a workspace has it.
//!
//! A server on an address of the host says by a control connection what the guest is to do, and takes the time.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use pyro_egress::{
    Configuration, Handle,
    policy::{Policy, Rule},
};

use super::Bench;
use crate::{
    arguments::Section,
    bare::{BareMachine, Card, make_initramfs},
    bed::ENVIRONMENT,
    command,
    home::{Home, Standby},
    report::{Group, Report, Row, Whose},
    sample::{Samples, Target, Unit},
};

const WORKER: &str = include_str!("network_worker.pl");
const BYTES: usize = 64 << 20;
/// Of one sample. Samples are many and short and the ways take turns, so that a neighbour's noise meets all of them.
const CONNECTIONS: u32 = 200;
/// Until a guest's code is translated: later ones are no faster.
const WARM_UP_CONNECTIONS: u32 = 2000;
/// How long a guest may take to connect when it was told to. One whose worker has died does not.
const ACCEPT_DEADLINE: Duration = Duration::from_secs(20);
/// A translated guest boots in seconds, and a bare one at first translates everything anew.
const BOOT_DEADLINE: Duration = Duration::from_secs(60);
/// What Pyro tells its guests' cards.
const LARGE_MTU: u16 = 65_520;
const USUAL_MTU: u16 = 1500;
/// Where the four guests' consoles go; a workspace keeps its own.
const LARGE: &str = "network-large.log";
const USUAL: &str = "network-usual.log";
const USER: &str = "network-user.log";
const PRODUCT: &str = "network-workspace.log";

/// Listeners on one of the host's own addresses. Peers of other hosts are sent away.
#[derive(Debug)]
struct Server {
    address: Ipv4Addr,
    control: TcpListener,
    data: TcpListener,
}

impl Server {
    fn on(address: Ipv4Addr) -> Result<Self> {
        let (control, data) = (TcpListener::bind((address, 0))?, TcpListener::bind((address, 0))?);
        // What holds for reading holds for accepting (socket(7)).
        rustix::net::sockopt::set_socket_timeout(&data, rustix::net::sockopt::Timeout::Recv, Some(ACCEPT_DEADLINE))?;
        Ok(Self { address, control, data })
    }

    fn accept(&self, listener: &TcpListener) -> Result<TcpStream> {
        loop {
            let (stream, peer) = listener.accept()?;
            if peer.ip() == self.address {
                return Ok(stream);
            }
        }
    }

    fn control(&self) -> Result<SocketAddrV4> {
        Ok(SocketAddrV4::new(self.address, self.control.local_addr()?.port()))
    }

    /// Waits for a worker to report.
    fn worker(&self, log: &Path) -> Result<Worker<'_>> {
        self.control.set_nonblocking(true)?;
        let deadline = Instant::now() + BOOT_DEADLINE;
        let stream = loop {
            match self.accept(&self.control) {
                Ok(stream) => break stream,
                Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(10)),
                Err(_) => bail!("the guest's worker did not report in time; its console says: {}", last_lines(log)),
            }
        };
        stream.set_nonblocking(false)?;
        // Longer than any of its tasks takes.
        stream.set_read_timeout(Some(BOOT_DEADLINE))?;
        Ok(Worker { server: self, control: BufReader::new(stream), log: log.to_owned() })
    }
}

/// A guest that does what it is told.
#[derive(Debug)]
struct Worker<'a> {
    server: &'a Server,
    control: BufReader<TcpStream>,
    log: PathBuf,
}

impl Worker<'_> {
    /// Has the guest do something while `serve` plays the server; returns the seconds until it is done.
    fn time(&mut self, what: &str, count: usize, serve: impl FnOnce(&Server) -> Result<()> + Send) -> Result<f64> {
        let port = self.server.data.local_addr()?.port();
        let server = self.server;
        let started = Instant::now();
        self.control.get_mut().write_all(format!("{what} {port} {count}\n").as_bytes())?;
        std::thread::scope(|scope| {
            let serving = scope.spawn(|| serve(server));
            let mut line = String::new();
            self.control.read_line(&mut line)?;
            let elapsed = started.elapsed().as_secs_f64();
            ensure!(line == "done\n", "the guest's worker ended; its console says: {}", last_lines(&self.log));
            serving.join().map_err(|_| anyhow::anyhow!("the server panicked"))??;
            Ok(elapsed)
        })
    }

    fn take(&mut self) -> Result<f64> {
        let seconds = self.time("take", BYTES, |server| {
            let mut stream = server.accept(&server.data)?;
            let block = vec![7; 1 << 20];
            (0..BYTES >> 20).try_for_each(|_| stream.write_all(&block)).context("the guest hung up")
        })?;
        Ok(BYTES as f64 / 1e6 / seconds)
    }

    fn give(&mut self) -> Result<f64> {
        let seconds = self.time("give", BYTES, |server| {
            let mut stream = server.accept(&server.data)?;
            let (mut block, mut total) = (vec![0; 1 << 20], 0);
            while let count @ 1.. = stream.read(&mut block)? {
                total += count;
            }
            ensure!(total == BYTES, "{total} bytes of {BYTES} arrived");
            Ok(())
        })?;
        Ok(BYTES as f64 / 1e6 / seconds)
    }

    fn dial(&mut self, connections: u32) -> Result<f64> {
        let seconds = self.time("dial", connections as usize, |server| {
            for _ in 0..connections {
                server.accept(&server.data)?.write_all(b"x")?;
            }
            Ok(())
        })?;
        Ok(f64::from(connections) / seconds)
    }
}

fn last_lines(file: &Path) -> String {
    let text = std::fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(6)..].join(" / ")
}

/// What was measured by one way.
#[derive(Debug, Default)]
struct Way {
    take: Samples,
    give: Samples,
    dial: Samples,
}

/// Which of a way's figures is meant.
type Choose = fn(&Way) -> &Samples;

/// Pyro's stack at the end of a stream, on a thread of its own as in a supervisor. Ends with the machine that holds the other end.
fn stack(mtu_bytes: u16, server: Ipv4Addr) -> Result<UnixStream> {
    let (ours, machines) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let policy = Policy::new(vec![Rule::for_address(server, None)], Vec::new(), pyro_egress::host_addresses()?);
    let run = move || -> Result<()> {
        tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
            let socket = tokio::net::UnixStream::from_std(ours)?;
            let (mut handle, mut events): (Handle, _) =
                pyro_egress::start(socket, Configuration { mtu_bytes, ..Configuration::default() }, policy)?;
            loop {
                tokio::select! {
                    ended = handle.ended() => return Ok(ended?),
                    event = events.next() => drop(event),
                }
            }
        })
    };
    std::thread::spawn(move || drop(run()));
    Ok(machines)
}

pub(super) async fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let Some(address) = pyro_egress::host_addresses()?.into_iter().find(|address| !address.is_loopback()) else {
        report.line("\nout of a guest: not measured, since this host has no address but loopback, which no guest reaches");
        return Ok(());
    };
    let home = bench.home("network", Standby::None).await?;
    let environment = home.environment_folder().await?;
    let model = model(&home).await?;
    let initramfs = bench.run.join("network.cpio");
    make_initramfs(&environment, bench.peers.root(), &initramfs)?;

    let servers = [Server::on(address)?, Server::on(address)?, Server::on(address)?, Server::on(address)?];
    let [large, usual, user, product] = &servers;
    let log = |name: &str| bench.run.join(name);
    let boot = |card, server: &Server, name: &str| -> Result<BareMachine> {
        let control = server.control()?;
        let server = format!("{},{}", control.ip(), control.port());
        BareMachine::start(&model, &environment.join("vmlinuz"), &initramfs, card, &server, log(name))
    };
    let _machines = [
        boot(Card::Stream(stack(LARGE_MTU, address)?, LARGE_MTU), large, LARGE)?,
        boot(Card::Stream(stack(USUAL_MTU, address)?, USUAL_MTU), usual, USUAL)?,
        boot(Card::User, user, USER)?,
    ];
    let mut bare = [large.worker(&log(LARGE))?, usual.worker(&log(USUAL))?, user.worker(&log(USER))?];
    let workspace = Workspace::create(bench, &home, product).await?;
    let mut workspaces = product.worker(&log(PRODUCT))?;

    let mut ways: [Way; 4] = Default::default();
    let mut workers: Vec<&mut Worker<'_>> = bare.iter_mut().chain([&mut workspaces]).collect();
    for worker in &mut workers {
        worker.take()?;
        worker.give()?;
        worker.dial(WARM_UP_CONNECTIONS)?;
    }
    for _ in 0..bench.effort.slow_samples {
        for (worker, way) in workers.iter_mut().zip(&mut ways) {
            way.take.push(worker.take()?);
            way.give.push(worker.give()?);
        }
    }
    for _ in 0..bench.effort.samples {
        for (worker, way) in workers.iter_mut().zip(&mut ways) {
            way.dial.push(worker.dial(CONNECTIONS)?);
        }
    }
    drop(workspaces);
    workspace.end().await;
    home.close().await?;

    let [large, usual, user, product] = ways;
    let (megabytes, connections) = (Unit::MegabytesPerSecond, Unit::ConnectionsPerSecond);
    let kinds: [(String, Unit, Choose); 3] = [
        (format!("{} MiB to a guest", BYTES >> 20), megabytes, |way| &way.take),
        (format!("{} MiB out of a guest", BYTES >> 20), megabytes, |way| &way.give),
        (format!("{CONNECTIONS} connections out of a guest, one after the other"), connections, |way| &way.dial),
    ];
    for (title, unit, of) in kinds {
        let mut group = Group::begin(Section::Network, format!("{title}, a server on the host"));
        let peer = of(&user).percentile(50).context("it was measured")?;
        group.add(Row::new(Whose::Pyro, "pyro", unit, of(&large).clone()).target(Target::AtLeast(peer.floor())));
        group.add(Row::new(Whose::Part, "  with packets of 1500 bytes, which QEMU's has", unit, of(&usual).clone()));
        group.add(Row::new(Whose::Part, "  in a workspace, with its supervisor and its log", unit, of(&product).clone()));
        group.add(Row::new(Whose::Peers, "QEMU: -netdev user", unit, of(&user).clone()));
        group.note(format!("{:.1} times QEMU's, in the same bare guest", of(&large).percentile(50).unwrap_or(0.0) / peer));
        report.finish(group);
    }
    Ok(())
}

/// Returns accelerator and CPU model of Pyro's own machines, as QEMU's arguments.
async fn model(home: &Home) -> Result<Vec<String>> {
    let workspace = home.create().await?;
    let pid = home.machines()?.first().and_then(|machine| machine.machine_pid).context("its machine runs")?;
    let line = std::fs::read(Path::new("/proc").join(pid.to_string()).join("cmdline"))?;
    workspace.delete().await?;
    let words: Vec<String> = line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    Ok(words.windows(2).filter(|pair| pair[0] == "-accel" || pair[0] == "-cpu").flatten().cloned().collect())
}

/// A workspace in which the worker runs.
#[derive(Debug)]
struct Workspace {
    worker: tokio::process::Child,
}

impl Workspace {
    async fn create(bench: &Bench, home: &Home, server: &Server) -> Result<Self> {
        let (memory, control) = (bench.mem_mib.to_string(), server.control()?);
        let rule = control.ip().to_string();
        let create =
            ["workspace", "create", ENVIRONMENT, "--mem-mib", &memory, "--network-policy", "egress", "--allow-host", &rule, "--id-only"];
        let id = String::from_utf8(command::time(home.cli(&create)).await?.1.stdout)?.trim().to_owned();
        let _ = command::time(home.cli(&["workspace", "file", "write", &id, "worker.pl", "--text", WORKER])).await?;
        let mut exec = home.cli(&["workspace", "exec", &id, "--", "perl", "worker.pl", &rule, &control.port().to_string()]);
        Ok(Self { worker: exec.stdout(std::process::Stdio::null()).spawn()? })
    }

    async fn end(mut self) {
        // Its control connection is closed, so it ends by itself.
        drop(tokio::time::timeout(Duration::from_secs(10), self.worker.wait()).await);
    }
}
