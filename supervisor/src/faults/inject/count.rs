//! Counting what happens against what a trigger asks for. Pure.

use std::collections::HashMap;

use orangery_io_stream::Source;

use crate::faults::plan::Trigger;

/// What has happened to a container.
#[derive(Clone, Copy, Debug)]
pub(super) enum Happening<'a> {
    /// Nothing, to nobody: the plan is armed.
    Armed,
    /// It was accepted; it is a service's and not its first.
    Accepted { again: bool },
    /// Its main process has ended.
    Exited,
    /// Its output has come so far.
    Output(Source, u64),
    /// It has written a line.
    Line(Source, &'a [u8]),
}

/// How often it was so.
#[derive(Debug, Default)]
pub(super) struct Counter {
    all: u64,
    /// In the output of each container, by its number.
    each: HashMap<u64, u64>,
}

impl Counter {
    /// The how manieth of `trigger`'s events this is, which has happened to container `number`; `None`: it is none.
    pub(super) fn count(&mut self, trigger: &Trigger, happening: Happening<'_>, number: u64) -> Option<u64> {
        let is = match (trigger, happening) {
            (Trigger::Now, Happening::Armed)
            | (Trigger::Spawn { .. }, Happening::Accepted { .. })
            | (Trigger::Restart { .. }, Happening::Accepted { again: true })
            | (Trigger::Exit { .. }, Happening::Exited) => true,
            (Trigger::Output { source, offset }, Happening::Output(of, upto)) => {
                // Passed once in each output.
                source == &of && upto >= *offset && !self.each.contains_key(&number)
            }
            (Trigger::Line { source, containing, .. }, Happening::Line(of, text)) => {
                source == &of && contains(text, containing.as_bytes())
            }
            _ => false,
        };
        let counter = if trigger.reads() {
            is.then(|| self.each.entry(number).or_default())
        } else {
            is.then_some(&mut self.all)
        };
        counter.map(|count| {
            *count += 1;
            *count
        })
    }

    /// The container is gone.
    pub(super) fn forget(&mut self, number: u64) {
        self.each.remove(&number);
    }
}

fn contains(text: &[u8], wanted: &[u8]) -> bool {
    text.windows(wanted.len()).any(|part| part == wanted)
}
