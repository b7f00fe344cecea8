//! landlock(7), from ABI 1 on: three system calls whose numbers are the same on every architecture.

use crate::steps;
use crate::sys::{Res, call};

const CREATE_RULESET: usize = 444;
const ADD_RULE: usize = 445;
const RESTRICT_SELF: usize = 446;

/// In the child. An older kernel takes the longer struct as long as what it does not know is zero.
pub(crate) fn ruleset(fs: u64, net: u64, scoped: u64) -> Res<usize> {
    let attr = [fs, net, scoped];
    call(CREATE_RULESET, [attr.as_ptr() as usize, size_of_val(&attr), 0, 0, 0, 0])
}

/// In the child: what is allowed at and below an open path; of what is no directory only `of_file` can be said.
pub(crate) fn path(ruleset: i32, place: i32, access: u64, of_file: u64) -> Res<()> {
    let directory = steps::stat(place)?.0 & 0o170_000 == 0o040_000;
    let access = if directory { access } else { of_file };
    if access == 0 {
        return Ok(());
    }
    // struct landlock_path_beneath_attr is packed: access (8), descriptor (4). LANDLOCK_RULE_PATH_BENEATH is 1.
    let attr = [access, place as u32 as u64];
    call(ADD_RULE, [ruleset as usize, 1, attr.as_ptr() as usize, 0, 0, 0]).map(drop)
}

/// In the child. LANDLOCK_RULE_NET_PORT is 2.
pub(crate) fn port(ruleset: i32, access: u64, port: u64) -> Res<()> {
    let attr = [access, port];
    call(ADD_RULE, [ruleset as usize, 2, attr.as_ptr() as usize, 0, 0, 0]).map(drop)
}

/// In the child: from here on.
pub(crate) fn restrict(ruleset: i32) -> Res<()> {
    call(RESTRICT_SELF, [ruleset as usize, 0, 0, 0, 0, 0]).map(drop)
}
