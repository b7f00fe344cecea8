//! Fault points on the scripted runtime: what each answer does at each site. The plan's steps and the runtime's stages
//! are in `real/faults.rs`, panics of handlers in `actors.rs`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says why by panicking")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use orangery::faults::{Fault, FaultPoint, FaultPolicy, Site};
use orangery::stream::{EndReason, Event, GapCause, StreamErrorKind};
use orangery::testing::{FakeRuntime, VirtualClock};
use orangery::{Cause, ContainerHandle, ErrorKind, ExitStatus, Measured, Sandbox, Source, Stdin, Supervisor};
use tokio::io::AsyncWriteExt as _;

const HOUR: Duration = Duration::from_secs(3600);

/// The container, its labels, its generation and the count.
type Seen = (String, BTreeMap<String, String>, u32, u64);

/// This fault, the first time that anybody passes the site; and who has passed it.
struct Once {
    site: Site,
    fault: Fault,
    seen: Mutex<Vec<Seen>>,
}

impl Once {
    fn new(site: Site, fault: Fault) -> Arc<Self> {
        Arc::new(Self { site, fault, seen: Mutex::default() })
    }
}

impl FaultPolicy for Once {
    fn decide(&self, at: &FaultPoint<'_>) -> Fault {
        if at.site != self.site {
            return Fault::Continue;
        }
        let mut seen = self.seen.lock().unwrap();
        seen.push((at.container.to_owned(), at.labels.clone(), at.generation, at.count));
        if seen.len() == 1 { self.fault } else { Fault::Continue }
    }
}

/// A supervisor with one fault, on a fake and in a time of its own.
struct Stage {
    clock: VirtualClock,
    fake: FakeRuntime,
    supervisor: Supervisor,
    policy: Arc<Once>,
}

impl Stage {
    fn set(site: Site, fault: Fault) -> Self {
        let (clock, fake, policy) = (VirtualClock::default(), FakeRuntime::default(), Once::new(site, fault));
        let builder = Supervisor::builder().shards(1).clock(&clock).fault_policy(Arc::clone(&policy) as _);
        let supervisor = builder.build_on(Arc::new(fake.clone())).unwrap();
        Self { clock, fake, supervisor, policy }
    }

    async fn spawn(&self, id: &str) -> Result<ContainerHandle, orangery::Error> {
        let sandbox = Sandbox::builder().id(id).label("team", id).build().unwrap();
        self.supervisor.command("prog").sandbox(&sandbox).stdin(Stdin::Piped).spawn().await
    }

    /// Nothing is left, and the site was passed.
    async fn end(self) {
        self.supervisor.shutdown().await;
        assert_eq!(self.fake.alive(), 0);
        assert!(!self.policy.seen.lock().unwrap().is_empty(), "nobody came by");
    }
}

#[tokio::test]
async fn two_supervisors_of_one_process_do_not_see_each_other() {
    let faulty = Stage::set(Site::Admission, Fault::Drop);
    let other = Stage::set(Site::Admission, Fault::Continue);
    assert_eq!(faulty.spawn("a").await.unwrap_err().kind(), ErrorKind::Exhausted);
    drop(other.spawn("a").await.unwrap());
    let labels = BTreeMap::from([("team".to_owned(), "a".to_owned())]);
    for stage in [&faulty, &other] {
        assert_eq!(*stage.policy.seen.lock().unwrap(), [("a".to_owned(), labels.clone(), 1, 0)]);
    }
    faulty.end().await;
    other.end().await;
}

#[tokio::test]
async fn admission_is_refused_as_a_spent_budget_and_gives_it_back() {
    for (fault, errno) in [(Fault::Errno(24), Some(24)), (Fault::Drop, None)] {
        let policy = Once::new(Site::Admission, fault);
        let fake = FakeRuntime::default();
        let builder = Supervisor::builder().max_containers(1).fault_policy(policy);
        let supervisor = builder.build_on(Arc::new(fake.clone())).unwrap();
        let error = supervisor.command("prog").id("a").spawn().await.unwrap_err();
        assert_eq!((error.kind(), error.errno(), error.retryable()), (ErrorKind::Exhausted, errno, true));
        assert_eq!(fake.log(), [""; 0], "nothing was made");
        drop(supervisor.command("prog").id("b").spawn().await.unwrap());
        supervisor.shutdown().await;
    }
}

#[tokio::test]
async fn a_start_gate_that_fails_or_panics_undoes_the_creation() {
    for (fault, kind) in [(Fault::Errno(5), ErrorKind::Creation), (Fault::Panic, ErrorKind::SupervisorFault)] {
        let stage = Stage::set(Site::StartGate, fault);
        assert_eq!(stage.spawn("a").await.unwrap_err().kind(), kind);
        stage.fake.empty().await;
        assert!(!stage.fake.log().contains(&"start a".to_owned()));
        // Its name is free again, once the news of its end is there.
        while !stage.supervisor.list().await.unwrap().is_empty() {}
        drop(stage.spawn("b").await.unwrap());
        stage.end().await;
    }
}

#[tokio::test]
async fn a_start_that_is_delayed_holds_up_nobody_else_and_can_be_given_up() {
    let stage = Stage::set(Site::StartGate, Fault::Delay(HOUR));
    let supervisor = stage.supervisor.clone();
    let slow = tokio::spawn(supervisor.command("prog").id("slow").spawn());
    stage.fake.saw("create slow").await;
    // On the same shard.
    stage.clock.advance(HOUR / 2).await;
    assert!(!slow.is_finished() && !stage.fake.log().contains(&"start slow".to_owned()));
    assert_eq!(stage.supervisor.list().await.unwrap().len(), 1);
    stage.clock.advance(HOUR).await;
    drop(slow.await.unwrap().unwrap());
    stage.fake.empty().await;
    let gone = tokio::spawn(stage.supervisor.command("prog").id("gone").spawn());
    stage.fake.saw("create gone").await;
    gone.abort();
    stage.fake.saw("delete gone").await;
    stage.end().await;
}

#[tokio::test]
async fn an_exec_fails_is_lost_or_is_late_and_the_container_goes_on() {
    for (fault, kind) in [(Fault::Errno(12), ErrorKind::Creation), (Fault::Panic, ErrorKind::SupervisorFault)] {
        let stage = Stage::set(Site::Exec, fault);
        let handle = stage.spawn("a").await.unwrap();
        let error = handle.command("more").spawn().await.unwrap_err();
        assert_eq!((error.kind(), error.errno()), (kind, (kind == ErrorKind::Creation).then_some(12)));
        drop(handle.command("more").spawn().await.unwrap());
        drop(handle);
        stage.end().await;
    }
    let stage = Stage::set(Site::Exec, Fault::Delay(HOUR));
    let handle = stage.spawn("a").await.unwrap();
    let late = tokio::spawn(handle.command("more").spawn());
    stage.clock.advance(HOUR / 2).await;
    handle.pause().await.unwrap();
    handle.resume().await.unwrap();
    assert!(!late.is_finished());
    stage.clock.advance(HOUR).await;
    drop(late.await.unwrap().unwrap());
    stage.end().await;
}

#[tokio::test]
async fn a_report_is_late_or_another_or_lost_with_its_task() {
    let stage = Stage::set(Site::ReportDelivery, Fault::Delay(HOUR));
    let handle = stage.spawn("a").await.unwrap();
    stage.fake.actor().await.exit(3);
    assert_eq!(handle.wait_exit().await.unwrap(), ExitStatus::Code(3), "the first fact is not held up");
    stage.fake.saw("finish a").await;
    let report = tokio::spawn(handle.wait());
    stage.clock.advance(HOUR / 2).await;
    assert!(!report.is_finished());
    stage.clock.advance(HOUR).await;
    assert_eq!(report.await.unwrap().unwrap().exit, ExitStatus::Code(3));
    stage.end().await;

    let stage = Stage::set(Site::ReportDelivery, Fault::Override(42));
    let handle = stage.spawn("a").await.unwrap();
    stage.fake.actor().await.exit(3);
    let report = handle.wait().await.unwrap();
    let cause = Cause::Injected { fault: "report-delivery".into() };
    assert_eq!((report.exit, report.cause.clone()), (ExitStatus::Code(42), cause));
    assert_eq!(handle.wait_exit().await.unwrap(), ExitStatus::Code(3));
    stage.end().await;

    let stage = Stage::set(Site::ReportDelivery, Fault::Panic);
    let handle = stage.spawn("a").await.unwrap();
    stage.fake.actor().await.exit(3);
    assert_eq!(handle.wait().await.unwrap().exit, ExitStatus::Code(3), "what was known is told");
    stage.fake.empty().await;
    stage.end().await;
}

#[tokio::test]
async fn bytes_that_a_pump_drops_are_told_as_a_gap() {
    for site in [Site::PumpRead(Source::Stdout), Site::PumpWrite(Source::Stdout)] {
        let stage = Stage::set(site, Fault::Drop);
        let handle = stage.spawn("a").await.unwrap();
        let mut events = handle.subscribe(orangery::SubscribeOptions::default());
        let mut actor = stage.fake.actor().await;
        actor.say(b"lost");
        let Some(Event::Gap(gap)) = events.recv().await else { panic!("a gap comes first") };
        assert_eq!((gap.from, gap.to, gap.cause), (0, 4, GapCause::Injected));
        actor.say(b"kept");
        actor.exit(0);
        let Some(Event::Chunk(chunk)) = events.recv().await else { panic!("then what was kept") };
        assert_eq!((chunk.offset, &*chunk.data), (4, &b"kept"[..]));
        assert_eq!(handle.wait().await.unwrap().stdout.bytes, Measured::Known(8));
        stage.end().await;
    }
}

#[tokio::test]
async fn a_pump_fails_waits_or_panics() {
    let site = Site::PumpRead(Source::Stdout);
    let stage = Stage::set(site, Fault::Errno(5));
    let handle = stage.spawn("a").await.unwrap();
    let mut events = handle.subscribe(orangery::SubscribeOptions::default());
    let mut actor = stage.fake.actor().await;
    actor.say(b"x");
    actor.exit(0);
    let Some(Event::End(end)) = events.recv().await else { panic!("only the end comes") };
    assert_eq!(end.reason, EndReason::Error(StreamErrorKind::Read));
    assert_eq!(handle.wait().await.unwrap().exit, ExitStatus::Code(0));
    stage.end().await;

    let stage = Stage::set(Site::PumpWrite(Source::Stdout), Fault::Delay(HOUR));
    let handle = stage.spawn("a").await.unwrap();
    let mut events = handle.subscribe(orangery::SubscribeOptions::default());
    let mut actor = stage.fake.actor().await;
    actor.say(b"x");
    stage.clock.advance(HOUR / 2).await;
    let mut first = std::pin::pin!(events.recv());
    let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(first.as_mut().poll(cx))).await;
    assert!(polled.is_pending());
    stage.clock.advance(HOUR).await;
    assert!(matches!(first.await, Some(Event::Chunk(chunk)) if chunk.data == "x"));
    actor.exit(0);
    assert_eq!(handle.wait().await.unwrap().exit, ExitStatus::Code(0));
    stage.end().await;

    let stage = Stage::set(site, Fault::Panic);
    let handle = stage.spawn("a").await.unwrap();
    stage.fake.actor().await.say(b"x");
    let report = handle.wait().await.unwrap();
    assert_eq!((report.exit, report.cause.clone()), (ExitStatus::Lost, Cause::SupervisorFault));
    stage.fake.empty().await;
    stage.end().await;
}

#[tokio::test]
async fn standard_input_fails_is_lost_or_waits() {
    for (fault, heard) in [(Fault::Errno(28), "second"), (Fault::Drop, "second"), (Fault::Delay(HOUR), "first second")]
    {
        let stage = Stage::set(Site::Stdin, fault);
        let handle = stage.spawn("a").await.unwrap();
        let mut actor = stage.fake.actor().await;
        let mut stdin = handle.stdin().unwrap();
        let first = tokio::spawn(async move {
            let written = stdin.write_all(b"first ").await;
            (stdin, written)
        });
        if let Fault::Delay(_) = fault {
            // The question was asked before its time goes on.
            while stage.policy.seen.lock().unwrap().is_empty() {
                tokio::task::yield_now().await;
            }
            stage.clock.advance(HOUR / 2).await;
            assert!(!first.is_finished());
            stage.clock.advance(HOUR).await;
        }
        let (mut stdin, written) = first.await.unwrap();
        assert_eq!(written.err().and_then(|error| error.raw_os_error()), (fault == Fault::Errno(28)).then_some(28));
        stdin.write_all(b"second").await.unwrap();
        drop(stdin);
        assert_eq!(actor.hear(), heard.as_bytes());
        actor.exit(0);
        handle.wait().await.unwrap();
        stage.end().await;
    }
}

#[tokio::test]
async fn a_request_that_is_dropped_is_lost_for_its_caller_and_the_actor_goes_on() {
    let stage = Stage::set(Site::ManagerMessage("create"), Fault::Drop);
    assert_eq!(stage.spawn("a").await.unwrap_err().kind(), ErrorKind::SupervisorFault);
    drop(stage.spawn("b").await.unwrap());
    stage.end().await;

    let stage = Stage::set(Site::ContainerMessage("pause"), Fault::Drop);
    let handle = stage.spawn("a").await.unwrap();
    assert_eq!(handle.pause().await.unwrap_err().kind(), ErrorKind::SupervisorFault);
    handle.pause().await.unwrap();
    stage.end().await;

    let stage = Stage::set(Site::ProcessMessage("signal"), Fault::Drop);
    let handle = stage.spawn("a").await.unwrap();
    assert_eq!(handle.process().signal_in_order(10).await.unwrap_err().kind(), ErrorKind::SupervisorFault);
    handle.process().signal_in_order(12).await.unwrap();
    let log = stage.fake.log();
    assert!(!log.contains(&"signal a 10".into()) && log.contains(&"signal a 12".into()), "{log:?}");
    stage.end().await;
}

#[tokio::test]
async fn a_delayed_message_is_handled_later_and_others_before_it() {
    let stage = Stage::set(Site::ContainerMessage("pause"), Fault::Delay(HOUR));
    let handle = stage.spawn("a").await.unwrap();
    let pause = tokio::spawn(handle.pause());
    stage.clock.advance(HOUR / 2).await;
    handle.update(orangery::Limits::default()).await.unwrap();
    assert!(!pause.is_finished());
    stage.clock.advance(HOUR).await;
    pause.await.unwrap().unwrap();
    assert_eq!(stage.fake.log(), ["create a", "start a", "update a", "pause a"]);
    assert_eq!(stage.policy.seen.lock().unwrap().len(), 1, "asked once for one message");
    stage.end().await;

    let stage = Stage::set(Site::ManagerMessage("list"), Fault::Delay(HOUR));
    let list = tokio::spawn(stage.supervisor.list());
    while stage.policy.seen.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    drop(stage.spawn("a").await.unwrap());
    stage.clock.advance(HOUR).await;
    list.await.unwrap().unwrap();
    stage.end().await;
}

#[tokio::test]
async fn news_is_not_lost_by_a_drop() {
    for site in [Site::ManagerMessage("gone"), Site::ContainerMessage("removed"), Site::ProcessMessage("exited")] {
        let stage = Stage::set(site, Fault::Drop);
        let handle = stage.spawn("a").await.unwrap();
        let stop = tokio::spawn(handle.stop(15, HOUR));
        stage.fake.saw("signal a 18").await;
        stage.fake.actor().await.exit(0);
        stop.await.unwrap().unwrap();
        handle.wait().await.unwrap();
        while !stage.supervisor.list().await.unwrap().is_empty() {}
        stage.end().await;
    }
}
