//! What is told of hosts.

use super::answers::check_lines;
use crate::hosts::{Report, State, shown_name};

/// Writes the reports of several hosts, each below its name.
pub(crate) fn host_reports(reports: &[Report]) -> String {
    let mut text = String::new();
    for report in reports {
        let verdict = match (report.state, report.tool_count) {
            (State::NotConnected, _) => "not connected".to_owned(),
            (State::Ready, Some(count)) => format!("ready, {count} tools"),
            (State::Ready, None) => "ready".to_owned(),
            (State::Broken, _) => "not ready: mend what failed below".to_owned(),
        };
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&format!("{}: {verdict}\n{}", shown_name(&report.connection), check_lines(&report.checks)));
    }
    text
}

/// Writes one text, or several with a line above each. A host that reads several forms also reads comments.
pub(crate) fn host_snippets(snippets: &[(&'static str, String)]) -> String {
    match snippets {
        [(_, text)] => text.clone(),
        several => several.iter().map(|(form, text)| format!("// {form}\n{text}")).collect(),
    }
}
