//! Reading and checking the log of what a network did. Neither needs a machine.

use pyro_store::{ChainEnd, ChainFault, Registry, WorkspaceId, WorkspaceRecord};
use serde_json::{Map, Value};

use crate::{
    Pyro,
    client::Reap,
    contract::{AuditAnswer, AuditVerify, AuditedLog, LogsAnswer, NetworkEntry},
    error::Result,
    limits::TailCount,
    time::rfc3339,
};

impl Pyro {
    /// Returns entries after a number, oldest first, or the newest.
    pub(crate) async fn network_entries(&self, id: WorkspaceId, after: Option<u64>, count: TailCount) -> Result<LogsAnswer> {
        self.store(move |pyro, registry| {
            let count_wanted = count.get();
            let newest = registry.network_log_end(&id)?.sequence;
            let after = after.unwrap_or_else(|| newest.saturating_sub(count_wanted));
            let (entries, _) = pyro.dirs().network_log(&id).read(after, usize::try_from(count_wanted).unwrap_or(usize::MAX))?;
            let entries = entries.into_iter().filter_map(entry).collect();
            Ok(LogsAnswer { workspace_id: id.to_string(), commands: Vec::new(), output: None, entries: Some(entries) })
        })
        .await
    }

    /// Checks the network log of one workspace, or of all.
    ///
    /// # Errors
    /// There is no such workspace, or a log cannot be read. One that is not whole is no error here: the answer says so.
    pub async fn verify_audit(&self, request: AuditVerify) -> Result<AuditAnswer> {
        let one = match &request.workspace {
            Some(reference) => Some(self.find(reference, Reap::WhenDue).await?.1),
            None => None,
        };
        self.store(move |pyro, registry| {
            let records = match one {
                Some(record) => vec![record],
                None => registry.workspaces()?,
            };
            let logs = records.iter().map(|record| audit(pyro, registry, record)).collect::<Result<Vec<_>>>()?;
            Ok(AuditAnswer { whole: logs.iter().all(|log| log.whole), logs })
        })
        .await
    }
}

fn audit(pyro: &Pyro, registry: &Registry, record: &WorkspaceRecord) -> Result<AuditedLog> {
    // Asked first: what is appended meanwhile is beyond it.
    let known = registry.network_log_end(&record.id)?;
    let found = pyro.dirs().network_log(&record.id).verify(&known)?;
    let (whole, problem, oldest, end) = match found {
        Ok(verified) => (true, None, verified.oldest, verified.end),
        Err(ChainFault::Broken { path, line }) => {
            (false, Some(format!("line {line} of `{}` is not what was written there", path.display())), 0, ChainEnd::default())
        }
        Err(ChainFault::Cut { known, found }) => {
            let problem = format!("entry {} is missing: the log ends at entry {}", known.sequence, found.sequence);
            (false, Some(problem), 0, found)
        }
    };
    Ok(AuditedLog {
        workspace_id: record.id.to_string(),
        name: record.name.as_ref().map(ToString::to_string),
        whole,
        problem,
        oldest_sequence: oldest,
        newest_sequence: end.sequence,
        newest_hash: end.hash,
    })
}

fn entry(mut entry: Map<String, Value>) -> Option<NetworkEntry> {
    let mut text = |key: &str| entry.remove(key)?.as_str().map(ToOwned::to_owned);
    let (event, hash) = (text("event")?, text("hash")?);
    let sequence = entry.remove("sequence")?.as_u64()?;
    let at = rfc3339(entry.remove("at_ms")?.as_i64()?);
    Some(NetworkEntry { sequence, at, event, hash, detail: entry.into_iter().collect() })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_entry_keeps_what_belongs_to_it() {
        let raw = json!({ "event": "closed", "hash": "ab", "sequence": 3, "at_ms": 0, "flow": 7 });
        let told = entry(raw.as_object().unwrap().clone()).unwrap();
        assert_eq!((told.sequence, told.event.as_str(), &told.detail["flow"]), (3, "closed", &json!(7)));
        assert!(entry(Map::new()).is_none());
    }
}
