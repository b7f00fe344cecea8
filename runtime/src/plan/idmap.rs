//! The id maps of a user namespace: which ids exist in it, and what they are outside.

use std::fmt::Write as _;

/// Ids of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ids(Vec<Extent>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Extent {
    inside: u32,
    outside: u32,
    count: u32,
}

impl Extent {
    fn outside(self, id: u32) -> Option<u32> {
        let offset = id.checked_sub(self.inside).filter(|offset| *offset < self.count)?;
        self.outside.checked_add(offset)
    }
}

impl Ids {
    fn new(extents: &[(u32, u32, u32)]) -> Self {
        Self(
            extents
                .iter()
                .map(|(inside, outside, count)| Extent { inside: *inside, outside: *outside, count: *count })
                .collect(),
        )
    }

    /// From the text of `/proc/PID/uid_map` or `gid_map`; `None` when nothing is mapped, or it is no such text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let line = |line: &str| {
            let words: Option<Vec<u32>> = line.split_ascii_whitespace().map(|word| word.parse().ok()).collect();
            match *words?.as_slice() {
                [inside, outside, count] if count > 0 => Some(Extent { inside, outside, count }),
                _ => None,
            }
        };
        let extents: Option<Vec<Extent>> = text.lines().map(line).collect();
        extents.filter(|extents| !extents.is_empty()).map(Self)
    }

    /// Of these ranges.
    #[must_use]
    pub fn of(ranges: &[crate::spec::IdRange]) -> Self {
        let extent =
            |range: &crate::spec::IdRange| Extent { inside: range.inside, outside: range.outside, count: range.count };
        Self(ranges.iter().map(extent).collect())
    }

    /// What `outside` is inside, and how many ids from there on follow each other on both sides.
    #[must_use]
    pub fn inside(&self, outside: u32) -> Option<(u32, u32)> {
        self.0.iter().find_map(|extent| {
            let offset = outside.checked_sub(extent.outside).filter(|offset| *offset < extent.count)?;
            Some((extent.inside.checked_add(offset)?, extent.count - offset))
        })
    }

    /// As it is written into `uid_map` or `gid_map`.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (index, Extent { inside, outside, count }) in self.0.iter().enumerate() {
            // Writing to a string cannot fail.
            let _ = write!(text, "{}{inside} {outside} {count}", if index == 0 { "" } else { "\n" });
        }
        text
    }

    /// The first id inside, what it is outside, and how many follow it: of each line.
    pub fn ranges(&self) -> impl Iterator<Item = (u32, u32, u32)> + '_ {
        self.0.iter().map(|Extent { inside, outside, count }| (*inside, *outside, *count))
    }

    /// What `id` is outside; `None`: there is no such id inside.
    #[must_use]
    pub fn outside(&self, id: u32) -> Option<u32> {
        self.0.iter().find_map(|extent| extent.outside(id))
    }

    /// `id` exists inside.
    #[must_use]
    pub fn has(&self, id: u32) -> bool {
        self.outside(id).is_some()
    }

    /// There is one alone.
    #[must_use]
    pub fn is_single(&self) -> bool {
        matches!(*self.0.as_slice(), [Extent { count: 1, .. }])
    }

    /// 0, or where that is not mapped the lowest that is.
    #[must_use]
    pub fn first(&self) -> u32 {
        self.0.iter().map(|extent| extent.inside).min().unwrap_or(0)
    }
}

/// Maps of a user namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdMap {
    /// User ids; outside is the keeper's user namespace.
    pub uid: Ids,
    /// Group ids.
    pub gid: Ids,
    /// `setgroups` is denied: supplementary groups cannot be set.
    pub deny_setgroups: bool,
}

impl IdMap {
    /// `count` ids from 0 inside to `base` (user, group) outside.
    #[must_use]
    pub fn range(base: (u32, u32), count: u32) -> Self {
        let ids = |first: u32| Ids::new(&[(0, first, count)]);
        Self { uid: ids(base.0), gid: ids(base.1), deny_setgroups: false }
    }

    /// All ids of a user namespace with these maps, each as itself in a namespace below it. Line by line: the kernel refuses
    /// one that lies in two of the parent's.
    #[must_use]
    pub fn same(uid: &Ids, gid: &Ids) -> Self {
        let same = |ids: &Ids| Ids(ids.0.iter().map(|extent| Extent { outside: extent.inside, ..*extent }).collect());
        Self { uid: same(uid), gid: same(gid), deny_setgroups: false }
    }

    /// What somebody has chosen.
    #[must_use]
    pub fn of(maps: &crate::spec::IdRanges) -> Self {
        Self { uid: Ids::of(&maps.uid), gid: Ids::of(&maps.gid), deny_setgroups: false }
    }

    /// One user and one group.
    #[must_use]
    pub fn single(uid: u32, gid: u32, outside_uid: u32, outside_gid: u32) -> Self {
        let ids = |inside, outside| Ids::new(&[(inside, outside, 1)]);
        Self { uid: ids(uid, outside_uid), gid: ids(gid, outside_gid), deny_setgroups: true }
    }

    /// The ids that the first process of the namespace takes.
    #[must_use]
    pub fn first_ids(&self) -> (u32, u32) {
        (self.uid.first(), self.gid.first())
    }

    /// What a user and a group are outside.
    #[must_use]
    pub fn outside(&self, uid: u32, gid: u32) -> Option<(u32, u32)> {
        Some((self.uid.outside(uid)?, self.gid.outside(gid)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_what_the_kernel_prints_and_takes() {
        let ids = Ids::parse("         0       1000          1\n         1     100000      65536\n").unwrap();
        assert_eq!(ids.text(), "0 1000 1\n1 100000 65536");
        assert_eq!(Ids::parse(&ids.text()), Some(ids.clone()));
        assert_eq!([ids.outside(0), ids.outside(7), ids.outside(65_536)], [Some(1000), Some(100_006), Some(165_535)]);
        assert_eq!((ids.outside(65_537), ids.has(u32::MAX), ids.first()), (None, false, 0));
        for bad in ["", "\n", "0 1", "0 1 0", "a b c", "0 0 1 1", "0 0 4294967296"] {
            assert_eq!(Ids::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn the_first_of_a_map_without_root_is_its_lowest() {
        let ids = Ids::parse("1000 1000 1\n5 5 1").unwrap();
        assert_eq!((ids.first(), ids.has(0)), (5, false));
        assert_eq!(IdMap::single(7, 8, 0, 0).first_ids(), (7, 8));
        // An overflow is no id.
        assert_eq!(Ids::parse("0 4294967295 2").unwrap().outside(1), None);
    }
}
