//! Settings of controllers that have no field of their own among the limits: a file and what is written to it, for each version.

use super::detect::Controller;
use super::dir::Dir;
use super::error::{CgroupError, unsupported};
use super::setting::Setting;
use serde::{Deserialize, Serialize};

/// Longest value: what a file takes at once.
const LONGEST: usize = 4095;
/// Files of the control groups themselves that may be written to; with the others their keeper would lose them.
const CORE: [&str; 3] = ["cgroup.max.depth", "cgroup.max.descendants", "cgroup.pressure"];

/// What one file of a container's group says.
///
/// ```
/// use orangery_runtime::cgroup::{Limits, Other};
/// let low = Other::new("memory.low", "memory").v1("memory.soft_limit_in_bytes", "1048576").v2("memory.low", "1048576");
/// assert!(Limits { other: vec![low], ..Limits::default() }.validate().is_empty());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Other {
    /// What it is called in refusals.
    pub name: String,
    /// The controller that has the file: `memory`, `cpu`, `hugetlb`, ...; `cgroup` of the group itself.
    pub controller: String,
    /// File and value of version 1; unset: it cannot be had there.
    pub v1: Option<(String, String)>,
    /// The same of version 2.
    pub v2: Option<(String, String)>,
    /// Left out where the kernel has no such file: beside another one of the same name, which is what is asked for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
}

impl Other {
    /// A setting that cannot be had anywhere yet.
    pub fn new(name: impl Into<String>, controller: impl Into<String>) -> Self {
        Self { name: name.into(), controller: controller.into(), v1: None, v2: None, optional: false }
    }

    /// With this file of version 1.
    #[must_use]
    pub fn v1(self, file: impl Into<String>, value: impl Into<String>) -> Self {
        Self { v1: Some((file.into(), value.into())), ..self }
    }

    /// With this file of version 2.
    #[must_use]
    pub fn v2(self, file: impl Into<String>, value: impl Into<String>) -> Self {
        Self { v2: Some((file.into(), value.into())), ..self }
    }

    /// Left out where the kernel has no such file.
    #[must_use]
    pub fn optional(self) -> Self {
        Self { optional: true, ..self }
    }

    /// All of `old` that `new` has no other word about, and `new`.
    #[must_use]
    pub fn merged(mut old: Vec<Self>, new: Vec<Self>) -> Vec<Self> {
        old.retain(|before| new.iter().all(|after| after.name != before.name));
        old.extend(new);
        old
    }

    /// Of our controllers. One that we do not know is no other than one that is not there.
    pub(super) fn home(&self) -> Controller {
        Controller::named(&self.controller).unwrap_or(Controller::Unknown)
    }

    /// What no kernel takes, or takes and should not.
    fn wrong(&self) -> Option<String> {
        self.v1.iter().chain(&self.v2).find_map(|(file, value)| {
            let name = !file.is_empty() && file.len() <= 255 && !file.starts_with('.') && !file.contains(['/', '\0']);
            if !name {
                Some(format!("{file:?} is no name of a file"))
            } else if file.starts_with("cgroup.") && !CORE.contains(&file.as_str()) || file == "tasks" {
                Some(format!("{file} is not a setting: it is what a container is kept by"))
            } else if value.is_empty() || value.len() > LONGEST || value.contains('\0') {
                Some(format!("what is written to {file} is 1 to {LONGEST} bytes without NUL"))
            } else {
                None
            }
        })
    }

    /// Why it cannot be had of this version.
    pub(super) fn lacks(&self, legacy: bool) -> Option<String> {
        let (file, version) = if legacy { (&self.v1, 1) } else { (&self.v2, 2) };
        file.is_none().then(|| {
            format!("cgroup version {version}, which has the controller {} here, has no such setting", self.controller)
        })
    }

    /// A write for each line: files of many take one at once.
    pub(super) fn settings(&self, dir: &Dir, legacy: bool) -> Result<Vec<Setting>, CgroupError> {
        let refused = |why: String| unsupported("set limits", dir.path(), why).with_field(self.name.clone());
        let found = if legacy { &self.v1 } else { &self.v2 };
        let Some((file, value)) = found else {
            return Err(refused(self.lacks(legacy).unwrap_or_default()));
        };
        if !dir.has(file) && self.optional {
            return Ok(Vec::new());
        }
        if !dir.has(file) {
            return Err(refused(format!("this kernel has no {file}")));
        }
        let one = |line: &str| Setting::named(self.home(), file.clone(), line.to_owned(), self.name.clone());
        Ok(value.lines().filter(|line| !line.is_empty()).map(one).collect())
    }
}

/// Every one that is wrong, by name.
pub(super) fn validate(others: &[Other]) -> Vec<(&'static str, String)> {
    others.iter().filter_map(|other| Some(("other", format!("{}: {}", other.name, other.wrong()?)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_keeps_a_container_is_no_setting() {
        let wrong = |file: &str, value: &str| Other::new("x", "cgroup").v2(file, value).wrong().is_some();
        for file in ["cgroup.procs", "cgroup.kill", "cgroup.freeze", "tasks", "../memory.max", "a/b", "", ".", "a\0"] {
            assert!(wrong(file, "1"), "{file:?}");
        }
        assert!(!wrong("cgroup.max.depth", "1") && !wrong("memory.oom.group", "1"));
        assert!(wrong("memory.max", "") && wrong("memory.max", &"1".repeat(5000)));
    }

    #[test]
    fn a_version_without_it_says_so() {
        let idle = Other::new("x", "memory").v1("memory.swappiness", "5");
        assert!(idle.lacks(true).is_none() && idle.lacks(false).is_some_and(|why| why.contains("version 2")));
        assert_eq!((idle.home(), Other::new("x", "weather").home()), (Controller::Memory, Controller::Unknown));
    }
}
