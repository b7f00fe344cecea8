//! The actors against the scripted runtime: what happens is the actors' doing alone.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says why by panicking")]

use std::sync::Arc;
use std::time::Duration;

use orangery::faults::{Fault, FaultPoint, FaultPolicy, Site};
use orangery::stream::{EndReason, Fate};
use orangery::testing::FakeRuntime;
use orangery::{
    Cause, ContainerHandle, ErrorKind, Event, ExitStatus, LimitKind, Measured, OutputAction, OutputLimit, Sandbox,
    State, Supervisor,
};

/// Panics at sites of this name, this often.
struct PanicAt {
    message: &'static str,
    times: std::sync::atomic::AtomicU32,
}

impl PanicAt {
    fn new(message: &'static str, times: u32) -> Arc<Self> {
        Arc::new(Self { message, times: times.into() })
    }
}

impl FaultPolicy for PanicAt {
    fn decide(&self, at: &FaultPoint<'_>) -> Fault {
        let (Site::ProcessMessage(name) | Site::ContainerMessage(name)) = at.site else { return Fault::Continue };
        let left = self.times.load(std::sync::atomic::Ordering::SeqCst);
        if name != self.message || left == 0 {
            return Fault::Continue;
        }
        self.times.store(left - 1, std::sync::atomic::Ordering::SeqCst);
        Fault::Panic
    }
}

fn supervisor(fake: &FakeRuntime) -> Supervisor {
    Supervisor::builder().shards(1).build_on(Arc::new(fake.clone())).unwrap()
}

fn faulty(fake: &FakeRuntime, policy: Arc<PanicAt>) -> Supervisor {
    Supervisor::builder().shards(1).fault_policy(policy).build_on(Arc::new(fake.clone())).unwrap()
}

async fn spawn(supervisor: &Supervisor, id: &str) -> ContainerHandle {
    let sandbox = Sandbox::builder().id(id).build().unwrap();
    supervisor.command("prog").sandbox(&sandbox).spawn().await.unwrap()
}

#[tokio::test]
async fn output_exit_and_report_arrive_and_the_container_is_deleted_before_the_report_is_told() {
    let fake = FakeRuntime::default();
    let supervisor = supervisor(&fake);
    let handle = spawn(&supervisor, "a").await;
    let mut actor = fake.actor().await;
    actor.say(b"hello");
    actor.exit(3);
    let report = handle.wait().await.unwrap();
    assert_eq!((report.exit, report.cause.clone()), (ExitStatus::Code(3), Cause::Own));
    assert_eq!(report.stdout.bytes, Measured::Known(5));
    assert_eq!(fake.alive(), 0);
    assert_eq!(fake.log(), ["create a", "start a", "finish a", "delete a"]);
    assert_eq!(handle.wait_exit().await.unwrap(), ExitStatus::Code(3), "and again, after the end");
    supervisor.shutdown().await;
}

#[tokio::test]
async fn ten_waiters_and_a_late_one_get_the_same_report() {
    let fake = FakeRuntime::default();
    let supervisor = supervisor(&fake);
    let handle = spawn(&supervisor, "a").await;
    let waiters: Vec<_> = (0..10).map(|_| tokio::spawn(handle.wait())).collect();
    fake.actor().await.exit(0);
    let mut reports = Vec::new();
    for waiter in waiters {
        reports.push(waiter.await.unwrap().unwrap());
    }
    reports.push(handle.wait().await.unwrap());
    assert!(reports.iter().all(|report| Arc::ptr_eq(report, &reports[0])));
    supervisor.shutdown().await;
}

#[tokio::test]
async fn dropping_the_last_handle_kills_and_removes_and_detach_opts_out() {
    let fake = FakeRuntime::default();
    let supervisor = supervisor(&fake);
    let handle = spawn(&supervisor, "a").await;
    drop(handle.clone());
    drop(handle);
    fake.saw("kill a").await;
    fake.empty().await;
    let handle = spawn(&supervisor, "b").await;
    handle.detach();
    assert_eq!(supervisor.list().await.unwrap()[0].state, State::Running);
    assert!(!fake.log().contains(&"kill b".to_owned()));
    supervisor.shutdown().await;
    assert!(fake.log().contains(&"kill b".to_owned()), "the end of the supervisor is the end of all");
    assert_eq!(fake.alive(), 0);
}

#[tokio::test]
async fn a_taken_id_and_one_container_too_many_are_refused_and_nothing_is_made() {
    let fake = FakeRuntime::default();
    let supervisor = Supervisor::builder().max_containers(2).build_on(Arc::new(fake.clone())).unwrap();
    let first = spawn(&supervisor, "a").await;
    let sandbox = Sandbox::builder().id("a").build().unwrap();
    let error = supervisor.command("prog").sandbox(&sandbox).spawn().await.unwrap_err();
    assert_eq!((error.kind(), error.field()), (ErrorKind::Exists, Some("id")));
    let second = spawn(&supervisor, "b").await;
    let error = supervisor.command("prog").spawn().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exhausted);
    assert_eq!(fake.alive(), 2);
    drop((first, second));
    supervisor.shutdown().await;
    let error = supervisor.command("prog").spawn().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ShutDown);
}

#[tokio::test]
async fn who_has_the_report_may_make_another_at_once() {
    let fake = FakeRuntime::default();
    let supervisor = Supervisor::builder().max_containers(1).build_on(Arc::new(fake.clone())).unwrap();
    for _ in 0..500 {
        let handle = spawn(&supervisor, "a").await;
        fake.actor().await.exit(0);
        handle.wait().await.unwrap();
    }
    supervisor.shutdown().await;
}

#[tokio::test]
async fn a_refused_creation_is_told_and_its_name_is_free_again() {
    let fake = FakeRuntime::default();
    let supervisor = supervisor(&fake);
    fake.refuse(orangery::runtime::Error::invalid("rootfs", "no"));
    let sandbox = Sandbox::builder().id("a").build().unwrap();
    let error = supervisor.command("prog").sandbox(&sandbox).spawn().await.unwrap_err();
    assert_eq!((error.kind(), error.field()), (ErrorKind::Invalid, Some("rootfs")));
    // The name is given back by a message; a second try may come before it, a listing comes after.
    while !supervisor.list().await.unwrap().is_empty() {}
    drop(spawn(&supervisor, "a").await);
    supervisor.shutdown().await;
}

#[tokio::test]
async fn dropping_spawn_at_every_poll_leaves_nothing() {
    let fake = FakeRuntime::default();
    let supervisor = supervisor(&fake);
    for polls in 0..8 {
        let mut spawning = Box::pin(supervisor.command("prog").spawn());
        for _ in 0..polls {
            let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(spawning.as_mut().poll(cx))).await;
            if let std::task::Poll::Ready(handle) = polled {
                drop(handle);
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(spawning);
    }
    supervisor.shutdown().await;
    assert_eq!(fake.alive(), 0);
}

/// Poll once, wait until the answer has been given, and drop the future without looking at it. `false`: it came while that was polled.
fn answered_and_dropped<T>(future: impl Future<Output = T>) -> bool {
    struct Woken(std::sync::mpsc::Sender<()>);
    impl std::task::Wake for Woken {
        fn wake(self: Arc<Self>) {
            let _ = self.0.send(());
        }
    }
    let (sender, woken) = std::sync::mpsc::channel();
    let waker = Arc::new(Woken(sender)).into();
    let mut future = Box::pin(future);
    let pending = future.as_mut().poll(&mut std::task::Context::from_waker(&waker)).is_pending();
    if pending {
        woken.recv().unwrap();
    }
    pending
}

#[tokio::test]
async fn an_answer_that_nobody_takes_ends_what_it_speaks_of() {
    let fake = FakeRuntime::default();
    let supervisor = supervisor(&fake);
    while !answered_and_dropped(supervisor.command("prog").spawn()) {}
    fake.saw("start ").await;
    fake.saw("kill ").await;
    fake.empty().await;
    let handle = spawn(&supervisor, "a").await;
    while !answered_and_dropped(handle.command("more").spawn()) {}
    fake.saw("signal a 9").await;
    assert!(!fake.log().contains(&"kill a".to_owned()), "the container itself is held");
    supervisor.shutdown().await;
}

struct PanicAtTheReport;

impl FaultPolicy for PanicAtTheReport {
    fn decide(&self, at: &FaultPoint<'_>) -> Fault {
        if at.site == Site::ReportDelivery { Fault::Panic } else { Fault::Continue }
    }
}

#[tokio::test]
async fn a_task_that_panics_leaves_nobody_waiting() {
    let fake = FakeRuntime::default();
    let builder = Supervisor::builder().shards(1).fault_policy(Arc::new(PanicAtTheReport));
    let supervisor = builder.build_on(Arc::new(fake.clone())).unwrap();
    let handle = spawn(&supervisor, "a").await;
    fake.actor().await.exit(3);
    assert_eq!(handle.wait().await.unwrap().exit, ExitStatus::Code(3));
    handle.delete().await.unwrap();
    // The manager hears of the end by a message.
    while !supervisor.list().await.unwrap().is_empty() {}
    drop(handle);
    supervisor.shutdown().await;
    assert_eq!(fake.alive(), 0);
}

#[tokio::test]
async fn a_further_process_that_still_drains_is_reported_at_the_shutdown() {
    let fake = FakeRuntime::default();
    let supervisor = supervisor(&fake);
    let handle = spawn(&supervisor, "a").await;
    drop(fake.actor().await);
    let more = handle.command("more").spawn().await.unwrap();
    // Its output stays open.
    let held = fake.actor().await;
    supervisor.shutdown().await;
    let report = more.wait().await.unwrap();
    assert_eq!(report.exit, ExitStatus::Signal { signal: 9, core_dumped: false });
    drop(held);
}

#[tokio::test]
async fn a_panic_in_each_handler_of_a_process_loses_neither_bytes_nor_exit_nor_kill() {
    for message in ["signal", "stop", "exited"] {
        let fake = FakeRuntime::default();
        let supervisor = faulty(&fake, PanicAt::new(message, 1));
        let handle = spawn(&supervisor, "a").await;
        let mut actor = fake.actor().await;
        actor.say(b"before");
        match message {
            "signal" => {
                let error = handle.process().signal_in_order(15).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::SupervisorFault, "only the message in hand is lost");
                handle.process().signal_in_order(15).await.unwrap();
            }
            "stop" => {
                let error = handle.stop(15, Duration::from_secs(1)).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::SupervisorFault);
            }
            _ => {}
        }
        actor.say(b" and after");
        actor.exit(7);
        let report = handle.wait().await.unwrap();
        assert_eq!((report.exit, report.stdout.bytes.clone()), (ExitStatus::Code(7), Measured::Known(16)), "{message}");
        supervisor.shutdown().await;
        assert_eq!(fake.alive(), 0);
    }
}

#[tokio::test]
async fn the_kill_works_while_every_handler_panics_and_a_broken_actor_takes_its_workload_along() {
    let fake = FakeRuntime::default();
    let supervisor = faulty(&fake, PanicAt::new("signal", u32::MAX));
    let handle = spawn(&supervisor, "a").await;
    assert!(handle.process().signal_in_order(15).await.is_err());
    handle.kill().unwrap();
    let report = handle.wait().await.unwrap();
    assert_eq!(report.cause, Cause::Stop { escalated: true });
    let handle = spawn(&supervisor, "b").await;
    for _ in 0..6 {
        assert!(handle.process().signal_in_order(15).await.is_err());
    }
    let report = handle.wait().await.unwrap();
    assert_eq!(report.cause, Cause::SupervisorFault, "six panics in five seconds: never left unmanaged");
    supervisor.shutdown().await;
}

#[tokio::test]
async fn a_panic_in_each_handler_of_a_container_harms_nobody() {
    for message in ["exec", "pause", "update"] {
        let fake = FakeRuntime::default();
        let supervisor = faulty(&fake, PanicAt::new(message, 1));
        let handle = spawn(&supervisor, "a").await;
        let main = fake.actor().await;
        let lost = match message {
            "exec" => handle.command("more").spawn().await.map(drop),
            "pause" => handle.pause().await,
            _ => handle.update(orangery::Limits::default()).await,
        };
        assert_eq!(lost.unwrap_err().kind(), ErrorKind::SupervisorFault);
        let more = handle.command("more").spawn().await.unwrap();
        fake.actor().await.exit(1);
        assert_eq!(more.wait().await.unwrap().exit, ExitStatus::Code(1));
        main.exit(0);
        assert!(handle.wait().await.unwrap().success());
        supervisor.shutdown().await;
    }
}

#[tokio::test]
async fn a_flooded_mailbox_delays_neither_bytes_nor_exit_nor_kill() {
    let fake = FakeRuntime::default();
    let supervisor = supervisor(&fake);
    let handle = spawn(&supervisor, "a").await;
    let mut actor = fake.actor().await;
    let flood: Vec<_> = (0..100_000).map(|_| handle.process().stop(15, Duration::from_secs(3600))).collect();
    actor.say(&[b'x'; 1000]);
    handle.kill().unwrap();
    drop(actor);
    let report = handle.wait().await.unwrap();
    assert_eq!(report.stdout.bytes, Measured::Known(1000));
    assert!(matches!(report.exit, ExitStatus::Signal { signal: 9, .. }));
    drop(flood);
    supervisor.shutdown().await;
}

#[tokio::test]
async fn pause_exec_and_update_are_answered_by_the_table() {
    let fake = FakeRuntime::default();
    let supervisor = supervisor(&fake);
    let handle = spawn(&supervisor, "a").await;
    handle.pause().await.unwrap();
    assert_eq!(handle.inspect().state, State::Paused);
    let error = handle.command("more").spawn().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::State);
    handle.pause().await.unwrap();
    handle.resume().await.unwrap();
    handle.resume().await.unwrap();
    handle.update(orangery::Limits::default()).await.unwrap();
    fake.actor().await.exit(0);
    handle.wait().await.unwrap();
    assert_eq!(handle.pause().await.unwrap_err().kind(), ErrorKind::State);
    assert_eq!(fake.log().iter().filter(|line| line.starts_with("pause")).count(), 1, "the second joined the first");
    handle.delete().await.unwrap();
    handle.delete().await.unwrap();
    supervisor.shutdown().await;
}

#[tokio::test]
async fn a_stop_signals_waits_and_kills_and_a_second_stop_joins() {
    let fake = FakeRuntime::default();
    let supervisor = supervisor(&fake);
    let handle = spawn(&supervisor, "a").await;
    let actor = fake.actor().await;
    let first = handle.stop(15, Duration::from_secs(3600));
    let second = handle.stop(15, Duration::from_millis(1));
    first.await.unwrap();
    second.await.unwrap();
    drop(actor);
    let report = handle.wait().await.unwrap();
    assert_eq!(report.cause, Cause::Stop { escalated: true });
    let log = fake.log();
    let signals: Vec<_> = log.iter().filter(|line| line.starts_with("signal")).collect();
    assert_eq!(signals, ["signal a 15", "signal a 18"], "TERM is followed by CONT, once");
    assert!(log.contains(&"kill a".to_owned()));
    supervisor.shutdown().await;
}

#[tokio::test]
async fn the_wall_and_the_output_limit_are_the_cause_and_an_exit_that_came_first_is_its_own() {
    let fake = FakeRuntime::default();
    let supervisor = supervisor(&fake);
    let sandbox = Sandbox::builder().wall(Duration::from_millis(1)).build().unwrap();
    let slow = supervisor.command("slow").sandbox(&sandbox).spawn().await.unwrap();
    let held = fake.actor().await;
    let report = {
        let waiting = slow.wait();
        slow.wait_exit().await.unwrap();
        drop(held);
        waiting.await.unwrap()
    };
    assert_eq!(report.cause, Cause::Limit(LimitKind::Wall));
    assert_eq!(report.shell_code(), 124);
    let sandbox = Sandbox::builder().output(10).build().unwrap();
    let chatty = supervisor.command("chatty").sandbox(&sandbox).spawn().await.unwrap();
    let mut actor = fake.actor().await;
    actor.say(b"eleven byte");
    chatty.wait_exit().await.unwrap();
    drop(actor);
    let report = chatty.wait().await.unwrap();
    assert_eq!(report.cause, Cause::Limit(LimitKind::Output));
    assert_eq!((report.output_limit, report.stdout.suppressed), (Some(10), 1));
    let own = spawn(&supervisor, "own").await;
    fake.actor().await.exit(0);
    own.wait_exit().await.unwrap();
    own.kill().unwrap();
    assert_eq!(own.wait().await.unwrap().cause, Cause::Own);
    supervisor.shutdown().await;
}

#[tokio::test]
async fn an_output_limit_can_cut_or_signal_and_counts_what_is_behind_it() {
    let fake = FakeRuntime::default();
    let supervisor = supervisor(&fake);
    let limited = |action| Sandbox::builder().output_limit(OutputLimit { bytes: 10, action }).build();
    let refused = limited(OutputAction::Signal(0)).unwrap_err();
    assert_eq!((refused.kind(), refused.field()), (ErrorKind::Invalid, Some("output")));

    let sandbox = limited(OutputAction::Truncate).unwrap();
    let chatty = supervisor.command("chatty").sandbox(&sandbox).spawn().await.unwrap();
    let reader = chatty.output();
    let mut actor = fake.actor().await;
    actor.say(b"eleven byte and more");
    actor.exit(3);
    let report = chatty.wait().await.unwrap();
    assert_eq!((&report.cause, report.exit), (&Cause::Own, ExitStatus::Code(3)));
    assert_eq!((report.output_limit, report.stdout.suppressed), (Some(10), 10));
    assert_eq!((report.stdout.bytes.known(), report.stdout.lost), (Some(&20), 0));
    let captured = reader.collect(100).await;
    assert_eq!((captured.to_vec(), captured.over_limit), (b"eleven byt".to_vec(), 10));

    let sandbox = limited(OutputAction::Signal(10)).unwrap();
    let told = supervisor.command("told").sandbox(&sandbox).spawn().await.unwrap();
    let mut actor = fake.actor().await;
    actor.say(b"eleven byte");
    fake.saw("signal").await;
    actor.exit(0);
    let report = told.wait().await.unwrap();
    assert_eq!((&report.cause, report.exit), (&Cause::Limit(LimitKind::Output), ExitStatus::Code(0)));
    supervisor.shutdown().await;
}

/// Handles and futures may go anywhere.
#[test]
fn handles_are_send_and_sync() {
    fn send_sync<T: Send + Sync + 'static>() {}
    fn send<T: Send + 'static>(_: &T) {}
    send_sync::<Supervisor>();
    send_sync::<ContainerHandle>();
    send_sync::<orangery::ProcessHandle>();
    send_sync::<orangery::Error>();
    send_sync::<orangery::Report>();
    let fake = FakeRuntime::default();
    let supervisor = supervisor(&fake);
    send(&supervisor.command("prog").spawn());
    send(&supervisor.command("prog").run());
    send(&supervisor.list());
    send_sync::<Sandbox>();
    send_sync::<orangery::Command>();
    send_sync::<orangery::ExecCommand>();
    send_sync::<orangery::Subscriber>();
    send_sync::<orangery::StdinWriter>();
    let handle = supervisor.command("prog").spawn_blocking().unwrap();
    send(&handle.wait());
    send(&handle.wait_exit());
    send(&handle.pause());
    send(&handle.resume());
    send(&handle.update(orangery::Limits::default()));
    send(&handle.stop(15, Duration::ZERO));
    send(&handle.process().signal_in_order(15));
    send(&handle.command("more").spawn());
    send(&handle.delete());
    send(&supervisor.shutdown());
    supervisor.shutdown_blocking();
}

/// No runtime at all, and inside one: the blocking facade and a foreign executor.
#[test]
fn it_works_without_a_runtime() {
    let fake = FakeRuntime::default();
    let supervisor = supervisor(&fake);
    let handle = supervisor.command("prog").spawn_blocking().unwrap();
    handle.kill().unwrap();
    assert!(matches!(handle.wait_blocking().unwrap().exit, ExitStatus::Signal { .. }));
    let inside = tokio::runtime::Builder::new_current_thread().build().unwrap();
    inside.block_on(async {
        let handle = supervisor.command("prog").spawn_blocking().unwrap();
        handle.kill().unwrap();
        handle.wait_blocking().unwrap();
    });
    supervisor.shutdown_blocking();
    supervisor.shutdown_blocking();
}

#[test]
fn a_report_survives_json() {
    let fake = FakeRuntime::default();
    let supervisor = supervisor(&fake);
    let handle = supervisor.command("prog").spawn_blocking().unwrap();
    handle.kill().unwrap();
    let report = handle.wait_blocking().unwrap();
    let text = serde_json::to_string(&*report).unwrap();
    assert_eq!(serde_json::from_str::<orangery::Report>(&text).unwrap(), *report);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["schema"], 1);
    assert!(json["cgroup"]["memory_peak"]["unknown"].is_string(), "unknown is never zero");
    supervisor.shutdown_blocking();
}

#[tokio::test]
async fn each_further_process_has_an_output_limit_of_its_own() {
    let fake = FakeRuntime::default();
    let supervisor = supervisor(&fake);
    let limited = |bytes, action| OutputLimit { bytes, action };
    let sandbox = Sandbox::builder().output_limit(limited(10, OutputAction::Truncate)).build().unwrap();
    let container = supervisor.command("main").sandbox(&sandbox).spawn().await.unwrap();
    let mut main = fake.actor().await;
    main.say(b"12345678");
    // As much as the container's, and all of it.
    let like_main = tokio::spawn(container.command("more").run());
    let mut more = fake.actor().await;
    more.say(b"abcdefghijkl");
    more.exit(0);
    let output = like_main.await.unwrap().unwrap();
    assert_eq!(output.stdout.to_vec(), b"abcdefghij");
    assert_eq!((output.report.output_limit, output.report.stdout.suppressed), (Some(10), 2));
    assert_eq!(output.report.cause, Cause::Own);
    // One of its own, which ends it alone.
    let own = container.command("more").output_limit(limited(3, OutputAction::Signal(15))).spawn().await.unwrap();
    let mut more = fake.actor().await;
    more.say(b"abcd");
    fake.saw("signal").await;
    more.exit(3);
    let report = own.wait().await.unwrap();
    assert_eq!((&report.cause, report.output_limit), (&Cause::Limit(LimitKind::Output), Some(3)));
    for nonsense in [limited(0, OutputAction::Kill), limited(1, OutputAction::Signal(99))] {
        let refused = container.command("more").output_limit(nonsense).spawn().await.unwrap_err();
        assert_eq!((refused.kind(), refused.field()), (ErrorKind::Invalid, Some("output")));
    }
    main.say(b"90");
    main.exit(0);
    let report = container.wait().await.unwrap();
    assert_eq!((report.cause.clone(), report.output_limit), (Cause::Own, None));
    supervisor.shutdown().await;
}

#[tokio::test]
async fn the_last_event_of_the_output_carries_the_exit_and_bytes_end_before_it() {
    let fake = FakeRuntime::default();
    let supervisor = supervisor(&fake);
    let container = supervisor.command("main").spawn().await.unwrap();
    let mut main = fake.actor().await;
    let mut output = container.output();
    main.say(b"all");
    // It runs on without its output.
    main.hang_up();
    assert_eq!(container.stdout().collect(100).await.to_vec(), b"all");
    assert!(matches!(output.recv().await, Some(Event::Chunk(_))));
    assert!(container.inspect().report.is_none());
    main.exit(5);
    let Some(Event::End(end)) = output.recv().await else { panic!() };
    assert_eq!((end.fate, end.reason), (Fate::Code(5), EndReason::Eof));
    assert_eq!(container.wait().await.unwrap().shell_code(), 5);
    let killed = supervisor.command("main").spawn().await.unwrap();
    let _main = fake.actor().await;
    let mut output = killed.output();
    killed.kill().unwrap();
    let Some(Event::End(end)) = output.recv().await else { panic!() };
    assert_eq!(end.fate, Fate::Signal { signal: 9, core_dumped: false });
    supervisor.shutdown().await;
}

#[tokio::test]
async fn the_grace_of_a_command_stands_in_for_its_sandboxs() {
    let fake = FakeRuntime::default();
    let supervisor = supervisor(&fake);
    let sandbox = Sandbox::builder().drain_grace(None).build().unwrap();
    let command = supervisor.command("main").sandbox(&sandbox).drain_grace(Some(Duration::ZERO));
    let container = command.spawn().await.unwrap();
    let held = fake.actor().await.leave(0);
    // Something else holds the pipe, for ever.
    let report = container.wait().await.unwrap();
    assert!(report.leaked_writers && held.is_some());
    assert!(report.stdout.pipe.known().is_some_and(|held| *held >= 4096), "{report:?}");
    supervisor.shutdown().await;
}
