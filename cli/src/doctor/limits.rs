//! Which limits can be had, and why not.

use orangery::runtime::native::NativeRuntime;
use orangery::runtime::spec::Resource;
use orangery::runtime::{ContainerSpec, ProcessSpec, Runtime as _};
use orangery::stream::{DEFAULT_PIPE_SIZE, PipeBudget, pipe_size};
use orangery::{
    BlockDevice, CpuQuota, DESCRIPTORS_EACH, DESCRIPTORS_RESERVED, IoMax, Limits, Supervisor, containers_that_fit,
};

use super::machine;
use super::{Finding, State};

/// The cgroup mode, each limit in it, and how many containers the descriptors allow.
pub(super) fn examine(supervisor: &Supervisor) -> Vec<Finding> {
    let Some(native) = supervisor.native() else { return Vec::new() };
    let mut findings = vec![mode(native)];
    findings.extend(asked().into_iter().map(|(option, limits)| limit(native, option, limits)));
    findings.push(descriptors());
    findings.extend(pipes());
    findings
}

fn mode(native: &NativeRuntime) -> Finding {
    let (mode, why) = native.cgroup_mode();
    let name = "cgroups";
    match why {
        None => Finding::ok(name).detail(format!("mode {mode}")),
        Some(why) => Finding::new(name, State::Without)
            .detail(format!("mode {mode}: {why}"))
            .without("sandboxes run without limits on memory, CPU and processes; asking for one is refused")
            .fix(machine::fix_for_cgroups()),
    }
}

fn asked() -> [(&'static str, Limits); 8] {
    let some = |set: fn(&mut Limits)| {
        let mut limits = Limits::default();
        set(&mut limits);
        limits
    };
    [
        ("--memory", some(|limits| limits.memory = Some(64 << 20))),
        // Version 1 knows only the sum of both.
        ("--memory-swap", some(|limits| (limits.memory, limits.memory_swap) = (Some(64 << 20), Some(0)))),
        ("--cpus", some(|limits| limits.cpu_quota = Some(CpuQuota { quota_us: 50_000, period_us: 100_000 }))),
        ("--cpu-weight", some(|limits| limits.cpu_weight = Some(100))),
        ("--cpuset-cpus", some(|limits| limits.cpuset_cpus = Some("0".into()))),
        ("--pids", some(|limits| limits.pids = Some(64))),
        ("--io-weight", some(|limits| limits.io_weight = Some(100))),
        ("--io-max", some(|limits| limits.io_max = any_disk().into_iter().collect())),
    ]
}

/// A limit of any disk that there is.
fn any_disk() -> Option<IoMax> {
    let mut disks = std::fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let number = disks.find_map(|disk| std::fs::read_to_string(disk.path().join("dev")).ok()?.trim().parse().ok());
    number.map(|device: BlockDevice| IoMax { read_iops: Some(u64::from(u16::MAX)), ..IoMax::new(device) })
}

fn limit(native: &NativeRuntime, option: &str, limits: Limits) -> Finding {
    let mut spec = ContainerSpec::default();
    (spec.id, spec.limits) = ("doctor".into(), limits);
    let mut main = ProcessSpec::default();
    main.argv = vec!["true".into()];
    match native.check(&spec, &main) {
        Ok(()) => Finding::ok(option),
        Err(why) => {
            // The mode's own line has said why there is no cgroup at all.
            let why = if native.cgroup_mode().1.is_some() { "no cgroup".into() } else { why.to_string() };
            let undelegated = ["--io-max", "--cpuset-cpus"].contains(&option) && native.cgroup_mode().0 == "v2";
            let fix = undelegated.then(machine::fix_for_controllers).flatten();
            Finding::new(option, State::Without).detail(why).without("it is refused").fix(fix)
        }
    }
}

fn descriptors() -> Finding {
    let (soft, hard) = Resource::Nofile.current();
    let fit = |limit: u64| match containers_that_fit(limit) {
        u64::MAX => "any number".to_owned(),
        count => count.to_string(),
    };
    let mut detail = format!(
        "{} containers in one supervisor, {DESCRIPTORS_EACH} each and {DESCRIPTORS_RESERVED} reserved",
        fit(soft)
    );
    if soft < hard {
        detail += &format!("; {} with `ulimit -n {hard}`", fit(hard));
    }
    Finding::ok(format!("RLIMIT_NOFILE {soft}")).detail(detail)
}

/// What a pipe holds that is made now, and how many of that size the user may have; nothing where no pipe can be made.
fn pipes() -> Option<Finding> {
    let (pipe, _writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).ok()?;
    let now = pipe_size(pipe).ok()?;
    let budget = PipeBudget::read();
    let many = budget.and_then(|budget| budget.pipes_of(DEFAULT_PIPE_SIZE as u64));
    let name = format!("pipes of {} KiB", now / 1024);
    let exempt = rustix::thread::capabilities(None).is_ok_and(|sets| {
        let exempts = rustix::thread::CapabilitySet::SYS_RESOURCE | rustix::thread::CapabilitySet::SYS_ADMIN;
        sets.effective.intersects(exempts)
    });
    let detail = match (many, budget) {
        _ if exempt => "any number: this user's pages are not counted against a limit".into(),
        (Some(many), Some(budget)) => {
            format!(
                "{many} of {} KiB for this user, {} pages together; two or three a container",
                DEFAULT_PIPE_SIZE / 1024,
                budget.soft_pages
            )
        }
        _ => "any number".into(),
    };
    if now >= DEFAULT_PIPE_SIZE {
        return Some(Finding::ok(name).detail(detail));
    }
    let finding = Finding::new(name, State::Without).detail(format!("the user's pipe pages are spent; {detail}"));
    let fix = "sudo sysctl -w fs.pipe-user-pages-soft=131072";
    Some(
        finding
            .without("commands wait sooner for who reads their output; the report says how much a pipe held")
            .fix(Some(fix)),
    )
}
