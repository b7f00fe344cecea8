//! The bare stub: what the kernel charges for a container. It executes the very plans that the library would execute,
//! with the same system calls in the same order, from one small process, single-threaded: no socket, no actor, no
//! report, no counters read. Told what to do on its standard input, one word a line; answers with nanoseconds.
//!
//! `life` create, start, exit, remove; `hold` create, start and keep; `drop` kill and remove all that is kept;
//! `exec` a process in the first that is kept; `rate N` N lives in a row; `steps` the creation of one, each step's
//! time; `process` an exec, each step's time; `parts` one life, each part's time; `run PROGRAM ARGS` a peer.

#[path = "steps.rs"]
mod steps;
#[path = "sys.rs"]
mod sys;
#[allow(dead_code, missing_docs)]
#[path = "../../runtime/src/plan/wire.rs"]
mod wire;

use std::fmt::Write as _;
use std::io::{BufRead as _, Write as _};
use std::time::Instant;

use steps::{Child, MAPPED, TIMES};
use sys::{Res, call, nr};

/// A plan with the descriptors that it needs, by name.
struct Plan {
    bytes: Vec<u8>,
    needs: Vec<String>,
}

#[derive(Default)]
struct Config {
    container: Option<Plan>,
    main: Option<Plan>,
    pause: Option<Plan>,
    v2: Option<i32>,
    v1: Vec<i32>,
    tree: Option<String>,
    preserved: Option<i32>,
}

/// A created container.
struct Container {
    init: i32,
    pid: i32,
    name: String,
    v2: Option<i32>,
    main: Option<i32>,
}

struct Stub {
    config: Config,
    page: *mut u64,
    count: u64,
    held: Vec<Container>,
    /// Kept without descriptors, which every clone would copy: pids of init and program, name.
    numbered: Vec<(i32, i32, String)>,
    timed: std::cell::Cell<bool>,
    /// The user namespace of the range of ids that lives use; -1: not made yet.
    userns: std::cell::Cell<i32>,
    /// Names and times of the parts of a life, while they are asked for.
    marks: std::cell::RefCell<Option<Vec<(&'static str, Instant)>>>,
}

fn die(what: &str, errno: i32) -> ! {
    eprintln!("orangery-bare: {what}: {}", std::io::Error::from_raw_os_error(errno));
    std::process::exit(1)
}

fn nul(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

const PATH_DIR: usize = 0o10_000_000 | if cfg!(target_arch = "x86_64") { 0o200_000 } else { 0o40_000 };

fn config(path: &str) -> Config {
    let mut config = Config::default();
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| die(path, error.raw_os_error().unwrap_or(0)));
    for line in text.lines() {
        let (key, value) = line.split_once(' ').unwrap_or((line, ""));
        let plan = || {
            let mut words = value.split(' ');
            let file = words.next().unwrap_or("");
            let bytes = std::fs::read(file).unwrap_or_else(|error| die(file, error.raw_os_error().unwrap_or(0)));
            Some(Plan { bytes, needs: words.map(str::to_owned).collect() })
        };
        let dir = |flags| sys::openat(-100, &nul(value), flags, 0).unwrap_or_else(|errno| die(value, errno));
        match key {
            "container" => config.container = plan(),
            "main" => config.main = plan(),
            "pause" => config.pause = plan(),
            "v2" => config.v2 = Some(dir(PATH_DIR)),
            "v1" => config.v1.push(dir(PATH_DIR)),
            "tree" => config.tree = Some(value.to_owned()),
            "preserved" => config.preserved = Some(dir(0)),
            _ => die(key, 22),
        }
    }
    config
}

fn write_file(path: &str, content: &[u8]) -> Res<()> {
    let fd = sys::openat(-100, &nul(path), 1, 0)?;
    let wrote = sys::write(fd, content);
    sys::close(fd);
    wrote.map(drop)
}

fn write_maps(plan: &[u8], header: &wire::Header, pid: i32) -> Res<()> {
    if header.flags & wire::DENY_SETGROUPS != 0 {
        write_file(&format!("/proc/{pid}/setgroups"), b"deny")?;
    }
    write_file(&format!("/proc/{pid}/uid_map"), wire::string(plan, header.uid_map).unwrap_or(&[]))?;
    write_file(&format!("/proc/{pid}/gid_map"), wire::string(plan, header.gid_map).unwrap_or(&[]))
}

/// Fork-style clone3; 0 in the child.
fn clone(flags: u64, cgroup: Option<i32>) -> Res<(i32, i32)> {
    let mut pidfd = -1i32;
    // CLONE_PIDFD | CLONE_CLEAR_SIGHAND, CLONE_INTO_CGROUP
    let into = if cgroup.is_some() { 0x2_0000_0000 } else { 0 };
    let flags = flags | into | 0x1_0000_1000;
    let args = [flags, &raw mut pidfd as u64, 0, 0, 17, 0, 0, 0, 0, 0, cgroup.unwrap_or(0) as u64];
    let pid = call(nr::CLONE3, [args.as_ptr() as usize, size_of_val(&args), 0, 0, 0, 0])?;
    Ok((pid as i32, std::hint::black_box(pidfd)))
}

impl Stub {
    /// A part of a life has ended.
    fn mark(&self, part: &'static str) {
        if let Some(marks) = self.marks.borrow_mut().as_mut() {
            marks.push((part, Instant::now()));
        }
    }

    /// Clone a child by a plan with these descriptors. The child never comes back.
    fn start(&self, plan: &Plan, fds: &[i32]) -> Res<(i32, i32)> {
        let header = wire::check(&plan.bytes, fds.len()).unwrap_or_else(|bad| die(&format!("{bad:?}"), 22));
        let slot = |slot: i16| usize::try_from(slot).ok().map(|slot| fds[slot]);
        sys::put(self.page, MAPPED, 0);
        if let Some(init) = slot(header.pidns) {
            call(nr::SETNS, [init as usize, 0x2000_0000, 0, 0, 0, 0])?;
        }
        let cloned = clone(header.clone, slot(header.cgroup));
        if !matches!(cloned, Ok((0, _))) {
            self.mark("clone3");
        }
        if let Ok((0, _)) = cloned {
            let mut slots = [-1; wire::MAX_SLOTS];
            slots[..fds.len()].copy_from_slice(fds);
            let mut child = Child { plan: &plan.bytes, header, slots, page: self.page, timed: self.timed.get() };
            let (step, errno) = steps::walk(&mut child);
            let _ = sys::write(fds[0], &wire::report(step, errno));
            sys::exit(120);
        }
        if header.pidns >= 0 {
            call(nr::SETNS, [OWN_PIDNS.with(|own| own.get()) as usize, 0x2000_0000, 0, 0, 0, 0])?;
        }
        let (pid, pidfd) = cloned?;
        if header.flags & wire::NEEDS_MAPS != 0 {
            write_maps(&plan.bytes, &header, pid)?;
            sys::put(self.page, MAPPED, 1);
            call(nr::FUTEX, [self.page as usize, 1, 64, 0, 0, 0])?;
            self.mark("write the id maps");
        }
        Ok((pid, pidfd))
    }

    /// A user namespace that nobody lives in, with the container's maps.
    fn userns(plan: &Plan) -> Res<i32> {
        let header = wire::header(&plan.bytes).unwrap_or_else(|| die("header", 22));
        // CLONE_NEWUSER | CLONE_FILES
        let (pid, pidfd) = clone(0x1000_0400, None)?;
        if pid == 0 {
            loop {
                let word = 0u32;
                let _ = call(nr::FUTEX, [&raw const word as usize, 128, 0, 0, 0, 0]);
            }
        }
        write_maps(&plan.bytes, &header, pid)?;
        let userns = sys::openat(-100, &nul(&format!("/proc/{pid}/ns/user")), 0, 0)?;
        sys::kill(pidfd);
        sys::reap(pidfd)?;
        sys::close(pidfd);
        Ok(userns)
    }

    /// A tree whose ids are mapped as the container's. The library keeps the namespace of a range of ids, and lives one
    /// after the other use the same range; containers that live at the same time do not.
    fn mapped_tree(&self, plan: &Plan, path: &str, fresh: bool) -> Res<i32> {
        let kept = self.userns.get();
        let userns = if fresh || kept < 0 { Self::userns(plan)? } else { kept };
        // OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE
        let tree = call(nr::OPEN_TREE, [-100i32 as usize, nul(path).as_ptr() as usize, 0x8_8001, 0, 0, 0])?;
        let attr = [0x10_0000u64, 0, 0, userns as u64];
        call(nr::MOUNT_SETATTR, [tree, c"".as_ptr() as usize, 0x9000, attr.as_ptr() as usize, 32, 0])?;
        if fresh {
            sys::close(userns);
        } else {
            self.userns.set(userns);
        }
        Ok(tree as i32)
    }

    fn tasks(&self, name: &str) -> Res<Vec<i32>> {
        let open = |dir: &i32| sys::openat(*dir, &nul(&format!("{name}/tasks")), 1, 0);
        self.config.v1.iter().map(open).collect()
    }

    fn create(&mut self, fresh: bool) -> Res<Container> {
        self.count += 1;
        let name = format!("bare-{}-{}", std::process::id(), self.count);
        let path = nul(&name);
        let mut v2 = None;
        for dir in self.config.v2.iter().chain(&self.config.v1) {
            call(nr::MKDIRAT, [*dir as usize, path.as_ptr() as usize, 0o755, 0, 0, 0])?;
        }
        if let Some(dir) = self.config.v2 {
            v2 = Some(sys::openat(dir, &path, PATH_DIR, 0)?);
        }
        self.mark("make the cgroups");
        let Some(plan) = &self.config.container else { return Err(22) };
        let tree = match &self.config.tree {
            Some(path) if plan.needs.iter().any(|need| need == "tree") => Some(self.mapped_tree(plan, path, fresh)?),
            _ => None,
        };
        self.mark("the id-mapped tree");
        let mut tasks = self.tasks(&name)?.into_iter();
        let (read, write) = sys::pipe()?;
        self.mark("tasks files, report pipe");
        let fds: Vec<i32> = plan
            .needs
            .iter()
            .map(|need| match need.as_str() {
                "report" => write,
                "cgroup" => v2.unwrap_or(-1),
                "tasks" => tasks.next().unwrap_or(-1),
                "tree" => tree.unwrap_or(-1),
                other => die(other, 22),
            })
            .collect();
        let (pid, init) = self.start(plan, &fds)?;
        fds.iter().filter(|fd| Some(**fd) != v2).for_each(|fd| sys::close(*fd));
        let mut report = [0; wire::REPORT];
        let got = sys::read(read, &mut report)?;
        self.mark("the child's steps until ready");
        sys::close(read);
        match wire::read_report(&report) {
            Some((wire::REPORT_READY, _)) if got == wire::REPORT => Ok(Container { init, pid, name, v2, main: None }),
            Some((step, errno)) => die(&format!("container step {step}"), errno),
            None => Err(5),
        }
    }

    /// Start a process in it; the ends of its output and its pidfd.
    fn exec(&self, container: &Container, plan: &Plan) -> Res<(i32, i32, [i32; 2])> {
        let (read, write) = sys::pipe()?;
        let null = sys::openat(-100, b"/dev/null\0", 0, 0)?;
        let (out, err) = (sys::pipe()?, sys::pipe()?);
        let mut stdio = [null, out.1, err.1].into_iter();
        let mut tasks = self.tasks(&container.name)?.into_iter();
        let fds: Vec<i32> = plan
            .needs
            .iter()
            .map(|need| match need.as_str() {
                "report" => write,
                "cgroup" => container.v2.unwrap_or(-1),
                "tasks" => tasks.next().unwrap_or(-1),
                "init" => container.init,
                "stdio" => stdio.next().unwrap_or(-1),
                "preserved" => self.config.preserved.unwrap_or(-1),
                other => die(other, 22),
            })
            .collect();
        self.mark("process: pipes, /dev/null, tasks files");
        let (pid, pidfd) = self.start(plan, &fds)?;
        let kept = [Some(container.init), container.v2, self.config.preserved];
        fds.iter().filter(|fd| !kept.contains(&Some(**fd))).for_each(|fd| sys::close(*fd));
        let mut report = [0; wire::REPORT];
        if sys::read(read, &mut report)? != 0 {
            let (step, errno) = wire::read_report(&report).unwrap_or((0, 0));
            die(&format!("process step {step}"), errno);
        }
        self.mark("process: its steps until exec");
        sys::close(read);
        Ok((pid, pidfd, [out.0, err.0]))
    }

    /// Exit and end of both streams.
    fn finish((_, pidfd, ends): (i32, i32, [i32; 2])) -> Res<()> {
        let (code, status) = sys::reap(pidfd)?;
        if (code, status) != (1, 0) {
            die(&format!("the program ended with {code}/{status}"), 0);
        }
        for end in ends {
            sys::read(end, &mut [0; 16])?;
            sys::close(end);
        }
        sys::close(pidfd);
        Ok(())
    }

    fn remove(&self, container: &Container) -> Res<()> {
        sys::kill(container.init);
        // The init's own end waits until everybody in its namespace is reaped.
        if let Some(main) = container.main {
            sys::reap(main)?;
            sys::close(main);
        }
        sys::reap(container.init)?;
        self.mark("kill and reap the init");
        sys::close(container.init);
        container.v2.into_iter().for_each(sys::close);
        let removed = self.remove_groups(container);
        self.mark("remove the cgroups");
        removed
    }

    fn remove_groups(&self, container: &Container) -> Res<()> {
        let path = nul(&container.name);
        for dir in self.config.v2.iter().chain(&self.config.v1) {
            // AT_REMOVEDIR
            call(nr::UNLINKAT, [*dir as usize, path.as_ptr() as usize, 0x200, 0, 0, 0])?;
        }
        Ok(())
    }

    fn life(&mut self) -> Res<[u64; 4]> {
        let began = Instant::now();
        let at = || began.elapsed().as_nanos() as u64;
        let container = self.create(false)?;
        let created = at();
        let Some(main) = &self.config.main else { return Err(22) };
        let process = self.exec(&container, main)?;
        let started = at();
        Self::finish(process)?;
        self.mark("process: exit, reap, end of its streams");
        let ended = at();
        self.remove(&container)?;
        Ok([created, started, ended, at()])
    }

    fn hold(&mut self) -> Res<u64> {
        let began = Instant::now();
        let mut container = self.create(true)?;
        let Some(pause) = &self.config.pause else { return Err(22) };
        let (pid, main, ends) = self.exec(&container, pause)?;
        let took = began.elapsed().as_nanos() as u64;
        ends.into_iter().for_each(sys::close);
        if self.held.is_empty() {
            container.main = Some(main);
            self.held.push(container);
            return Ok(took);
        }
        [Some(main), Some(container.init), container.v2].into_iter().flatten().for_each(sys::close);
        self.numbered.push((container.pid, pid, container.name));
        Ok(took)
    }

    fn obey(&mut self, word: &str) -> Res<String> {
        let (word, argument) = word.split_once(' ').unwrap_or((word, ""));
        let mut answer = String::new();
        match word {
            "life" => {
                let times = self.life()?;
                answer = times.map(|time| time.to_string()).join(" ");
            }
            "hold" => answer = self.hold()?.to_string(),
            "exec" => {
                let (Some(container), Some(main)) = (self.held.first(), &self.config.main) else { return Err(22) };
                let began = Instant::now();
                Self::finish(self.exec(container, main)?)?;
                answer = began.elapsed().as_nanos().to_string();
            }
            "rate" => {
                let began = Instant::now();
                for _ in 0..argument.parse().unwrap_or(1) {
                    self.life()?;
                }
                answer = began.elapsed().as_nanos().to_string();
            }
            "parts" => {
                self.marks = std::cell::RefCell::new(Some(vec![("", Instant::now())]));
                let done = self.life();
                let marks = self.marks.take().unwrap_or_default();
                done?;
                let parts = marks.windows(2).map(|two| match two {
                    [(_, before), (part, then)] => {
                        format!("{} {}", (*then - *before).as_nanos(), part.replace(' ', "_"))
                    }
                    _ => String::new(),
                });
                answer = parts.collect::<Vec<_>>().join(" ");
            }
            // Times of the last plan that ran with them: the container's, for its process runs another after it.
            "steps" => {
                self.timed.set(true);
                let made = self.create(false);
                self.timed.set(false);
                let container = made?;
                let steps =
                    self.config.container.as_ref().and_then(|plan| wire::header(&plan.bytes)).map_or(0, |h| h.steps);
                let mut last = sys::get(self.page, TIMES);
                for index in 0..usize::from(steps) {
                    let time = sys::get(self.page, TIMES + 1 + index);
                    sys::put(self.page, TIMES + 1 + index, 0);
                    let _ = write!(answer, "{} ", time.saturating_sub(last));
                    last = time.max(last);
                }
                self.remove(&container)?;
            }
            // The same for the process in the first container that is kept.
            "process" => {
                let (Some(container), Some(main)) = (self.held.first(), &self.config.main) else { return Err(22) };
                let began = steps::now();
                self.timed.set(true);
                let process = self.exec(container, main);
                self.timed.set(false);
                let process = process?;
                let execd = steps::now();
                Self::finish(process)?;
                let steps = wire::header(&main.bytes).map_or(0, |header| header.steps);
                let mut last = sys::get(self.page, TIMES);
                let _ = write!(answer, "{} ", last.saturating_sub(began));
                for index in 0..usize::from(steps) {
                    let time = sys::get(self.page, TIMES + 1 + index);
                    let time = if time == 0 { execd } else { time };
                    sys::put(self.page, TIMES + 1 + index, 0);
                    let _ = write!(answer, "{} ", time.saturating_sub(last));
                    last = time.max(last);
                }
            }
            // A program of somebody else's, from as small a process as this one; for peers that want a mount namespace.
            "run" => {
                let mut words = argument.split(' ');
                let mut command = std::process::Command::new(words.next().unwrap_or(""));
                command.args(words).stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
                let began = Instant::now();
                let status = command.status();
                answer = began.elapsed().as_nanos().to_string();
                if !status.is_ok_and(|status| status.success()) {
                    answer = "0".into();
                }
            }
            "drop" => {
                for (init, main, name) in std::mem::take(&mut self.numbered) {
                    // Children that nobody has reaped: their numbers are theirs.
                    call(nr::KILL, [init as usize, 9, 0, 0, 0, 0])?;
                    let mut info = [0i32; 32];
                    for pid in [main, init] {
                        // P_PID, WEXITED
                        call(nr::WAITID, [1, pid as usize, info.as_mut_ptr() as usize, 4, 0, 0])?;
                    }
                    self.remove_groups(&Container { init: -1, pid: -1, name, v2: None, main: None })?;
                }
                for container in std::mem::take(&mut self.held) {
                    self.remove(&container)?;
                }
            }
            other => die(other, 22),
        }
        Ok(answer)
    }
}

thread_local! {
    static OWN_PIDNS: std::cell::Cell<i32> = const { std::cell::Cell::new(-1) };
}

fn main() {
    let path = std::env::args().nth(1).unwrap_or_else(|| die("the configuration's path is missing", 22));
    // SIGCHLD stays blocked for the inits; the plans unblock for their programs. SIG_BLOCK
    let child: u64 = 1 << 16;
    let _ = call(nr::RT_SIGPROCMASK, [0, &raw const child as usize, 0, 8, 0, 0]);
    let _ = call(nr::PRCTL, [4, 0, 0, 0, 0, 0]);
    let own = sys::openat(-100, b"/proc/self/ns/pid\0", 0, 0).unwrap_or_else(|errno| die("/proc", errno));
    OWN_PIDNS.with(|cell| cell.set(own));
    let page = sys::shared_page().unwrap_or_else(|errno| die("mmap", errno));
    let mut stub = Stub {
        config: config(&path),
        page,
        count: 0,
        held: Vec::new(),
        numbered: Vec::new(),
        timed: Default::default(),
        userns: std::cell::Cell::new(-1),
        marks: Default::default(),
    };
    let (stdin, mut stdout) = (std::io::stdin().lock(), std::io::stdout());
    for line in stdin.lines() {
        let Ok(line) = line else { break };
        match stub.obey(&line) {
            Ok(answer) => {
                let _ = writeln!(stdout, "{answer}");
                let _ = stdout.flush();
            }
            Err(errno) => die(&line, errno),
        }
    }
    let _ = stub.obey("drop");
}
