//! The table of a service: total and pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::restart::Decision;

/// Where a service is.
///
/// ```
/// use orangery::ServiceState;
/// assert!(ServiceState::Failed.is_settled() && !ServiceState::BackOff.is_settled());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ServiceState {
    /// An incarnation is being made, or waits to be admitted.
    Starting,
    /// An incarnation runs and is not ready yet ([`Command::ready_when`](crate::Command::ready_when)).
    Unready,
    /// An incarnation runs, and is ready or was.
    Running,
    /// It was told to stop, and its incarnation has not ended yet.
    Stopping,
    /// Its incarnation has ended; the next one follows after a delay.
    BackOff,
    /// It has ended by itself, and its policy starts it no more.
    Ended,
    /// It was told to stop, or has not been started yet.
    Stopped,
    /// It may not be started again by itself: see [`GiveUp`](crate::restart::GiveUp).
    Failed,
}

impl ServiceState {
    /// Nothing happens any more unless somebody starts it.
    #[must_use]
    pub fn is_settled(self) -> bool {
        matches!(self, Self::Ended | Self::Stopped | Self::Failed)
    }
}

#[cfg(test)]
pub(crate) const STATES: [ServiceState; 8] = [
    ServiceState::Starting,
    ServiceState::Unready,
    ServiceState::Running,
    ServiceState::Stopping,
    ServiceState::BackOff,
    ServiceState::Ended,
    ServiceState::Stopped,
    ServiceState::Failed,
];

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// Somebody wants it to run.
    Start,
    /// The incarnation runs; it is not ready yet.
    Begun,
    /// The incarnation runs, and is ready.
    Started,
    /// The incarnation has ended, or could not be started; this is what its restart makes of it.
    Died(Decision),
    /// The delay has passed.
    DelayOver,
    /// Somebody wants it to end.
    Stop,
}

/// What the actor does about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Make the next incarnation.
    Create,
    /// Say [`Input::DelayOver`] after this.
    Wait(Duration),
    /// End the incarnation as whoever asked says.
    End,
    /// Give up the incarnation that is being made.
    Abort,
    /// Nothing is under way any more: who waits for that is answered.
    Settled,
    /// Nothing: it will be said when it is ready.
    Watch,
    /// It runs, and is ready: who waits for that is answered.
    Runs,
    /// It is so already, or is late; for this reason.
    Ignore(&'static str),
    /// Refused, for this reason.
    Refuse(&'static str),
}

/// What `input` does in `state`.
pub(crate) fn next(state: ServiceState, input: Input) -> (ServiceState, Effect) {
    use ServiceState::{BackOff, Ended, Failed, Running, Starting, Stopped, Stopping, Unready};
    match (state, input) {
        (Starting | Unready, Input::Start) => (state, Effect::Ignore("it is being started")),
        (Running, Input::Start) => (state, Effect::Runs),
        (Stopping, Input::Start) => (state, Effect::Refuse("it is being stopped")),
        (BackOff | Ended | Stopped | Failed, Input::Start) => (Starting, Effect::Create),

        (Starting, Input::Begun) => (Unready, Effect::Watch),
        (Starting | Unready, Input::Started) => (Running, Effect::Runs),
        // The stop came first, and there was nothing to end yet.
        (Stopping, Input::Begun | Input::Started) => (Stopping, Effect::End),
        (Unready, Input::Begun) | (Running, Input::Begun | Input::Started) => {
            (state, Effect::Ignore("it runs already"))
        }
        (BackOff | Ended | Stopped | Failed, Input::Begun | Input::Started) => {
            (state, Effect::Ignore("late news of an ended one"))
        }

        (Starting | Unready | Running, Input::Died(Decision::Restart { after })) => (BackOff, Effect::Wait(after)),
        (Starting | Unready | Running, Input::Died(Decision::Done)) => (Ended, Effect::Settled),
        (Starting | Unready | Running, Input::Died(Decision::Escalate(_))) => (Failed, Effect::Settled),
        (Stopping, Input::Died(_)) => (Stopped, Effect::Settled),
        (BackOff | Ended | Stopped | Failed, Input::Died(_)) => (state, Effect::Ignore("late news of an ended one")),

        (BackOff, Input::DelayOver) => (Starting, Effect::Create),
        (_, Input::DelayOver) => (state, Effect::Ignore("nobody waits any more")),

        (Starting, Input::Stop) => (Stopping, Effect::Abort),
        // A second stop joins the first, and may shorten it.
        (Unready | Running | Stopping, Input::Stop) => (Stopping, Effect::End),
        (BackOff, Input::Stop) => (Stopped, Effect::Settled),
        (Ended | Stopped | Failed, Input::Stop) => (state, Effect::Settled),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::restart::GiveUp;

    const SECOND: Duration = Duration::from_secs(1);
    const INPUTS: [Input; 8] = [
        Input::Start,
        Input::Begun,
        Input::Started,
        Input::Died(Decision::Restart { after: SECOND }),
        Input::Died(Decision::Done),
        Input::Died(Decision::Escalate(GiveUp::WindowSpent)),
        Input::DelayOver,
        Input::Stop,
    ];

    /// All pairs: a row for each state, a column for each input. The state after and the effect: Create, Wait, End, Abort,
    /// Quiet (settled), Runs, watch (.), ignore (-), refuse (!).
    #[test]
    fn the_table() {
        let rows = [
            "starting-  unready.  runningR  back_offW ended Q  failed Q  starting-  stoppingA",
            "unready -  unready-  runningR  back_offW ended Q  failed Q  unready-   stoppingE",
            "running R  running-  running-  back_offW ended Q  failed Q  running-   stoppingE",
            "stopping!  stoppingE stoppingE stopped Q stopped Q stopped Q stopping-  stoppingE",
            "startingC  back_off- back_off- back_off- back_off- back_off- startingC  stopped Q",
            "startingC  ended -   ended -   ended -   ended -   ended -   ended -    ended Q",
            "startingC  stopped - stopped - stopped - stopped - stopped - stopped -  stopped Q",
            "startingC  failed -  failed -  failed -  failed -  failed -  failed -   failed Q",
        ];
        for (state, row) in STATES.into_iter().zip(rows) {
            let cells: String = row.split_whitespace().collect();
            let mut told = String::new();
            for input in INPUTS {
                let (after, effect) = next(state, input);
                told += serde_json::to_value(after).unwrap().as_str().unwrap();
                told += match effect {
                    Effect::Create => "C",
                    Effect::Wait(after) if after == SECOND => "W",
                    Effect::Wait(_) => "?",
                    Effect::End => "E",
                    Effect::Abort => "A",
                    Effect::Settled => "Q",
                    Effect::Watch => ".",
                    Effect::Runs => "R",
                    Effect::Ignore(_) => "-",
                    Effect::Refuse(_) => "!",
                };
            }
            assert_eq!(told, cells, "{state:?}");
        }
    }

    proptest! {
        /// Whatever happens, one incarnation at a time: none is made while one is being made, runs or is being ended; and
        /// after a stop none is made until somebody starts it.
        #[test]
        fn one_at_a_time(inputs in prop::collection::vec(0..INPUTS.len(), 0..60)) {
            let (mut state, mut alive, mut wanted) = (ServiceState::Stopped, false, false);
            for input in inputs {
                let input = INPUTS[input];
                let refused = matches!(next(state, input).1, Effect::Refuse(_));
                match input {
                    Input::Start => wanted |= !refused,
                    Input::Stop => wanted = false,
                    _ => {}
                }
                let (after, effect) = next(state, input);
                if effect == Effect::Create {
                    prop_assert!(!alive && wanted);
                    alive = true;
                }
                if matches!(input, Input::Died(_)) {
                    alive = false;
                }
                prop_assert_eq!(effect == Effect::Settled, after.is_settled() && (after != state || input == Input::Stop));
                prop_assert!(!after.is_settled() || !alive || state.is_settled());
                state = after;
            }
        }
    }
}
