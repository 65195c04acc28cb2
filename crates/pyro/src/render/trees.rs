//! Answers about files, differences and snapshots as people read them.

use pyro_sdk::contract::{
    ApplyAnswer, ArtifactType, DiffAnswer, FileListAnswer, FileSearchAnswer, PatchApplyAnswer, SnapshotListAnswer, SummaryAnswer,
    WorkspaceForkAnswer,
};

use super::{
    plain::{plain, plain_lines},
    table::{bytes, columns},
};

pub(crate) fn files(answer: &FileListAnswer) -> String {
    let rows: Vec<Vec<String>> = answer
        .entries
        .iter()
        .map(|entry| {
            let (letter, mark) = match entry.artifact_type {
                ArtifactType::File => ('-', ""),
                ArtifactType::Directory => ('d', "/"),
                ArtifactType::Symlink => ('l', ""),
                ArtifactType::Other => ('?', ""),
            };
            let size = if entry.artifact_type == ArtifactType::File { bytes(entry.size_bytes) } else { "-".to_owned() };
            let target = entry.link_target.as_ref().map(|target| format!(" -> {}", plain(target))).unwrap_or_default();
            vec![format!("{letter}{}", entry.mode), size, entry.modified_at.clone(), format!("{}{mark}{target}", plain(&entry.path))]
        })
        .collect();
    columns(&rows)
}

pub(crate) fn matches(answer: &FileSearchAnswer) -> String {
    answer.matches.iter().map(|found| format!("{}:{}:{}\n", plain(&found.path), found.line, plain(&found.text))).collect()
}

pub(crate) fn patched(answer: &PatchApplyAnswer) -> String {
    let line = |file: &pyro_sdk::contract::PatchedFile| {
        let from = file.old_path.as_ref().map(|path| format!("{} -> ", plain(path))).unwrap_or_default();
        vec![file.change.replace('_', " "), format!("{from}{}", plain(&file.path))]
    };
    columns(&answer.files.iter().map(line).collect::<Vec<_>>())
}

pub(crate) fn diff_stat(answer: &DiffAnswer) -> String {
    let rows: Vec<Vec<String>> = answer
        .entries
        .iter()
        .map(|entry| {
            let from = entry.old_path.as_ref().map(|path| format!("{} -> ", plain(path))).unwrap_or_default();
            let size = |size: Option<u64>| size.map_or_else(|| "-".to_owned(), bytes);
            let amount = match (entry.artifact_type, entry.binary) {
                (ArtifactType::File, true) => format!("{} -> {}", size(entry.old_size_bytes), size(entry.new_size_bytes)),
                (ArtifactType::Directory | ArtifactType::Other, _) => "-".to_owned(),
                (ArtifactType::File | ArtifactType::Symlink, _) => format!("+{} -{}", entry.insertions, entry.deletions),
            };
            vec![entry.change.replace('_', " "), amount, format!("{from}{}", plain(&entry.path))]
        })
        .collect();
    let summary = &answer.summary;
    let total = match summary.entry_count {
        0 => return String::new(),
        1 => "1 entry".to_owned(),
        count => format!("{count} entries"),
    };
    format!("{}{total} changed, {} insertions(+), {} deletions(-)\n", columns(&rows), summary.insertions, summary.deletions)
}

pub(crate) fn summary(answer: &SummaryAnswer) -> String {
    plain_lines(&answer.markdown)
}

pub(crate) fn applied(answer: &ApplyAnswer) -> String {
    let line = |file: &pyro_sdk::contract::AppliedFile| {
        let reason = file.reason.as_ref().map(|reason| format!("  ({})", plain(reason))).unwrap_or_default();
        vec![file.verdict.replace('_', " "), file.change.replace('_', " "), format!("{}{reason}", plain(&file.path))]
    };
    columns(&answer.files.iter().map(line).collect::<Vec<_>>())
}

pub(crate) fn snapshots(answer: &SnapshotListAnswer) -> String {
    let mut rows = vec![["NAME", "KIND", "CREATED", "ENTRIES", "SIZE", "NOTES"].map(ToOwned::to_owned).to_vec()];
    rows.extend(answer.snapshots.iter().map(|snapshot| {
        let notes = [
            (snapshot.stale, "its processes cannot be brought back"),
            (snapshot.may_hold_secrets, "may hold secrets"),
            (!snapshot.deletable, "cannot be deleted"),
        ];
        let notes: Vec<_> = notes.iter().filter(|(holds, _)| *holds).map(|(_, note)| *note).collect();
        vec![
            snapshot.snapshot_name.clone(),
            snapshot.kind.as_str().to_owned(),
            snapshot.created_at.clone(),
            snapshot.entry_count.to_string(),
            bytes(snapshot.bytes_written),
            notes.join(", "),
        ]
    }));
    columns(&rows)
}

pub(crate) fn forks(answer: &WorkspaceForkAnswer) -> String {
    answer.forks.iter().map(|fork| format!("{}\n", fork.workspace_id)).collect()
}

#[cfg(test)]
mod tests {
    use pyro_sdk::contract::SearchMatch;

    use super::*;

    #[test]
    fn names_and_lines_of_the_guest_cannot_drive_a_terminal() {
        let found = SearchMatch { path: "a\u{202e}b".into(), line: 3, text: "\tx\x1b[2J\u{200f}".into() };
        let answer =
            FileSearchAnswer { workspace_id: String::new(), matches: vec![found], file_count: 1, binary_count: 0, truncated: false };
        assert_eq!(matches(&answer), "a\u{fffd}b:3:\tx\u{fffd}[2J\u{fffd}\n");
    }
}
