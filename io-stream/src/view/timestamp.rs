//! Times as RFC 3339 text in UTC with nanoseconds; pure.
//!
//! Used by the log formats. The calendar is the proleptic Gregorian one.

use std::io::Write;
use std::time::{Duration, SystemTime};

/// What Go, and so Docker and Kubernetes, print for a time that is not known.
pub(super) const UNKNOWN: &str = "0001-01-01T00:00:00Z";

/// The time as text; `0001-01-01T00:00:00Z` if it is not known or lies before 1970.
///
/// ```
/// use std::time::{Duration, SystemTime};
///
/// let time = SystemTime::UNIX_EPOCH + Duration::new(951_782_400, 5);
/// assert_eq!(orangery_io_stream::view::rfc3339(Some(time)), "2000-02-29T00:00:00.000000005Z");
/// ```
pub fn rfc3339(time: Option<SystemTime>) -> String {
    let mut out = Vec::new();
    push(time, &mut out);
    String::from_utf8(out).unwrap_or_default()
}

/// Appends the time, or [`UNKNOWN`] if it is not known or lies before 1970.
pub(super) fn push(time: Option<SystemTime>, out: &mut Vec<u8>) {
    match time.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok()) {
        Some(since) => push_known(since, out),
        None => out.extend_from_slice(UNKNOWN.as_bytes()),
    }
}

fn push_known(since: Duration, out: &mut Vec<u8>) {
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    // Writing to a vector cannot fail.
    let _ = write!(out, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:09}Z", since.subsec_nanos());
}

/// Year, month and day of a day counted from 1970-01-01 (Howard Hinnant's `civil_from_days`).
const fn date(days: u64) -> (u64, u64, u64) {
    // Counted from 0000-03-01, so that leap days come last in a year.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(time: Option<SystemTime>) -> String {
        let mut out = Vec::new();
        push(time, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn known_days() {
        for (seconds, nanos, expected) in [
            (0, 0, "1970-01-01T00:00:00.000000000Z"),
            (951_782_399, 5, "2000-02-28T23:59:59.000000005Z"),
            (951_782_400, 0, "2000-02-29T00:00:00.000000000Z"),
            (1_475_712_557, 669_794_202, "2016-10-06T00:09:17.669794202Z"),
            (4_107_542_399, 999_999_999, "2100-02-28T23:59:59.999999999Z"),
            (4_107_542_400, 0, "2100-03-01T00:00:00.000000000Z"),
        ] {
            let time = SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos);
            assert_eq!(text(Some(time)), expected);
        }
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let mut last = date(0);
        for day in 1..200_000 {
            let next = date(day);
            let follows = next == (last.0, last.1, last.2 + 1)
                || (next == (last.0, last.1 + 1, 1) && last.2 >= 28)
                || (next == (last.0 + 1, 1, 1) && (last.1, last.2) == (12, 31));
            assert!(follows, "{last:?} {next:?}");
            last = next;
        }
    }

    #[test]
    fn the_unknown_is_not_made_up() {
        assert_eq!(text(None), UNKNOWN);
        assert_eq!(text(Some(SystemTime::UNIX_EPOCH - Duration::from_secs(1))), UNKNOWN);
    }
}
