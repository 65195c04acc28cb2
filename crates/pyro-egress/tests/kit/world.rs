//! A stack on a thread with a current-thread runtime, as a supervisor runs it.

use std::net::SocketAddrV4;
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::thread::JoinHandle;

use pyro_egress::policy::{Policy, Rule};
use pyro_egress::{Configuration, Counters, EgressError, Event};
use tokio::sync::mpsc as asynchronous;

use super::{DEADLINE, Guest};

enum Order {
    SetPolicy(Policy, mpsc::Sender<usize>),
    PartWith(Vec<(u16, SocketAddrV4)>),
    Count(mpsc::Sender<Counters>),
}

pub(crate) struct World {
    orders: Option<asynchronous::UnboundedSender<Order>>,
    events: mpsc::Receiver<Event>,
    thread: Option<JoinHandle<Result<(), EgressError>>>,
}

pub(crate) fn rules(texts: &[&str]) -> Vec<Rule> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

pub(crate) fn policy(allow: &[&str]) -> Policy {
    Policy::new(rules(allow), Vec::new(), [])
}

impl World {
    pub(crate) fn start(configuration: Configuration, policy: Policy) -> (Self, Guest) {
        let (ours, guests) = UnixStream::pair().unwrap();
        let guest = Guest::new(guests, &configuration);
        let (orders, mut ordered) = asynchronous::unbounded_channel();
        let (told, events) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                ours.set_nonblocking(true).unwrap();
                let socket = tokio::net::UnixStream::from_std(ours).unwrap();
                let (mut handle, mut events) = pyro_egress::start(socket, configuration, policy).unwrap();
                loop {
                    tokio::select! {
                        order = ordered.recv() => match order {
                            // Whoever asked may have panicked.
                            Some(Order::SetPolicy(policy, done)) => { let _ = done.send(handle.set_policy(policy).await?); }
                            Some(Order::PartWith(connections)) => handle.part_with(connections).await?,
                            Some(Order::Count(answer)) => { let _ = answer.send(handle.counters().await?); }
                            None => return Ok(()),
                        },
                        Some(event) = events.next() => { let _ = told.send(event); }
                        result = handle.ended() => return result,
                    }
                }
            })
        });
        (Self { orders: Some(orders), events, thread: Some(thread) }, guest)
    }

    /// A world whose policy is an allow-list.
    pub(crate) fn allowing(allow: &[&str]) -> (Self, Guest) {
        Self::start(Configuration::default(), policy(allow))
    }

    pub(crate) fn set_policy(&self, policy: Policy) -> usize {
        let (done, ended) = mpsc::channel();
        assert!(self.orders.as_ref().unwrap().send(Order::SetPolicy(policy, done)).is_ok());
        ended.recv_timeout(DEADLINE).unwrap()
    }

    pub(crate) fn part_with(&self, connections: Vec<(u16, SocketAddrV4)>) {
        assert!(self.orders.as_ref().unwrap().send(Order::PartWith(connections)).is_ok());
    }

    pub(crate) fn counters(&self) -> Counters {
        let (answer, counted) = mpsc::channel();
        assert!(self.orders.as_ref().unwrap().send(Order::Count(answer)).is_ok());
        counted.recv_timeout(DEADLINE).unwrap()
    }

    /// Waits for the next event that `matches`.
    pub(crate) fn event(&self, matches: impl Fn(&Event) -> bool) -> Event {
        loop {
            let event = self.events.recv_timeout(DEADLINE).expect("the event happens");
            if matches(&event) {
                return event;
            }
        }
    }

    /// Waits for the stack to end by itself.
    pub(crate) fn ended(mut self) -> Result<(), EgressError> {
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        drop(self.orders.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
