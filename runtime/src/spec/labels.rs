//! What security modules are to know of a process: written for its next exec, to a file of the kernel's that is there where the
//! module is.

use std::path::Path;

use super::ProcessSpec;
use super::check::Refusals;
use crate::error::{Error, ErrorKind};

/// A file of /proc, and what is written there.
pub(crate) type Label = (&'static str, String);

/// Modules that the kernel runs.
#[derive(Clone, Copy, Debug, Default)]
struct Modules {
    apparmor: bool,
    /// AppArmor has files of its own, beside another module's (5.8).
    apart: bool,
    selinux: bool,
}

impl Modules {
    fn of_machine() -> Self {
        let enabled = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled");
        Self {
            apparmor: enabled.is_ok_and(|text| text.starts_with('Y')),
            apart: Path::new("/proc/self/attr/apparmor/exec").exists(),
            selinux: selinux(),
        }
    }
}

/// SELinux is in force: its own file system is mounted.
pub(crate) fn selinux() -> bool {
    Path::new("/sys/fs/selinux/enforce").exists()
}

/// The labels of a process, or the refusals.
pub(super) fn check(no: &mut Refusals, spec: &ProcessSpec) -> Vec<Label> {
    of(no, spec, Modules::of_machine())
}

fn of(no: &mut Refusals, spec: &ProcessSpec, machine: Modules) -> Vec<Label> {
    let mut labels = Vec::new();
    let mut missing = |field: &str, module: &str| {
        let why = format!("{module} is not enabled on this machine");
        no.push(Error::new(ErrorKind::Unsupported, why).with_field(field));
    };
    if let Some(profile) = &spec.apparmor_profile {
        let file = if machine.apart { "/proc/self/attr/apparmor/exec" } else { "/proc/self/attr/exec" };
        labels.push((file, format!("exec {profile}")));
        if !machine.apparmor {
            missing("apparmor_profile", "AppArmor");
        }
    }
    if let Some(label) = &spec.selinux_label {
        labels.push(("/proc/self/attr/exec", label.clone()));
        if !machine.selinux {
            missing("selinux_label", "SELinux");
        }
    }
    for (field, text) in [("apparmor_profile", &spec.apparmor_profile), ("selinux_label", &spec.selinux_label)] {
        if text.as_ref().is_some_and(|text| text.is_empty() || text.len() > 4000 || text.contains(['\0', '\n'])) {
            no.add(field, "a label is one line of 1 to 4000 bytes");
        }
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_goes_where_its_module_reads_it() {
        let spec = ProcessSpec {
            apparmor_profile: Some("a".into()),
            selinux_label: Some("u:r:t:s0".into()),
            ..ProcessSpec::default()
        };
        let of = |machine: Modules| {
            let mut no = Refusals::default();
            let labels = of(&mut no, &spec, machine);
            (labels, no.fields().into_iter().map(str::to_owned).collect::<Vec<_>>())
        };
        let all = Modules { apparmor: true, apart: true, selinux: true };
        let second = ("/proc/self/attr/exec", "u:r:t:s0".to_owned());
        assert_eq!(of(all), (vec![("/proc/self/attr/apparmor/exec", "exec a".into()), second.clone()], vec![]));
        let old = Modules { apart: false, ..all };
        assert_eq!(of(old).0, [("/proc/self/attr/exec", "exec a".into()), second]);
        assert_eq!(of(Modules::default()).1, ["apparmor_profile", "selinux_label"]);
    }
}
