//! The limit on processor time, of all processes of the container together. The kernel counts it and tells nobody, so it is
//! looked at when it can have been reached at the earliest. RLIMIT_CPU of the main process is the backstop. Where no cgroup
//! counts, what the processes tell in /proc is looked at, which costs more and so is done less often (`unmet.rs` says so).

use std::sync::Arc;
use std::time::Duration;

use orangery_runtime::cgroup::Source;
use orangery_runtime::spec::{Resource, Rlimit, rlimit};
use orangery_runtime::{ErrorKind, ProcessSpec};

use super::slot::ContainerSlot;
use crate::error::Error;
use crate::report::{Cause, LimitKind};

/// Looked at no more often than this: what is used above the limit is at most as much on every processor.
const PERIOD: Duration = Duration::from_millis(20);
/// The same where all processes of the machine are looked at for it: a few milliseconds each time.
const SELDOM: Duration = Duration::from_millis(250);

/// Give `main` the backstop, in whole seconds, unless it has a limit of its own or may not have this one; whether it has got
/// it. `counted`: it is only one, so that who ignores its signal is ours to kill, and it can be lifted later.
pub(crate) fn backstop(main: &mut ProcessSpec, limit: Duration, counted: bool) -> bool {
    let (_, most) = Resource::Cpu.current();
    let (soft, hard) =
        (seconds(limit).min(most), if counted { most } else { seconds(limit).saturating_add(1).min(most) });
    let given = main.rlimits.iter().any(|limit| limit.resource == Resource::Cpu);
    if given || soft == rlimit::INFINITY {
        return false;
    }
    main.rlimits.extend(Rlimit::new(Resource::Cpu, soft, hard).ok());
    true
}

fn seconds(limit: Duration) -> u64 {
    limit.as_secs() + u64::from(limit.subsec_nanos() > 0)
}

/// What a backstop was before it was lifted.
pub(super) type Lifted = Option<rustix::process::Rlimit>;

/// Let the backstop be no lower than this limit; before anything else is changed.
///
/// # Errors
/// It cannot be lifted, or nobody counts for it: the field is `cpu_time`.
pub(super) fn lift_backstop(container: &ContainerSlot, limit: Duration) -> Result<Lifted, Error> {
    let refused = |kind, why: &str| orangery_runtime::Error::new(kind, why).with_field("cpu_time");
    if container.stats_now().cpu_usage_ns.is_none() {
        return Err(refused(ErrorKind::Unsupported, "no cgroup of this container counts processor time").into());
    }
    if !container.backstopped {
        return Ok(None);
    }
    let (_, most) = Resource::Cpu.current();
    let soft = seconds(limit).min(most);
    let finite = |limit| (limit != rlimit::INFINITY).then_some(limit);
    set(container, rustix::process::Rlimit { current: finite(soft), maximum: finite(most) }).map_err(|error| {
        orangery_runtime::Error::system("cannot lift RLIMIT_CPU of the main process", error)
            .with_field("cpu_time")
            .into()
    })
}

/// Nothing else was changed either.
pub(super) fn put_back(container: &ContainerSlot, lifted: Lifted) {
    if let Some(before) = lifted {
        let _ = set(container, before);
    }
}

/// By number: the process has not been reaped as long as its pidfd says that it lives, and numbers are not given again at
/// once. What it has left to lose then is a limit that it does not need any more.
fn set(container: &ContainerSlot, to: rustix::process::Rlimit) -> rustix::io::Result<Lifted> {
    let pid = container.main.born.get().and_then(|born| rustix::process::Pid::from_raw(born.pid));
    let Some(pid) = pid.filter(|_| !container.main.ended()) else { return Err(rustix::io::Errno::SRCH) };
    rustix::process::prlimit(Some(pid), rustix::process::Resource::Cpu, to).map(Some)
}

/// Carry it out; ends with that, or where nothing is counted.
pub(super) async fn enforce(container: &Arc<ContainerSlot>) {
    let mut watched = container.watched.subscribe();
    // Of a limit that comes later: what its making took counts too.
    if watched.borrow().cpu_time.is_some() {
        let Some((begin, _)) = used(container).await else { return };
        let _ = container.cpu_begin_ns.set(begin);
    }
    loop {
        let limit = watched.borrow_and_update().cpu_time;
        let over = async {
            match limit {
                Some(limit) => until_over(container, limit).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = over => return,
            // Its sender is in the slot that we hold.
            _ = watched.changed() => {}
        }
    }
}

async fn until_over(container: &Arc<ContainerSlot>, limit: Duration) {
    let processors = u32::try_from(std::thread::available_parallelism().map_or(1, usize::from)).unwrap_or(u32::MAX);
    let begin = *container.cpu_begin_ns.get_or_init(|| 0);
    while let Some((now, period)) = used(container).await {
        let left = limit.saturating_sub(Duration::from_nanos(now.saturating_sub(begin)));
        if left.is_zero() {
            let _ = container.main.kill(Cause::Limit(LimitKind::Cpu));
            return;
        }
        tokio::time::sleep((left / processors).max(period)).await;
    }
}

/// Nanoseconds so far, those of its making included, and how often to look. Files of cgroupfs, or /proc: not on this thread.
async fn used(container: &Arc<ContainerSlot>) -> Option<(u64, Duration)> {
    let (container, span) = (Arc::clone(container), container.span.clone());
    let read = tokio::task::spawn_blocking(move || span.in_scope(|| container.stats())).await.ok()?;
    let period = if read.source == Some(Source::Proc) { SELDOM } else { PERIOD };
    Some((read.cpu_usage_ns?, period))
}

impl ContainerSlot {
    pub(super) fn cpu_limit(&self) -> Option<Duration> {
        self.watched.borrow().cpu_time
    }

    /// Reads files of cgroupfs.
    fn stats_now(&self) -> orangery_runtime::cgroup::Stats {
        self.container.get().map(|container| container.stats()).unwrap_or_default()
    }

    /// Whether its processes have used more than they may: `total_ns` as its cgroup has counted it, or what the main one
    /// has used where nothing was counted.
    pub(super) fn over_cpu(&self, total_ns: Option<u64>, main_ns: Option<u64>) -> bool {
        let Some(limit) = self.cpu_limit() else { return false };
        let counted = total_ns.zip(self.cpu_begin_ns.get()).map(|(total, begin)| total.saturating_sub(*begin));
        counted.or(main_ns).is_some_and(|used| u128::from(used) >= limit.as_nanos())
    }
}
