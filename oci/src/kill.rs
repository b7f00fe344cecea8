//! `kill`: a signal for the first process of a container, or for all of them.

use std::os::fd::OwnedFd;

use orangery_runtime::native::signal;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::args::Kill;
use crate::container::{Container, is_first, reason};
use crate::failure::Failure;
use crate::place::Place;

/// SIGKILL.
const KILL: i32 = 9;

/// `kill`, whole.
///
/// # Errors
/// It does not run; that is no signal.
pub(crate) fn kill(place: &Place, what: &Kill) -> Result<(), Failure> {
    let number = parse(&what.signal)?;
    let container = Container::find(place, &what.id)?;
    // Whose processes are in its cgroup nobody has written down: they may be another's who wants the same one.
    if container.record.progress.init.is_none() {
        return Err(Failure::new("container not running"));
    }
    // All of none is no error, as with runc: callers say so after the end, for what may be left.
    if what.all && (number == 0 || all(&container, number)? || container.init.is_none()) {
        return Ok(());
    }
    let takes_all_along = container.init.as_ref().map(|(pid, _)| is_first(*pid));
    // Without a pid namespace of its own nothing ends with its first process, which may have ended before the others.
    let is_alone = match takes_all_along {
        Some(first) => !first,
        None => number == KILL && !processes(&container)?.is_empty(),
    };
    if number == KILL && is_alone && all(&container, number)? {
        return Ok(());
    }
    let (_, pidfd) = container.alive()?;
    if number == 0 {
        // It is there.
        return Ok(());
    }
    signal(pidfd, number)?;
    let takes_all_along = number == KILL && takes_all_along == Some(true);
    let Some(group) = container.group()?.filter(|_| number == KILL) else { return Ok(()) };
    if takes_all_along {
        // Who waits for a device at its limit feels the signal when its turn has come, which may be hours away.
        group.lift_io();
    }
    if group.is_frozen() {
        // On v1 it feels the signal when it goes on.
        group.thaw().map_err(|error| Failure::system("cannot thaw the container", reason(&error)))?;
    }
    Ok(())
}

fn processes(container: &Container) -> Result<Vec<i32>, Failure> {
    let failed = |error| Failure::system("cannot look at the processes of the cgroup", reason(&error));
    let group = container.group()?.filter(|group| !group.paths().is_empty());
    group.map_or(Ok(Vec::new()), |group| group.processes()).map_err(failed)
}

/// To each process that is in its cgroup, or in its pid namespace; `false`: it has neither.
fn all(container: &Container, number: i32) -> Result<bool, Failure> {
    let Some(group) = container.group()?.filter(|group| !group.paths().is_empty()) else {
        // All of them end with the first one.
        let members = if number == KILL { None } else { container.members()? };
        let Some(members) = members else { return Ok(false) };
        members.iter().try_for_each(|(_, pidfd)| unless_gone(pidfd, number))?;
        return Ok(true);
    };
    let failed = |error| Failure::system("cannot signal the processes of the cgroup", reason(&error));
    if number == KILL {
        return group.kill().map(|()| true).map_err(failed);
    }
    for pid in group.processes().map_err(failed)? {
        let pidfd = Pid::from_raw(pid).map(|pid| pidfd_open(pid, PidfdFlags::empty()));
        // Still in there once its pidfd is open: the number is not somebody else's.
        let Some(Ok(pidfd)) = pidfd else { continue };
        if group.processes().map_err(failed)?.contains(&pid) {
            unless_gone(&pidfd, number)?;
        }
    }
    Ok(true)
}

/// 0 asks, and nobody is told.
fn unless_gone(pidfd: &OwnedFd, number: i32) -> Result<(), Failure> {
    match if number == 0 { Ok(()) } else { signal(pidfd, number) } {
        Err(error) if error.kind() == orangery_runtime::ErrorKind::State => Ok(()),
        sent => Ok(sent?),
    }
}

/// A name with or without SIG, or a number.
fn parse(text: &str) -> Result<i32, Failure> {
    let unknown = || Failure::new(format!("unknown signal {text:?}"));
    if let Ok(number) = text.parse::<i32>() {
        return if matches!(number, 0..=31 | 34..=64) { Ok(number) } else { Err(unknown()) };
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(number) = real_time(name) {
        return Ok(number);
    }
    match name {
        "CLD" => return Ok(17),
        "POLL" => return Ok(29),
        "IOT" => return Ok(6),
        _ => {}
    }
    format!("SIG{name}").parse::<nix::sys::signal::Signal>().map(|signal| signal as i32).map_err(|_| unknown())
}

/// RTMIN, RTMIN+N, RTMAX, RTMAX-N.
fn real_time(name: &str) -> Option<i32> {
    let offset = |rest: &str, sign: char| match rest.strip_prefix(sign) {
        Some(number) => number.parse::<i32>().ok(),
        None if rest.is_empty() => Some(0),
        None => None,
    };
    let number = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(rest), _) => 34 + offset(rest, '+')?,
        (_, Some(rest)) => 64 - offset(rest, '-')?,
        _ => return None,
    };
    (34..=64).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn signals_have_names_and_numbers() {
        for (text, number) in
            [("KILL", 9), ("SIGTERM", 15), ("term", 15), ("9", 9), ("0", 0), ("RTMIN+1", 35), ("SIGRTMAX-2", 62)]
        {
            assert_eq!(parse(text).unwrap(), number, "{text}");
        }
        for text in ["32", "65", "SIGNOPE", "", "RTMIN+99", "-1"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
