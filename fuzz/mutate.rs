//! Mutants that are the same every time.

/// SplitMix64.
#[derive(Debug)]
pub struct Seeded(u64);

impl Seeded {
    /// From this seed on.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub fn any(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`; 0 for a limit of 0.
    pub fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.any() % limit.max(1) as u64).unwrap_or(0)
    }

    /// A few bytes changed, words replaced by edges, pieces doubled, cut or grown.
    pub fn mutate(&mut self, from: &[u8]) -> Vec<u8> {
        let mut bytes = from.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            let end = (at + 1 + self.below(16)).min(bytes.len());
            match self.below(8) {
                0 => self.replace(&mut bytes, at),
                1 => self.edge(&mut bytes, at),
                2 => bytes.truncate(at),
                3 => {
                    let more = self.below(64);
                    bytes.resize(bytes.len() + more, 0);
                }
                4 => bytes.extend_from_within(at.min(end)..end),
                5 => drop(bytes.drain(at.min(end)..end)),
                6 => bytes.insert(at, b":/\"{}[],\n \0-9"[self.below(13)]),
                _ => {
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte ^= 1 << self.below(8);
                    }
                }
            }
        }
        bytes
    }

    fn replace(&mut self, bytes: &mut [u8], at: usize) {
        let [any, ..] = self.any().to_le_bytes();
        if let Some(byte) = bytes.get_mut(at) {
            *byte = any;
        }
    }

    fn edge(&mut self, bytes: &mut [u8], at: usize) {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let edge = [0, 1, 0xffff, 0x7fff_ffff, u32::MAX, length][self.below(6)].to_le_bytes();
        bytes.iter_mut().skip(at).zip(edge).for_each(|(byte, new)| *byte = new);
    }
}
