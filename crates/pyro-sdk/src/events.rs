//! What happened in a workspace, from the registry: pages, and a stream of what happens while somebody looks.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use pyro_proto::error::ErrorKind;
use pyro_store::{EventRecord, Registry, StoreResult, WorkspaceId};

use crate::{
    Pyro,
    client::{Reap, blocking},
    contract::{Event, WorkspaceEvents, WorkspaceEventsAnswer},
    error::{Problem, Result},
    text::WorkspaceReference,
    time::rfc3339,
};

/// How often the registry is asked whether anything was written: as quick as a person sees, and one look at shared memory each time.
const FOLLOW_POLL: Duration = Duration::from_millis(100);
/// How often dead machines are looked for meanwhile: they cannot tell their end.
const REAP_INTERVAL: Duration = Duration::from_secs(5);
/// Events read at once.
const BATCH: u64 = 1_000;

impl From<EventRecord> for Event {
    fn from(record: EventRecord) -> Self {
        Self { sequence: record.sequence, at: rfc3339(record.at_ms), kind: record.kind, detail: record.detail }
    }
}

impl Pyro {
    /// Returns what happened in a workspace after an event. Does not count as activity and needs no machine.
    ///
    /// # Errors
    /// There is no such workspace, or the cursor lies beyond the newest event.
    pub async fn events(&self, request: &WorkspaceEvents) -> Result<WorkspaceEventsAnswer> {
        let (workspace, record) = self.find(&request.workspace, Reap::WhenDue).await?;
        let (cursor, limit) = (request.cursor, request.limit.get());
        let (id, label) = (record.id.clone(), workspace.label().to_owned());
        let (events, range) =
            self.store(move |_, registry| Ok((registry.events_after(&id, cursor, limit)?, registry.event_range(&id)?))).await?;
        let (oldest, newest) = range.unwrap_or((1, 0));
        if cursor > newest {
            let beyond = Problem::CursorBeyondEnd { what: format!("what happened in workspace `{label}`"), cursor, end: newest };
            return Err(crate::Error::from(beyond).about(&label));
        }
        let next_cursor = events.last().map_or(cursor, |event| event.sequence);
        Ok(WorkspaceEventsAnswer {
            workspace_id: record.id.to_string(),
            events: events.into_iter().map(Event::from).collect(),
            next_cursor,
            truncated: next_cursor < newest,
            truncated_before: (cursor + 1 < oldest).then_some(oldest),
        })
    }

    /// Follows what happens in a workspace after an event, until the workspace is gone. Does not count as activity.
    ///
    /// # Errors
    /// There is no such workspace.
    pub async fn follow_events(&self, reference: &WorkspaceReference, cursor: u64) -> Result<EventStream> {
        let (_, record) = self.find(reference, Reap::WhenDue).await?;
        // A connection of its own: SQLite tells of writes on others only, and this program may write, too.
        let dirs = self.dirs().clone();
        let registry = blocking(move || Registry::open(&dirs)).await?;
        Ok(EventStream {
            pyro: self.clone(),
            registry: Arc::new(Mutex::new(registry)),
            workspace: record.id,
            cursor,
            waiting: VecDeque::new(),
            version: None,
            reaped: Instant::now(),
        })
    }
}

/// What happens in a workspace, as it does.
#[derive(Debug)]
pub struct EventStream {
    pyro: Pyro,
    registry: Arc<Mutex<Registry>>,
    workspace: WorkspaceId,
    cursor: u64,
    waiting: VecDeque<Event>,
    /// What the registry was like when everything in it had been read.
    version: Option<i64>,
    reaped: Instant,
}

/// What a look at the registry found.
enum Look {
    /// Nothing was written since.
    Same,
    /// These are new; the registry was like this before.
    Found(i64, Vec<EventRecord>),
    Gone,
}

impl EventStream {
    /// Returns the sequence of the last event that was returned.
    #[must_use]
    pub const fn cursor(&self) -> u64 {
        self.cursor
    }

    /// Waits for the next event; `None` once the workspace is gone. Dropping the future loses nothing.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub async fn next(&mut self) -> Result<Option<Event>> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                self.cursor = event.sequence;
                return Ok(Some(event));
            }
            match self.look().await? {
                Look::Same => tokio::time::sleep(FOLLOW_POLL).await,
                Look::Found(version, events) => {
                    // After a full batch there may be more without another write.
                    self.version = ((events.len() as u64) < BATCH).then_some(version);
                    self.waiting.extend(events.into_iter().map(Event::from));
                }
                Look::Gone => return Ok(None),
            }
        }
    }

    async fn look(&mut self) -> Result<Look> {
        if self.reaped.elapsed() >= REAP_INTERVAL {
            self.reaped = Instant::now();
            self.pyro.store(|pyro, registry| pyro.reap_with(registry, Reap::WhenDue)).await?;
        }
        let (registry, workspace) = (self.registry.clone(), self.workspace.clone());
        let (version, cursor) = (self.version, self.cursor);
        let look = move || -> StoreResult<Look> {
            let registry = registry.lock().unwrap_or_else(PoisonError::into_inner);
            // Before the events: what is written in between is seen by the next look.
            let now = registry.data_version()?;
            if version == Some(now) {
                return Ok(Look::Same);
            }
            let events = registry.events_after(&workspace, cursor, BATCH)?;
            match registry.workspace(&workspace) {
                Err(error) if error.kind() == ErrorKind::NotFound && events.is_empty() => Ok(Look::Gone),
                _ => Ok(Look::Found(now, events)),
            }
        };
        Ok(blocking(look).await?)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::Home;

    /// Long enough for a machine that is busy with other tests.
    const PATIENCE: Duration = Duration::from_secs(60);

    fn add(home: &Home, kind: &str) {
        home.registry().add_event(home.workspace.id(), kind, &json!({ "kind": kind })).unwrap();
    }

    async fn page(home: &Home, cursor: u64, limit: u64) -> Result<WorkspaceEventsAnswer> {
        let limit = crate::limits::EventLimit::new(limit).unwrap();
        home.pyro.events(&WorkspaceEvents { workspace: home.reference.clone(), cursor, limit }).await
    }

    #[tokio::test]
    async fn events_are_read_page_by_page() {
        let home = Home::new().await;
        for kind in ["one", "two", "three"] {
            add(&home, kind);
        }
        // The workspace's own come first: it was made, started and stopped.
        let first = page(&home, 0, 4).await.unwrap();
        let kinds: Vec<&str> = first.events.iter().map(|event| event.kind.as_str()).collect();
        assert_eq!(
            (kinds, first.next_cursor, first.truncated, first.truncated_before),
            (vec!["create", "start", "stop", "one"], 4, true, None)
        );
        let last = page(&home, first.next_cursor, 10).await.unwrap();
        assert_eq!((last.events.len(), last.next_cursor, last.truncated), (2, 6, false));
        assert_eq!(last.events[1].detail, json!({ "kind": "three" }));
        let none = page(&home, 6, 10).await.unwrap();
        assert_eq!((none.events.len(), none.next_cursor, none.truncated), (0, 6, false));
        let beyond = page(&home, 7, 10).await.unwrap_err();
        assert_eq!(
            (beyond.kind(), beyond.to_string().as_str()),
            (ErrorKind::InvalidArgument, "what happened in workspace `api` ends at 6, which lies before 7")
        );
    }

    #[tokio::test]
    async fn events_are_followed_until_the_workspace_is_gone() {
        let home = Home::new().await;
        let mut events = home.pyro.follow_events(&home.reference, 3).await.unwrap();
        add(&home, "before");
        assert_eq!(events.next().await.unwrap().unwrap().kind, "before");
        let waiting = tokio::spawn(async move {
            let event = events.next().await.unwrap().unwrap();
            assert_eq!(events.cursor(), event.sequence);
            (event, events)
        });
        // By this program's own connection, too.
        home.workspace.remember("while_waiting", json!({})).await.unwrap();
        let (event, mut events) = tokio::time::timeout(PATIENCE, waiting).await.unwrap().unwrap();
        assert_eq!((event.sequence, event.kind.as_str()), (5, "while_waiting"));
        home.workspace.delete().await.unwrap();
        while let Some(event) = tokio::time::timeout(PATIENCE, events.next()).await.unwrap().unwrap() {
            assert!(event.sequence > 5);
        }
    }

    #[tokio::test]
    async fn an_update_is_told_as_an_event() {
        let home = Home::new().await;
        let update = json!({ "workspace": "api", "labels": { "team": "web" }, "ttl_seconds": 120 });
        home.pyro.update_workspace(serde_json::from_value(update).unwrap()).await.unwrap();
        let answer = page(&home, 3, 10).await.unwrap();
        assert_eq!(answer.events[0].kind, "update");
        assert_eq!(answer.events[0].detail, json!({ "name": "api", "labels": { "team": "web" }, "ttl_seconds": 120 }));
    }
}
