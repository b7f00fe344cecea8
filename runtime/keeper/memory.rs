//! memcpy, memmove, memset, memcmp and bcmp: gnu targets' compiler_builtins do not export them.

use core::ffi::c_int;

/// The compiler makes small code of the keeper (`build.rs`) and no vectors of these loops.
const WORD: usize = size_of::<u64>();

#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    let mut at = 0;
    // Upwards and each word read before it is written: what overlaps from above is right, too.
    while at + WORD <= len {
        // SAFETY: the caller vouches for `len` bytes at both places, of which these are eight.
        unsafe { to.add(at).cast::<u64>().write_unaligned(from.add(at).cast::<u64>().read_unaligned()) };
        at += WORD;
    }
    while at < len {
        // SAFETY: the caller vouches for `len` bytes at both places.
        unsafe { to.add(at).write(from.add(at).read()) };
        at += 1;
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    if (to as usize) <= (from as usize) {
        // SAFETY: copying upwards is right when the target lies below.
        return unsafe { memcpy(to, from, len) };
    }
    let mut at = len;
    while at > 0 {
        at -= 1;
        // SAFETY: the caller vouches for `len` bytes at both places.
        unsafe { to.add(at).write(from.add(at).read()) };
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: c_int, len: usize) -> *mut u8 {
    let (mut at, word) = (0, u64::from_ne_bytes([byte as u8; WORD]));
    while at + WORD <= len {
        // SAFETY: the caller vouches for `len` bytes, of which these are eight.
        unsafe { to.add(at).cast::<u64>().write_unaligned(word) };
        at += WORD;
    }
    while at < len {
        // SAFETY: the caller vouches for `len` bytes.
        unsafe { to.add(at).write(byte as u8) };
        at += 1;
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(left: *const u8, right: *const u8, len: usize) -> c_int {
    let mut at = 0;
    while at < len {
        // SAFETY: the caller vouches for `len` bytes at both places.
        let (l, r) = unsafe { (left.add(at).read(), right.add(at).read()) };
        if l != r {
            return c_int::from(l) - c_int::from(r);
        }
        at += 1;
    }
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(left: *const u8, right: *const u8, len: usize) -> c_int {
    // SAFETY: same contract.
    unsafe { memcmp(left, right, len) }
}
