//! What a workspace may reach, and what it did.

use pyro_sdk::contract::{AuditAnswer, NetworkAnswer, NetworkEntry};
use serde_json::Value;

use super::{plain, table::columns};

/// Digits of a hash that are shown to people.
const HASH_DIGITS: usize = 16;

pub(crate) fn network_fields(answer: &NetworkAnswer) -> [(&'static str, Value); 5] {
    [
        ("workspace_id", answer.workspace_id.clone().into()),
        ("only_allowed", answer.only_allowed.into()),
        ("allow", answer.allow.len().into()),
        ("deny", answer.deny.len().into()),
        ("ended_connection_count", answer.ended_connection_count.into()),
    ]
}

pub(crate) fn network(answer: &NetworkAnswer) -> String {
    let mut rows: Vec<Vec<String>> = Vec::new();
    rows.extend(answer.deny.iter().map(|rule| vec!["deny".to_owned(), plain(rule)]));
    rows.extend(answer.allow.iter().map(|rule| vec!["allow".to_owned(), plain(rule)]));
    let rest = match (answer.network_policy.has_egress(), answer.only_allowed) {
        (false, _) => format!("nothing is reached: the policy is `{}`", answer.network_policy.as_str()),
        (true, true) => "everything else is refused".to_owned(),
        (true, false) => {
            "everything else is allowed, but for private, loopback, link-local, metadata and the host's own addresses".to_owned()
        }
    };
    format!("{}{rest}\n", columns(&rows))
}

pub(crate) fn network_log(entries: &[NetworkEntry]) -> String {
    let rows: Vec<Vec<String>> =
        entries.iter().map(|entry| vec![format!("#{}", entry.sequence), entry.at.clone(), entry.event.clone(), detail(entry)]).collect();
    columns(&rows)
}

fn detail(entry: &NetworkEntry) -> String {
    let text = |key: &str| entry.detail.get(key).map(|value| value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned));
    let mut words: Vec<String> =
        ["protocol", "destination", "question_type", "method", "name", "path", "status"].into_iter().filter_map(text).collect();
    if let Some(Value::Array(addresses)) = entry.detail.get("addresses") {
        words.extend(addresses.iter().filter_map(Value::as_str).map(ToOwned::to_owned));
    }
    let labelled = [
        ("outcome", "", ""),
        ("secret", "secret ", ""),
        ("sent_bytes", "sent ", " B"),
        ("received_bytes", "received ", " B"),
        ("duration_ms", "", " ms"),
        ("end", "", ""),
        ("count", "", ""),
        ("rule", "by ", ""),
        ("stripped", "– without ", ""),
        ("reason", "– ", ""),
        ("would_allow", "– allow with: ", ""),
    ];
    words.extend(labelled.into_iter().filter_map(|(key, before, after)| text(key).map(|value| format!("{before}{value}{after}"))));
    plain(&words.join(" "))
}

pub(crate) fn audit(answer: &AuditAnswer) -> String {
    let mut rows = vec![["WORKSPACE", "NAME", "ENTRIES", "NEWEST HASH", ""].map(ToOwned::to_owned).to_vec()];
    rows.extend(answer.logs.iter().map(|log| {
        let entries =
            if log.newest_sequence == 0 { "none".to_owned() } else { format!("{}–{}", log.oldest_sequence, log.newest_sequence) };
        vec![
            log.workspace_id.clone(),
            log.name.clone().unwrap_or_else(|| "-".to_owned()),
            entries,
            log.newest_hash.chars().take(HASH_DIGITS).collect(),
            log.problem.clone().map_or_else(|| "whole".to_owned(), |problem| format!("NOT WHOLE: {}", plain(&problem))),
        ]
    }));
    columns(&rows)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_entry_is_told_in_one_line() {
        let entry: NetworkEntry = serde_json::from_value(json!({
            "sequence": 4, "at": "2026-11-27T07:00:00.000Z", "event": "refused", "hash": "ab", "protocol": "tcp", "destination": "10.0.0.5:80",
            "reason": "private addresses are refused unless a rule names them", "would_allow": "10.0.0.5:80",
        }))
        .unwrap();
        assert_eq!(detail(&entry), "tcp 10.0.0.5:80 – private addresses are refused unless a rule names them – allow with: 10.0.0.5:80");
    }
}
