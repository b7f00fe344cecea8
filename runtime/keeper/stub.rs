//! The stub init: pid 1 of a container. Reaps what is orphaned to it, and sleeps.

use crate::arch::nr;
use crate::sys::{self, P_ALL, WNOHANG};

/// In the container's pid 1, after its last step: no descriptors, no capabilities, undumpable.
pub(crate) fn run(page: *mut u32) -> ! {
    let _ = sys::close_range(0, usize::MAX >> 32, 0);
    sys::munmap(page.cast(), 4096);
    let chld: u64 = 1 << 16;
    loop {
        while sys::waitid(P_ALL, 0, WNOHANG).is_ok_and(|ended| ended.is_some()) {}
        // Blocked since the keeper's start, so a child that ends right here is pending, not missed.
        let _ = sys::call(nr::RT_SIGTIMEDWAIT, [&raw const chld as usize, 0, 0, 8, 0, 0]);
    }
}
