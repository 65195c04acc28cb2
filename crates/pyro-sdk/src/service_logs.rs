//! Logs of services, read from the host's files: pages, last lines, and what comes while somebody looks.

use std::time::Duration;

use bytes::Bytes;
use pyro_store::{RingReader, ServiceName, service_ring};

use crate::{
    Pyro, Workspace,
    client::{Reap, blocking},
    contract::{ServiceLogs, ServiceLogsAnswer, ServiceState},
    error::{Error, Problem, Result},
    limits::MaxOutputBytes,
    ring::{self, Amount, Stream},
};

/// How often a log is looked at that is followed: as quick as a person sees, and a listing of a folder each time.
const FOLLOW_POLL: Duration = Duration::from_millis(100);
/// How much of a log is read at once.
const PIECE_BYTES: u64 = 256 << 10;

impl Pyro {
    /// Reads a service's log. Does not count as activity and needs no machine.
    ///
    /// # Errors
    /// There is no such workspace or service, or the cursor lies beyond the log's end.
    pub async fn service_logs(&self, request: &ServiceLogs) -> Result<ServiceLogsAnswer> {
        if request.all && request.cursor.is_some() {
            return Err(Problem::CursorAndAll.into());
        }
        let (workspace, record) = self.find(&request.workspace, Reap::WhenDue).await?;
        let service = workspace.service_record(&request.name).await?;
        let stream = if service.state.is_alive() { Stream::GoesOn } else { Stream::HasEnded };
        let log = workspace.service_log(&request.name);
        let max_bytes = request.max_output_bytes.get();
        let from = if request.all { Some(0) } else { request.cursor };
        let lines = request.tail_lines.get();
        let read = move || match from {
            Some(cursor) => ring::read_text(&log, cursor, Amount::Bytes(max_bytes), stream),
            None => ring::read_tail(&log, lines, max_bytes, stream),
        };
        let text = blocking(read).await?;
        if let Some(cursor) = from.filter(|cursor| *cursor > text.end_cursor) {
            return Err(beyond(&format!("the log of service `{}`", request.name), cursor, text.end_cursor).about(workspace.label()));
        }
        Ok(ServiceLogsAnswer {
            workspace_id: record.id.to_string(),
            service_name: request.name.to_string(),
            state: service.state.into(),
            truncated: text.cut,
            log: text.text,
            cursor: text.cursor,
            next_cursor: text.next_cursor,
            end_cursor: text.end_cursor,
            truncated_before: text.truncated_before,
        })
    }
}

/// Makes the failure of a cursor that lies beyond the end of `what`.
pub(crate) fn beyond(what: &str, cursor: u64, end: u64) -> Error {
    Problem::CursorBeyondEnd { what: what.to_owned(), cursor, end }.into()
}

impl Workspace {
    pub(crate) fn service_log(&self, name: &ServiceName) -> RingReader {
        RingReader::new(service_ring(self.pyro().dirs(), self.id(), name))
    }

    /// Returns the last lines of a service's log.
    pub(crate) async fn log_tail(&self, name: &ServiceName, lines: u64) -> Result<String> {
        let log = self.service_log(name);
        let max_bytes = MaxOutputBytes::default().get();
        Ok(blocking(move || ring::read_tail(&log, lines, max_bytes, Stream::HasEnded)).await?.text)
    }

    /// Follows a service's log from a byte on, or from the oldest one that is kept. Does not count as activity.
    ///
    /// # Errors
    /// There is no such service.
    pub async fn follow_service_log(&self, name: &ServiceName, cursor: u64) -> Result<LogFollower> {
        let service = self.service_record(name).await?;
        let log = self.service_log(name);
        Ok(LogFollower {
            workspace: self.clone(),
            name: name.clone(),
            log,
            cursor,
            started_at_ms: service.started_at_ms,
            state: service.state.into(),
        })
    }
}

/// A service's log, as it comes.
#[derive(Debug)]
pub struct LogFollower {
    workspace: Workspace,
    name: ServiceName,
    log: RingReader,
    cursor: u64,
    /// Which start the log is of: another one begins it anew.
    started_at_ms: i64,
    state: ServiceState,
}

impl LogFollower {
    /// Returns the position of the next byte.
    #[must_use]
    pub const fn cursor(&self) -> u64 {
        self.cursor
    }

    /// Returns where the service was in its life at the last look.
    #[must_use]
    pub const fn state(&self) -> ServiceState {
        self.state
    }

    /// Returns what is there of the log and not read yet, at most 256 KiB; `None` at its end for now. Bytes that are not kept any more are
    /// passed over.
    ///
    /// # Errors
    /// The host cannot read the file.
    pub async fn available(&mut self) -> Result<Option<Bytes>> {
        let (log, cursor) = (self.log.clone(), self.cursor);
        let stretch = blocking(move || ring::read_from(&log, cursor, PIECE_BYTES)).await?;
        if stretch.bytes.is_empty() {
            return Ok(None);
        }
        self.cursor = stretch.offset + stretch.bytes.len() as u64;
        Ok(Some(stretch.bytes.into()))
    }

    /// Waits for more of the log; `None` once the service has ended and all of it was read. Dropping the future loses nothing.
    ///
    /// # Errors
    /// The workspace or the service is gone.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            // Looked up first: what is written before the end is entered is read after it.
            self.look().await?;
            if let Some(bytes) = self.available().await? {
                return Ok(Some(bytes));
            }
            if !self.state.is_alive() {
                return Ok(None);
            }
            tokio::time::sleep(FOLLOW_POLL).await;
        }
    }

    async fn look(&mut self) -> Result<()> {
        let (id, name) = (self.workspace.id().clone(), self.name.clone());
        let look = move |pyro: &Pyro, registry: &mut pyro_store::Registry| {
            // A machine that was killed enters no end of its services.
            pyro.reap_with(registry, Reap::WhenDue)?;
            Ok(registry.service(&id, &name)?)
        };
        let service = self.workspace.pyro().store(look).await.map_err(|error| error.about(self.workspace.label()))?;
        self.state = service.state.into();
        if service.started_at_ms != self.started_at_ms {
            self.started_at_ms = service.started_at_ms;
            self.cursor = 0;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{ErrorKind, testing::Home};

    /// Long enough for a machine that is busy with other tests.
    const PATIENCE: Duration = Duration::from_secs(60);

    async fn logs(home: &Home, more: serde_json::Value) -> Result<ServiceLogsAnswer> {
        let mut request = json!({ "workspace": "api", "name": "web" });
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        home.pyro.service_logs(&serde_json::from_value(request).unwrap()).await
    }

    #[tokio::test]
    async fn logs_are_read_from_the_end_or_page_by_page() {
        let home = Home::new().await;
        home.add_service("web").write("eins\nzwei €\ndrei\n".as_bytes()).unwrap();
        home.end_service("web", 1);
        let answer = logs(&home, json!({ "tail_lines": 2 })).await.unwrap();
        assert_eq!((answer.log.as_str(), answer.cursor, answer.next_cursor, answer.truncated), ("zwei €\ndrei\n", 5, 19, false));
        let answer = logs(&home, json!({ "tail_lines": 2, "max_output_bytes": 8 })).await.unwrap();
        assert_eq!((answer.log.as_str(), answer.cursor, answer.truncated), ("\ndrei\n", 13, true));
        let answer = logs(&home, json!({ "all": true, "max_output_bytes": 12 })).await.unwrap();
        assert_eq!((answer.log.as_str(), answer.next_cursor, answer.end_cursor, answer.truncated), ("eins\nzwei ", 10, 19, true));
        let answer = logs(&home, json!({ "cursor": answer.next_cursor })).await.unwrap();
        assert_eq!(
            (answer.log.as_str(), answer.next_cursor, answer.truncated, answer.state),
            ("€\ndrei\n", 19, false, ServiceState::Failed)
        );
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_refused() {
        let home = Home::new().await;
        let missing = logs(&home, json!({})).await.unwrap_err();
        assert_eq!(
            (missing.kind(), missing.hint().as_str()),
            (ErrorKind::NotFound, "see the services it has with `pyro workspace service list api`")
        );
        home.add_service("web").write(b"one\n").unwrap();
        let beyond = logs(&home, json!({ "cursor": 5 })).await.unwrap_err();
        assert_eq!(
            (beyond.kind(), beyond.to_string().as_str()),
            (ErrorKind::InvalidArgument, "the log of service `web` ends at 4, which lies before 5")
        );
        assert_eq!(logs(&home, json!({ "cursor": 0, "all": true })).await.unwrap_err().kind(), ErrorKind::InvalidArgument);
    }

    #[tokio::test]
    async fn a_log_is_followed_to_the_end_of_its_service() {
        let home = Home::new().await;
        let mut log = home.add_service("web");
        log.write(b"one\n").unwrap();
        let mut follower = home.workspace.follow_service_log(&"web".parse().unwrap(), 0).await.unwrap();
        assert_eq!(follower.next().await.unwrap().unwrap(), "one\n");
        assert_eq!(follower.available().await.unwrap(), None);
        let following = tokio::spawn(async move {
            let mut text = Vec::new();
            while let Some(bytes) = follower.next().await.unwrap() {
                text.extend_from_slice(&bytes);
            }
            (text, follower)
        });
        log.write(b"two\n").unwrap();
        home.end_service("web", 3);
        let (text, follower) = tokio::time::timeout(PATIENCE, following).await.unwrap().unwrap();
        assert_eq!((text.as_slice(), follower.cursor(), follower.state()), (&b"two\n"[..], 8, ServiceState::Failed));
    }
}
