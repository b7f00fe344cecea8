//! Looks for a text within one line of a stream that comes in pieces. Keeps as much as the text is long, whatever comes.

/// Knuth, Morris and Pratt, one byte after the other. The text holds no end of line, so that none is found across one.
#[derive(Debug)]
pub(crate) struct Finder {
    text: Vec<u8>,
    /// How much of the text is still matched when its first n + 1 bytes were and the next one is another.
    shorter: Vec<usize>,
    matched: usize,
}

impl Finder {
    /// `text` is not empty.
    pub(crate) fn new(text: &str) -> Self {
        let text = text.as_bytes().to_vec();
        let mut finder = Self { shorter: vec![0; text.len()], matched: 0, text };
        let mut matched = 0;
        for index in 1..finder.text.len() {
            matched = finder.step(matched, finder.text[index]);
            finder.shorter[index] = matched;
        }
        finder
    }

    fn step(&self, mut matched: usize, byte: u8) -> usize {
        while matched > 0 && self.text[matched] != byte {
            matched = self.shorter[matched - 1];
        }
        matched + usize::from(self.text[matched] == byte)
    }

    /// More of the stream; whether the text was in it or ends in it.
    pub(crate) fn find(&mut self, piece: &[u8]) -> bool {
        for byte in piece {
            self.matched = self.step(self.matched, *byte);
            if self.matched == self.text.len() {
                self.matched = 0;
                return true;
            }
        }
        false
    }

    /// Bytes are missing here: what came before belongs to nothing that comes.
    pub(crate) fn gap(&mut self) {
        self.matched = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// As a search in the whole, however it is cut. Few letters, so that texts repeat within themselves.
        #[test]
        fn found_when_it_is_there(
            text in "[ab]{1,6}", stream in "[ab\n]{0,60}", cuts in prop::collection::vec(0..61usize, 0..6),
        ) {
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(stream.len())).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let mut finder = Finder::new(&text);
            let found = cuts.windows(2).any(|cut| finder.find(&stream.as_bytes()[cut[0]..cut[1]]));
            prop_assert_eq!(found, stream.contains(&text));
        }
    }

    #[test]
    fn never_across_a_gap() {
        let mut finder = Finder::new("ready");
        assert!(!finder.find(b"rea"));
        finder.gap();
        assert!(!finder.find(b"dy"));
        assert!(finder.find(b"rready"));
    }
}
