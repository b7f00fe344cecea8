//! The steps of a further restriction: the rules are made of what is open inside, and hold from the last of them on.

use super::encode::{Builder, Slot};
use super::rootfs::{IN_ROOT, O_PATH, PATH_DIR};
use super::wire::{OPTIONAL, Op};
use crate::spec::check::CheckedProcess;
use crate::spec::landlock::OF_FILES;

/// In the container, as the process's user, after it can gain no privileges any more. What is opened here is closed before
/// numbers are given out.
pub(super) fn steps(b: &mut Builder, process: &CheckedProcess) {
    let Some(rules) = process.landlock() else { return };
    b.field("landlock");
    let ruleset = b.landlock_ruleset(rules.fs, rules.net, rules.scoped);
    if !rules.paths.is_empty() {
        let root = b.open(Slot::CWD, "/", PATH_DIR, 0);
        for (rule, access) in &rules.paths {
            let relative = rule.path.strip_prefix("/").unwrap_or(&rule.path);
            let place = match relative.as_os_str().is_empty() {
                true => b.open(Slot::CWD, "/", PATH_DIR, 0),
                false => b.open(root, relative, O_PATH, IN_ROOT),
            };
            if rule.optional {
                b.tolerate(OPTIONAL);
            }
            b.landlock_path(ruleset, place, *access, access & OF_FILES);
            if rule.optional {
                b.only_if(place);
            }
            b.close(place);
        }
        b.close(root);
    }
    for (access, port) in &rules.ports {
        b.landlock_port(ruleset, *access, *port);
    }
    b.on(Op::LandlockRestrict, ruleset, 0);
    b.close(ruleset);
}
