//! `linux.cgroupsPath` as `slice:prefix:name`, by runc's rules.

use std::ffi::OsStr;
use std::path::Path;

use crate::failure::Failure;

/// Longest name of a slice.
const LONGEST: usize = 255;
/// Longest name of a container's cgroup, which its unit is called after.
const LONGEST_GROUP: usize = 127;

/// What a unit is called, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) slice: String,
    pub(crate) unit: String,
}

impl Name {
    /// Of a container. Without a path its scope is called after it.
    ///
    /// # Errors
    /// It is none of three parts, or one of them is not what it is to be.
    pub(crate) fn of(path: Option<&Path>, id: &str, user: bool) -> Result<Name, Failure> {
        let Some(path) = path.filter(|path| !path.as_os_str().is_empty()) else {
            return Self::put("", "orangery", id, user).map_err(|why| Failure::new(format!("container {id}: {why}")));
        };
        let refused = |why: String| Failure::new(format!("linux.cgroupsPath: {path:?}: {why}"));
        let text = path.to_str().ok_or_else(|| refused("it is no UTF-8".into()))?;
        let parts: Vec<&str> = text.split(':').collect();
        let [slice, prefix, name] = parts.as_slice() else {
            return Err(refused("with systemd it is slice:prefix:name".into()));
        };
        Self::put(slice, prefix, if name.is_empty() { id } else { name }, user).map_err(refused)
    }

    fn put(slice: &str, prefix: &str, name: &str, user: bool) -> Result<Name, String> {
        let slice = match (slice, user) {
            ("", true) => "user.slice",
            ("", false) => "system.slice",
            (slice, _) => slice,
        };
        if !is_slice(slice) {
            return Err(format!("{slice:?} is no slice, such as machine.slice or a-b.slice"));
        }
        let unit = match prefix {
            // A slice has no processes of its own to begin with, and nothing of it is ours to divide.
            _ if name.ends_with(".slice") => {
                return Err(format!("{name:?} is a slice, and a container is in a scope"));
            }
            "" => format!("{name}.scope"),
            prefix => format!("{prefix}-{name}.scope"),
        };
        let longest = if unit.starts_with(['_', '.']) { LONGEST_GROUP - 1 } else { LONGEST_GROUP };
        if unit.len() > longest || !unit.chars().all(is_of_a_unit) {
            return Err(format!("{unit:?} is no name of a unit: 1 to {longest} of A-Z a-z 0-9 _ . \\ @ -"));
        }
        Ok(Name { slice: slice.to_owned(), unit })
    }
}

/// The cgroup of this name is that of this unit. Systemd puts a `_` before what begins with one or with a dot, and before what may be a file
/// of the kernel's, as `pids.scope`.
pub(super) fn is_group_of(unit: &str, group: &OsStr) -> bool {
    group.to_str().is_some_and(|group| group == unit || group.strip_prefix('_') == Some(unit))
}

fn is_of_a_unit(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '\\' | '@' | '-')
}

/// `-.slice` is the top of all; in any other each dash has a slice before it.
fn is_slice(text: &str) -> bool {
    let Some(name) = text.strip_suffix(".slice") else { return false };
    text.len() <= LONGEST
        && text.chars().all(is_of_a_unit)
        && (name == "-" || name.split('-').all(|part| !part.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_that_are_empty_are_the_usual_ones() {
        for (path, user, slice, unit) in [
            (None, false, "system.slice", "orangery-box.scope"),
            (Some(""), true, "user.slice", "orangery-box.scope"),
            (Some("machine.slice:libpod:abc"), false, "machine.slice", "libpod-abc.scope"),
            (Some("a-b.slice:cri-containerd:abc"), false, "a-b.slice", "cri-containerd-abc.scope"),
            (Some(":docker:abc"), false, "system.slice", "docker-abc.scope"),
            (Some(":docker:abc"), true, "user.slice", "docker-abc.scope"),
            (Some("-.slice::abc"), false, "-.slice", "abc.scope"),
            (Some("::"), false, "system.slice", "box.scope"),
        ] {
            let name = Name::of(path.map(Path::new), "box", user).unwrap();
            assert_eq!((name.slice.as_str(), name.unit.as_str()), (slice, unit), "{path:?}");
        }
    }

    #[test]
    fn a_name_is_no_longer_than_its_cgroup_may_be() {
        let of = |name: &str| Name::of(Some(Path::new(&format!("::{name}"))), "box", false);
        assert_eq!(of(&"x".repeat(121)).unwrap().unit.len(), 127);
        assert!(of(&"x".repeat(122)).is_err());
        assert_eq!(of(&format!("_{}", "x".repeat(119))).unwrap().unit.len(), 126);
        assert!(of(&format!("_{}", "x".repeat(120))).is_err(), "systemd gives it one more");
        assert!(
            is_group_of("pids.scope", OsStr::new("_pids.scope")) && is_group_of("_x.scope", OsStr::new("__x.scope"))
        );
        assert!(is_group_of("x.scope", OsStr::new("x.scope")) && !is_group_of("_x.scope", OsStr::new("x.scope")));
    }

    #[test]
    fn what_is_no_such_path_is_refused_by_its_field() {
        let long = format!("::{}", "x".repeat(300));
        for path in
            ["/a/b", "a", "a.slice:b", "a.slice:b:c:d", "a:b:c", "/a.slice:b:c", "-a.slice:b:c", "a--b.slice:b:c"]
                .into_iter()
                .chain([".slice:b:c", "a.slice:b/c:d", "::../x", ":b:x y", "a.slice:b:c.slice", &long])
        {
            let told = Name::of(Some(Path::new(path)), "box", false).unwrap_err().to_string();
            assert!(told.starts_with("linux.cgroupsPath: "), "{told}");
        }
    }
}
