//! The stack's task: what it owns, and in which order it does things.
//!
//! A turn reads frames, lets each connection that has something to do move its data, and writes frames; none of it waits. Between turns
//! the task sleeps until the guest, a socket, a resolver, a command or a deadline wakes it.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::{Duration, Instant};

use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::wire::{HardwareAddress, IpCidr, Ipv4Cidr};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinError, JoinSet};

use crate::configuration::Configuration;
use crate::dns::StreamQuestion;
use crate::error::EgressError;
use crate::event::{Counters, End, Event, FlowId};
use crate::policy::{Budgets, Learnt, Policy};

use super::connections::{Connecting, FlowKey};
use super::datagrams::Associations;
use super::flow::Flow;
use super::link::{Deframer, Output, Port};
use super::pairs::Pairs;
use super::questions::Asked;
use super::ready::{ReadyQueue, Token};
use super::timers::Timers;

/// How many frames are taken in before connections have their turn, so that their windows do not run dry.
const FRAMES_PER_TURN: usize = 256;
/// Questions by TCP wait here for the stack's task; each connection has at most one.
const STREAM_QUESTIONS_WAITING: usize = 16;

/// What a handle asks of the task.
pub(crate) enum Command {
    /// Changes the policy. Answers how many connections and associations it ended.
    SetPolicy(Policy, oneshot::Sender<usize>),
    /// Lets the guest find out about connections that are over. The port is the guest's.
    PartWith(Vec<(u16, SocketAddrV4)>),
    /// Answers what the stack holds.
    Count(oneshot::Sender<Counters>),
}

pub(crate) struct Stack {
    pub(super) configuration: Arc<Configuration>,
    pub(super) policy: Policy,
    pub(super) learnt: Learnt,
    pub(super) budgets: Budgets,
    pub(super) counters: Counters,
    pub(super) output: Output,
    pub(super) interface: Interface,
    /// No sockets at all: what smoltcp answers a segment with then is the reset that a stranger gets.
    pub(super) nobody: SocketSet<'static>,
    pub(super) started: Instant,
    pub(super) now: Instant,
    pub(super) next_id: u64,

    pub(super) keys: HashMap<FlowKey, FlowId>,
    pub(super) connecting: HashMap<FlowId, Connecting>,
    pub(super) flows: HashMap<FlowId, Box<Flow>>,
    pub(super) half_open: BTreeSet<FlowId>,
    pub(super) connects: JoinSet<(FlowId, io::Result<TcpStream>)>,
    /// Connections with something to do in this turn, each at most once.
    pub(super) busy: VecDeque<FlowId>,

    pub(super) associations: Associations,
    pub(super) questions: JoinSet<Asked>,
    pub(super) pairs: Pairs,
    pub(super) stream_questions: mpsc::Sender<StreamQuestion>,
    pub(super) servers: JoinSet<()>,

    pub(super) ready: ReadyQueue,
    pub(super) timers: Timers,
    events: mpsc::Sender<Event>,

    socket: UnixStream,
    commands: mpsc::Receiver<Command>,
    stream_questions_asked: mpsc::Receiver<StreamQuestion>,
    tokens: Vec<Token>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    Yes,
    No,
}

/// What a turn came to.
enum Turn {
    Rest,
    Again,
    PeerClosed,
}

impl Stack {
    pub(crate) fn new(
        socket: UnixStream,
        configuration: Configuration,
        policy: Policy,
        commands: mpsc::Receiver<Command>,
        events: mpsc::Sender<Event>,
    ) -> Self {
        let now = Instant::now();
        let mut output = Output::new(configuration.guest_mac, configuration.gateway_mac);
        let mut config = Config::new(HardwareAddress::Ip);
        let mut seed = [0; 8];
        // The kernel's generator does not fail once it is seeded, which it is before a user can log in.
        let _ = rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::empty());
        config.random_seed = u64::from_ne_bytes(seed);
        let mut port = Port { packet: None, output: &mut output, mtu_bytes: configuration.mtu_bytes };
        let mut interface = Interface::new(config, &mut port, smoltcp::time::Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            // The first of at least one place.
            let _ = addresses.push(IpCidr::Ipv4(Ipv4Cidr::new(configuration.gateway_address, 32)));
        });
        interface.set_any_ip(true);
        let (stream_questions, stream_questions_asked) = mpsc::channel(STREAM_QUESTIONS_WAITING);
        Self {
            configuration: Arc::new(configuration),
            policy,
            learnt: Learnt::default(),
            budgets: Budgets::default(),
            counters: Counters::default(),
            output,
            interface,
            nobody: SocketSet::new(Vec::new()),
            started: now,
            now,
            next_id: 0,
            keys: HashMap::new(),
            connecting: HashMap::new(),
            flows: HashMap::new(),
            half_open: BTreeSet::new(),
            connects: JoinSet::new(),
            busy: VecDeque::new(),
            associations: Associations::default(),
            questions: JoinSet::new(),
            pairs: Pairs::default(),
            stream_questions,
            servers: JoinSet::new(),
            ready: ReadyQueue::default(),
            timers: Timers::default(),
            events,
            socket,
            commands,
            stream_questions_asked,
            tokens: Vec::new(),
        }
    }

    /// Runs until the machine closes its end. Dropping the future closes every socket.
    pub(crate) async fn run(mut self) -> Result<(), EgressError> {
        let mut input = Deframer::default();
        loop {
            match self.turn(&mut input)? {
                Turn::PeerClosed => {
                    self.part();
                    return Ok(());
                }
                Turn::Again => {
                    self.rest(Wait::No).await;
                    // Others of this thread have their turn, too.
                    tokio::task::yield_now().await;
                }
                Turn::Rest => self.rest(Wait::Yes).await,
            }
        }
    }

    /// Waits for whatever happens next; with `Wait::No`, takes what has happened already.
    async fn rest(&mut self, wait: Wait) {
        let deadline = self.timers.first();
        let ready = self.ready.clone();
        tokio::select! {
            // Frames come last: a guest that never stops sending must not keep a new policy from being heard.
            biased;
            Some(command) = self.commands.recv() => {
                self.now = Instant::now();
                self.obey(command);
            }
            Some(connected) = self.connects.join_next() => {
                self.now = Instant::now();
                self.take_connected(connected);
            }
            Some(asked) = self.questions.join_next() => {
                self.now = Instant::now();
                self.take_asked(asked);
            }
            Some(question) = self.stream_questions_asked.recv() => {
                self.now = Instant::now();
                self.stream_question(question);
            }
            Some(_) = self.servers.join_next() => {}
            () = std::future::ready(()), if wait == Wait::No => {}
            () = poll_fn(|context| ready.poll_ready(context)) => {}
            () = sleep_until(deadline) => {}
            // Errors show when the socket is used.
            _ = self.socket.readable(), if self.output.has_room() => {}
            _ = self.socket.writable(), if !self.output.is_empty() => {}
        }
    }

    fn turn(&mut self, input: &mut Deframer) -> Result<Turn, EgressError> {
        self.now = Instant::now();
        self.reap();
        let taken = self.take_frames(input)?;
        let mut tokens = std::mem::take(&mut self.tokens);
        self.ready.take(&mut tokens);
        for token in tokens.drain(..) {
            self.wake(token);
        }
        self.tokens = tokens;
        while let Some(token) = self.timers.pop_due(self.now) {
            self.fire(token);
        }
        // Each connection once; those with more to move come again in the next turn.
        for _ in 0..self.busy.len() {
            if !self.output.has_room() {
                break;
            }
            if let Some(id) = self.busy.pop_front() {
                self.serve(id);
            }
        }
        self.output.flush(&self.socket).map_err(EgressError::Link)?;
        Ok(match taken {
            Taken::Closed => Turn::PeerClosed,
            Taken::More => Turn::Again,
            Taken::Blocked if self.output.has_room() => Turn::Again,
            Taken::Nothing if self.output.has_room() && !self.busy.is_empty() => Turn::Again,
            Taken::Blocked | Taken::Nothing => Turn::Rest,
        })
    }

    // All that have ended, in each turn: a guest can make tasks end faster than one at a time, and an ended one takes memory until it is joined.
    fn reap(&mut self) {
        while let Some(connected) = self.connects.try_join_next() {
            self.take_connected(connected);
        }
        while let Some(asked) = self.questions.try_join_next() {
            self.take_asked(asked);
        }
        while self.servers.try_join_next().is_some() {}
    }

    fn take_connected(&mut self, connected: Result<(FlowId, io::Result<TcpStream>), JoinError>) {
        // An aborted attempt has no owner any more.
        if let Ok((id, result)) = connected {
            self.connected(id, result);
        }
    }

    fn take_asked(&mut self, asked: Result<Asked, JoinError>) {
        if let Ok(asked) = asked {
            self.answered(asked);
        }
    }

    fn take_frames(&mut self, input: &mut Deframer) -> Result<Taken, EgressError> {
        for _ in 0..FRAMES_PER_TURN {
            if !self.output.has_room() {
                return Ok(Taken::Blocked);
            }
            if let Some(range) = input.next_frame()? {
                self.counters.frames_in += 1;
                self.frame(input.frame(range));
                continue;
            }
            match self.socket.try_read(input.space()) {
                Ok(0) if input.is_between_frames() => return Ok(Taken::Closed),
                Ok(0) => return Err(EgressError::FrameCut),
                Ok(count) => input.filled(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Taken::Nothing),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // A machine that is killed may leave a reset instead of an end.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(Taken::Closed),
                Err(error) => return Err(EgressError::Link(error)),
            }
        }
        Ok(Taken::More)
    }

    fn wake(&mut self, token: Token) {
        match token {
            Token::Tcp(id) => {
                if let Some(flow) = self.flows.get(&id) {
                    flow.waker.begin();
                    self.make_busy(id);
                }
            }
            Token::Udp(id) => self.receive_datagrams(id),
            Token::Echo(id) => self.receive_echoes(id),
        }
    }

    fn fire(&mut self, token: Token) {
        match token {
            Token::Tcp(id) => self.flow_is_due(id),
            Token::Udp(_) | Token::Echo(_) => self.association_is_due(token),
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::SetPolicy(policy, done) => {
                self.policy = policy;
                self.budgets.keep(self.policy.allow());
                let ended = self.rejudge_connections() + self.rejudge_associations();
                // Whoever asked may have stopped waiting.
                let _ = done.send(ended);
            }
            Command::PartWith(connections) => self.part_with(connections),
            Command::Count(answer) => {
                let _ = answer.send(self.count());
            }
        }
    }

    /// Tells of the end of everything that is open.
    fn part(&mut self) {
        let open: Vec<FlowId> = self.flows.keys().copied().collect();
        for id in open {
            self.close(id, End::Closed);
        }
        self.part_associations();
    }

    fn count(&self) -> Counters {
        Counters {
            frames_out: self.output.frames(),
            tcp_flows: self.keys.len(),
            half_open_flows: self.half_open.len(),
            buffer_bytes: self.counters.buffer_bytes,
            udp_associations: self.associations.udp_count(),
            echo_associations: self.associations.echo_count(),
            helper_tasks: self.servers.len(),
            questions_in_flight: self.questions.len(),
            learnt_pairs: self.learnt.len(),
            ..self.counters
        }
    }

    pub(super) fn tell(&mut self, event: Event) {
        if self.events.try_send(event).is_err() {
            self.counters.events_dropped += 1;
        }
    }

    pub(super) fn take_id(&mut self) -> FlowId {
        self.next_id += 1;
        FlowId(self.next_id)
    }

    /// The stack's time as smoltcp counts it.
    pub(super) fn tick(&self) -> smoltcp::time::Instant {
        let elapsed = self.now.saturating_duration_since(self.started);
        smoltcp::time::Instant::from_micros(i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX))
    }

    pub(super) fn instant(&self, tick: smoltcp::time::Instant) -> Instant {
        self.started + Duration::from_micros(u64::try_from(tick.total_micros()).unwrap_or(0))
    }
}

/// How far reading frames got.
enum Taken {
    /// There is nothing to read.
    Nothing,
    /// There may be, but no room for what it may cause.
    Blocked,
    More,
    Closed,
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
