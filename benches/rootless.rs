//! `rootless`: a container's whole life as an ordinary user beside root's, crun's, bubblewrap's and podman's.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, bail, ensure};
use clap::{Parser, ValueEnum};
use orangery::{Supervisor, SupervisorBuilder};
use orangery_benches::case::{Case, Fixture, Root};
use orangery_benches::figures::{Times, ratio, table};
use orangery_benches::progress::Progress;
use serde_json::{Value, json};

/// Who the ordinary user is; it needs no entry in /etc/passwd.
const USER: u32 = 1000;

/// Whole container lives of an ordinary user, side by side in one run.
///
/// Each round runs one container by every contestant: the library as root, as a user with one id, as a user with a range
/// of ids, and as that user crun, bwrap and podman where they are installed; all with a root directory of their own and
/// a network namespace; root alone with a cgroup, which the others do not have here. Each contestant is a process of its own that is told when to begin.
///
/// "first" is a supervisor that begins, and its first container: what the mapping helpers take is paid there, once, and
/// stands beside it. Every later container is made in the user namespace that is there.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:\n  \
    rootless                 # 100 rounds\n  \
    rootless --count 300 --json\n\n    \
    Needs root, to be root and a user in turn. Peers: apt-get install uidmap crun bubblewrap podman")]
struct Args {
    /// Rounds.
    #[arg(long, default_value_t = 100)]
    count: usize,
    /// One JSON document instead of a table.
    #[arg(long)]
    json: bool,
    /// What a process of this program does for another one.
    #[arg(long, hide = true)]
    worker: Option<Contestant>,
    /// Where that one's files are.
    #[arg(long, hide = true, requires = "worker")]
    fixture: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Contestant {
    Root,
    OneId,
    Range,
    Crun,
    Bwrap,
    Podman,
}

impl Contestant {
    const ALL: [Self; 6] = [Self::Root, Self::OneId, Self::Range, Self::Crun, Self::Bwrap, Self::Podman];

    fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::OneId => "user, one id",
            Self::Range => "user, a range",
            Self::Crun => "crun (user)",
            Self::Bwrap => "bwrap (user)",
            Self::Podman => "podman (user)",
        }
    }

    fn program(self) -> Option<&'static str> {
        match self {
            Self::Root | Self::OneId | Self::Range => None,
            Self::Crun => Some("crun"),
            Self::Bwrap => Some("bwrap"),
            Self::Podman => Some("podman"),
        }
    }
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if let (Some(contestant), Some(fixture)) = (args.worker, &args.fixture) {
        return work(contestant, fixture);
    }
    ensure!(rustix::process::geteuid().is_root(), "needs root, to be root and a user in turn");
    let fixture = Fixture::new()?;
    let (text, value) = measure(&fixture, args.count)?;
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{value:#}")?
    } else {
        write!(out, "{text}")?
    }
    Ok(())
}

fn measure(fixture: &Fixture, count: usize) -> anyhow::Result<(String, Value)> {
    let (mut workers, mut missing) = (Vec::new(), Vec::new());
    for contestant in Contestant::ALL {
        match Worker::start(contestant, fixture).and_then(|mut worker| worker.ask("life").map(|_| worker)) {
            Ok(worker) => workers.push((worker, Times::default(), Times::default())),
            Err(error) if contestant.program().is_some() => {
                missing.push(format!("{} is left out: {error:#}", contestant.name()));
            }
            Err(error) => return Err(error.context(contestant.name())),
        }
    }
    let progress = Progress::new();
    for round in 0..count {
        progress.at("rounds", round, count);
        for (worker, lives, first) in &mut workers {
            lives.push(worker.ask("life")?);
            if worker.contestant.program().is_none() && round % 4 == 0 {
                first.push(worker.ask("first")?);
            }
        }
    }
    drop(progress);
    let mut helpers = Times::default();
    if let Some((worker, ..)) = workers.iter_mut().find(|(worker, ..)| worker.contestant == Contestant::Range) {
        for _ in 0..count.div_ceil(4) {
            helpers.push(worker.ask("helpers")?);
        }
    }
    Ok(tell(
        &workers.iter().map(|(worker, lives, first)| (worker.contestant, lives, first)).collect::<Vec<_>>(),
        &helpers,
        &missing,
    ))
}

fn tell(all: &[(Contestant, &Times, &Times)], helpers: &Times, missing: &[String]) -> (String, Value) {
    let root = all.first().map_or(0.0, |(_, lives, _)| lives.p50());
    let head = ["contestant", "life p50 us", "p90 us", "/ root", "first p50 us"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let mut values = Vec::new();
    for (contestant, lives, first) in all {
        let begun = if first.is_empty() { "-".into() } else { format!("{:.0}", first.p50()) };
        rows.push(vec![
            contestant.name().into(),
            format!("{:.0}", lives.p50()),
            format!("{:.0}", lives.p90()),
            ratio(lives.p50(), root),
            begun,
        ]);
        values.push(json!({"contestant": contestant.name(), "p50_us": lives.p50(), "p90_us": lives.p90(),
            "first_p50_us": (!first.is_empty()).then(|| first.p50()), "beside_root": lives.p50() / root}));
    }
    let mut text = table(&rows);
    text.push_str(&format!("newuidmap and newgidmap alone, p50: {:.0} us\n", helpers.p50()));
    missing.iter().for_each(|line| text.push_str(&format!("{line}\n")));
    (text, json!({"contestants": values, "helpers_p50_us": helpers.p50(), "missing": missing}))
}

/// A contestant's process.
#[derive(Debug)]
struct Worker {
    contestant: Contestant,
    child: Child,
    told: Option<ChildStdin>,
    says: BufReader<ChildStdout>,
}

impl Worker {
    /// As the user it is in a mount namespace of its own, where /etc/subuid and /etc/subgid say what they shall.
    #[expect(clippy::disallowed_methods, reason = "a contestant is another user's process")]
    fn start(contestant: Contestant, fixture: &Fixture) -> anyhow::Result<Self> {
        let exe = fixture.dir().join("rootless");
        if !exe.exists() {
            fs::copy(std::env::current_exe()?, &exe)?;
            fs::set_permissions(&exe, fs::Permissions::from_mode(0o755))?;
        }
        let name = contestant.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        let arguments = [OsStr::new("--worker"), name.as_ref(), OsStr::new("--fixture"), fixture.dir().as_os_str()];
        let mut command = if contestant == Contestant::Root {
            Command::new(&exe)
        } else {
            let home = fixture.dir().join(&name);
            fs::create_dir(&home)?;
            std::os::unix::fs::chown(&home, Some(USER), Some(USER))?;
            let range = if contestant == Contestant::OneId { String::new() } else { format!("{USER}:700000:65536\n") };
            let file = home.join("ranges");
            fs::write(&file, range)?;
            // crun 1.8, and podman with it, refuses hybrids: they are shown the version 1 part alone.
            let script = "mount --bind \"$0\" /etc/subuid && mount --bind \"$0\" /etc/subgid || exit
                umount /sys/fs/cgroup/unified 2>/dev/null; exec \"$@\"";
            let mut command = Command::new("unshare");
            command.args(["--mount", "--propagation", "private", "sh", "-c", script]).arg(&file);
            command
                .args(["setpriv", "--reuid", &USER.to_string(), "--regid", &USER.to_string(), "--clear-groups"])
                .arg(&exe);
            command.env("HOME", &home).env("XDG_RUNTIME_DIR", &home).env_remove("XDG_DATA_HOME");
            command
        };
        let mut child =
            command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("cannot start it")?;
        let (told, says) = (child.stdin.take(), child.stdout.take().context("its output")?);
        Ok(Self { contestant, child, told, says: BufReader::new(says) })
    }

    /// Nanoseconds that it took.
    fn ask(&mut self, what: &str) -> anyhow::Result<u64> {
        let told = self.told.as_mut().context("it was told to end")?;
        writeln!(told, "{what}")?;
        let mut line = String::new();
        self.says.read_line(&mut line)?;
        match line.trim().split_once(' ') {
            Some(("took", time)) => Ok(time.parse()?),
            Some(("failed", why)) => bail!("{why}"),
            _ => bail!("it ended: {line:?}"),
        }
    }
}

impl Drop for Worker {
    /// It ends with its input.
    fn drop(&mut self) {
        self.told = None;
        let _ = self.child.wait();
    }
}

/// A contestant's part: a line asks, a line answers.
fn work(contestant: Contestant, fixture: &Path) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let library =
        contestant.program().is_none().then(|| Library::begin(fixture.join("root"), contestant)).transpose()?;
    let peer = Peer { contestant, root: own_root(contestant, fixture)?, bundle: bundle(contestant, fixture)? };
    let mut number = 0;
    for line in std::io::stdin().lines() {
        number += 1;
        let began = Instant::now();
        let done = match (line?.as_str(), &library) {
            ("life", Some(library)) => runtime.block_on(library.life()).map(|()| began.elapsed()),
            ("first", Some(library)) => library.again().and_then(|fresh| {
                runtime.block_on(fresh.life())?;
                let took = began.elapsed();
                fresh.supervisor.shutdown_blocking();
                Ok(took)
            }),
            ("life", None) => peer.life(number).map(|()| began.elapsed()),
            ("helpers", _) => helpers(),
            (other, _) => bail!("what is {other:?}?"),
        };
        match done {
            Ok(took) => println!("took {}", took.as_nanos()),
            Err(error) => println!("failed {}", format!("{error:#}").replace('\n', "; ")),
        }
    }
    if let Some(library) = library {
        library.supervisor.shutdown_blocking();
    }
    peer.end()
}

/// Our own.
struct Library {
    supervisor: Supervisor,
    root: PathBuf,
    state: PathBuf,
}

impl Library {
    fn begin(root: PathBuf, contestant: Contestant) -> anyhow::Result<Self> {
        let state = std::env::temp_dir().join(format!("orangery-bench-{}-{contestant:?}", std::process::id()));
        Ok(Self { supervisor: builder(&state).build()?, root, state })
    }

    fn again(&self) -> anyhow::Result<Self> {
        Ok(Self { supervisor: builder(&self.state).build()?, root: self.root.clone(), state: self.state.clone() })
    }

    async fn life(&self) -> anyhow::Result<()> {
        let sandbox = Case { root: Root::Dir, network: true }.sandbox_of(self.root.clone())?;
        let report = self.supervisor.command("/bin/true").sandbox(&sandbox).spawn().await?.wait().await?;
        ensure!(report.exit == orangery::ExitStatus::Code(0), "{:?}", report.exit);
        Ok(())
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        // The last of several.
        let _ = fs::remove_dir(&self.state);
    }
}

fn builder(state: &Path) -> SupervisorBuilder {
    Supervisor::builder().state_dir(state)
}

/// Somebody else's.
struct Peer {
    contestant: Contestant,
    root: PathBuf,
    bundle: PathBuf,
}

impl Peer {
    #[expect(clippy::disallowed_methods, reason = "peers are started as a shell would start them")]
    fn life(&self, number: usize) -> anyhow::Result<()> {
        let program = self.contestant.program().context("not a peer")?;
        let mut command = Command::new(program);
        match self.contestant {
            Contestant::Crun => {
                command.arg("--cgroup-manager=disabled").arg("--root").arg(self.bundle.join("state"));
                command
                    .args(["run", "--bundle"])
                    .arg(&self.bundle)
                    .arg(format!("bench-{}-{number}", std::process::id()));
            }
            Contestant::Podman => {
                command.args(["--cgroup-manager=cgroupfs", "run", "--rm", "--read-only", "--cgroups=disabled"]);
                command.args(["--log-driver=none", "--network=none", "--rootfs"]).arg(&self.root).arg("/bin/true");
            }
            _ => {
                command.args(["--unshare-all", "--uid", "0", "--gid", "0", "--hostname", "bench", "--clearenv"]);
                command
                    .args(["--new-session", "--ro-bind"])
                    .arg(&self.root)
                    .args(["/", "--proc", "/proc", "--dev", "/dev"]);
                command.args(["--ro-bind", "/sys", "/sys", "--tmpfs", "/tmp", "--tmpfs", "/run", "/bin/true"]);
            }
        }
        let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {program}"))?;
        ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(())
    }
}

impl Peer {
    /// podman keeps a process that holds its user namespace.
    #[expect(clippy::disallowed_methods, reason = "podman ends it itself")]
    fn end(&self) -> anyhow::Result<()> {
        if self.contestant == Contestant::Podman {
            Command::new("podman").args(["system", "migrate"]).stdin(Stdio::null()).output()?;
        }
        Ok(())
    }
}

/// podman makes a link in it, read-only or not: it needs one of its user's.
fn own_root(contestant: Contestant, fixture: &Path) -> anyhow::Result<PathBuf> {
    let all = fixture.join("root");
    if contestant != Contestant::Podman {
        return Ok(all);
    }
    let own = fixture.join("podman/root");
    for entry in fs::read_dir(&all)? {
        fs::create_dir_all(own.join(entry?.file_name()))?;
    }
    fs::copy(all.join("bin/true"), own.join("bin/true"))?;
    Ok(own)
}

/// crun's, of a user with one id.
fn bundle(contestant: Contestant, fixture: &Path) -> anyhow::Result<PathBuf> {
    let dir = fixture.join("crun");
    if contestant == Contestant::Crun {
        let kinds = ["pid", "ipc", "uts", "mount", "cgroup", "user", "network"];
        let namespaces: Vec<_> = kinds.iter().map(|kind| json!({"type": kind})).collect();
        let ids = json!([{"containerID": 0, "hostID": USER, "size": 1}]);
        let mount = |at: &str, kind: &str, options: &[&str]| json!({"destination": at, "type": kind, "source": kind, "options": options});
        let config = json!({
            "ociVersion": "1.0.2",
            "process": {"terminal": false, "user": {"uid": 0, "gid": 0}, "args": ["/bin/true"], "cwd": "/", "noNewPrivileges": true,
                "env": ["PATH=/usr/bin:/bin"]},
            "root": {"path": fixture.join("root"), "readonly": true},
            "hostname": "bench",
            "mounts": [
                mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
                mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
                mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
                mount("/tmp", "tmpfs", &["nosuid", "nodev", "mode=1777", "size=65536k"]),
                mount("/run", "tmpfs", &["nosuid", "nodev", "mode=755", "size=65536k"]),
                mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
            ],
            "linux": {
                "namespaces": namespaces, "uidMappings": ids, "gidMappings": ids,
            },
        });
        fs::write(dir.join("config.json"), serde_json::to_vec(&config)?)?;
    }
    Ok(dir)
}

/// Both mapping helpers for a process that waits in a new user namespace.
#[expect(clippy::disallowed_methods, reason = "what they take by themselves is to be measured")]
fn helpers() -> anyhow::Result<std::time::Duration> {
    // It says when it is there.
    let script = "echo there; read -r end";
    let mut child = Command::new("unshare")
        .args(["--user", "sh", "-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("its output")?).read_line(&mut line)?;
    let (pid, user) = (child.id().to_string(), USER.to_string());
    let began = Instant::now();
    for program in ["newuidmap", "newgidmap"] {
        let status = Command::new(program).args([&pid, "0", &user, "1", "1", "700000", "65536"]).status()?;
        ensure!(status.success(), "{program}: {status}");
    }
    let took = began.elapsed();
    drop(child.stdin.take());
    child.wait()?;
    Ok(took)
}
