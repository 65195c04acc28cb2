//! Shows what takes long: a bar to a person, `[pull] phase=…` lines to everyone else.

use std::sync::{Mutex, PoisonError};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use pyro_sdk::{Observer, Progress};
use serde_json::json;

use super::{
    note, status_line,
    table::{bytes, duration},
};

/// How fine a bar is drawn.
const BAR_STEPS: u64 = 1000;
/// How much moves until a program is told again.
const TOLD_BYTES: u64 = 64 << 20;
const TOLD_ENTRIES: u64 = 10_000;
/// Entries named that were left out.
const LEFT_OUT_NAMED: usize = 10;

pub(super) fn observer(terminal: bool) -> Observer {
    if terminal {
        let bar = Mutex::new(None);
        Observer::new(move |progress| draw(&mut bar.lock().unwrap_or_else(PoisonError::into_inner), progress))
    } else {
        let shown = Mutex::new(None);
        Observer::new(move |progress| {
            let line = line(&mut shown.lock().unwrap_or_else(PoisonError::into_inner), &progress);
            if let Some(line) = line {
                note(&line);
            }
        })
    }
}

/// Returns the line for a progress; a phase is told once, and then at every tenth.
fn line(shown: &mut Option<(String, u32)>, progress: &Progress) -> Option<String> {
    match progress {
        Progress::Pull { environment, phase, detail, fraction } => {
            let tenth = fraction.map_or(0, |fraction| (fraction * 10.0) as u32);
            let state = ((*phase).to_owned(), tenth);
            if shown.as_ref() == Some(&state) {
                return None;
            }
            *shown = Some(state);
            let percent = fraction.map_or(serde_json::Value::Null, |fraction| json!((fraction * 100.0) as u32));
            Some(status_line(
                "pull",
                &[("phase", json!(phase)), ("environment", json!(environment)), ("percent", percent), ("detail", json!(detail))],
            ))
        }
        // Every machine starts, in a fraction of a second; what takes long, such as a template, has another name.
        Progress::Machine { phase } if phase.starts_with("machine: ") => None,
        Progress::Machine { phase } => Some(status_line("machine", &[("phase", json!(phase))])),
        Progress::Transfer { what, entries, bytes } => {
            let state = ((*what).to_owned(), u32::try_from(bytes / TOLD_BYTES + entries / TOLD_ENTRIES).unwrap_or(u32::MAX));
            if shown.as_ref() == Some(&state) {
                return None;
            }
            *shown = Some(state);
            Some(status_line("transfer", &[("what", json!(what)), ("entries", json!(entries)), ("bytes", json!(bytes))]))
        }
        Progress::Waiting { what } => {
            let state = (what.clone(), 0);
            if shown.as_ref() == Some(&state) {
                return None;
            }
            *shown = Some(state);
            Some(status_line("waiting", &[("for", json!(what))]))
        }
        Progress::Step { name, duration_ms } => Some(status_line("step", &[("name", json!(name)), ("duration_ms", json!(duration_ms))])),
        Progress::AcceleratorFallback { .. } | Progress::HostCompat { .. } | Progress::LeftOut { .. } | Progress::Notes(_) => {
            notice(progress)
        }
    }
}

/// Returns the line for what a person must see whatever the form.
fn notice(progress: &Progress) -> Option<String> {
    match progress {
        // The verdict has figures only a doctor needs.
        Progress::AcceleratorFallback { verdict: _ } => Some(
            "note: hardware virtualization is not usable here, so guests are translated (tcg) and code in them runs 7 to 40 times slower; \
             `pyro doctor` says why"
                .to_owned(),
        ),
        Progress::HostCompat { reason } => {
            Some(format!("warning: the command runs on this host, with nothing around it, because no guest could be started: {reason}"))
        }
        Progress::LeftOut { entries, count } => {
            let named = entries.iter().take(LEFT_OUT_NAMED);
            let mut lines: Vec<_> =
                named.map(|left| format!("note: `{}` was left out: {}", left.path.escape_debug(), left.reason)).collect();
            let more = count.saturating_sub(lines.len() as u64);
            if more > 0 {
                lines.push(format!("note: {more} more were left out; `--json` names them"));
            }
            Some(lines.join("\n"))
        }
        Progress::Notes(notes) => {
            let lines = notes.iter().map(|note| format!("note: `{}`: {}", note.path.escape_debug(), note.text));
            Some(lines.collect::<Vec<_>>().join("\n"))
        }
        Progress::Pull { .. } | Progress::Machine { .. } | Progress::Transfer { .. } | Progress::Step { .. } | Progress::Waiting { .. } => {
            None
        }
    }
}

fn draw(slot: &mut Option<ProgressBar>, progress: Progress) {
    let bar = || {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.enable_steady_tick(std::time::Duration::from_millis(120));
        bar
    };
    match &progress {
        Progress::Pull { environment, phase, detail, fraction } => {
            let bar = slot.get_or_insert_with(bar);
            match fraction {
                Some(fraction) => {
                    bar.set_style(style("{spinner} {prefix} {bar:30} {percent:>3} %  {wide_msg}"));
                    bar.set_length(BAR_STEPS);
                    bar.set_position((fraction * BAR_STEPS as f32) as u64);
                }
                None => bar.set_style(style("{spinner} {prefix}  {wide_msg}")),
            }
            bar.set_prefix(format!("{environment}: {phase}"));
            bar.set_message(detail.clone());
        }
        Progress::Machine { phase: what } | Progress::Waiting { what } => {
            let bar = slot.get_or_insert_with(bar);
            bar.set_style(style("{spinner} {wide_msg}"));
            bar.set_message(what.clone());
        }
        Progress::Step { name, duration_ms } => {
            if let Some(bar) = slot.take() {
                bar.finish_and_clear();
            }
            note(&format!("{name}: {}", duration(*duration_ms)));
        }
        Progress::Transfer { what, entries, bytes: count } => {
            let bar = slot.get_or_insert_with(bar);
            bar.set_style(style("{spinner} {prefix}  {wide_msg}"));
            bar.set_prefix(*what);
            bar.set_message(if *entries > 0 { format!("{entries} entries, {}", bytes(*count)) } else { bytes(*count) });
        }
        Progress::AcceleratorFallback { .. } | Progress::HostCompat { .. } | Progress::LeftOut { .. } | Progress::Notes(_) => {
            if let Some(text) = notice(&progress) {
                match slot {
                    Some(bar) => bar.suspend(|| note(&text)),
                    None => note(&text),
                }
            }
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_takes_long_is_told_of_a_machine() {
        let tell = |phase: &str| line(&mut None, &Progress::Machine { phase: phase.into() });
        assert_eq!(tell("machine: starting"), None);
        assert_eq!(tell("template: booting the guest once").unwrap(), r#"[machine] phase="template: booting the guest once""#);
    }

    #[test]
    fn phase_is_told_once_and_at_every_tenth() {
        let mut shown = None;
        let mut pull = |fraction| {
            let progress = Progress::Pull { environment: "debian:12".into(), phase: "download", detail: "12 packages".into(), fraction };
            line(&mut shown, &progress)
        };
        assert_eq!(pull(None).unwrap(), r#"[pull] phase=download environment=debian:12 detail="12 packages""#);
        assert_eq!(pull(Some(0.05)), None);
        assert_eq!(pull(Some(0.55)).unwrap(), r#"[pull] phase=download environment=debian:12 percent=55 detail="12 packages""#);
        assert_eq!(pull(Some(0.56)), None);
    }
}
