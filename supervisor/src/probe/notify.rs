//! sd_notify's protocol: what a datagram says. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// No message is longer (systemd's limit too).
pub(crate) const MOST: usize = 4096;

/// What a process has said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Ready,
    Reloading,
    Stopping,
    Status(String),
    Errno(i32),
    Alive,
    /// As if it had not said for too long that it is alive.
    Trigger,
    /// From now on it says so at least this often.
    Every(Duration),
    /// It will need so much more time.
    Extend(Duration),
}

/// Why a notification, or a part of it, was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Refusal {
    /// MAINPID: the main process is the one that was started, and its pidfd is in our hands.
    MainPid,
    /// FDSTORE: descriptors are closed unseen; each incarnation is a container of its own.
    FdStore,
    /// It came from no process of the container.
    Stranger,
    /// Longer than 4,096 bytes.
    TooLong,
    /// No list of assignments, or a value that its name does not have.
    Malformed,
}

/// Everything that a datagram says, in its order. Names that mean nothing here are skipped, as the protocol wants.
pub(crate) fn read(message: &[u8]) -> Vec<Result<Said, Refusal>> {
    let Ok(text) = std::str::from_utf8(message) else { return vec![Err(Refusal::Malformed)] };
    if text.contains('\0') {
        return vec![Err(Refusal::Malformed)];
    }
    text.split('\n').filter(|line| !line.is_empty()).filter_map(assignment).collect()
}

fn assignment(line: &str) -> Option<Result<Said, Refusal>> {
    let Some((name, value)) = line.split_once('=') else { return Some(Err(Refusal::Malformed)) };
    let said = match (name, value) {
        ("READY", "1") => Ok(Said::Ready),
        ("RELOADING", "1") => Ok(Said::Reloading),
        ("STOPPING", "1") => Ok(Said::Stopping),
        ("WATCHDOG", "1") => Ok(Said::Alive),
        ("WATCHDOG", "trigger") => Ok(Said::Trigger),
        ("WATCHDOG_USEC", micros) => time(micros).map(Said::Every),
        ("EXTEND_TIMEOUT_USEC", micros) => time(micros).map(Said::Extend),
        ("STATUS", text) => Ok(Said::Status(text.chars().map(printable).collect())),
        ("ERRNO", number) => number.parse().map(Said::Errno).map_err(|_| Refusal::Malformed),
        ("FDSTORE", "1") => Err(Refusal::FdStore),
        ("MAINPID" | "MAINPIDFD" | "MAINPIDFDID", _) => Err(Refusal::MainPid),
        ("READY" | "RELOADING" | "STOPPING" | "WATCHDOG" | "FDSTORE", _) => Err(Refusal::Malformed),
        // BARRIER=1 too: its descriptor is closed when all before it was read, and that is what it asks for.
        _ => return None,
    };
    Some(said)
}

fn time(micros: &str) -> Result<Duration, Refusal> {
    let micros = micros.parse().map_err(|_| Refusal::Malformed)?;
    if micros == 0 { Err(Refusal::Malformed) } else { Ok(Duration::from_micros(micros)) }
}

/// It is printed on terminals.
fn printable(char: char) -> char {
    if char.is_control() { char::REPLACEMENT_CHARACTER } else { char }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_the_protocol_says() {
        type Heard = Vec<Result<Said, Refusal>>;
        let cases: [(&[u8], Heard); 12] = [
            (b"READY=1\nSTATUS=up\n", vec![Ok(Said::Ready), Ok(Said::Status("up".into()))]),
            (b"WATCHDOG=1", vec![Ok(Said::Alive)]),
            (b"WATCHDOG=trigger", vec![Ok(Said::Trigger)]),
            (b"WATCHDOG_USEC=20000000", vec![Ok(Said::Every(Duration::from_secs(20)))]),
            (b"EXTEND_TIMEOUT_USEC=5", vec![Ok(Said::Extend(Duration::from_micros(5)))]),
            (b"RELOADING=1\nMONOTONIC_USEC=12\nSTOPPING=1", vec![Ok(Said::Reloading), Ok(Said::Stopping)]),
            (b"MAINPID=7\nREADY=1", vec![Err(Refusal::MainPid), Ok(Said::Ready)]),
            (b"FDSTORE=1\nFDNAME=a", vec![Err(Refusal::FdStore)]),
            (b"BARRIER=1", vec![]),
            (b"X_OWN=a=b\n\nERRNO=2\nERRNO=x", vec![Ok(Said::Errno(2)), Err(Refusal::Malformed)]),
            (b"STATUS=\x1b[2J=\tgone", vec![Ok(Said::Status("\u{fffd}[2J=\u{fffd}gone".into()))]),
            (b"READY=1\0", vec![Err(Refusal::Malformed)]),
        ];
        for (message, want) in cases {
            assert_eq!(read(message), want, "{}", message.escape_ascii());
        }
        for wrong in
            ["READY", "READY=0", "WATCHDOG_USEC=0", "WATCHDOG_USEC=-1", "EXTEND_TIMEOUT_USEC=99999999999999999999"]
        {
            assert_eq!(read(wrong.as_bytes()), [Err(Refusal::Malformed)], "{wrong}");
        }
        assert_eq!(read(b"\xff"), [Err(Refusal::Malformed)]);
    }

    proptest! {
        /// Whatever comes, no more is said than there are lines, and nothing of it can move a terminal.
        #[test]
        fn nothing_panics(noise in prop::collection::vec(any::<u8>(), 0..300), begins in "(READY=1\n|STATUS=|WATCHDOG_USEC=)?") {
            let mut message = begins.into_bytes();
            message.extend(noise);
            let said = read(&message);
            prop_assert!(said.len() <= 1 + message.iter().filter(|byte| **byte == b'\n').count());
            for part in said.into_iter().flatten() {
                if let Said::Status(text) = part {
                    prop_assert!(!text.chars().any(char::is_control));
                }
            }
        }
    }
}
