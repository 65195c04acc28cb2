//! Times as a person at a live screen wants them: how long ago, how long still.

use std::time::{SystemTime, UNIX_EPOCH};

/// Returns the wall clock in milliseconds since 1970.
pub(super) fn now_ms() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
}

/// Reads a date of an answer, `2026-11-26T08:00:00.000Z`.
pub(super) fn parse(date: &str) -> Option<i64> {
    let number = |range: std::ops::Range<usize>| date.get(range)?.parse::<i64>().ok();
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second, millisecond) = (number(11..13)?, number(14..16)?, number(17..19)?, number(20..23)?);
    // Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", days_from_civil: years begin in March.
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000 + millisecond)
}

/// Writes a span of time in its largest unit.
pub(super) fn span(milliseconds: i64) -> String {
    let seconds = milliseconds.max(0) / 1_000;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// Writes how long ago a date was.
pub(super) fn ago(date: &str, now_ms: i64) -> String {
    parse(date).map_or_else(|| "?".to_owned(), |at| span(now_ms - at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_as_answers_write_them() {
        assert_eq!(parse("1970-01-01T00:00:00.000Z"), Some(0));
        assert_eq!(parse("2000-02-29T00:00:00.000Z"), Some(951_782_400_000));
        assert_eq!(parse("2026-11-21T07:44:04.123Z"), Some(1_795_247_044_123));
        assert_eq!(parse("yesterday"), None);
    }

    #[test]
    fn spans_have_their_largest_unit() {
        let written = [-5, 59_999, 60_000, 3_600_000, 47 * 3_600_000, 48 * 3_600_000].map(span);
        assert_eq!(written, ["0 s", "59 s", "1 min", "1 h", "47 h", "2 d"]);
    }
}
