//! On which CPUs a process runs, and of which memory.

use serde::{Deserialize, Serialize};

use super::ProcessSpec;
use super::check::Refusals;
use crate::cgroup::parse_list;

/// As many as the kernel has masks for.
const CPUS: u32 = 8192;
const NODES: u32 = 1024;

/// Where a process and its children get memory (set_mempolicy(2)).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemoryPolicy {
    /// `MPOL_*` with `MPOL_F_*`.
    pub mode: u32,
    /// Nodes, as `0-1,3`; none where the mode takes none.
    pub nodes: String,
}

impl MemoryPolicy {
    /// The mask, of a list that was checked.
    pub(crate) fn mask(&self) -> Vec<u8> {
        mask(&self.nodes, NODES)
    }
}

/// The mask of CPUs, of a list that was checked.
pub(crate) fn cpus(list: &str) -> Vec<u8> {
    mask(list, CPUS)
}

/// Words as the kernel takes them.
fn mask(list: &str, end: u32) -> Vec<u8> {
    let mut words: Vec<u64> = Vec::new();
    let ranges = if list.is_empty() { Vec::new() } else { parse_list(list, end).unwrap_or_default() };
    for bit in ranges.into_iter().flat_map(|(first, last)| first..=last) {
        let index = usize::try_from(bit / 64).unwrap_or(usize::MAX);
        if words.len() <= index {
            words.resize(index + 1, 0);
        }
        if let Some(word) = words.get_mut(index) {
            *word |= 1 << (bit % 64);
        }
    }
    words.into_iter().flat_map(u64::to_ne_bytes).collect()
}

pub(super) fn check(no: &mut Refusals, spec: &ProcessSpec) {
    let nodes = spec.memory_policy.as_ref().map(|policy| policy.nodes.as_str()).filter(|nodes| !nodes.is_empty());
    let lists = [
        ("memory_policy.nodes", nodes, NODES),
        ("cpus_before", spec.cpus_before.as_deref(), CPUS),
        ("cpus", spec.cpus.as_deref(), CPUS),
    ];
    for (field, list, end) in lists {
        if let Some(Err(why)) = list.map(|list| parse_list(list, end)) {
            no.add(field, why);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_becomes_words() {
        let words = |list: &str| -> Vec<u64> {
            mask(list, CPUS).chunks(8).map(|word| u64::from_ne_bytes(word.try_into().unwrap())).collect()
        };
        assert_eq!(words("0-2,5"), [0b10_0111]);
        assert_eq!(words("63-64"), [1 << 63, 1]);
        assert!(words("").is_empty());
        assert_eq!(words("8191").len(), 128);
    }
}
