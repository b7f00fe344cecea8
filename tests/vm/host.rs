//! The host's side: is everything there, build, pack, boot, and one trial for each line of the console.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Trial};
use orangery_tests::wait;

use crate::archive::Archive;
use crate::kernel::Kernel;
use crate::suites::{self, BEGIN, DONE, END, MORE, RUNTIME};
use crate::{boot, session, systemd};

/// Set to 1 to run at all.
const WANTED: &str = "ORANGERY_VM";
/// The machine is shut off after so many seconds, whatever it does; each suite of [`MORE`] adds as many.
const LIMIT: &str = "ORANGERY_VM_LIMIT";
const SECONDS: u64 = 600;
/// Such as `kvm`. Emulated by default: nested KVM asserted or hung where this was written, and emulation takes 30 s.
const ACCELERATOR: &str = "ORANGERY_VM_ACCEL";
/// When emulated: without the page table level and the checks that cost an emulator much.
const CPU: &str = "max,la57=off,smap=off,smep=off";
/// RCU in a hurry: each change of cgroup controllers waits for it, tens of milliseconds otherwise.
const KERNEL: &str = "quiet loglevel=1 panic=-1 nokaslr mitigations=off rcupdate.rcu_expedited=1 rdinit=/init";
const BUSYBOX: &str = "/usr/bin/busybox";
/// What images and scenarios call.
const APPLETS: [&str; 12] =
    ["sh", "true", "false", "cat", "echo", "ls", "id", "sleep", "dd", "mount", "unshare", "losetup"];
/// Of the kernel's modules: overlayfs, and the loop device for the ext4 image and limits of devices.
const MODULES: [&str; 2] = ["fs/overlayfs/overlay.ko", LOOP];
const LOOP: &str = "drivers/block/loop.ko";

/// Goes into the machine of systemd, where it is installed here.
const PODMAN: [&str; 2] = ["/usr/bin/podman", "/usr/bin/conmon"];

/// `plain` or `systemd`: only that machine.
const MACHINE: &str = "ORANGERY_VM_MACHINE";

/// What one trial in the machine came to.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Passed,
    Failed,
    Skipped,
}

/// Boot, then report; or say why not.
pub(crate) fn run() -> ExitCode {
    let arguments = Arguments::from_args();
    let found = if arguments.list { Err("only listed".into()) } else { Tools::find() };
    let trials = match found {
        Ok(tools) => tools.run(),
        Err(why) => {
            println!("skipped: vm: {why}");
            vec![Trial::test("vm", || Ok(())).with_kind("skipped").with_ignored_flag(true)]
        }
    };
    let conclusion = libtest_mimic::run(&arguments, trials);
    println!("{} passed, {} failed, {} skipped", conclusion.num_passed, conclusion.num_failed, conclusion.num_ignored);
    conclusion.exit_code()
}

/// All that is needed, found.
struct Tools {
    work: PathBuf,
    kernel: Kernel,
}

impl Tools {
    fn find() -> Result<Self, String> {
        if std::env::var_os(WANTED).is_none_or(|value| value != "1") {
            return Err(format!("not asked for ({WANTED}=1)"));
        }
        if !cfg!(target_arch = "x86_64") {
            return Err("written for x86-64".into());
        }
        let runs =
            |program: &str| command(program).arg("--version").output().is_ok_and(|output| output.status.success());
        if !runs("qemu-system-x86_64") {
            return Err("needs qemu-system-x86_64 (Debian: qemu-system-x86)".into());
        }
        if !is_static(Path::new(BUSYBOX)) {
            return Err(format!("needs a static {BUSYBOX} (Debian: busybox-static)"));
        }
        let work = Path::new(env!("CARGO_TARGET_TMPDIR")).join("vm");
        fs::create_dir_all(&work).map_err(|error| format!("{}: {error}", work.display()))?;
        Ok(Self { kernel: Kernel::find(&work)?, work })
    }

    /// Every line of every suite, and how each machine as a whole did.
    fn run(&self) -> Vec<Trial> {
        let start = Instant::now();
        let suites = match self.suites() {
            Ok(suites) => suites,
            Err(why) => return vec![Trial::test("vm", move || Err(why.into()))],
        };
        println!("vm: {}, built in {} s", self.kernel.image.display(), start.elapsed().as_secs());
        let only = std::env::var(MACHINE).ok();
        let wanted = |name: &str| only.as_deref().is_none_or(|only| only == name);
        let plain = || match self.initramfs(&suites).and_then(|initramfs| self.boot(&Self::plain(initramfs))) {
            Ok(console) => trials(&console, "machine"),
            Err(why) => vec![Trial::test("vm", move || Err(why.into()))],
        };
        let systemd = || match self.systemd(&suites) {
            Ok(console) => trials(&console, "machine@systemd"),
            Err(why) => {
                println!("skipped: systemd: {why}");
                vec![Trial::test("systemd", || Ok(())).with_ignored_flag(true)]
            }
        };
        // Both at once: each spends most of its time in one thread.
        std::thread::scope(|scope| {
            let plain = wanted("plain").then(|| scope.spawn(plain));
            let systemd = wanted("systemd").then(|| scope.spawn(systemd));
            let both = [plain, systemd].into_iter().flatten();
            both.flat_map(|machine| machine.join().expect("a machine's thread")).collect()
        })
    }

    fn plain(initramfs: PathBuf) -> Boot {
        let more = std::env::var(MORE).map(|more| format!(" {MORE}={more}")).unwrap_or_default();
        let times = u32::try_from(1 + more.split(',').count().min(more.len())).unwrap_or(1);
        let append = format!("console=ttyS0 {KERNEL}{more}");
        let limit = Duration::from_secs(seconds()) * times;
        Boot { name: "", initramfs, append, accelerator: std::env::var(ACCELERATOR).ok(), limit }
    }

    /// What the machine of systemd said; or why there is none.
    fn systemd(&self, suites: &[(String, PathBuf)]) -> Result<String, String> {
        let mut root = systemd::Root::gather(&self.work.join("systemd"))?;
        libraries(&programs(suites))?.iter().for_each(|library| root.also(library));
        let podman: Vec<&Path> = PODMAN.iter().map(Path::new).filter(|path| path.exists()).collect();
        if podman.len() == PODMAN.len() {
            root.also(Path::new("/etc/containers/policy.json"));
            podman.iter().for_each(|program| root.also(program));
            libraries(&podman)?.iter().for_each(|library| root.also(library));
        }
        let failed = |error: std::io::Error| format!("cannot pack its initramfs: {error}");
        let mut archive = Archive::default();
        root.pack(&mut archive).map_err(failed)?;
        archive.device("dev/console", (5, 1));
        archive.device("dev/null", (1, 3));
        archive.link("init", "suites/vm");
        archive.program("usr/bin/busybox", Path::new(BUSYBOX)).map_err(failed)?;
        APPLETS.iter().for_each(|applet| archive.link(&format!("usr/bin/{applet}"), "busybox"));
        if let Some(module) = self.kernel.module(LOOP) {
            archive.program("modules/loop.ko", &module).map_err(failed)?;
        }
        for (name, program) in suites {
            if name == "vm" || session::SUITES.iter().any(|(suite, _)| suite == name) {
                archive.program(&format!("suites/{name}"), program).map_err(failed)?;
            }
        }
        let initramfs = archive.finish(self.work.join("initramfs-systemd")).map_err(failed)?;
        // Its own words go to the log: the console is for results.
        let unit = "systemd.unit=orangery.target systemd.show_status=0 systemd.log_target=kmsg";
        let append = format!("console=ttyS1 {KERNEL} {}=1 {unit}", boot::SYSTEMD);
        let accelerator = std::env::var(ACCELERATOR).ok();
        let limit = Duration::from_secs(seconds());
        self.boot(&Boot { name: "systemd-", initramfs, append, accelerator, limit })
    }

    fn initramfs(&self, suites: &[(String, PathBuf)]) -> Result<PathBuf, String> {
        let failed = |error: std::io::Error| format!("cannot pack the initramfs: {error}");
        let mut archive = Archive::default();
        for dir in [
            "dev", "proc", "sys", "tmp", "run", "new", "ext4", "etc", "root", "home", "var", "opt", "usr", "usr/bin",
            "usr/lib", "suites", "modules",
        ] {
            archive.directory(dir);
        }
        archive.device("dev/console", (5, 1));
        archive.device("dev/null", (1, 3));
        for (link, target) in [("bin", "usr/bin"), ("sbin", "usr/bin"), ("lib", "usr/lib"), ("lib64", "usr/lib64")] {
            archive.link(link, target);
        }
        archive.link("init", "suites/vm");
        let libraries = libraries(&programs(suites)).map_err(std::io::Error::other).map_err(failed)?;
        let libraries: Vec<_> = libraries.iter().filter_map(|from| Some((systemd::in_usr(from)?, from))).collect();
        let dirs: BTreeSet<&str> = libraries.iter().filter_map(|(name, _)| Some(name.rsplit_once('/')?.0)).collect();
        dirs.iter().filter(|dir| **dir != "usr/lib").for_each(|dir| archive.directory(dir));
        for (name, from) in &libraries {
            archive.program(name, from).map_err(failed)?;
        }
        archive.program("usr/bin/busybox", Path::new(BUSYBOX)).map_err(failed)?;
        APPLETS.iter().for_each(|applet| archive.link(&format!("usr/bin/{applet}"), "busybox"));
        archive.file("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home:/bin/sh\n");
        archive.file("etc/group", b"root:x:0:\nuser:x:1000:\n");
        for module in MODULES.iter().filter_map(|module| self.kernel.module(module)) {
            let name = module.file_name().unwrap_or_default().to_string_lossy().into_owned();
            archive.program(&format!("modules/{name}"), &module).map_err(failed)?;
        }
        if let Some(image) = self.ext4() {
            archive.program("ext4.img", &image).map_err(failed)?;
        }
        let wanted: BTreeSet<String> = suites::all().into_iter().map(|suite| suite.target).collect();
        for (name, program) in suites.iter().filter(|(name, _)| wanted.contains(name)) {
            archive.program(&format!("suites/{name}"), program).map_err(failed)?;
        }
        archive.finish(self.work.join("initramfs")).map_err(failed)
    }

    /// An empty ext4 file system; without mke2fs the trials that need it are skipped in the machine.
    fn ext4(&self) -> Option<PathBuf> {
        let image = self.work.join("ext4.img");
        let _ = fs::remove_file(&image);
        let mut make = command("mke2fs");
        make.stdout(Stdio::null()).args(["-q", "-t", "ext4", "-O", "^has_journal"]).arg(&image).arg("96M");
        make.status().is_ok_and(|status| status.success()).then_some(image)
    }

    /// As `cargo test --workspace --all-features` builds them: where that runs us they are there already.
    fn suites(&self) -> Result<Vec<(String, PathBuf)>, String> {
        let mut cargo = command(&std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
        cargo
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .args(["test", "--no-run", "--message-format=json-render-diagnostics", "--workspace", "--all-features"])
            .arg("--lib")
            .stderr(Stdio::inherit());
        let mut targets: BTreeSet<String> = suites::all().into_iter().map(|suite| suite.target).collect();
        targets.extend(session::SUITES.iter().map(|(suite, _)| (*suite).to_owned()));
        for target in targets.iter().filter(|target| *target != RUNTIME) {
            cargo.args(["--test", target]);
        }
        let output = cargo.output().map_err(|error| format!("cannot run cargo: {error}"))?;
        if !output.status.success() {
            return Err("building the programs failed; cargo said why above".into());
        }
        let built: Vec<_> = String::from_utf8_lossy(&output.stdout).lines().filter_map(executable).collect();
        Ok(built.into_iter().map(|(name, program)| (name.clone(), self.stripped(&name, program))).collect())
    }

    /// The machine has them in its memory. Without binutils they are as they are.
    fn stripped(&self, name: &str, program: PathBuf) -> PathBuf {
        let to = self.work.join(format!("{name}.stripped"));
        let mut strip = command("strip");
        strip.arg("-o").arg(&to).arg(&program).stderr(Stdio::null());
        if strip.status().is_ok_and(|status| status.success()) { to } else { program }
    }

    fn boot(&self, boot: &Boot) -> Result<String, String> {
        let start = Instant::now();
        let named = |what: &str| self.work.join(format!("{}{what}", boot.name));
        let (console, log) = (named("console.txt"), named("log.txt"));
        let mut qemu = command("qemu-system-x86_64");
        let (accelerator, cpu) = boot.accelerator.as_deref().map_or(("tcg,thread=multi", CPU), |name| (name, "max"));
        qemu.args(["-accel", accelerator, "-cpu", cpu, "-smp", "2", "-m", "1024", "-no-reboot"])
            .args(["-display", "none", "-monitor", "none", "-nic", "none", "-append"])
            .arg(&boot.append)
            .arg("-kernel")
            .arg(&self.kernel.image)
            .arg("-initrd")
            .arg(&boot.initramfs)
            .args(["-serial", &format!("file:{}", console.display()), "-serial", &format!("file:{}", log.display())]);
        qemu.stdin(Stdio::null());
        let said = named("qemu.txt");
        qemu.stderr(File::create(&said).map_err(|error| format!("{}: {error}", said.display()))?);
        let mut child = qemu.spawn().map_err(|error| format!("cannot start qemu: {error}"))?;
        let ended = wait::child(&mut child, boot.limit).map_err(|error| format!("cannot wait for qemu: {error}"))?;
        let read = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).replace('\r', "");
        match ended {
            None => println!("vm: shut off after {} s", boot.limit.as_secs()),
            Some(status) if !status.success() => println!("vm: qemu: {status}: {}", read(&said)),
            Some(_) => {}
        }
        println!("vm: {}ran {:.1} s", boot.name, start.elapsed().as_secs_f64());
        Ok(read(&console))
    }
}

fn seconds() -> u64 {
    std::env::var(LIMIT).ok().and_then(|text| text.parse().ok()).unwrap_or(SECONDS)
}

/// One run of a machine.
struct Boot {
    /// Before the names of what it leaves.
    name: &'static str,
    initramfs: PathBuf,
    append: String,
    /// `None`: emulated.
    accelerator: Option<String>,
    limit: Duration,
}

#[expect(clippy::disallowed_methods, reason = "qemu, cargo and mke2fs: nothing of the product")]
fn command(program: &str) -> Command {
    Command::new(program)
}

fn is_static(program: &Path) -> bool {
    let elf = fs::read(program).unwrap_or_default();
    !elf.is_empty() && !elf.windows(6).any(|bytes| bytes == b"/ld-li" || bytes == b"ld-mus")
}

fn programs(suites: &[(String, PathBuf)]) -> Vec<&Path> {
    suites.iter().map(|(_, program)| program.as_path()).collect()
}

/// What these programs are linked with, the loader among them: of this machine, as the machine's own is no older.
fn libraries(programs: &[&Path]) -> Result<BTreeSet<PathBuf>, String> {
    let said = command("ldd").args(programs).output().map_err(|error| format!("cannot run ldd: {error}"))?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let words = said.lines().filter(|line| line.starts_with('\t')).flat_map(str::split_whitespace);
    Ok(words.filter(|word| word.starts_with('/')).map(PathBuf::from).collect())
}

/// Name and file of a test program of ours or of the library, from a line of cargo's JSON.
fn executable(line: &str) -> Option<(String, PathBuf)> {
    let value: serde_json::Value = serde_json::from_str(line).ok()?;
    let path = value["executable"].as_str()?;
    value["profile"]["test"].as_bool().filter(|test| *test)?;
    let of = value["package_id"].as_str()?;
    // Others have trials of the same names.
    let ours = ["#orangery-tests@", "#orangery-runtime@"];
    ours.iter().any(|part| of.contains(part)).then_some(())?;
    Some((value["target"]["name"].as_str()?.to_owned(), path.into()))
}

/// One trial a line; and one, `machine`, for what the lines do not say: it came up, each suite ended as its lines say,
/// it went down by itself.
fn trials(console: &str, machine: &str) -> Vec<Trial> {
    let (mut found, mut wrong) = (Vec::new(), Vec::new());
    let mut parts = console.split(BEGIN);
    let release = parts.next().and_then(|head| head.lines().find_map(|line| line.strip_prefix("kernel ")));
    println!("vm: Linux {}", release.unwrap_or("did not come up"));
    for part in parts {
        let suite = part.lines().next().unwrap_or("").trim();
        let results: Vec<_> = part.lines().filter_map(result).collect();
        let failed = results.iter().any(|(_, verdict)| *verdict == Verdict::Failed);
        match part.lines().find_map(|line| line.strip_prefix(END)) {
            Some(end) if end.ends_with(" 0") || failed => {}
            end => wrong.push(format!("{suite} ended without a failed trial: {}", end.unwrap_or("not at all"))),
        }
        if results.is_empty() {
            wrong.push(format!("{suite} ran nothing"));
        }
        let one = |(name, verdict): &(&str, Verdict)| trial(format!("{suite}::{name}"), verdict, said_by(part, name));
        found.extend(results.iter().map(one));
    }
    if !console.contains(DONE) {
        let tail: Vec<&str> = console.lines().rev().take(30).collect();
        wrong.push(format!("it did not finish:\n{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n")));
    }
    let whole = if wrong.is_empty() { Verdict::Passed } else { Verdict::Failed };
    found.push(trial(machine.into(), &whole, wrong.join("\n")));
    found
}

fn trial(name: String, verdict: &Verdict, said: String) -> Trial {
    match verdict {
        Verdict::Passed => Trial::test(name, || Ok(())),
        Verdict::Failed => Trial::test(name, move || Err(said.into())),
        Verdict::Skipped => Trial::test(name, || Ok(())).with_ignored_flag(true),
    }
}

/// `test [kind] NAME ... ok`
fn result(line: &str) -> Option<(&str, Verdict)> {
    let (head, verdict) = line.strip_prefix("test ")?.rsplit_once(" ... ")?;
    let verdict = match verdict.trim().split([',', ' ']).next()? {
        "ok" => Verdict::Passed,
        "FAILED" => Verdict::Failed,
        "ignored" => Verdict::Skipped,
        _ => return None,
    };
    let head = head.trim();
    let head = if head.starts_with('[') { head.split_once("] ")?.1 } else { head };
    Some((head.trim(), verdict))
}

/// What a harness printed about one failed trial: libtest's and libtest-mimic's `---- NAME ----` blocks.
fn said_by(console: &str, name: &str) -> String {
    let block =
        console.lines().skip_while(|line| !(line.starts_with("---- ") && line.split(' ').nth(1) == Some(name))).skip(1);
    let block: Vec<&str> =
        block.take_while(|line| !line.starts_with("---- ") && !line.starts_with("failures:")).collect();
    block.join("\n")
}
