//! Shows what a file holds: its text as it is, and a line about the rest.

use pyro_sdk::contract::{ArtifactType, FileReadAnswer};

use super::stream::flag;
use crate::cli::{Context, Failure};

/// Prints an answer of a read; `content_only` leaves the status line away.
pub(super) fn content(context: &Context, answer: &FileReadAnswer, name: &str, content_only: bool) -> Result<(), Failure> {
    context.printer.answer(answer, |answer| answer.content.clone().unwrap_or_default())?;
    if content_only {
        match (answer.artifact_type, &answer.link_target) {
            (ArtifactType::Symlink, Some(target)) => {
                context.printer.warning(&format!("`{}` is a link to `{}`", answer.path.escape_debug(), target.escape_debug()));
            }
            _ if answer.binary => context.printer.warning(&format!("`{}` is no text", answer.path.escape_debug())),
            _ => {}
        }
        return Ok(());
    }
    let fields = [
        ("workspace_id", answer.workspace_id.clone().into()),
        ("path", answer.path.clone().into()),
        ("artifact_type", answer.artifact_type.as_str().into()),
        ("size_bytes", answer.size_bytes.into()),
        ("media_type", answer.media_type.clone().into()),
        ("binary", flag(answer.binary)),
        ("next_offset", answer.next_offset.into()),
        ("link_target", answer.link_target.clone().into()),
    ];
    context.printer.status(name, &fields);
    Ok(())
}
