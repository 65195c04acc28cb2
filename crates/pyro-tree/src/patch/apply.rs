//! Applies a patch: the one way to read it that the files allow.

use super::{Applied, Patch, PatchError, PathStates, engine, readings};

pub(super) fn apply(patch: &Patch, states: &PathStates) -> Result<Applied, PatchError> {
    let readings = readings::of(patch, states)?;
    let run = |strip: usize| readings.steps(strip).and_then(|steps| engine::run(patch, &steps, states));
    let strips = readings.strips();
    if let [only] = strips.as_slice() {
        return run(*only);
    }
    // Files exist under several readings: only one of them may apply.
    let mut results: Vec<(usize, Result<Applied, PatchError>)> = strips.iter().map(|strip| (*strip, run(*strip))).collect();
    let applied: Vec<usize> = results.iter().filter(|(_, result)| result.is_ok()).map(|(strip, _)| *strip).collect();
    // What the names suggest is what is meant: if it does not fit, another file that happens to fit is not.
    let suggested = results.iter().position(|(strip, _)| *strip == readings.default);
    let at = match (applied.as_slice(), suggested) {
        ([_, _, ..], _) => return Err(readings.ambiguous(&applied)),
        (_, Some(at)) => at,
        ([only], None) => results.iter().position(|(strip, _)| strip == only).unwrap_or(0),
        ([], None) => 0,
    };
    results.swap_remove(at).1
}
