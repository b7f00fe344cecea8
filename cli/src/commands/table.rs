//! Columns of text. Pure.

/// Rows under their heads, each column as wide as its widest cell; the last one ends where it ends.
pub(super) fn table<const N: usize>(heads: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = heads.map(|head| head.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let heads = heads.map(str::to_owned);
    std::iter::once(&heads).chain(rows).fold(String::new(), |text, row| text + &line(row, &widths))
}

fn line<const N: usize>(row: &[String; N], widths: &[usize; N]) -> String {
    let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
    cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
}

/// At most so many characters.
pub(super) fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some(_) => text.chars().take(most.saturating_sub(1)).chain(['\u{2026}']).collect(),
        None => text.to_owned(),
    }
}

/// How long ago, in its largest unit.
pub(super) fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86400),
    }
}

/// So many bytes, in the largest unit of which there is one, as options write them.
pub(super) fn size(bytes: u64) -> String {
    let (unit, name) = match bytes {
        0..1024 => return bytes.to_string(),
        1024..0x10_0000 => (1 << 10, "K"),
        0x10_0000..0x4000_0000 => (1 << 20, "M"),
        _ => (1 << 30, "G"),
    };
    format!("{}.{}{name}", bytes / unit, bytes % unit * 10 / unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_must_be() {
        let rows = [["a".to_owned(), "b c".into()], ["l\u{e9}ng".into(), String::new()]];
        assert_eq!(table(["X", "Y"], &rows), "X     Y\na     b c\nl\u{e9}ng\n");
        assert_eq!(table(["X"], &[]), "X\n");
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!([0, 119, 120, 7200, 172_800].map(span), ["0s", "119s", "2m", "2h", "2d"]);
        assert_eq!([0, 1023, 1024, 1 << 20, 3 << 29].map(size), ["0", "1023", "1.0K", "1.0M", "1.5G"]);
        assert_eq!((cut("abc", 3), cut("abcd", 3), cut("", 0)), ("abc".into(), "ab\u{2026}".into(), String::new()));
    }
}
