//! Chance that can be had again. Each draw is a function of the seed, of the fault's name and of what is drawn for; no draw
//! depends on how many were made before it.

/// The seed of one fault: FNV-1a over its name, mixed with the plan's. Stable from version to version.
pub(in crate::faults) fn sub_seed(seed: u64, name: &str) -> u64 {
    let hash = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    mix(seed ^ name.bytes().fold(0xcbf2_9ce4_8422_2325, hash))
}

/// The finalizer of splitmix64.
const fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// What is drawn for one occasion of one fault.
#[derive(Clone, Copy, Debug)]
pub(in crate::faults) struct Draw(u64);

impl Draw {
    /// The occasion `number`, in the output of container `among` where there is one.
    pub(in crate::faults) const fn of(sub_seed: u64, among: u64, number: u64) -> Self {
        Self(mix(sub_seed ^ mix(among ^ mix(number))))
    }

    /// Whether it is taken.
    pub(in crate::faults) fn hits(self, probability: f64) -> bool {
        // 53 bits, all that a float has.
        let drawn = (self.0 >> 11) as f64 / (1u64 << 53) as f64;
        drawn < probability
    }

    /// `count` of `all`, without repetition, in their order.
    pub(in crate::faults) fn choose<T>(self, mut all: Vec<T>, count: usize) -> Vec<T> {
        let mut state = self.0;
        while all.len() > count {
            state = mix(state);
            let out = usize::try_from(state % all.len() as u64).unwrap_or(0);
            all.remove(out);
        }
        all
    }
}
