//! The buffer that pipes are read into: one for each thread, none for an idle pipe.
//!
//! Used by `pipe.rs` inside one poll, never across an await. It hands out chunks that pin at most
//! twice their own size.

use std::cell::RefCell;

use bytes::{Bytes, BytesMut};

/// The most that one read takes: a pipe's default capacity (pipe(7)).
pub(crate) const READ_MAX: usize = 64 * 1024;

thread_local! {
    static BUFFER: RefCell<BytesMut> = RefCell::new(BytesMut::new());
}

/// Lends this thread's buffer, empty and with room for one read of `most` bytes.
pub(crate) fn with<R>(most: usize, read: impl FnOnce(&mut BytesMut) -> R) -> R {
    BUFFER.with_borrow_mut(|buffer| {
        buffer.clear();
        buffer.reserve(most);
        read(buffer)
    })
}

/// Takes what was read out of the buffer. From half of it on the buffer itself is given away; below that the bytes are
/// copied out to their exact size, so that 20 bytes do not pin 64 KiB.
pub(crate) fn take(buffer: &mut BytesMut) -> Bytes {
    if buffer.len() >= buffer.capacity() / 2 {
        std::mem::take(buffer).freeze()
    } else {
        let exact = Bytes::copy_from_slice(buffer);
        buffer.clear();
        exact
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_read_leaves_the_buffer_where_it_is() {
        let place = with(READ_MAX, |buffer| {
            buffer.extend_from_slice(b"twenty bytes or less");
            assert_eq!(take(buffer), "twenty bytes or less");
            buffer.as_ptr()
        });
        assert_eq!(with(READ_MAX, |buffer| buffer.as_ptr()), place);
    }

    #[test]
    fn a_large_read_is_given_away_uncopied() {
        let (place, bytes) = with(READ_MAX, |buffer| {
            buffer.resize(buffer.capacity() / 2, 7);
            (buffer.as_ptr(), take(buffer))
        });
        assert_eq!(bytes.as_ptr(), place);
        with(READ_MAX, |buffer| assert!(buffer.capacity() >= READ_MAX && buffer.is_empty()));
    }
}
