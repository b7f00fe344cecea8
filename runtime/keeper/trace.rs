//! `ORANGERY_KEEPER_TRACE`: one line for each step and its errno. Formatting without an allocator.

use crate::sys;

/// A line under construction; what does not fit is cut.
pub(crate) struct Line {
    buf: [u8; 192],
    len: usize,
}

impl Line {
    pub(crate) fn new() -> Line {
        Line { buf: [0; 192], len: 0 }
    }

    pub(crate) fn text(&mut self, text: &[u8]) -> &mut Line {
        for byte in text {
            if let Some(slot) = self.buf.get_mut(self.len) {
                *slot = *byte;
                self.len += 1;
            }
        }
        self
    }

    pub(crate) fn number(&mut self, number: u64) -> &mut Line {
        let mut digits = [0u8; 20];
        let mut left = number;
        let mut at = 20;
        loop {
            at -= 1;
            if let Some(slot) = digits.get_mut(at) {
                *slot = b'0' + (left % 10) as u8;
            }
            left /= 10;
            if left == 0 || at == 0 {
                break;
            }
        }
        self.text(digits.get(at..).unwrap_or(&[]))
    }

    pub(crate) fn end(&mut self, fd: i32) {
        self.text(b"\n");
        let _ = sys::write(fd, self.buf.get(..self.len).unwrap_or(&[]));
    }
}
