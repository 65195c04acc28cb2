//! Keeps the log of what a network did: every event of the stack becomes an entry of the chained log, and, as far as they are not too many,
//! an event of the workspace.

use std::{net::SocketAddrV4, sync::Weak, time::Duration};

use pyro_egress::{
    End, Event, Events, QuestionOutcome,
    policy::{Name, Protocol, Refusal, Rule},
};
use pyro_intercept::{RefusedRequest, SecretUse};
use pyro_store::WorkspaceId;
use serde_json::{Map, Value, json};
use tokio::sync::{mpsc, oneshot};

use super::super::{Supervisor, log_line, now_ms};
use crate::lock;

/// Entries written at once at the most.
const BATCH_MAX: usize = 512;
/// How long the first entry of a batch waits for others: a request is a question, its answer and a connection.
const BATCH_PAUSE: Duration = Duration::from_millis(20);
/// How many events of the workspace its network may cause: this many at once, and so many a second. The log has all of them; the
/// workspace's events, of which only the newest ten thousand are kept, must not be pushed out by a guest that knocks on every port.
const EVENTS_AT_ONCE: u32 = 200;
const EVENTS_PER_SECOND: u32 = 5;
/// Most addresses of one answer that are entered.
const ADDRESSES_MAX: usize = 16;

type Entry = Map<String, Value>;

/// Where entries come from.
pub(super) struct Sources {
    pub(super) events: Events,
    /// Where secrets stay outside: what their proxy does.
    pub(super) proxied: Option<Proxied>,
    /// Whom to tell when everything has been written.
    pub(super) flushes: mpsc::Receiver<oneshot::Sender<()>>,
}

/// What a proxy tells of.
pub(super) struct Proxied {
    pub(super) uses: mpsc::Receiver<SecretUse>,
    pub(super) refused: mpsc::Receiver<RefusedRequest>,
}

impl Proxied {
    /// Waits for the next thing; `None` once there will be none.
    async fn next(&mut self) -> Option<Entry> {
        tokio::select! {
            Some(used) = self.uses.recv() => Some(secret_entry(&used)),
            Some(refused) = self.refused.recv() => Some(refused_request_entry(&refused)),
            else => None,
        }
    }

    /// Returns the next thing that is there.
    fn try_next(&mut self) -> Option<Entry> {
        let used = self.uses.try_recv().ok().map(|used| secret_entry(&used));
        used.or_else(|| self.refused.try_recv().ok().map(|refused| refused_request_entry(&refused)))
    }
}

/// Writes down what happens until the stack has ended.
pub(super) async fn keep(supervisor: Weak<Supervisor>, workspace: WorkspaceId, sources: Sources) {
    let Sources { mut events, mut proxied, mut flushes } = sources;
    let mut allowance = Allowance::new();
    let mut lost_before = 0;
    loop {
        let mut entries = Vec::new();
        let mut flush = None;
        let next_proxied = async {
            match &mut proxied {
                Some(proxied) => proxied.next().await,
                None => std::future::pending().await,
            }
        };
        let mut ended = false;
        tokio::select! {
            first = events.next() => match first {
                Some(first) => {
                    entries.push(entry(&first));
                    // Whoever asks for everything does not wait for more.
                    flush = tokio::time::timeout(BATCH_PAUSE, flushes.recv()).await.ok().flatten();
                }
                None => ended = true,
            },
            Some(entry) = next_proxied => entries.push(entry),
            Some(done) = flushes.recv() => flush = Some(done),
        }
        while entries.len() < BATCH_MAX
            && let Some(entry) = proxied.as_mut().and_then(Proxied::try_next)
        {
            entries.push(entry);
        }
        // Who wants to see everything gets what was there when it asked, and it may be more than a batch.
        while (flush.is_some() || entries.len() < BATCH_MAX)
            && let Some(event) = events.try_next()
        {
            entries.push(entry(&event));
        }
        let Some(supervisor) = supervisor.upgrade() else { return };
        if let Some(network) = supervisor.network.get()
            && let Ok(counters) = network.handle.counters().await
            && counters.events_dropped > lost_before
        {
            entries.push(stamped("lost", json!({ "count": counters.events_dropped - lost_before })));
            lost_before = counters.events_dropped;
        }
        if !entries.is_empty() {
            supervisor.enter_network(&workspace, entries, &mut allowance).await;
        }
        if let Some(done) = flush {
            // Whoever asked may have gone.
            let _ = done.send(());
        }
        if ended {
            return;
        }
    }
}

impl Supervisor {
    /// Appends entries to the workspace's network log and tells its events of them.
    async fn enter_network(&self, workspace: &WorkspaceId, entries: Vec<Entry>, allowance: &mut Allowance) {
        let entries: Vec<Entry> = entries.into_iter().map(|entry| self.redact_entry(entry)).collect();
        if let Some(network) = self.network.get() {
            let now = std::time::Instant::now();
            let rules = entries.iter().filter_map(|entry| entry.get("would_allow")?.as_str());
            rules.for_each(|rule| network.refusals.note(now, rule.to_owned()));
        }
        let mut happened = Vec::new();
        for entry in &entries {
            if allowance.take() {
                happened.push((kind(entry), Value::Object(entry.clone())));
            }
        }
        if let Some(skipped) = allowance.take_skipped() {
            happened.push(("network_skipped", json!({ "count": skipped })));
        }
        let log = self.arguments.dirs.network_log(workspace);
        let appended = tokio::task::spawn_blocking(move || log.append(entries)).await;
        let noted = match appended {
            Ok(Ok(end)) => lock(&self.registry).note_network(workspace, &end, &happened).map_err(|error| error.to_string()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = noted {
            log_line(&format!("cannot write the network log: {error}"));
        }
    }

    /// A guest may ask for a name that has a secret in it.
    fn redact_entry(&self, entry: Entry) -> Entry {
        let mut value = Value::Object(entry);
        self.redact_value(&mut value);
        match value {
            Value::Object(entry) => entry,
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Entry::new(),
        }
    }
}

fn kind(entry: &Entry) -> &'static str {
    match entry.get("event").and_then(Value::as_str) {
        Some("opened") => "network_opened",
        Some("closed") => "network_closed",
        Some("refused") => "network_refused",
        Some("question") => "network_question",
        Some("secret") => "secret_used",
        Some("lost") => "network_skipped",
        _ => "network_unreachable",
    }
}

/// How much may be told now: a bucket that fills with time.
#[derive(Debug)]
struct Allowance {
    left: u32,
    filled_at: std::time::Instant,
    skipped: u64,
}

impl Allowance {
    fn new() -> Self {
        Self { left: EVENTS_AT_ONCE, filled_at: std::time::Instant::now(), skipped: 0 }
    }

    fn take(&mut self) -> bool {
        let seconds = self.filled_at.elapsed().as_secs();
        if seconds > 0 {
            self.filled_at += Duration::from_secs(seconds);
            let more = u32::try_from(seconds).unwrap_or(u32::MAX).saturating_mul(EVENTS_PER_SECOND);
            self.left = self.left.saturating_add(more).min(EVENTS_AT_ONCE);
        }
        let allowed = self.left > 0;
        self.left -= u32::from(allowed);
        self.skipped += u64::from(!allowed);
        allowed
    }

    /// Returns how many were passed over, once there is room again to say so.
    fn take_skipped(&mut self) -> Option<u64> {
        (self.skipped > 0 && self.take()).then(|| std::mem::take(&mut self.skipped))
    }
}

fn stamped(event: &str, detail: Value) -> Entry {
    let Value::Object(mut entry) = detail else { return Entry::new() };
    entry.retain(|_, value| !value.is_null());
    entry.insert("event".to_owned(), event.into());
    entry.insert("at_ms".to_owned(), now_ms().into());
    entry
}

fn secret_entry(used: &SecretUse) -> Entry {
    stamped(
        "secret",
        json!({
            "flow": used.flow.0, "secret": used.secret.as_str(), "name": used.host.to_string(), "method": used.method, "path": used.path,
            "status": used.status,
        }),
    )
}

fn refused_request_entry(refused: &RefusedRequest) -> Entry {
    stamped(
        "refused",
        json!({
            "flow": refused.flow.0, "protocol": "http", "name": refused.host.to_string(), "method": refused.method, "path": refused.path,
            "status": refused.status, "reason": refused.reason,
        }),
    )
}

fn entry(event: &Event) -> Entry {
    match event {
        Event::Opened { id, protocol, destination, name, allowed_by } => stamped(
            "opened",
            json!({
                "flow": id.0, "protocol": word(*protocol), "destination": place(*protocol, *destination), "name": text(name.as_ref()),
                "rule": allowed_by.as_ref().map(Rule::to_string),
            }),
        ),
        Event::Refused { id, protocol, destination, name, refusal } => {
            let mut entry = stamped(
                "refused",
                json!({
                    "flow": id.map(|id| id.0), "protocol": word(*protocol), "destination": place(*protocol, *destination),
                    "name": text(name.as_ref()),
                }),
            );
            add_refusal(&mut entry, refusal);
            entry
        }
        Event::Unreachable { id, destination, name, cause } => stamped(
            "unreachable",
            json!({
                "flow": id.0, "protocol": "tcp", "destination": destination.to_string(), "name": text(name.as_ref()),
                "reason": cause.to_string(),
            }),
        ),
        Event::Closed { id, protocol, destination, name, sent_bytes, received_bytes, duration, end } => stamped(
            "closed",
            json!({
                "flow": id.0, "protocol": word(*protocol), "destination": place(*protocol, *destination), "name": text(name.as_ref()),
                "sent_bytes": sent_bytes, "received_bytes": received_bytes,
                "duration_ms": u64::try_from(duration.as_millis()).unwrap_or(u64::MAX), "end": ending(*end),
            }),
        ),
        Event::Question { name, kind, outcome } => {
            let mut entry = stamped("question", json!({ "name": text(name.as_ref()), "question_type": kind }));
            let outcome = match outcome {
                QuestionOutcome::Answered { addresses, other_records, stripped } => {
                    let addresses: Vec<String> = addresses.iter().take(ADDRESSES_MAX).map(ToString::to_string).collect();
                    entry.insert("addresses".to_owned(), addresses.into());
                    if *other_records > 0 {
                        entry.insert("other_records".to_owned(), (*other_records).into());
                    }
                    if let Some((address, refusal)) = stripped {
                        entry.insert("stripped".to_owned(), address.to_string().into());
                        // Whoever answers chooses the address: it is nothing to suggest a rule for.
                        entry.insert("reason".to_owned(), refusal.reason.to_string().into());
                    }
                    "answered"
                }
                QuestionOutcome::NoSuchName => "no_such_name",
                QuestionOutcome::Refused(refusal) => {
                    add_refusal(&mut entry, refusal);
                    "refused"
                }
                QuestionOutcome::Failed => "failed",
            };
            entry.insert("outcome".to_owned(), outcome.into());
            entry
        }
    }
}

fn add_refusal(entry: &mut Entry, refusal: &Refusal) {
    entry.insert("reason".to_owned(), refusal.reason.to_string().into());
    if let Some(rule) = &refusal.suggestion {
        entry.insert("would_allow".to_owned(), rule.to_string().into());
    }
}

fn text(name: Option<&Name>) -> Option<String> {
    name.map(ToString::to_string)
}

const fn word(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Echo => "echo",
    }
}

/// An echo request has no port.
fn place(protocol: Protocol, destination: SocketAddrV4) -> String {
    if protocol == Protocol::Echo { destination.ip().to_string() } else { destination.to_string() }
}

const fn ending(end: End) -> &'static str {
    match end {
        End::Finished => "finished",
        End::ResetByGuest => "reset_by_guest",
        End::ResetByPeer => "reset_by_peer",
        End::Refused => "refused",
        End::TimedOut => "timed_out",
        End::Evicted => "evicted",
        End::Closed => "closed",
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use pyro_egress::{FlowId, policy::Policy};

    use super::*;

    #[test]
    fn a_refusal_is_entered_with_its_reason_and_the_rule_that_would_allow_it() {
        let inside = Ipv4Addr::new(10, 0, 0, 5);
        let refusal = Policy::default().judge_dial(Protocol::Tcp, inside, Some(5432), &[]).unwrap_err();
        let refused =
            Event::Refused { id: None, protocol: Protocol::Tcp, destination: SocketAddrV4::new(inside, 5432), name: None, refusal };
        let entry = entry(&refused);
        assert_eq!(
            (&entry["event"], &entry["destination"], &entry["would_allow"]),
            (&"refused".into(), &"10.0.0.5:5432".into(), &"10.0.0.5:5432".into())
        );
        assert!(entry["reason"].as_str().unwrap().contains("private"), "{entry:?}");
        assert!(!entry.contains_key("flow") && !entry.contains_key("name"), "{entry:?}");
    }

    #[test]
    fn an_end_is_entered_with_bytes_and_time() {
        let closed = Event::Closed {
            id: FlowId(7),
            protocol: Protocol::Echo,
            destination: SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 1), 0),
            name: Some("a.example".parse().unwrap()),
            sent_bytes: 1,
            received_bytes: 2,
            duration: Duration::from_millis(30),
            end: End::Finished,
        };
        let entry = entry(&closed);
        assert_eq!(entry["destination"], "203.0.113.1");
        assert_eq!((&entry["flow"], &entry["received_bytes"], &entry["duration_ms"]), (&7.into(), &2.into(), &30.into()));
        assert_eq!(kind(&entry), "network_closed");
    }

    #[test]
    fn a_flood_is_told_of_in_part_and_counted() {
        let mut allowance = Allowance::new();
        let told = (0..1000).filter(|_| allowance.take()).count();
        assert_eq!(told, EVENTS_AT_ONCE as usize);
        assert_eq!(allowance.take_skipped(), None);
        allowance.filled_at -= Duration::from_secs(2);
        assert!(allowance.take_skipped().is_some_and(|skipped| skipped >= 800));
        assert_eq!((0..100).filter(|_| allowance.take()).count(), 2 * EVENTS_PER_SECOND as usize - 1);
    }
}
