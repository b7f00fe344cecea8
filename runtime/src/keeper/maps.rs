//! The id maps of an unprivileged keeper's user namespace. Written by us, from outside, as the kernel wants it; with
//! ranges in /etc/subuid and /etc/subgid through newuidmap and newgidmap, once for the whole supervisor.

use std::fs;
use std::process::{Child, Command, Stdio};

use crate::error::{Error, ErrorKind};
use crate::ids::subordinate::user::{Extent, Given};
use crate::plan::idmap::{IdMap, Ids};

/// What [`write()`] has made of a keeper's user namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// Id 0 is ourselves, and behind it come our subordinate ids, if there are any.
    Whole,
    /// One map was written with the ranges, the other could not be: a map is written once, so that this namespace is of
    /// no use and a new one is needed, without them.
    Half,
}

/// Write the maps of `pid`, with our subordinate ids where there are any and they are wanted. Those that cannot be used are
/// no error: containers that need one id only still run.
///
/// # Errors
/// The file and the kernel's reason.
pub fn write(pid: u32, with_ranges: bool) -> Result<Written, Error> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let given = if with_ranges && HELPERS.into_iter().all(is_installed) { Given::of(uid, gid) } else { Ok(None) };
    if let Some(given) = given.transpose()
        && let Some(written) = after(given.and_then(|given| helpers(pid, uid, gid, &given)), || is_mapped(pid))
    {
        return Ok(written);
    }
    let put = |file: &str, text: String| {
        fs::write(format!("/proc/{pid}/{file}"), text)
            .map_err(|error| Error::system(format!("cannot write {file} of the keeper"), error))
    };
    put("setgroups", "deny".into())?;
    put("uid_map", format!("0 {uid} 1"))?;
    put("gid_map", format!("0 {gid} 1"))?;
    Ok(Written::Whole)
}

/// What the helpers' word means; `None`: nothing was written, and a single id still can be.
fn after(helped: Result<(), Error>, is_mapped: impl Fn() -> bool) -> Option<Written> {
    match helped {
        Ok(()) => Some(Written::Whole),
        Err(error) => {
            tracing::warn!(%error, "the ranges of user ids cannot be used; going on with a single id");
            is_mapped().then_some(Written::Half)
        }
    }
}

/// All ids of a user namespace that `pid` lives in, each called as it is there; `None` where there is one user alone, or none.
pub fn ids_of(pid: u32) -> Option<IdMap> {
    let ids = |file: &str| Ids::parse(&fs::read_to_string(format!("/proc/{pid}/{file}")).ok()?);
    let (uid, gid) = (ids("uid_map")?, ids("gid_map")?);
    (!uid.is_single()).then(|| IdMap::same(&uid, &gid))
}

/// One of the maps of `pid` has been written.
fn is_mapped(pid: u32) -> bool {
    let any = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).is_ok_and(|text| !text.trim().is_empty());
    any("uid_map") || any("gid_map")
}

/// The distribution's programs, for users and for groups.
const HELPERS: [&str; 2] = ["newuidmap", "newgidmap"];

/// A program is in one of the directories of PATH.
#[must_use]
pub fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// newuidmap and newgidmap are set-user-id programs of the distribution; nothing set-user-id is ours. They are at work at the
/// same time, and both are waited for whatever the other says.
#[expect(clippy::disallowed_methods, reason = "the one module that runs the distribution's mapping helpers")]
fn helpers(pid: u32, uid: u32, gid: u32, given: &Given) -> Result<(), Error> {
    let begun = [(HELPERS[0], uid, &given.uids), (HELPERS[1], gid, &given.gids)].map(|(program, own, extents)| {
        let mut line = vec![pid, 0, own, 1];
        let mut inside = 1;
        for Extent { start, count } in extents {
            line.extend([inside, *start, *count]);
            inside += count;
        }
        let mut command = Command::new(program);
        command.args(line.iter().map(u32::to_string)).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        (program, command.spawn())
    });
    let ended = begun.map(|(program, child)| {
        let output = child
            .and_then(Child::wait_with_output)
            .map_err(|error| Error::system(format!("cannot run {program}"), error))?;
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(Error::new(ErrorKind::Permission, format!("{program} failed: {why}")));
        }
        Ok(())
    });
    ended.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_that_is_written_already_is_not_written_again() {
        let failed = || Err(Error::new(ErrorKind::Permission, "newgidmap failed"));
        assert_eq!(after(Ok(()), || true), Some(Written::Whole));
        assert_eq!(after(failed(), || true), Some(Written::Half));
        assert_eq!(after(failed(), || false), None);
        // Every process has maps but one in a namespace that is new.
        assert!(is_mapped(std::process::id()));
        assert!(!is_mapped(0));
        assert!(is_installed("sh") && !is_installed("no-such-program"));
    }
}
