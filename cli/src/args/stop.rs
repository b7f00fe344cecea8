//! How the command is stopped.

use orangery::StopLadder;
use orangery::runtime::spec::size::parse_duration;

use crate::signals;

/// `TERM:10s,INT:5s`: each signal with the time that it is given, then the kill.
///
/// # Errors
/// What is no signal or no time.
pub(crate) fn ladder(text: &str) -> Result<StopLadder, String> {
    text.split(',').try_fold(StopLadder::new(), |ladder, rung| {
        let (signal, grace) = rung
            .split_once(':')
            .ok_or_else(|| format!("{rung:?} is no signal with its time: write TERM:10s, or TERM:10s,INT:5s"))?;
        Ok(ladder.then(signals::number(signal)?, parse_duration(grace)?))
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn rungs_and_what_is_none() {
        let seconds = Duration::from_secs;
        assert_eq!(ladder("TERM:10s"), Ok(StopLadder::default()));
        assert_eq!(ladder("sigint:5s,15:1m"), Ok(StopLadder::new().then(2, seconds(5)).then(15, seconds(60))));
        for text in ["", "TERM", "TERM:", ":5s", "TERM:5s,", "NONE:5s", "TERM:5s;INT:5s", "TERM:-1s"] {
            assert!(ladder(text).is_err(), "{text}");
        }
    }
}
