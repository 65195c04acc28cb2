//! Progress of a call, as notifications of the protocol.

use std::time::Duration;

use pyro_sdk::{Observer, Progress};
use rmcp::{
    Peer, RoleServer,
    model::{ProgressNotificationParam, ProgressToken},
};
use tokio::{sync::mpsc, time::Instant};

/// Messages on their way to a client; what does not fit is not worth waiting for.
const QUEUE: usize = 16;
/// How often a client hears of a call that has nothing to tell, so that it does not give up.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// Forwards what a call tells until the observer is dropped. Without a token nobody has asked.
pub(super) fn observer(peer: &Peer<RoleServer>, token: Option<ProgressToken>) -> Observer {
    let Some(token) = token else { return Observer::none() };
    let (sender, receiver) = mpsc::channel(QUEUE);
    tokio::spawn(forward(peer.clone(), token, receiver));
    Observer::new(move |progress| {
        if let Some(message) = message(&progress) {
            drop(sender.try_send(message));
        }
    })
}

async fn forward(peer: Peer<RoleServer>, token: ProgressToken, mut messages: mpsc::Receiver<String>) {
    let begin = Instant::now();
    let mut last = String::new();
    loop {
        let text = match tokio::time::timeout(HEARTBEAT, messages.recv()).await {
            Ok(Some(message)) => {
                last = message;
                last.clone()
            }
            Ok(None) => return,
            Err(_) if last.is_empty() => format!("working for {} s", begin.elapsed().as_secs()),
            Err(_) => format!("{last} ({} s)", begin.elapsed().as_secs()),
        };
        // The protocol wants a number that grows; how much is left nobody knows, so it is the time.
        let notification = ProgressNotificationParam::new(token.clone(), begin.elapsed().as_secs_f64()).with_message(text);
        if peer.notify_progress(notification).await.is_err() {
            return;
        }
    }
}

fn message(progress: &Progress) -> Option<String> {
    match progress {
        Progress::Pull { environment, phase, fraction, .. } => {
            let percent = fraction.map(|fraction| format!(", {} %", (fraction * 100.0) as u32)).unwrap_or_default();
            Some(format!("building environment {environment}: {phase}{percent}"))
        }
        Progress::Machine { phase } => Some(phase.clone()),
        Progress::Transfer { what, entries, bytes } => Some(format!("{what}: {entries} entries, {bytes} bytes")),
        Progress::LeftOut { count, .. } => Some(format!("{count} entries were left out")),
        Progress::Notes(notes) => notes.first().map(|note| format!("{}: {}", note.path, note.text)),
        Progress::Waiting { what } => Some(format!("waiting for {what}")),
        Progress::AcceleratorFallback { .. } | Progress::Step { .. } | Progress::HostCompat { .. } => None,
    }
}
