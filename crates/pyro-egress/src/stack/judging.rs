//! What happens when the first bytes of a connection are there: splice it, hand it over, or say why not.

use std::time::Duration;

use tokio::net::UnixStream;

use crate::event::{End, Event, FlowId};
use crate::inspect::{self, Opening};
use crate::interceptor::OpenedFlow;
use crate::policy::{Protocol, Refusal, VisibleName};

use super::connections::PARTING_TIMEOUT;
use super::flow::{Stage, Upstream};
use super::run::Stack;

/// How long a client may take from its first byte to the last that shows a name. Where names matter, it is also what a client waits that
/// says half a line of another protocol and then listens.
pub(super) const JUDGING_TIMEOUT: Duration = Duration::from_secs(5);

impl Stack {
    /// Looks at what a connection shows so far, and decides when that is enough.
    pub(super) fn judge(&mut self, id: FlowId) {
        let now = self.now;
        let Some(flow) = self.flows.get_mut(&id) else { return };
        let (bytes, last) = flow.first_bytes();
        let likely = inspect::is_likely(bytes);
        let opening = match (inspect::look(bytes), bytes.is_empty()) {
            // Closed without a word. There is nothing to judge, and the upstream is to hear of it.
            (_, true) if last => None,
            (_, true) => return,
            (Opening::Incomplete, false) => Some((inspect::unreadable(bytes), last)),
            (Opening::Complete(visible), false) => Some((visible, true)),
        };
        match (&mut flow.stage, opening) {
            (Stage::Judging { .. }, None) if flow.established => flow.stage = Stage::Spliced,
            (_, None) | (Stage::Spliced | Stage::Parting { .. }, _) => {}
            (Stage::Judging { grant, since }, Some((visible, complete))) => {
                let begun = *since.get_or_insert(now);
                let worth_waiting = likely || self.policy.depends_on_name(grant);
                if !complete && worth_waiting && now < begun + JUDGING_TIMEOUT {
                    return;
                }
                let grant = grant.clone();
                let (address, port) = (*flow.destination.ip(), flow.destination.port());
                match self.policy.judge_visible(&grant, address, port, &visible) {
                    Ok(name) => {
                        flow.name = name.or_else(|| flow.name.take());
                        flow.stage = Stage::Spliced;
                        self.offer(id, visible);
                    }
                    Err(refusal) => {
                        let (destination, name) = (flow.destination, flow.name.clone());
                        let event = Event::Refused { id: Some(id), protocol: Protocol::Tcp, destination, name, refusal: refusal.clone() };
                        self.tell(event);
                        self.say_no(id, &visible, &refusal);
                    }
                }
            }
            (Stage::Pleading { refusal, .. }, Some((visible, complete))) => {
                if complete {
                    let refusal = refusal.clone();
                    self.say_no(id, &visible, &refusal);
                }
            }
        }
    }

    fn offer(&mut self, id: FlowId, visible: VisibleName) {
        let Some(interceptor) = self.configuration.interceptor.clone() else { return };
        let Some(flow) = self.flows.get_mut(&id).filter(|flow| !flow.has_received()) else { return };
        let opened = OpenedFlow { id, destination: flow.destination, name: flow.name.clone(), visible };
        if !interceptor.wants(&opened) {
            return;
        }
        let (stream, pair) = match (flow.upstream.take(), UnixStream::pair()) {
            (Some(Upstream::Host(stream)), Ok(pair)) => (stream, pair),
            // Passing it on without the one who wanted it would be worse than ending it.
            _ => {
                flow.abort(End::ResetByPeer);
                return;
            }
        };
        flow.upstream = Some(Upstream::Local(pair.0));
        interceptor.serve(opened, pair.1, stream);
    }

    // A client that speaks HTTP is told in its language, any other one by a reset.
    fn say_no(&mut self, id: FlowId, visible: &VisibleName, refusal: &Refusal) {
        let until = self.now + PARTING_TIMEOUT;
        let Some(flow) = self.flows.get_mut(&id) else { return };
        match visible {
            VisibleName::Http { .. } if !flow.has_received() => {
                flow.end = Some(End::Refused);
                flow.say_last(forbidden(refusal).as_bytes(), until);
            }
            VisibleName::Http { .. } | VisibleName::Tls { .. } | VisibleName::Other => flow.abort(End::Refused),
        }
    }
}

fn forbidden(refusal: &Refusal) -> String {
    let way_out = refusal.suggestion.as_ref().map_or_else(
        || "No allow rule changes this.\n".to_owned(),
        |rule| format!("To allow it: pyro workspace network allow WORKSPACE {rule}\n"),
    );
    let body = format!("Pyro refused this request: {}.\n{way_out}", refusal.reason);
    format!(
        "HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}
