//! The text of a file, and places in it: offsets become lines and columns. Pure.

use std::ops::Range;

/// Characters of a line that are shown around a place.
const SHOWN: usize = 100;

/// A place: offsets of the first byte and of the one behind the last.
pub(crate) type Span = Range<usize>;

/// See the file's head.
#[derive(Clone, Debug)]
pub(crate) struct Text {
    /// As it is called in what is told of it.
    pub(crate) name: String,
    text: String,
    /// Where each line begins.
    starts: Vec<usize>,
}

impl Text {
    /// # Errors
    /// It is not UTF-8: an offset.
    pub(crate) fn new(name: &str, bytes: Vec<u8>) -> Result<Self, usize> {
        let text = String::from_utf8(bytes).map_err(|error| error.utf8_error().valid_up_to())?;
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Ok(Self { name: name.to_owned(), text, starts })
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// Line and column, in characters, both from 1 on.
    pub(crate) fn place(&self, offset: usize) -> (usize, usize) {
        let offset = self.text.floor_char_boundary(offset);
        let line = self.starts.partition_point(|start| *start <= offset);
        let start = self.starts.get(line.saturating_sub(1)).copied().unwrap_or(0);
        let before = self.text.get(start..offset).unwrap_or_default();
        (line, before.chars().count() + 1)
    }

    /// The line of a place, of bounded width and without control characters, and marks under the place.
    pub(crate) fn excerpt(&self, span: &Span) -> (String, String) {
        let (line, column) = self.place(span.start);
        let start = self.starts.get(line.saturating_sub(1)).copied().unwrap_or(0);
        let whole = self.text.get(start..).unwrap_or_default().lines().next().unwrap_or_default();
        let shown: Vec<char> = whole.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let (length, before) = (self.length(span), column - 1);
        // What is marked is in it, at least its beginning.
        let first = if shown.len() <= SHOWN { 0 } else { (before + length.min(SHOWN / 2)).saturating_sub(SHOWN) };
        let part: String = shown.iter().skip(first).take(SHOWN).collect();
        let room = part.chars().count().saturating_sub(before - first).max(1);
        (part, " ".repeat(before - first) + &"^".repeat(length.clamp(1, room)))
    }

    /// In characters.
    fn length(&self, span: &Span) -> usize {
        let start = self.text.floor_char_boundary(span.start);
        let end = self.text.floor_char_boundary(span.end).max(start);
        self.text.get(start..end).unwrap_or_default().chars().count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Text {
        Text::new("x", text.as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn lines_and_columns() {
        let text = text("a = 1\nü = 2\r\n");
        for (offset, place) in [(0, (1, 1)), (4, (1, 5)), (6, (2, 1)), (7, (2, 1)), (8, (2, 2)), (99, (3, 1))] {
            assert_eq!(text.place(offset), place, "{offset}");
        }
        assert_eq!(text.excerpt(&(11..12)), ("ü = 2".into(), "    ^".into()));
        assert_eq!(text.excerpt(&(14..99)), (String::new(), "^".into()));
        assert_eq!(Text::new("x", b"ab\xff".to_vec()).unwrap_err(), 2);
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let long = text(&format!("{}HERE{}", "x".repeat(500), "y".repeat(500)));
        let (part, marks) = long.excerpt(&(500..504));
        assert_eq!(part.chars().count(), SHOWN);
        let marked: String = part.chars().zip(marks.chars()).filter(|(_, mark)| *mark == '^').map(|(c, _)| c).collect();
        assert_eq!(marked, "HERE");
        let (part, marks) = long.excerpt(&(0..1004));
        assert!(part.starts_with('x') && marks.len() == SHOWN);
    }
}
