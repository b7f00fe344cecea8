//! The bare stub from the side of the benchmark: gives it the plans and the cgroups, tells it what to do.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, bail};
use orangery::Supervisor;
use orangery_runtime::plan::{Need, Plan};

use crate::case::{Case, Fixture, Root};

static BARE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/orangery-bare"));

/// Cgroups of the stub's containers: the hierarchies in which the library's containers have a group, one level below
/// the same parents. Removed when this is dropped.
#[derive(Debug)]
pub struct Groups {
    v2: Option<PathBuf>,
    v1: Vec<PathBuf>,
}

impl Groups {
    /// Look at where a container of the library is, and make a directory beside the supervisor's.
    ///
    /// # Errors
    /// The cgroup file systems are not where /proc says.
    pub fn beside(pid: i32, id: &str) -> anyhow::Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("orangery-bench-{}-{number}", std::process::id());
        let mut groups = Self { v2: None, v1: Vec::new() };
        for (supervisors, v2) in homes(pid, id)? {
            let ours = supervisors.parent().context("no parent")?.join(&name);
            fs::create_dir(&ours).with_context(|| ours.display().to_string())?;
            if v2 {
                let on = fs::read_to_string(supervisors.join("cgroup.subtree_control")).unwrap_or_default();
                for controller in on.split_whitespace() {
                    let _ = fs::write(ours.join("cgroup.subtree_control"), format!("+{controller}"));
                }
                groups.v2 = Some(ours);
            } else {
                groups.v1.push(ours);
            }
        }
        Ok(groups)
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        for dir in self.v2.iter().chain(&self.v1) {
            if let Err(error) = fs::remove_dir(dir) {
                eprintln!("{} is left: {error}", dir.display());
            }
        }
    }
}

/// The supervisor's directory in each hierarchy, by one of its containers; of v2 or not.
fn homes(pid: i32, id: &str) -> anyhow::Result<Vec<(PathBuf, bool)>> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let mut homes = Vec::new();
    for line in text.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else { continue };
        let path = Path::new(path);
        if path.file_name().is_some_and(|last| last == id) {
            let home = path.strip_prefix("/")?.parent().context("no parent")?;
            homes.push((mount_of(&mounts, controllers)?.join(home), controllers.is_empty()));
        }
    }
    Ok(homes)
}

/// Where a supervisor has the cgroups of its containers, in each hierarchy, by one of them.
///
/// # Errors
/// The cgroup file systems are not where /proc says.
pub fn supervisors_groups(pid: i32, id: &str) -> anyhow::Result<Vec<PathBuf>> {
    Ok(homes(pid, id)?.into_iter().map(|(home, _)| home).collect())
}

fn mount_of(mounts: &str, controllers: &str) -> anyhow::Result<PathBuf> {
    let wanted = |line: &&str| {
        let Some((_, tail)) = line.split_once(" - ") else { return false };
        let mut tail = tail.split(' ');
        let (kind, _, options) = (tail.next(), tail.next(), tail.next().unwrap_or(""));
        if controllers.is_empty() {
            return kind == Some("cgroup2");
        }
        kind == Some("cgroup") && controllers.split(',').all(|name| options.split(',').any(|option| option == name))
    };
    let line = mounts.lines().find(wanted).with_context(|| format!("no mount of the cgroups {controllers:?}"))?;
    Ok(line.split(' ').nth(4).context("mountinfo")?.into())
}

/// A running stub.
#[derive(Debug)]
pub struct Bare {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

fn names(plan: &Plan) -> anyhow::Result<String> {
    let name = |need: &Need| {
        Ok(match need {
            Need::Report => "report",
            Need::Cgroup => "cgroup",
            Need::Tasks(_) => "tasks",
            Need::Layer(_) | Need::Bind(_) => "tree",
            Need::Init => "init",
            Need::Stdio(_) => "stdio",
            Need::Preserved(_) => "preserved",
            other => bail!("the stub cannot give {other}"),
        })
    };
    Ok(plan.needs().iter().map(name).collect::<anyhow::Result<Vec<_>>>()?.join(" "))
}

fn fresh_dir(fixture: &Fixture) -> anyhow::Result<PathBuf> {
    static NUMBER: AtomicU32 = AtomicU32::new(1);
    let dir = fixture.dir().join(format!("bare-{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
    fs::create_dir(&dir)?;
    Ok(dir)
}

/// The program and its configuration, in `dir`.
fn files(dir: &Path, text: &str) -> anyhow::Result<(PathBuf, PathBuf)> {
    let (program, config) = (dir.join("orangery-bare"), dir.join("config"));
    fs::write(&config, text)?;
    fs::write(&program, BARE)?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    Ok((program, config))
}

impl Bare {
    /// Start one for these containers.
    ///
    /// # Errors
    /// The plans cannot be made, or the stub does not start.
    #[expect(clippy::disallowed_methods, reason = "the stub is what the supervisor is compared with")]
    pub fn start(supervisor: &Supervisor, fixture: &Fixture, case: Case, groups: &Groups) -> anyhow::Result<Self> {
        let dir = fresh_dir(fixture)?;
        let mut text = String::new();
        let native = supervisor.native().context("a native runtime")?;
        let mut put = |name: &str, plan: &Plan| -> anyhow::Result<()> {
            let file = dir.join(name);
            fs::write(&file, plan.bytes())?;
            text.push_str(&format!("{name} {} {}\n", file.display(), names(plan)?));
            Ok(())
        };
        for pause in [false, true] {
            let (container, process) = case.specs(fixture, pause)?;
            let (container, main) = native.plan(container, process)?;
            if pause {
                put("pause", &main.context("a plan with a stub init")?)?;
            } else {
                put("container", &container)?;
                put("main", &main.context("a plan with a stub init")?)?;
            }
        }
        if let Some(dir) = &groups.v2 {
            text.push_str(&format!("v2 {}\n", dir.display()));
        }
        for dir in &groups.v1 {
            text.push_str(&format!("v1 {}\n", dir.display()));
        }
        match case.root {
            Root::Dir => text.push_str(&format!("tree {}\n", fixture.root().display())),
            Root::Host => text.push_str(&format!("preserved {}\n", fixture.guest().display())),
        }
        let (program, config) = files(&dir, &text)?;
        Self::talk(Command::new(program).arg(config).env_clear())
    }

    /// One that starts peers, in a mount namespace where `hidden` is not mounted.
    ///
    /// # Errors
    /// There is no unshare or umount, or the stub does not start.
    #[expect(clippy::disallowed_methods, reason = "it starts what the supervisor is compared with")]
    pub fn launcher(fixture: &Fixture, hidden: &Path) -> anyhow::Result<Self> {
        let dir = fresh_dir(fixture)?;
        let (program, config) = files(&dir, "")?;
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", "umount \"$0\" && exec \"$1\" \"$2\""]).arg(hidden).arg(program).arg(config);
        Self::talk(&mut command)
    }

    fn talk(command: &mut Command) -> anyhow::Result<Self> {
        let command = command.current_dir("/").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("cannot start the stub")?;
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().context("stdout")?);
        Ok(Self { child, stdin, stdout })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Tell it something without waiting for the answer.
    ///
    /// # Errors
    /// It has ended.
    pub fn tell(&mut self, word: &str) -> anyhow::Result<()> {
        let stdin = self.stdin.as_mut().context("the stub has ended")?;
        writeln!(stdin, "{word}").context("the stub has ended; it said why on stderr")
    }

    /// The numbers that it answers.
    ///
    /// # Errors
    /// It has ended.
    pub fn hear(&mut self) -> anyhow::Result<Vec<u64>> {
        let line = self.line()?;
        Ok(line.split_whitespace().filter_map(|word| word.parse().ok()).collect())
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        if self.stdout.read_line(&mut line)? == 0 {
            bail!("the stub has ended; it said why on stderr");
        }
        Ok(line)
    }

    /// One life, part by part.
    ///
    /// # Errors
    /// It has ended.
    pub fn parts(&mut self) -> anyhow::Result<Vec<(String, u64)>> {
        self.tell("parts")?;
        let line = self.line()?;
        let words: Vec<_> = line.split_whitespace().collect();
        Ok(words
            .chunks(2)
            .filter_map(|two| Some((two.get(1)?.replace('_', " "), two.first()?.parse().ok()?)))
            .collect())
    }

    /// Tell it something and wait for the answer's last number.
    ///
    /// # Errors
    /// It has ended.
    pub fn ask(&mut self, word: &str) -> anyhow::Result<u64> {
        self.tell(word)?;
        Ok(self.hear()?.last().copied().unwrap_or(0))
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.child.wait();
    }
}
