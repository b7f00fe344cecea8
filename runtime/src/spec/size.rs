//! Sizes, durations and CPU counts as people write them. Exact: what cannot be kept exactly is refused, not rounded,
//! but for CPUs, where a microsecond is the kernel's own grain.

use std::time::Duration;

const SIZE_FORM: &str = "write bytes or a number with K, M, G or T (also KiB, MiB, GiB, TiB; B for bytes; 1K is 1024)";
const DURATION_FORM: &str = "write seconds or numbers with h, m, s or ms, such as 10s, 1m30s or 500ms";
const CPUS_FORM: &str = "write a number of CPUs, such as 0.5 or 2";

/// 100 ms, the kernel's own default.
const CPU_PERIOD_US: u64 = 100_000;
/// The kernel takes no quota below 1 ms.
const CPU_QUOTA_MIN_US: u64 = 1_000;
/// More than any machine has; keeps the quota below the kernel's bound of 2^44 µs.
const CPUS_MAX: u64 = 65_536;

/// Bytes of a size such as `64M`, `1.5GiB` or `4096`.
///
/// # Errors
/// Not of that form, not a whole number of bytes, or above `u64`; the sentence names the suffixes.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let (number, suffix) = split_number(text);
    let form = || format!("{text:?} is not a size: {SIZE_FORM}");
    let shift = match suffix.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        "t" | "tib" => 40,
        _ => return Err(form()),
    };
    let bytes = match Decimal::parse(number).ok_or_else(form)?.times(1 << shift) {
        Some((bytes, true)) => bytes,
        Some((_, false)) => {
            return Err(format!("{text:?} is not a whole number of bytes: {SIZE_FORM}"));
        }
        None => return Err(too_large(text)),
    };
    u64::try_from(bytes).map_err(|_| too_large(text))
}

fn too_large(text: &str) -> String {
    format!("{text:?} is too large: sizes end below 16777216T (2^64 bytes)")
}

/// A size for people: at most one decimal, with the suffixes of [`parse_size`].
pub fn format_size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    for (power, unit) in (1u32..).zip(UNITS) {
        // Rounded to tenths; 1023.95 KiB is 1 MiB.
        let scale = 1u128 << (10 * power);
        let tenths = (u128::from(bytes) * 10 + scale / 2) / scale;
        if tenths < 10_240 || power == 6 {
            let (whole, tenth) = (tenths / 10, tenths % 10);
            return if tenth == 0 { format!("{whole}{unit}") } else { format!("{whole}.{tenth}{unit}") };
        }
    }
    format!("{bytes}B")
}

/// A duration such as `10s`, `1m30s`, `500ms`, `1.5` (seconds). Units at most once each, large ones first.
///
/// # Errors
/// Not of that form, finer than a nanosecond, or above 292 years, which no clock of the kernel can count.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let form = || format!("{text:?} is not a duration: {DURATION_FORM}");
    let too_long = || format!("{text:?} is too long: durations end at 292 years");
    let (mut rest, mut nanos, mut below) = (text, 0u128, u128::MAX);
    loop {
        let (number, after) = split_number(rest);
        let end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (suffix, next) = after.split_at(end);
        let unit = match suffix.to_ascii_lowercase().as_str() {
            "h" => 3_600_000_000_000,
            "m" => 60_000_000_000,
            "s" => 1_000_000_000,
            "ms" => 1_000_000,
            // Without a unit it is all there is.
            "" if rest.len() == text.len() && next.is_empty() => 1_000_000_000,
            _ => return Err(form()),
        };
        if unit >= below {
            return Err(form());
        }
        below = unit;
        match Decimal::parse(number).ok_or_else(form)?.times(unit) {
            Some((part, true)) => nanos = nanos.saturating_add(part),
            Some((_, false)) => {
                return Err(format!("{text:?} is finer than a nanosecond: {DURATION_FORM}"));
            }
            None => return Err(too_long()),
        }
        if next.is_empty() {
            // i64 nanoseconds are what the kernel's clocks count, and what a sum with "now" survives.
            return i64::try_from(nanos)
                .map(|nanos| Duration::from_nanos(nanos.unsigned_abs()))
                .map_err(|_| too_long());
        }
        rest = next;
    }
}

/// CPU time of a number of CPUs as microseconds in each period: `0.5` is (50000, 100000).
///
/// Finer than a microsecond is rounded down.
///
/// # Errors
/// Not a number, below 0.01 (the kernel's smallest quota) or above 65536.
pub fn parse_cpus(text: &str) -> Result<(u64, u64), String> {
    let form = || format!("{text:?} is not a number of CPUs: {CPUS_FORM}");
    let number = Decimal::parse(text).ok_or_else(form)?;
    let quota = number.times(CPU_PERIOD_US.into()).and_then(|(quota, _)| u64::try_from(quota).ok());
    match quota {
        Some(quota) if quota < CPU_QUOTA_MIN_US => Err(format!("{text:?} CPUs are too few: at least 0.01")),
        Some(quota) if quota <= CPUS_MAX * CPU_PERIOD_US => Ok((quota, CPU_PERIOD_US)),
        _ => Err(format!("{text:?} CPUs are too many: at most {CPUS_MAX}")),
    }
}

/// Digits and dots first, the rest after.
fn split_number(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len()))
}

/// A number such as `12` or `1.5`, kept exactly.
struct Decimal {
    /// What it is in units of `10^-digits`, split at the point. `None` if the whole part is above `u64`.
    whole: Option<u64>,
    fraction: u64,
    /// 10 to the number of fraction digits.
    scale: u64,
}

impl Decimal {
    /// Digits, with a point and more digits if need be; no sign, no exponent.
    fn parse(text: &str) -> Option<Self> {
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let (whole, fraction) = match text.split_once('.') {
            Some((whole, fraction)) if digits(fraction) => (whole, fraction.trim_end_matches('0')),
            Some(_) => return None,
            None => (text, ""),
        };
        // 18 digits fit u64; more mean nothing in any unit here.
        if !digits(whole) || fraction.len() > 18 {
            return None;
        }
        let scale = fraction.bytes().fold(1, |scale, _| scale * 10);
        let fraction = fraction.bytes().fold(0, |value, digit| value * 10 + u64::from(digit - b'0'));
        Some(Self { whole: whole.parse().ok(), fraction, scale })
    }

    /// So many units, rounded down, and whether that is exact. `None` if it is astronomically large.
    fn times(&self, unit: u128) -> Option<(u128, bool)> {
        let scale = u128::from(self.scale);
        let parts = u128::from(self.fraction).checked_mul(unit)?;
        let whole = u128::from(self.whole?).checked_mul(unit)?;
        Some((whole.checked_add(parts / scale)?, parts % scale == 0))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("64M", 64 << 20),
            ("64m", 64 << 20),
            ("64MiB", 64 << 20),
            ("1kib", 1024),
            ("7B", 7),
            ("1.5G", 3 << 29),
            ("0.5k", 512),
            ("1.50K", 1536),
            ("2T", 2 << 40),
            ("0.0009765625K", 1),
            ("007", 7),
            ("18446744073709551615", u64::MAX),
            ("16777215.5T", (0xff_ffff << 40) + (1 << 39)),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused_with_the_suffixes() {
        for text in
            ["", " ", "-1", "+1", "64Q", "64 M", "M", ".5G", "1.", "1.5.5G", "1e3", "64MB", "1,5G", "0x10", "٣", "1\0"]
        {
            let why = parse_size(text).unwrap_err();
            assert!(why.contains("K, M, G or T") && why.contains("KiB"), "{text:?}: {why}");
        }
        assert!(parse_size("0.1K").unwrap_err().contains("whole number of bytes"));
        assert!(parse_size("1.5").unwrap_err().contains("whole number of bytes"));
        for text in ["18446744073709551616", "16777216T", "99999999999999999999999999999999999999999G"] {
            assert!(parse_size(text).unwrap_err().contains("too large"), "{text}");
        }
    }

    #[test]
    fn sizes_for_people() {
        for (bytes, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1KiB"),
            (1536, "1.5KiB"),
            (1_234_567, "1.2MiB"),
            ((1 << 20) - 1, "1MiB"),
            (64 << 20, "64MiB"),
            (3 << 29, "1.5GiB"),
            (u64::MAX, "16EiB"),
        ] {
            assert_eq!(format_size(bytes), text);
        }
    }

    #[test]
    fn durations() {
        for (text, millis) in [
            ("0", 0),
            ("10", 10_000),
            ("1.5", 1_500),
            ("10s", 10_000),
            ("500ms", 500),
            ("1m30s", 90_000),
            ("1h", 3_600_000),
            ("1h1ms", 3_600_001),
            ("1H2M3S4MS", 3_723_004),
            ("0.5h", 1_800_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "s", "-1s", "1d", "1s1m", "1m1m", "10 s", "1m30", "1ms5", "1..5s", "1us", "1ß"] {
            assert!(parse_duration(text).unwrap_err().contains("not a duration"), "{text:?}");
        }
        assert_eq!(parse_duration("0.000000001"), Ok(Duration::from_nanos(1)));
        assert!(parse_duration("0.0000001ms").unwrap_err().contains("finer"));
        for text in ["9223372037", "99999999999999999999h", "18446744073709551615h", "2562047h3000m"] {
            assert!(parse_duration(text).unwrap_err().contains("too long"), "{text}");
        }
    }

    #[test]
    fn cpus() {
        for (text, quota) in
            [("0.5", 50_000), ("2", 200_000), ("0.01", 1_000), ("0.3333333", 33_333), ("65536", 6_553_600_000)]
        {
            assert_eq!(parse_cpus(text), Ok((quota, 100_000)), "{text}");
        }
        for text in ["", "-1", "1.", "half", "1e3", "inf", "NaN", "2c"] {
            assert!(parse_cpus(text).unwrap_err().contains("not a number of CPUs"), "{text}");
        }
        assert!(parse_cpus("0").unwrap_err().contains("at least 0.01"));
        assert!(parse_cpus("0.009").unwrap_err().contains("at least 0.01"));
        for text in ["65536.1", "18446744073709551616"] {
            assert!(parse_cpus(text).unwrap_err().contains("at most"), "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_text_is_answered(text in "\\PC{0,20}|[0-9.]{0,25}[a-zA-Z]{0,3}[0-9.]{0,25}[hms]{0,2}") {
            let _ = (parse_size(&text), parse_duration(&text), parse_cpus(&text));
        }

        #[test]
        fn a_number_of_bytes_is_itself(bytes: u64) {
            prop_assert_eq!(parse_size(&bytes.to_string()), Ok(bytes));
            prop_assert_eq!(parse_size(&format!("{bytes}b")), Ok(bytes));
        }

        #[test]
        fn a_size_for_people_is_within_a_twentieth(bytes in 0u64..1 << 50) {
            let shown = format_size(bytes);
            if let Ok(back) = parse_size(&shown) {
                prop_assert!(back.abs_diff(bytes) <= bytes / 20);
            }
        }
    }
}
