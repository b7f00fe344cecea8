//! Bytes that look random and can be told from any others at any offset: what the probe writes (`noise`), and the check of
//! what came out. Also part of the probe, so it knows nothing but std.

/// After so many bytes they repeat; a prime, so that no size of a read or a buffer falls in with it.
pub const PERIOD: usize = 1_000_003;

/// One period (SplitMix64).
#[must_use]
pub fn period() -> Vec<u8> {
    let mut state = 0_u64;
    let next = std::iter::repeat_with(|| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) as u8
    });
    next.take(PERIOD).collect()
}

/// Whether `data` is what stands at `offset`; `noise` is one [`period`].
#[must_use]
pub fn stands_at(noise: &[u8], offset: u64, mut data: &[u8]) -> bool {
    let mut at = usize::try_from(offset % PERIOD as u64).unwrap_or(0);
    while !data.is_empty() {
        let len = data.len().min(PERIOD - at);
        if noise.get(at..at + len) != data.get(..len) {
            return false;
        }
        (at, data) = ((at + len) % PERIOD, data.get(len..).unwrap_or_default());
    }
    true
}
