//! Deadlines that the keeper holds: in their order, at their time, whatever has become of their holder.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "test code: a panic is a failed trial")]

use std::cell::Cell;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use orangery_runtime::native::{NativeRuntime, now_ns};
use orangery_runtime::spec::Stdio as SpecStdio;
use orangery_runtime::{Act, Container, Deadline, ErrorKind, ExitStatus, Lease, Pause, Rung, Started};
use orangery_tests::host::{outcome, probe};
use orangery_tests::wait::{self, Lines};
use orangery_tests::{Host, Scene, trial};
use rustix::process::{Signal, pidfd_send_signal};

fn main() -> ExitCode {
    orangery_tests::main(&[
        trial!(they_are_carried_out_in_the_order_of_their_times),
        trial!(a_dropped_one_is_not_carried_out),
        trial!(a_container_dies_at_its_deadline, Containers),
        trial!(a_frozen_container_dies_at_its_deadline, Freezer),
        trial!(a_pause_ends_at_its_deadline, Freezer),
        trial!(a_signal_reaches_one_process),
        trial!(a_ladder_asks_before_it_kills),
        trial!(a_ladder_ends_with_one_process_or_with_all),
        trial!(a_ladder_that_is_dropped_goes_no_further),
        trial!(wrong_ones_are_refused_and_too_many),
        trial!(a_stopped_holder_does_not_lengthen_a_life),
        trial!(a_stopped_holder_asks_before_it_kills),
        trial!(a_dead_holder_has_done_what_it_left_to_be_done),
    ])
}

const NEVER: u64 = u64::MAX;

fn at(at_ns: u64) -> Deadline {
    Deadline { at_ns, at_end: false }
}

async fn container(host: &Host) -> Box<dyn Container> {
    host.create(host.spec("held"), probe(&["deaf"])).await.expect("created")
}

async fn arm(container: &dyn Container, when: Deadline, act: Act) -> Lease {
    wait::soon("a lease", container.lease(when, act)).await.expect("armed")
}

fn keeper_descriptors(host: &Host) -> Option<usize> {
    fs::read_dir(format!("/proc/{}/fd", host.rt.keeper_pid())).ok().map(Iterator::count).filter(|count| *count > 0)
}

/// A file of this name, and a descriptor of it that all deadlines share.
fn file(scene: &Scene, name: &str) -> (PathBuf, Arc<OwnedFd>) {
    let path = scene.dir().join(name);
    let file = File::create(&path).expect("a file");
    (path, Arc::new(file.into()))
}

/// Times that lie behind all that `make` does to arm them: later and later ones, until they do.
async fn in_time<T>(make: impl AsyncFn(u64) -> T) -> T {
    let mut distance = 100_000_000;
    loop {
        let begin = now_ns() + distance;
        let made = make(begin).await;
        if now_ns() < begin {
            return made;
        }
        distance *= 2;
    }
}

/// Three hundred in a scrambled order, every third of them cancelled: what is written is the rest, sorted.
fn they_are_carried_out_in_the_order_of_their_times(scene: &Scene) {
    scene.play(async |host| {
        let container = container(host).await;
        let before = keeper_descriptors(host);
        let (path, leases) = in_time(async |begin| {
            // Of its own: what comes too late goes elsewhere.
            let (path, fd) = file(scene, &begin.to_string());
            let mut leases = Vec::new();
            for n in 0..300u64 {
                let rank = n * 211 % 300;
                // The times differ by a microsecond.
                let write = Act::Write(Arc::clone(&fd), format!("{rank:03} ").into_bytes());
                leases.push((rank, arm(&*container, at(begin + rank * 1000), write).await));
            }
            leases.retain(|(rank, _)| rank % 3 != 0);
            // Its answer comes after the cancellations.
            drop(arm(&*container, at(NEVER), Act::Write(fd, b"fence".to_vec())).await);
            (path, leases)
        })
        .await;
        for (_, lease) in &leases {
            assert_eq!(wait::soon("its time", lease.wait()).await.expect("told"), 0);
        }
        let written = fs::read_to_string(path).expect("written");
        let ranks: Vec<u64> = written.split_whitespace().map(|rank| rank.parse().expect("a rank")).collect();
        let expected: Vec<u64> = (0..300).filter(|rank| rank % 3 != 0).collect();
        assert_eq!(ranks, expected);
        assert!(leases.iter().all(|(_, lease)| lease.fired() == Some(0)));
        // Only its timer has come.
        assert!(keeper_descriptors(host) <= before.map(|count| count + 1), "descriptors of deadlines");
        container.delete().await.expect("deleted");
    });
}

fn a_dropped_one_is_not_carried_out(scene: &Scene) {
    scene.play(async |host| {
        let container = container(host).await;
        let (path, last) = in_time(async |begin| {
            // Of its own: what comes too late goes elsewhere.
            let (path, fd) = file(scene, &begin.to_string());
            let write = |text: &str| Act::Write(Arc::clone(&fd), text.into());
            drop(arm(&*container, at(begin), write("dropped ")).await);
            // Dropped before the keeper has answered, at whatever poll.
            for polls in 0..4 {
                let mut unfinished = container.lease(at(begin), write("unfinished "));
                for _ in 0..polls {
                    if futures_poll(&mut unfinished).await {
                        break;
                    }
                }
            }
            // The first answer has brought the others' places, which are cancelled then; the second comes after that.
            drop(arm(&*container, at(NEVER), write("fence ")).await);
            (path, arm(&*container, at(begin + 1), write("kept")).await)
        })
        .await;
        assert_eq!(wait::soon("its time", last.wait()).await.expect("told"), 0);
        assert_eq!(fs::read_to_string(path).expect("written"), "kept");
        container.delete().await.expect("deleted");
    });
}

/// Poll once; `true` when it is done.
async fn futures_poll<T>(future: &mut orangery_runtime::BoxFuture<T>) -> bool {
    std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx).is_ready())).await
}

/// A time that has passed is now; what has done it is known before the exit is.
fn a_container_dies_at_its_deadline(scene: &Scene) {
    scene.play(async |host| {
        for without_init in [false, true] {
            let mut spec = host.spec("held");
            spec.without_init = without_init;
            let container = host.create(spec, probe(&["deaf"])).await.expect("created");
            let started = container.start().await.expect("started");
            let lease = arm(&*container, at(0), Act::Kill).await;
            let outcome = outcome(started).await;
            assert_eq!(outcome.exit.status, ExitStatus::Signal { signal: 9, core_dumped: false });
            assert_eq!(lease.fired(), Some(0), "told before the exit");
            container.delete().await.expect("deleted");
            let error = container.lease(at(0), Act::Kill).await.expect_err("it has ended");
            assert_eq!(error.kind(), ErrorKind::State);
        }
    });
}

fn a_frozen_container_dies_at_its_deadline(scene: &Scene) {
    scene.play(async |host| {
        let container = container(host).await;
        let started = container.start().await.expect("started");
        container.pause(Pause::Freeze).await.expect("paused");
        let lease = arm(&*container, at(now_ns()), Act::Kill).await;
        let exit = wait::soon("an exit", started.exit).await.expect("told");
        assert_eq!(exit.status, ExitStatus::Signal { signal: 9, core_dumped: false });
        assert_eq!(lease.fired(), Some(0));
        container.delete().await.expect("deleted");
    });
}

fn a_pause_ends_at_its_deadline(scene: &Scene) {
    scene.play(async |host| {
        let mut main = probe(&["wait"]);
        main.stdin = SpecStdio::Piped;
        let container = host.create(host.spec("held"), main).await.expect("created");
        let mut started = container.start().await.expect("started");
        container.pause(Pause::Freeze).await.expect("paused");
        // It ends as soon as it runs.
        drop(started.stdin.take());
        let lease = arm(&*container, at(now_ns() + 20_000_000), Act::Thaw).await;
        assert_eq!(wait::soon("its time", lease.wait()).await.expect("told"), 0);
        assert_eq!(outcome(started).await.code(), 0);
        container.delete().await.expect("deleted");
    });
}

fn a_signal_reaches_one_process(scene: &Scene) {
    scene.play(async |host| {
        let container = container(host).await;
        let mut waits = probe(&["wait"]);
        waits.stdin = SpecStdio::Piped;
        let (one, two) = (container.exec(waits).await, container.exec(probe(&["true"])).await);
        let (mut one, two) = (one.expect("started"), two.expect("started"));
        let mut lines = Lines::of(one.stdout.take().expect("stdout"));
        assert_eq!(lines.next().await, "ready");
        let usr1 = Act::Signal(Arc::clone(&one.pidfd), Signal::USR1.as_raw());
        let lease = arm(&*container, at(0), usr1).await;
        let exit = wait::soon("an exit", one.exit).await.expect("told");
        assert_eq!(exit.status, ExitStatus::Signal { signal: Signal::USR1.as_raw(), core_dumped: false });
        assert_eq!((lease.fired(), outcome(two).await.code()), (Some(0), 0));
        // It is gone: the keeper says so.
        let late = arm(&*container, at(0), Act::Signal(one.pidfd, 9)).await;
        assert_eq!(wait::soon("its time", late.wait()).await.expect("told"), libc::ESRCH);
        container.delete().await.expect("deleted");
    });
}

const fn rung(at_ns: u64, signal: Signal) -> Rung {
    Rung { at_ns, signal: signal.as_raw() }
}

fn ladder(to: &Started, rungs: &[Rung], all: bool) -> Act {
    Act::Ladder { to: Arc::clone(&to.pidfd), rungs: rungs.to_vec(), all }
}

async fn started(container: &dyn Container) -> Started {
    let mut started = container.start().await.expect("started");
    assert_eq!(Lines::of(started.stdout.take().expect("stdout")).next().await, "ready");
    started
}

const fn killed_by(signal: i32) -> ExitStatus {
    ExitStatus::Signal { signal, core_dumped: false }
}

/// A signal that ends it, also when it is stopped; what is behind that in the ladder is not done. Told before the exit.
fn a_ladder_asks_before_it_kills(scene: &Scene) {
    scene.play(async |host| {
        for stopped in [false, true] {
            let mut main = probe(&["wait"]);
            main.stdin = SpecStdio::Piped;
            let container = host.create(host.spec("held"), main).await.expect("created");
            let started = started(&*container).await;
            if stopped {
                container.signal(&started.pidfd, Signal::STOP.as_raw()).expect("stopped");
            }
            let rungs = [rung(0, Signal::USR1), rung(NEVER, Signal::INT)];
            let lease = arm(&*container, at(NEVER), ladder(&started, &rungs, true)).await;
            let exit = wait::soon("an exit", started.exit).await.expect("told");
            assert_eq!(exit.status, killed_by(Signal::USR1.as_raw()), "stopped: {stopped}");
            assert_eq!((lease.sent(), lease.fired()), (1, None), "told before the exit");
            container.delete().await.expect("deleted");
        }
    });
}

fn a_ladder_ends_with_one_process_or_with_all(scene: &Scene) {
    scene.play(async |host| {
        let container = container(host).await;
        let main = started(&*container).await;
        let mut more = container.exec(probe(&["deaf"])).await.expect("started");
        assert_eq!(Lines::of(more.stdout.take().expect("stdout")).next().await, "ready");
        let rungs = [rung(1, Signal::TERM), rung(1, Signal::INT), rung(2, Signal::QUIT)];
        let lease = arm(&*container, at(2), ladder(&more, &rungs, false)).await;
        let exit = wait::soon("an exit", more.exit).await.expect("told");
        assert_eq!((exit.status, lease.sent(), lease.fired()), (killed_by(9), 3, Some(0)));
        // The one beside it, which is deaf to everything but the end, has lived on.
        let lease = arm(&*container, at(2), ladder(&main, &rungs, true)).await;
        let exit = wait::soon("an exit", main.exit).await.expect("told");
        assert_eq!((exit.status, lease.sent(), lease.fired()), (killed_by(9), 3, Some(0)));
        container.delete().await.expect("deleted");
    });
}

fn a_ladder_that_is_dropped_goes_no_further(scene: &Scene) {
    scene.play(async |host| {
        let (_, fd) = file(scene, "written");
        let made = Cell::new(0);
        for _ in 0..3 {
            // Whoever is too late has killed it: with another one then.
            let (container, main, fence, before) = in_time(async |soon| {
                made.set(made.get() + 1);
                let spec = host.spec(&format!("held{}", made.get()));
                let container = host.create(spec, probe(&["deaf"])).await.expect("created");
                let main = started(&*container).await;
                let before = keeper_descriptors(host);
                drop(arm(&*container, at(soon), ladder(&main, &[rung(0, Signal::TERM)], true)).await);
                // Its time is after that of what was dropped.
                let fence = arm(&*container, at(soon + 1), Act::Write(Arc::clone(&fd), b"now".to_vec())).await;
                (container, main, fence, before)
            })
            .await;
            assert_eq!(wait::soon("its time", fence.wait()).await.expect("told"), 0);
            // Only its timer has come.
            assert!(keeper_descriptors(host) <= before.map(|count| count + 1), "descriptors of deadlines");
            assert!(!wait::readable(&*main.pidfd, Duration::ZERO), "it has died");
            container.kill().expect("killed");
            container.delete().await.expect("deleted");
        }
    });
}

/// A typed refusal when the table or the descriptors are used up; afterwards everything is as it was.
fn wrong_ones_are_refused_and_too_many(scene: &Scene) {
    scene.play(async |host| {
        let container = container(host).await;
        let (_, fd) = file(scene, "written");
        let write = |bytes: &[u8]| Act::Write(Arc::clone(&fd), bytes.to_vec());
        let (pipe, _other) = rustix::pipe::pipe().expect("a pipe");
        let wrong = [write(b""), write(&[b'x'; 65]), Act::Write(Arc::new(pipe), b"x".to_vec())];
        let signals = [0, -1, 65].map(|signal| Act::Signal(Arc::clone(&fd), signal));
        for act in wrong.into_iter().chain(signals) {
            let error = container.lease(at(NEVER), act.clone()).await.expect_err("refused");
            assert_eq!(error.kind(), ErrorKind::Invalid, "{act:?}: {error:?}");
        }
        let of = |rungs: Vec<Rung>| Act::Ladder { to: Arc::clone(&fd), rungs, all: false };
        let (one, two) = (rung(1, Signal::TERM), rung(2, Signal::TERM));
        let ladders = [vec![one; 17], vec![two, one], vec![rung(11, Signal::TERM)], vec![Rung { at_ns: 1, signal: 0 }]];
        for rungs in ladders {
            let error = container.lease(at(10), of(rungs.clone())).await.expect_err("refused");
            assert_eq!(error.kind(), ErrorKind::Invalid, "{rungs:?}: {error:?}");
        }
        let before = keeper_descriptors(host);
        let mut held = Vec::new();
        let error = loop {
            match wait::soon("an answer", container.lease(at(NEVER), write(b"never"))).await {
                Ok(lease) => held.push(lease),
                Err(error) => break error,
            }
            assert!(held.len() <= 16_384);
        };
        assert_eq!(error.kind(), ErrorKind::Exhausted, "{error:?}");
        assert!(held.len() > 500, "{} fit", held.len());
        drop(held);
        // The answer comes after all cancellations.
        let one = arm(&*container, at(0), write(b"now")).await;
        assert_eq!(wait::soon("its time", one.wait()).await.expect("told"), 0);
        // Only its timer has come.
        assert!(keeper_descriptors(host) <= before.map(|count| count + 1), "descriptors of deadlines");
        container.delete().await.expect("deleted");
    });
}

/// Tells the process that it is a holder, and the seconds until its deadlines.
const HOLDER: &str = "ORANGERY_TEST_HOLDER";

struct Holder {
    process: Child,
    said: BufReader<std::process::ChildStdout>,
}

impl Holder {
    #[expect(clippy::disallowed_methods, reason = "a holder that can be stopped and killed")]
    fn start(scene: &Scene, seconds: u64) -> Self {
        let mut process = Command::new(std::env::current_exe().expect("us"));
        let process = scene.share(&mut process).env(HOLDER, seconds.to_string());
        let process = process.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = process.spawn().expect("a holder");
        let said = BufReader::new(process.stdout.take().expect("stdout"));
        Self { process, said }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).expect("a line");
        line.trim_end().to_owned()
    }
}

/// Whoever is one: the nanoseconds until its deadlines.
fn holds() -> Option<u64> {
    std::env::var(HOLDER).ok().map(|seconds| seconds.parse::<u64>().expect("a number") * 1_000_000_000)
}

fn a_stopped_holder_does_not_lengthen_a_life(scene: &Scene) {
    if let Some(distance) = holds() {
        return scene.play(async |host| {
            let container = container(host).await;
            let mut started = container.start().await.expect("started");
            let mut lines = Lines::of(started.stdout.take().expect("stdout"));
            assert_eq!(lines.next().await, "ready");
            let lease = arm(&*container, at(now_ns() + distance), Act::Kill).await;
            println!("{}", started.pid);
            let exit = wait::soon("an exit", started.exit).await.expect("told");
            assert_eq!(exit.status, ExitStatus::Signal { signal: 9, core_dumped: false });
            assert_eq!(lease.fired(), Some(0));
            container.delete().await.expect("deleted");
        });
    }
    watch_a_stopped_holder(scene);
}

/// With so much time that it is stopped before that is over: more and more of it on a busy machine.
fn watch_a_stopped_holder(scene: &Scene) {
    assert!([1, 3, 9].into_iter().any(|seconds| is_stopped_in_time(scene, seconds)), "never in time");
}

/// `false`: what it held had ended before it was stopped, and nothing is shown by it.
fn is_stopped_in_time(scene: &Scene, seconds: u64) -> bool {
    let mut holder = Holder::start(scene, seconds);
    let held = wait::try_pidfd(holder.line().parse().expect("a pid"));
    let ours = wait::pidfd(holder.process.id());
    wait::stop(&ours);
    let held = held.filter(|held| !wait::readable(held, Duration::ZERO));
    if let Some(held) = &held {
        wait::gone(held, "the container of a stopped supervisor");
        let status = fs::read_to_string(format!("/proc/{}/status", holder.process.id())).expect("status");
        assert!(status.contains("State:\tT"), "it is stopped all the while: {status}");
    }
    pidfd_send_signal(&ours, Signal::CONT).expect("it goes on");
    let status = wait::child(&mut holder.process, wait::PATIENCE).expect("waited").expect("in time");
    assert!(status.success(), "{status:?}");
    held.is_some()
}

/// What it was to be asked by is sent while nobody is there who could, to what was stopped as well.
fn a_stopped_holder_asks_before_it_kills(scene: &Scene) {
    if let Some(distance) = holds() {
        return scene.play(async |host| {
            let mut main = probe(&["wait"]);
            main.stdin = SpecStdio::Piped;
            let container = host.create(host.spec("held"), main).await.expect("created");
            let started = started(&*container).await;
            container.signal(&started.pidfd, Signal::STOP.as_raw()).expect("stopped");
            let rungs = [rung(now_ns() + distance, Signal::TERM)];
            let lease = arm(&*container, at(NEVER), ladder(&started, &rungs, true)).await;
            println!("{}", started.pid);
            let exit = wait::soon("an exit", started.exit).await.expect("told");
            assert_eq!((exit.status, lease.sent(), lease.fired()), (killed_by(15), 1, None));
            container.delete().await.expect("deleted");
        });
    }
    watch_a_stopped_holder(scene);
}

/// Killed without a word: what was to be done then is done, what was to be done at another time is not.
fn a_dead_holder_has_done_what_it_left_to_be_done(scene: &Scene) {
    if holds().is_some() {
        return scene.block_on(async {
            let (rt, driver) = NativeRuntime::start(scene.options()).expect("a runtime");
            let _driver = tokio::spawn(driver.run());
            let host = Host::new(rt, scene);
            let container = container(&host).await;
            let (_, fd) = file(scene, "written");
            let write = |text: &str| Act::Write(Arc::clone(&fd), text.into());
            let _no = arm(&*container, at(NEVER), write("no ")).await;
            let _yes = arm(&*container, Deadline { at_ns: NEVER, at_end: true }, write("reverted")).await;
            drop(arm(&*container, Deadline { at_ns: NEVER, at_end: true }, write("dropped ")).await);
            // Answered behind what nobody answers: that one is cancelled.
            let _behind = arm(&*container, at(NEVER), write("behind ")).await;
            println!("{}", host.rt.keeper_pid());
            std::future::pending().await
        });
    }
    let mut holder = Holder::start(scene, 1);
    let keeper = wait::pidfd(holder.line().parse().expect("a pid"));
    holder.process.kill().expect("killed");
    holder.process.wait().expect("reaped");
    wait::gone(&keeper, "the keeper");
    let _ = rustix::process::waitid(
        rustix::process::WaitId::PidFd(std::os::fd::AsFd::as_fd(&keeper)),
        rustix::process::WaitIdOptions::EXITED,
    );
    assert_eq!(fs::read_to_string(scene.dir().join("written")).expect("written"), "reverted");
}
