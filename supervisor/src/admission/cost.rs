//! What a container or a further process takes of each budget, computed from what was asked for. Pure.

use orangery_runtime::spec::{ProcessSpec, Stdio, rlimit};

use super::budget::{Amounts, Budget};
use crate::sandbox::Description;

/// Descriptors of the supervisor's process that an ordinary container takes: its first process, its command, standard
/// output and error. A standard input, a terminal, a log, kept files and a network provider cost more.
pub const DESCRIPTORS_EACH: u64 = 4;
/// Descriptors that are kept free for everything else in the process.
pub const DESCRIPTORS_RESERVED: u64 = 64;

/// Most descriptors that are open while a container or a process is being made and closed when it is: its ends of pipes,
/// those that go to the keeper (a file for each hierarchy of cgroups). They fit into what is kept free.
pub(super) const MAKING: u64 = 24;

/// What a log takes: its segment, its index, its state and what it hears news by; as much for each reader of it.
const LOG: u64 = 5;

/// Open at one time while a file is read or written, or a tree is copied: the root, what was found, the directory it comes into,
/// both sides of one file; and both sides of each directory on the way down.
const FILES: u64 = 8;
const LEVEL: u64 = 2;
/// Of somebody who touches them for us: both ends of its report and of what we speak over, of which two stay.
const HAND: u64 = 4;

/// Of an ordinary pipe.
const PAGES: u64 = 16;

/// How far a reader that captures may be behind.
const CAPTURE: u64 = 1 << 20;

/// How many containers fit below a limit of `nofile` descriptors (RLIMIT_NOFILE): [`DESCRIPTORS_EACH`] for each of them
/// and [`DESCRIPTORS_RESERVED`] kept free. A supervisor admits no more than that, by the soft limit as it is at the
/// moment, and fewer where more is open in the process than what is kept free (which the kernel tells since Linux 6.2).
///
/// ```
/// assert_eq!(orangery::containers_that_fit(1024), 240);
/// assert_eq!(orangery::containers_that_fit(10), 0);
/// assert_eq!(orangery::containers_that_fit(u64::MAX), u64::MAX, "no limit");
/// ```
#[must_use]
pub fn containers_that_fit(nofile: u64) -> u64 {
    match nofile {
        rlimit::INFINITY => u64::MAX,
        limit => limit.saturating_sub(DESCRIPTORS_RESERVED) / DESCRIPTORS_EACH,
    }
}

/// What something costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cost {
    /// From its admission until it is gone.
    pub(crate) kept: Amounts,
    /// From its admission until it is made.
    pub(crate) sent: Amounts,
    /// While it is being made, beside all that.
    pub(crate) making: Amounts,
    /// It is a container's.
    pub(crate) container: bool,
}

/// What beside the process itself costs something.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Beside {
    /// Its whole output is captured.
    pub(crate) captured: bool,
    /// Its output goes into a log.
    pub(crate) logged: bool,
    /// Descriptors that it speaks to its supervisor by.
    pub(crate) spoken_to: u64,
    /// So many commands of its own may run in it at a time (`Probe::exec`, before and after a stop): they find their room whatever
    /// else there is, for a container must not be taken for ill because others are many.
    pub(crate) probes: u64,
}

impl Cost {
    /// Of a container with its main process.
    pub(crate) fn of_container(sandbox: &Description, main: &ProcessSpec, beside: Beside) -> Self {
        let spec = &sandbox.spec;
        let process = Self::of_process(main, sandbox.ring_bytes, beside);
        // With a limit of memory: who hears of OOM kills.
        let held = 1
            + 2 * u64::from(sandbox.keep_files)
            + u64::from(spec.network_provider.is_some())
            // Its namespace, what it says, and it and its guard.
            + 4 * u64::from(spec.pasta.is_some())
            + u64::from(spec.limits.memory.is_some())
            + beside.spoken_to;
        // Each comes once as a descriptor that is sent.
        let sent = spec.files.len() + spec.mounts.len() + spec.rootfs.directories().len();
        let kept = process.kept.with(Budget::Containers, 1).with(Budget::Processes, 0);
        let probe = Self::of_process(&ProcessSpec::default(), sandbox.ring_bytes, Beside::default()).kept;
        let kept = (0..beside.probes).fold(kept, |kept, _| kept.plus(&probe.with(Budget::Processes, 0)));
        let sent = process.sent.plus(&descriptors(sent as u64));
        let making = process.making.with(Budget::Creations, 1);
        Self { kept: kept.plus(&descriptors(held)), sent, making, container: true }
    }

    /// Of a further process.
    pub(crate) fn of_process(spec: &ProcessSpec, ring_bytes: usize, beside: Beside) -> Self {
        // Standard output and error are pipes to us unless they are descriptors of the caller's.
        let output = |stdio: &Stdio| u64::from(!matches!(stdio, Stdio::Fd(_)));
        let pipes = match spec.tty {
            // Its size, its keyboard, its output.
            Some(_) => 3,
            None => output(&spec.stdout) + output(&spec.stderr) + u64::from(matches!(spec.stdin, Stdio::Piped)),
        };
        let readers = if beside.captured { 2 } else { 0 };
        let logs = if beside.logged { LOG * (1 + readers) } else { 0 };
        let listener = u64::from(!spec.filters.is_empty());
        let kept = descriptors(1 + pipes + logs + listener)
            .with(Budget::Processes, 1)
            .with(Budget::PipePages, if spec.tty.is_some() { 0 } else { pipes * PAGES })
            .with(Budget::BufferBytes, ring_bytes as u64 + readers * CAPTURE);
        let making = descriptors(MAKING).with(Budget::PipePages, PAGES);
        Self { kept, sent: descriptors(spec.mounts.len() as u64), making, container: false }
    }

    /// Of a process whose room its container has.
    pub(crate) fn of_probe() -> Self {
        let probe = Self::of_process(&ProcessSpec::default(), 0, Beside::default());
        Self { kept: Amounts::default(), ..probe }
    }

    /// Of work on the files of a container.
    pub(crate) fn of_files() -> Self {
        Self::of_descriptors(FILES)
    }

    /// Of one more level of the tree that is copied.
    pub(crate) fn of_level() -> Self {
        Self::of_descriptors(LEVEL)
    }

    /// Of a hand of it.
    pub(crate) fn of_hand() -> Self {
        Self::of_descriptors(HAND)
    }

    fn of_descriptors(count: u64) -> Self {
        Self { kept: descriptors(count), sent: Amounts::default(), making: Amounts::default(), container: false }
    }

    /// What it takes when it is admitted; its turn comes later.
    pub(super) fn room(&self) -> Amounts {
        self.kept.plus(&self.sent)
    }
}

fn descriptors(count: u64) -> Amounts {
    Amounts::default().with(Budget::Descriptors, count)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn kept(cost: &Cost) -> u64 {
        cost.kept.get(Budget::Descriptors)
    }

    #[test]
    fn an_ordinary_container_costs_what_is_said_and_all_that_is_open_on_the_way_fits_into_what_is_kept_free() {
        let cost = Cost::of_container(&Description::default(), &ProcessSpec::default(), Beside::default());
        assert_eq!(kept(&cost), DESCRIPTORS_EACH);
        assert_eq!(cost.kept.get(Budget::BufferBytes), 256 << 10);
        assert_eq!(cost.kept.get(Budget::PipePages), 32);
        const { assert!(MAKING < DESCRIPTORS_RESERVED) };
    }

    #[test]
    fn what_is_asked_for_beside_it_costs_more() {
        let plain = kept(&Cost::of_process(&ProcessSpec::default(), 0, Beside::default()));
        let process = |change: &dyn Fn(&mut ProcessSpec), beside| {
            let mut spec = ProcessSpec::default();
            change(&mut spec);
            kept(&Cost::of_process(&spec, 0, beside))
        };
        let beside = |captured, logged| Beside { captured, logged, ..Beside::default() };
        assert_eq!(plain, 3);
        assert_eq!(process(&|spec| spec.stdin = Stdio::Piped, beside(false, false)), 4);
        assert_eq!(process(&|spec| spec.tty = Some(Default::default()), beside(false, false)), 4);
        let null = Arc::new(std::fs::File::open("/dev/null").unwrap().into());
        assert_eq!(process(&|spec| spec.stdout = Stdio::Fd(Arc::clone(&null)), beside(true, false)), 2);
        assert_eq!(process(&|_| {}, beside(false, true)), 3 + 5);
        assert_eq!(process(&|_| {}, beside(true, true)), 3 + 15);
        let sandbox = Description { keep_files: true, ..Description::default() };
        assert_eq!(kept(&Cost::of_container(&sandbox, &ProcessSpec::default(), beside(false, false))), 6);
        let notified = Beside { spoken_to: 1, ..Beside::default() };
        assert_eq!(kept(&Cost::of_container(&Description::default(), &ProcessSpec::default(), notified)), 5);
        let asked = Beside { probes: 2, ..Beside::default() };
        let asked = Cost::of_container(&Description::default(), &ProcessSpec::default(), asked);
        assert_eq!((kept(&asked), asked.kept.get(Budget::Processes)), (4 + 6, 0));
        assert_eq!(kept(&Cost::of_probe()), 0);
    }
}
