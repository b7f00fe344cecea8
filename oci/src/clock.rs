//! The time of day as RFC 3339 writes it.

use rustix::time::{ClockId, clock_gettime};

/// Now, in UTC, with nanoseconds.
pub(crate) fn now() -> String {
    let now = clock_gettime(ClockId::Realtime);
    text(now.tv_sec, now.tv_nsec)
}

fn text(seconds: i64, nanoseconds: i64) -> String {
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = date(days);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanoseconds:09}Z")
}

/// Year, month and day of a day since 1970, by the calendar's period of 400 years that begins in March.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::text;

    #[test]
    fn leap_days_and_ends_of_years_are_dates() {
        assert_eq!(text(0, 1), "1970-01-01T00:00:00.000000001Z");
        assert_eq!(text(951_782_400, 0), "2000-02-29T00:00:00.000000000Z");
        assert_eq!(text(1_795_773_904, 562_176_624), "2026-11-27T10:05:04.562176624Z");
        assert_eq!(text(-1, 0), "1969-12-31T23:59:59.000000000Z");
    }
}
