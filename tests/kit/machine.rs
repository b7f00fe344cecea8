//! What this machine has, found out by trying: never by a version, a name or the user's id alone.

use std::path::Path;

use orangery_runtime::Runtime as _;
use orangery_runtime::cgroup::{CpuQuota, Limits};
use orangery_runtime::native::{NativeRuntime, Options};
use orangery_runtime::{ContainerSpec, ProcessSpec};

/// What a trial may need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// A default container can be made here.
    Containers,
    /// The host's root.
    Root,
    /// Not root.
    User,
    /// A range of ids for containers: root, or /etc/subuid with newuidmap.
    ManyIds,
    /// Memory limits.
    Memory,
    /// Limits of the number of processes.
    Pids,
    /// CPU quotas.
    Cpu,
    /// Limits of a block device, and that there is one.
    Io,
    /// Loop devices, and rights over them.
    Loop,
    /// A freezer.
    Freezer,
    /// Any cgroup.
    Cgroups,
    /// A cgroup that can be killed as a whole.
    GroupKill,
    /// The program strace, allowed to trace.
    Strace,
    /// A static busybox, for images.
    Busybox,
    /// /etc/subuid and /etc/subgid, to lay others over them.
    SubordinateFiles,
    /// pasta, and what it needs; as root also what [`Need::Nets`] is.
    Pasta,
    /// fuse-overlayfs, and /dev/fuse open to this user.
    Fuse,
    /// A kernel that takes calls of 32-bit programs.
    Narrow,
    /// ip(8), pairs of interfaces and bridges, for networks of a trial's own.
    Nets,
}

/// What is there; a reason for what is not.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    lacks: Vec<(Need, String)>,
}

impl Machine {
    /// For listing tests: nothing is known to be missing.
    #[must_use]
    pub fn unknown() -> Self {
        Self::default()
    }

    /// Find out.
    #[must_use]
    pub fn probe() -> Self {
        let mut lacks = Vec::new();
        let mut no = |need: Need, why: String| lacks.push((need, why));
        let root = rustix::process::geteuid().is_root();
        no(
            if root { Need::User } else { Need::Root },
            if root { "needs an ordinary user" } else { "needs root" }.into(),
        );
        if !Path::new("/usr/bin/busybox").exists() || std::fs::read("/usr/bin/busybox").is_ok_and(|elf| dynamic(&elf)) {
            no(Need::Busybox, "needs a static /usr/bin/busybox (Debian: busybox-static)".into());
        }
        if !["/etc/subuid", "/etc/subgid"].iter().all(|file| Path::new(file).is_file()) {
            no(Need::SubordinateFiles, "needs /etc/subuid and /etc/subgid, empty ones do (Debian: uidmap)".into());
        }
        if let Err(why) = strace() {
            no(Need::Strace, why);
        }
        if let Err(why) = crate::net::pasta() {
            no(Need::Pasta, why);
        }
        if let Err(error) = orangery_runtime::rootfs::Layering::FuseOverlayfs.look() {
            no(Need::Fuse, format!("needs fuse-overlayfs: {error}"));
        }
        if let Err(why) = narrow() {
            no(Need::Narrow, why);
        }
        if let Err(why) = crate::net::nets() {
            no(Need::Nets, why);
        }
        if let Err(why) = crate::block::loops() {
            no(Need::Loop, why);
        }
        match containers() {
            Ok(refusals) => lacks.extend(refusals),
            // Root can have them: what has gone wrong must not pass for a machine without.
            Err(why) if root => panic!("{why}"),
            Err(why) => lacks.push((Need::Containers, why)),
        }
        Self { lacks }
    }

    /// Why `need` is not met; `None` when it is.
    #[must_use]
    pub fn lacks(&self, need: Need) -> Option<String> {
        self.lacks.iter().find(|(lacking, _)| *lacking == need).map(|(_, why)| why.clone())
    }
}

/// An ELF program with an interpreter.
fn dynamic(elf: &[u8]) -> bool {
    elf.windows(6).any(|bytes| bytes == b"/ld-li" || bytes == b"ld-mus")
}

#[expect(clippy::disallowed_methods, reason = "asks whether strace may trace here")]
fn strace() -> Result<(), String> {
    match std::process::Command::new("strace").args(["-o", "/dev/null", "true"]).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("strace cannot trace here: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Err(format!("needs strace: {error}")),
    }
}

/// The probe's own number, asked for in this way; where there is none the kernel ends it.
#[expect(clippy::disallowed_methods, reason = "asks what the kernel takes")]
fn narrow() -> Result<(), String> {
    let failed = |error: std::io::Error| format!("the probe does not run here: {error}");
    let dir = tempfile::tempdir().map_err(failed)?;
    let probe = crate::scene::put_probe(dir.path()).map_err(failed)?;
    // getpid of i386.
    let output = std::process::Command::new(&probe).args(["narrow", "20"]).output().map_err(failed)?;
    let said = String::from_utf8_lossy(&output.stdout);
    let number = said.split(|c: char| !c.is_ascii_digit() && c != '-').find_map(|word| word.parse::<i32>().ok());
    match number {
        Some(number) if output.status.success() && number > 0 => Ok(()),
        _ => Err("needs a kernel that takes calls of 32-bit programs".into()),
    }
}

/// Start a runtime, ask it for every limit, make one container.
fn containers() -> Result<Vec<(Need, String)>, String> {
    let state = tempfile::tempdir().map_err(|error| error.to_string())?;
    let mut options = Options::default();
    options.state_dir = Some(state.path().join("state"));
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let tokio = tokio.map_err(|error| error.to_string())?;
    tokio.block_on(async {
        let (rt, driver) = NativeRuntime::start(options).map_err(|error| format!("no containers here: {error}"))?;
        let driver = tokio::spawn(driver.run());
        let (spec, main) = ask();
        let made = rt.create(spec, main).await.map_err(|errors| format!("no containers here: {errors}"));
        let mut lacks = refusals(&rt);
        if let Ok(container) = made {
            let _ = container.delete().await;
            if let Err(why) = many_ids(&rt) {
                lacks.push((Need::ManyIds, why));
            }
            rt.shutdown().await;
            let _ = driver.await;
            return Ok(lacks);
        }
        rt.shutdown().await;
        let _ = driver.await;
        made.map(|_| lacks)
    })
}

fn ask() -> (ContainerSpec, ProcessSpec) {
    let (mut spec, mut main) = (ContainerSpec::default(), ProcessSpec::default());
    spec.id = "machine".into();
    main.argv = vec!["true".into()];
    (spec, main)
}

fn refusals(rt: &NativeRuntime) -> Vec<(Need, String)> {
    let limits = |change: fn(&mut Limits)| {
        let (mut spec, main) = ask();
        change(&mut spec.limits);
        rt.check(&spec, &main).err().map(|errors| format!("needs a limit that is refused here: {errors}"))
    };
    let mut lacks = Vec::new();
    let mut add = |need: Need, why: Option<String>| lacks.extend(why.map(|why| (need, why)));
    add(Need::Memory, limits(|limits| limits.memory = Some(64 << 20)));
    add(Need::Pids, limits(|limits| limits.pids = Some(64)));
    add(Need::Cpu, limits(|limits| limits.cpu_quota = Some(CpuQuota { quota_us: 10_000, period_us: 100_000 })));
    add(Need::Io, limits(|limits| limits.io_max = vec![crate::block::most_of_any()]));
    let (mode, why) = rt.cgroup_mode();
    let none = (mode == "none").then(|| format!("needs a cgroup: {}", why.unwrap_or_default()));
    let old = (mode == "v1").then(|| "needs cgroup.kill: there are cgroups of version 1 alone".to_owned());
    add(Need::GroupKill, none.clone().or(old));
    add(Need::Freezer, none.clone());
    add(Need::Cgroups, none);
    lacks
}

/// A plan for user 0 and group 1 is refused where only one id is mapped.
fn many_ids(rt: &NativeRuntime) -> Result<(), String> {
    let (spec, mut main) = ask();
    main.groups = vec![7];
    rt.plan(spec, main).map(drop).map_err(|errors| format!("needs a range of ids: {errors}"))
}
