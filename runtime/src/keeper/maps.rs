//! The id maps of an unprivileged keeper's user namespace. Written by us, from outside, as the kernel wants it; with
//! a range in /etc/subuid and /etc/subgid through newuidmap and newgidmap, once for the whole supervisor.

use std::fs;
use std::process::Command;

use crate::error::{Error, ErrorKind};

/// Ids beside 0 that the keeper's namespace maps: inside 1..=count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// How many.
    pub count: u32,
}

/// What [`write()`] has made of a keeper's user namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// Id 0 is ourselves, ids from 1 are our subordinate ones.
    Range(Range),
    /// Id 0 is ourselves.
    Single,
    /// One map was written with the range, the other could not be: a map is written once, so that this namespace is of
    /// no use and a new one is needed, without the range.
    Half,
}

/// Write the maps of `pid`, with our subordinate ids where there are any and they are wanted.
///
/// # Errors
/// The file and the kernel's reason.
pub fn write(pid: u32, with_range: bool) -> Result<Written, Error> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let range = if with_range && HELPERS.into_iter().all(found) { subordinate(uid) } else { None };
    if let Some(range) = range
        && let Some(written) = after(helpers(pid, uid, gid, range), range.count, || is_mapped(pid))
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
    Ok(Written::Single)
}

/// What the helpers' word means; `None`: nothing was written, and a single id still can be.
fn after(helped: Result<(), Error>, count: u32, is_mapped: impl Fn() -> bool) -> Option<Written> {
    match helped {
        Ok(()) => Some(Written::Range(Range { count })),
        Err(error) => {
            tracing::warn!(%error, "the range of user ids cannot be used; going on with a single id");
            is_mapped().then_some(Written::Half)
        }
    }
}

/// One of the maps of `pid` has been written.
fn is_mapped(pid: u32) -> bool {
    let any = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).is_ok_and(|text| !text.trim().is_empty());
    any("uid_map") || any("gid_map")
}

/// The distribution's programs, for users and for groups.
const HELPERS: [&str; 2] = ["newuidmap", "newgidmap"];

fn found(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// First ranges of a user in both files, as long as the shorter one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Subordinate {
    uid: u32,
    gid: u32,
    count: u32,
}

fn subordinate(uid: u32) -> Option<Subordinate> {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = name_of(&passwd, uid);
    let first = |file: &str| range_of(&fs::read_to_string(file).unwrap_or_default(), name, uid);
    let (uids, gids) = (first("/etc/subuid")?, first("/etc/subgid")?);
    let count = uids.1.min(gids.1).min(65_535);
    (count > 0).then_some(Subordinate { uid: uids.0, gid: gids.0, count })
}

fn name_of(passwd: &str, uid: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut parts = line.split(':');
        let (name, _, id) = (parts.next()?, parts.next()?, parts.next()?);
        (id.parse() == Ok(uid)).then_some(name)
    })
}

/// The first well-formed range of a user, by name or number.
fn range_of(text: &str, name: Option<&str>, uid: u32) -> Option<(u32, u32)> {
    text.lines().find_map(|line| {
        let mut parts = line.trim().split(':');
        let (owner, start, count) =
            (parts.next()?, parts.next()?.parse::<u32>().ok()?, parts.next()?.parse::<u32>().ok()?);
        let ours = Some(owner) == name || owner.parse() == Ok(uid);
        (ours && start.checked_add(count).is_some()).then_some((start, count))
    })
}

/// newuidmap and newgidmap are set-user-id programs of the distribution; nothing set-user-id is ours.
#[expect(clippy::disallowed_methods, reason = "the one module that runs the distribution's mapping helpers")]
fn helpers(pid: u32, uid: u32, gid: u32, range: Subordinate) -> Result<(), Error> {
    for (program, own, first) in [(HELPERS[0], uid, range.uid), (HELPERS[1], gid, range.gid)] {
        let output = Command::new(program)
            .arg(pid.to_string())
            .args(["0", &own.to_string(), "1", "1", &first.to_string(), &range.count.to_string()])
            .output()
            .map_err(|error| Error::system(format!("cannot run {program}"), error))?;
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(Error::new(ErrorKind::Permission, format!("{program} failed: {why}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_found_by_name_and_by_number_and_bad_lines_are_skipped() {
        let text = "bad\nalice:x:5\nbob:100000:65536\n1001:200000:10\nbob:1:1\n";
        assert_eq!(range_of(text, Some("bob"), 1000), Some((100_000, 65_536)));
        assert_eq!(range_of(text, None, 1001), Some((200_000, 10)));
        assert_eq!(range_of(text, Some("carol"), 7), None);
        assert_eq!(range_of("eve:4294967295:2\n", Some("eve"), 7), None);
        assert_eq!(name_of("root:x:0:0::/:/bin/sh\nbob:x:1000:1000::/:/bin/sh\n", 1000), Some("bob"));
    }

    #[test]
    fn a_map_that_is_written_already_is_not_written_again() {
        let failed = || Err(Error::new(ErrorKind::Permission, "newgidmap failed"));
        assert_eq!(after(Ok(()), 7, || true), Some(Written::Range(Range { count: 7 })));
        assert_eq!(after(failed(), 7, || true), Some(Written::Half));
        assert_eq!(after(failed(), 7, || false), None);
        // Every process has maps but one in a namespace that is new.
        assert!(is_mapped(std::process::id()));
        assert!(!is_mapped(0));
        assert!(found("sh") && !found("no-such-program"));
    }
}
