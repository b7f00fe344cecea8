//! What trials run in a process of its own: as an ordinary user, or to be killed.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};

use orangery_runtime::ErrorKind;
use orangery_runtime::cgroup::{Limits, Oom, enter_leaf};
use orangery_runtime::native::{NativeRuntime, Options};
use orangery_runtime::spec::{Access, Rootfs, Stdio as Stream};
use orangery_runtime::{ContainerSpec, Evidence, Exit, ExitStatus, ProcessSpec, Runtime as _};
use orangery_tests::wait;

use crate::suites::USER;

/// Names the part that this process plays.
pub(crate) const ROLE: &str = "ORANGERY_VM_ROLE";
/// The group that an ordinary user's part starts in.
const GROUP: &str = "ORANGERY_VM_GROUP";
/// A directory for the part.
const DIR: &str = "ORANGERY_VM_DIR";

/// Start a part: as `uid`, in `group`, with a directory it may use.
#[expect(clippy::disallowed_methods, reason = "a part of a trial")]
pub(crate) fn start(role: &str, uid: u32, group: Option<&Path>, dir: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.env(ROLE, role).env(DIR, dir).stdin(Stdio::null());
    if let Some(group) = group {
        command.env(GROUP, group).env("ORANGERY_VM_UID", uid.to_string());
    } else {
        command.uid(uid).gid(uid);
    }
    if uid == USER {
        command.env("XDG_RUNTIME_DIR", format!("/run/user/{USER}"));
    }
    command.stdout(Stdio::piped()).spawn().expect("a part")
}

/// Start a part and wait until it has ended well.
pub(crate) fn passes(role: &str, uid: u32, group: Option<&Path>, dir: &Path) {
    let mut part = start(role, uid, group, dir);
    let status = wait::child(&mut part, wait::PATIENCE).expect("waited").unwrap_or_else(|| panic!("{role} hangs"));
    assert!(status.success(), "{role}: {status}");
}

/// Play a part.
pub(crate) fn run(role: &OsStr) -> ExitCode {
    if let Some(group) = std::env::var_os(GROUP) {
        return enter(Path::new(&group));
    }
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("tokio");
    tokio.block_on(async {
        match role.to_str() {
            Some("delegated") => delegated().await,
            Some("no-rights") => no_rights().await,
            Some("rootless") => rootless().await,
            Some("victim") => victim().await,
            other => panic!("no part is called {other:?}"),
        }
    });
    ExitCode::SUCCESS
}

/// Enter the group as root, then become the user and start over, as a login would.
#[expect(clippy::disallowed_methods, reason = "a part of a trial")]
fn enter(group: &Path) -> ExitCode {
    std::fs::write(group.join("cgroup.procs"), "0").expect("the group");
    let uid: u32 = std::env::var("ORANGERY_VM_UID").expect("an id").parse().expect("a number");
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    let error = command.env_remove(GROUP).uid(uid).gid(uid).exec();
    panic!("exec: {error}");
}

fn dir() -> std::path::PathBuf {
    std::env::var_os(DIR).expect("a directory").into()
}

pub(crate) fn sh(script: &str) -> ProcessSpec {
    let mut process = ProcessSpec::default();
    process.argv = ["/bin/busybox", "sh", "-c", script].iter().map(Into::into).collect();
    process.env = vec![("PATH".into(), "/usr/bin:/bin".into())];
    process
}

pub(crate) fn spec(id: &str, limits: Limits) -> ContainerSpec {
    let mut spec = ContainerSpec::default();
    spec.id = id.into();
    spec.limits = limits;
    spec
}

pub(crate) async fn with_runtime<T>(options: Options, play: impl AsyncFnOnce(&NativeRuntime) -> T) -> T {
    let (rt, driver) = NativeRuntime::start(options).expect("a runtime");
    let driver = tokio::spawn(driver.run());
    let result = play(&rt).await;
    wait::soon("shutdown", rt.shutdown()).await;
    wait::soon("the driver", driver).await.expect("no panic");
    result
}

pub(crate) async fn life(rt: &NativeRuntime, spec: ContainerSpec, mut main: ProcessSpec) -> (Exit, String, Evidence) {
    main.stdout = Stream::Piped;
    let container = wait::soon("create", rt.create(spec, main)).await.unwrap_or_else(|e| panic!("create: {e:#?}"));
    let started = wait::soon("start", container.start()).await.unwrap_or_else(|e| panic!("start: {e:#?}"));
    let out = wait::soon("output", wait::all(started.stdout.expect("a pipe"))).await;
    let exit = wait::soon("exit", started.exit).await.expect("an exit");
    let evidence = wait::soon("finish", container.finish()).await;
    wait::soon("delete", container.delete()).await.expect("deleted");
    (exit, out, evidence)
}

/// Limits without root: the group is ours, and we are in a leaf of it.
async fn delegated() {
    let leaf = enter_leaf().expect("a leaf").expect("moved");
    assert!(leaf.ends_with("user/orangery-self"), "{}", leaf.display());
    with_runtime(Options::default(), async |rt| {
        assert_eq!(rt.cgroup_mode(), ("v2".into(), None));
        let limits = Limits { memory: Some(24 << 20), memory_swap: None, pids: Some(64), ..Limits::default() };
        let hog = sh("dd if=/dev/zero of=/dev/null bs=64M count=1 2>/dev/null; echo $?");
        let (exit, out, evidence) = life(rt, spec("hog", limits), hog).await;
        assert_eq!((exit.status, out.trim()), (ExitStatus::Code(0), "137"));
        assert_eq!(evidence.oom, Oom::Own { kills: 1 });
        assert!(evidence.stats.memory_peak.is_some_and(|peak| peak > 12 << 20), "{:?}", evidence.stats);
        let limits = Limits { pids: Some(4), ..Limits::default() };
        let many = sh("for i in 1 2 3 4 5 6 7 8; do sleep 100 >/dev/null & done");
        let (_, _, evidence) = life(rt, spec("many", limits.clone()), many).await;
        assert!(evidence.stats.pids_refused.is_some_and(|count| count > 0), "{:?}", evidence.stats);
        let Err(errors) = rt.create(spec("cpus", Limits { cpuset_cpus: Some("0".into()), ..limits }), sh("true")).await
        else {
            panic!("a controller that was not delegated");
        };
        let fields: Vec<_> = errors.0.iter().map(|error| (error.kind(), error.field())).collect();
        assert_eq!(fields, [(ErrorKind::Unsupported, Some("limits.cpuset_cpus"))], "{errors:?}");
    })
    .await;
}

/// No group is ours to write: containers without limits, a reason, a typed refusal of limits.
async fn no_rights() {
    with_runtime(Options::default(), async |rt| {
        let (mode, why) = rt.cgroup_mode();
        assert_eq!(mode, "none", "{why:?}");
        assert!(why.is_some_and(|why| !why.is_empty()));
        let (exit, _, evidence) = life(rt, spec("plain", Limits::default()), sh("exit 5")).await;
        assert_eq!((exit.status, evidence.cgroup_mode.as_str()), (ExitStatus::Code(5), "none"));
        let refused = spec("limited", Limits { memory: Some(64 << 20), ..Limits::default() });
        let Err(errors) = rt.create(refused, sh("true")).await else { panic!("a limit without a cgroup") };
        let [error] = errors.0.as_slice() else { panic!("{errors:?}") };
        assert_eq!((error.kind(), error.field()), (ErrorKind::Unsupported, Some("limits.memory")), "{error:?}");
    })
    .await;
}

/// User namespaces of an ordinary user: ids, /proc, an image and a throw-away layer over it.
async fn rootless() {
    with_runtime(Options::default(), async |rt| {
        let see = "id -u; cat /proc/self/uid_map; ls -d /proc/[0-9]* | wc -l; cat /proc/1/comm";
        let (exit, out, _) = life(rt, spec("ids", Limits::default()), sh(see)).await;
        let lines: Vec<&str> = out.lines().map(str::trim).collect();
        assert_eq!(exit.status, ExitStatus::Code(0), "{out}");
        assert_eq!(lines[0], "0", "{out}");
        assert_eq!(lines[1].split_whitespace().collect::<Vec<_>>(), ["0", "0", "1"], "the keeper's 0 is us: {out}");
        assert_eq!(lines.last(), Some(&"orangery-init"), "{out}");
        // Exec goes by a middle process here.
        let container = wait::soon("create", rt.create(spec("execs", Limits::default()), sh("sleep 1000"))).await;
        let container = container.unwrap_or_else(|e| panic!("create: {e:#?}"));
        let started = wait::soon("start", container.start()).await.expect("started");
        for code in [0, 7] {
            let more = wait::soon("exec", container.exec(sh(&format!("exit {code}")))).await.expect("exec");
            assert_eq!(wait::soon("exit", more.exit).await.expect("an exit").status, ExitStatus::Code(code));
        }
        let killed = ExitStatus::Signal { signal: 9, core_dumped: false };
        container.kill().expect("killed");
        assert_eq!(wait::soon("exit", started.exit).await.expect("an exit").status, killed);
        wait::soon("delete", container.delete()).await.expect("deleted");
        for (access, script, code) in [
            (Access::ReadOnly, "cat /etc/marker && ! echo x 2>/dev/null > /etc/new", 0),
            (Access::Overlay, "echo x > /etc/new && cat /etc/new /etc/marker", 0),
            (Access::ReadWrite, "echo x > /etc/kept", 0),
        ] {
            let mut image = spec("image", Limits::default());
            image.rootfs = Rootfs::Dir { path: dir().join("image"), access };
            let (exit, out, _) = life(rt, image, sh(script)).await;
            assert_eq!(exit.status, ExitStatus::Code(code), "{access:?}: {out}");
        }
        assert!(!dir().join("image/etc/new").exists() && dir().join("image/etc/kept").exists());
    })
    .await;
}

/// A supervisor that is killed with a container running.
async fn victim() {
    let mut options = Options::default();
    options.state_dir = Some(dir().join("state"));
    options.cgroup_parent = Some(std::fs::read_to_string(dir().join("parent")).expect("a parent").into());
    let (rt, driver) = NativeRuntime::start(options).expect("a runtime");
    tokio::spawn(driver.run());
    let limits = Limits { memory: Some(64 << 20), pids: Some(64), ..Limits::default() };
    let mut main = sh("sleep 1000 & echo forked; sleep 1000");
    main.stdout = Stream::Piped;
    let container = rt.create(spec("victim", limits), main).await.expect("created");
    let mut started = container.start().await.expect("started");
    let mut lines = wait::Lines::of(started.stdout.take().expect("a pipe"));
    assert_eq!(wait::soon("a line", lines.next()).await, "forked");
    println!("ready");
    std::future::pending::<()>().await;
}
