//! Where the output of a cell ends: what it wrote is followed by a mark that nobody can have written before.
//!
//! The mark lies in the stream itself, because what a cell's children write to it has to come before the end too; a descriptor of
//! its own would say that the cell has ended, not that all of its output was read. It has a nonce of 128 bits that is drawn for
//! each cell and told to the driver alone, so that no output contains it by accident, whatever a cell has seen of earlier
//! ones. A cell that searches its own interpreter for it can end its own output early: it deceives itself.

/// How many bytes of each stream of a cell are kept.
pub(crate) const KEPT: usize = 64 << 10;

/// One stream of one cell.
pub(crate) struct Frame {
    mark: Vec<u8>,
    /// What may be the beginning of the mark, or of what follows it.
    carry: Vec<u8>,
    pub(crate) kept: Vec<u8>,
    /// Bytes of the cell, those that were not kept included.
    pub(crate) seen: usize,
    /// What the driver says, once it has.
    pub(crate) status: Option<Vec<u8>>,
}

impl Frame {
    pub(crate) fn new(nonce: &str) -> Self {
        let mark = [b"\0", nonce.as_bytes(), b" "].concat();
        Self { mark, carry: Vec::new(), kept: Vec::new(), seen: 0, status: None }
    }

    /// More of the stream. What comes after the mark's line belongs to nobody, and is dropped.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if self.status.is_some() {
            return;
        }
        self.carry.extend_from_slice(bytes);
        let found = self.carry.windows(self.mark.len()).position(|window| window == self.mark);
        let end = found.unwrap_or_else(|| self.carry.len().saturating_sub(self.mark.len() - 1));
        let of_cell: Vec<u8> = self.carry.drain(..end).collect();
        self.keep(&of_cell);
        if found.is_some()
            && let Some(line) = self.carry.iter().position(|byte| *byte == b'\n')
        {
            self.status = self.carry.get(self.mark.len()..line).map(<[u8]>::to_vec);
        }
    }

    /// No mark comes any more: what may have been its beginning was output.
    pub(crate) fn close(&mut self) {
        if self.status.is_none() {
            let rest = std::mem::take(&mut self.carry);
            self.keep(&rest);
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.seen += bytes.len();
        let room = KEPT - self.kept.len();
        self.kept.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
    }
}
