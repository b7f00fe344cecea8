//! Ids that somebody has chosen for a container, by what they are for us, as whoever makes its user namespace calls them: the
//! keeper of an ordinary user lives in a user namespace of its own.

use std::fs;

use crate::error::{Error, ErrorKind};
use crate::plan::idmap::{IdMap, Ids};
use crate::spec::{IdRange, IdRanges};

/// The maps that the keeper is to write. `keeper`: its pid and all its ids, where it has more than one, if it has a user
/// namespace of its own.
///
/// # Errors
/// It has none of these ids; the error names the list.
pub(crate) fn of(maps: &IdRanges, keeper: Option<(u32, Option<&IdMap>)>) -> Result<IdMap, Error> {
    let deny_setgroups = match keeper {
        Some((_, ids)) => ids.is_none_or(|ids| ids.deny_setgroups),
        // Root of a user namespace with one id, as an ordinary user's keeper or another engine has made it.
        None => fs::read_to_string("/proc/self/setgroups").is_ok_and(|said| said.trim() == "deny"),
    };
    let one = |what: &str, list: &[IdRange]| match keeper {
        None => Ok(Ids::of(list)),
        Some((pid, _)) => {
            let own = fs::read_to_string(format!("/proc/{pid}/{what}_map")).ok().and_then(|text| Ids::parse(&text));
            let own = own.ok_or_else(|| Error::new(ErrorKind::Keeper, "the keeper has no ids"))?;
            translated(&own, list).map_err(|error| error.with_field(format!("id_maps.{what}")))
        }
    };
    Ok(IdMap { uid: one("uid", &maps.uid)?, gid: one("gid", &maps.gid)?, deny_setgroups })
}

fn translated(own: &Ids, list: &[IdRange]) -> Result<Ids, Error> {
    let mut all = Vec::new();
    for range in list {
        let mut left = *range;
        while left.count > 0 {
            let Some((outside, most)) = own.inside(left.outside) else {
                let why = format!("{} is none of the ids that this user may give out", left.outside);
                return Err(Error::new(ErrorKind::Permission, why)
                    .with_hint("`orangery doctor` says what /etc/subuid and /etc/subgid give"));
            };
            let count = left.count.min(most);
            all.push(IdRange { inside: left.inside, outside, count });
            left = IdRange {
                inside: left.inside.saturating_add(count),
                outside: left.outside.saturating_add(count),
                count: left.count - count,
            };
        }
    }
    Ok(Ids::of(&all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_called_as_the_keeper_calls_them() {
        let own = Ids::parse("0 1000 1\n1 700000 65536").unwrap();
        let range = |inside, outside, count| IdRange { inside, outside, count };
        let text = |list: &[IdRange]| translated(&own, list).map(|ids| ids.text());
        assert_eq!(text(&[range(0, 1000, 1), range(1, 700_000, 10)]).unwrap(), "0 0 1\n1 1 10");
        assert_eq!(text(&[range(5, 700_010, 2)]).unwrap(), "5 11 2");
        for refused in [range(0, 0, 1), range(0, 1000, 2), range(0, 700_000, 65_537)] {
            assert_eq!(text(&[refused]).unwrap_err().kind(), ErrorKind::Permission, "{refused:?}");
        }
    }
}
