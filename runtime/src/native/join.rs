//! Joining namespaces that exist, on our side: which descriptors go along, and what a refusal of the kernel means.

use super::supply::Supply;
use crate::error::{Error, ErrorKind};
use crate::plan::wire::{NEWPID, NEWUSER, Stage};
use crate::spec::check::CheckedSpec;
use crate::spec::namespaces::{Joined, ended, no_rights};

/// Device and inode of the user namespace that the keeper lives in, where we may look.
pub(super) fn keepers_own(pid: u32) -> Option<(u64, u64)> {
    let stat = rustix::fs::stat(format!("/proc/{pid}/ns/user")).ok()?;
    Some((stat.st_dev, stat.st_ino))
}

/// Duplicates of what is joined, for the keeper: it closes them when the request is done.
///
/// # Errors
/// No descriptor is left.
pub(super) fn supply(supply: &mut Supply, spec: &CheckedSpec) -> Result<(), Error> {
    for joined in spec.joined() {
        let copy = joined.namespace.try_clone();
        let copy = copy.map_err(|error| Error::system("cannot duplicate a namespace", error))?;
        supply.namespaces.push((joined.place, Some(copy)));
    }
    Ok(())
}

/// The keeper's refusal, with the field that it comes from where a namespace was to be joined.
pub(super) fn explained(error: Error, spec: &CheckedSpec) -> Error {
    let stage = |stage: Stage| error.stage() == Some(stage.name());
    if let Some(joined) =
        spec.joined().iter().find(|joined| Stage::JOIN.get(usize::from(joined.place)).is_some_and(|it| stage(*it)))
    {
        return refused(&error, joined);
    }
    // `alloc_pid` says so whoever asks, and says it for a lack of memory too.
    match spec.joined_of(NEWPID) {
        Some(pid) if stage(Stage::Clone) && error.errno() == Some(libc::ENOMEM) => told(ended(pid), &error),
        _ => error,
    }
}

fn told(made: Error, from: &Error) -> Error {
    let made = made.with_errno(from.errno());
    match from.stage() {
        Some(stage) => made.with_stage(stage),
        None => made,
    }
}

fn refused(error: &Error, joined: &Joined) -> Error {
    let why = match (joined.kind(), error.errno()) {
        (_, Some(libc::EPERM)) => return told(no_rights(joined), error),
        (NEWPID, Some(libc::EINVAL)) => "this pid namespace is neither the supervisor's own nor one below it",
        (NEWUSER, Some(libc::EINVAL)) => "this user namespace is the one that the supervisor's keeper lives in",
        _ => "this namespace cannot be joined",
    };
    told(Error::new(ErrorKind::Invalid, why).with_field(joined.field()), error)
}
