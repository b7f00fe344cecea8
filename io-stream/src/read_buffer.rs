//! The buffer that pipes are read into: one for each thread, none for an idle pipe.
//!
//! Used by `pipe.rs` inside one poll, never across an await. It hands out chunks that pin at most
//! twice their own size.

use std::cell::RefCell;

use bytes::{Bytes, BytesMut};

/// The most that one read takes: a pipe's default capacity (pipe(7)).
pub(crate) const READ_MAX: usize = 64 * 1024;

/// From this size on the buffer itself is given away; below it the bytes are copied out to their
/// exact size, so that 20 bytes do not pin 64 KiB.
const GIVE_AWAY: usize = READ_MAX / 2;

thread_local! {
    static BUFFER: RefCell<BytesMut> = RefCell::new(BytesMut::new());
}

/// Lends this thread's buffer, empty and with room for one read.
pub(crate) fn with<R>(read: impl FnOnce(&mut BytesMut) -> R) -> R {
    BUFFER.with_borrow_mut(|buffer| {
        buffer.clear();
        buffer.reserve(READ_MAX);
        read(buffer)
    })
}

/// Takes what was read out of the buffer.
pub(crate) fn take(buffer: &mut BytesMut) -> Bytes {
    if buffer.len() >= GIVE_AWAY {
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
        let place = with(|buffer| {
            buffer.extend_from_slice(b"twenty bytes or less");
            assert_eq!(take(buffer), "twenty bytes or less");
            buffer.as_ptr()
        });
        assert_eq!(with(|buffer| buffer.as_ptr()), place);
    }

    #[test]
    fn a_large_read_is_given_away_uncopied() {
        let (place, bytes) = with(|buffer| {
            buffer.resize(GIVE_AWAY, 7);
            (buffer.as_ptr(), take(buffer))
        });
        assert_eq!(bytes.as_ptr(), place);
        with(|buffer| assert!(buffer.capacity() >= READ_MAX && buffer.is_empty()));
    }
}
