//! Notifications, the watchdog and network probes in a time that the test moves, against the scripted runtime, whose
//! containers are in the test's own network.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says why by panicking")]

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use orangery::events::{Item, Kind, Since};
use orangery::faults::{Fault, FaultPoint, FaultPolicy, Site};
use orangery::testing::{Actor, FakeRuntime, VirtualClock};
use orangery::{
    Cause, Command, ContainerHandle, Health, HealthState, Http, NotifyRefusal, OnUnhealthy, Probe, Readiness,
    Supervisor, Vitals, Watchdog,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

struct Stage {
    clock: VirtualClock,
    fake: FakeRuntime,
    supervisor: Supervisor,
}

impl Stage {
    fn set() -> Self {
        Self::with(Arc::new(Nothing))
    }

    fn with(faults: Arc<dyn FaultPolicy>) -> Self {
        let (clock, fake) = (VirtualClock::default(), FakeRuntime::default());
        let builder = Supervisor::builder().shards(1).clock(&clock).fault_policy(faults);
        let supervisor = builder.build_on(Arc::new(fake.clone())).unwrap();
        Self { clock, fake, supervisor }
    }

    fn command(&self) -> Command {
        self.supervisor.command("prog").id("a")
    }

    fn told(&self, line: &str) -> usize {
        self.fake.log().iter().filter(|told| *told == line).count()
    }

    async fn end(self) {
        self.supervisor.shutdown().await;
        assert_eq!(self.fake.alive(), 0);
    }
}

struct Nothing;

impl FaultPolicy for Nothing {
    fn decide(&self, _: &FaultPoint<'_>) -> Fault {
        Fault::Continue
    }
}

/// Say this as sd_notify does.
fn notify(actor: &Actor, message: &[u8]) {
    let name = actor.env("NOTIFY_SOCKET").unwrap();
    let address = SocketAddr::from_abstract_name(name.strip_prefix('@').unwrap()).unwrap();
    let sent = UnixDatagram::unbound().unwrap().send_to_addr(message, &address).unwrap();
    assert_eq!(sent, message.len());
}

/// Wait until this is known of it.
async fn known(container: &ContainerHandle, wanted: impl Fn(&Vitals) -> bool) {
    while !wanted(&container.inspect().vitals) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn it_says_that_it_is_ready_and_how_it_is() {
    let stage = Stage::set();
    let container = stage.command().ready_when(Probe::notify()).spawn().await.unwrap();
    let process = stage.fake.actor().await;
    notify(&process, b"STATUS=loading\nERRNO=2");
    known(&container, |vitals| vitals.status.as_deref() == Some("loading") && vitals.errno == Some(2)).await;
    assert!(!container.inspect().vitals.ready);
    notify(&process, b"READY=1\nSTATUS=up");
    container.ready().await.unwrap();
    known(&container, |vitals| vitals.status.as_deref() == Some("up")).await;
    notify(&process, b"RELOADING=1");
    known(&container, |vitals| vitals.reloading && vitals.ready).await;
    notify(&process, b"READY=1");
    known(&container, |vitals| !vitals.reloading).await;
    notify(&process, b"STOPPING=1");
    known(&container, |vitals| vitals.stopping).await;
    process.exit(0);
    assert!(container.wait().await.unwrap().success());
    stage.end().await;
}

#[tokio::test]
async fn what_is_refused_is_told_once_and_the_rest_of_a_message_counts() {
    let stage = Stage::set();
    let mut events = stage.supervisor.events(Since::Oldest);
    let container = stage.command().ready_when(Probe::notify()).spawn().await.unwrap();
    let process = stage.fake.actor().await;
    for _ in 0..3 {
        notify(&process, b"FDSTORE=1\nFDNAME=x");
        notify(&process, &[b'x'; 5000]);
        notify(&process, b"READY=maybe");
    }
    notify(&process, b"MAINPID=1\nREADY=1");
    container.ready().await.unwrap();
    let mut refused = Vec::new();
    while let Some(Item::Event(event)) = events.recv().await {
        match &event.kind {
            Kind::NotifyRefused { why } => refused.push(*why),
            Kind::ContainerReady { .. } => break,
            _ => {}
        }
    }
    use NotifyRefusal::{FdStore, MainPid, Malformed, TooLong};
    assert_eq!(refused, [FdStore, TooLong, Malformed, MainPid]);
    drop((container, process));
    stage.end().await;
}

#[tokio::test]
async fn more_time_is_given_as_far_as_it_may_be() {
    let stage = Stage::set();
    let readiness = Readiness::new(Probe::notify()).timeout(10 * SECOND).extendable(15 * SECOND);
    let container = stage.command().ready_when(readiness).spawn().await.unwrap();
    let process = stage.fake.actor().await;
    stage.clock.advance(9 * SECOND).await;
    // One second is left: four more, until second 14.
    notify(&process, b"EXTEND_TIMEOUT_USEC=5000000\nSTATUS=a");
    known(&container, |vitals| vitals.status.as_deref() == Some("a")).await;
    stage.clock.advance(4 * SECOND).await;
    // Less than is left changes nothing; eleven more is all that there is, until second 25.
    notify(&process, b"EXTEND_TIMEOUT_USEC=1");
    notify(&process, b"EXTEND_TIMEOUT_USEC=3600000000\nSTATUS=b");
    known(&container, |vitals| vitals.status.as_deref() == Some("b")).await;
    stage.clock.advance(12 * SECOND - MS).await;
    assert_eq!(stage.told("signal a 15"), 0);
    stage.clock.advance(MS).await;
    stage.fake.saw("signal a 15").await;
    process.exit(0);
    assert_eq!(container.wait().await.unwrap().cause, Cause::NotReady);
    stage.end().await;
}

#[tokio::test]
async fn who_says_no_more_that_it_is_alive_is_ended() {
    let stage = Stage::set();
    let command = stage.command().ready_when(Probe::notify()).watchdog(10 * SECOND);
    let container = command.spawn().await.unwrap();
    let process = stage.fake.actor().await;
    assert_eq!(process.env("WATCHDOG_USEC").as_deref(), Some("10000000"));
    let said = async |message: &str, mark: &str| {
        notify(&process, format!("{message}\nSTATUS={mark}").as_bytes());
        known(&container, |vitals| vitals.status.as_deref() == Some(mark)).await;
        stage.clock.advance(Duration::ZERO).await;
    };
    stage.clock.advance(30 * SECOND).await;
    assert_eq!(stage.told("signal a 6"), 0, "it is not ready yet");
    said("READY=1", "a").await;
    for mark in ["b", "c"] {
        stage.clock.advance(9 * SECOND).await;
        said("WATCHDOG=1", mark).await;
    }
    // A pause is no silence.
    container.pause().await.unwrap();
    stage.clock.advance(100 * SECOND).await;
    container.resume().await.unwrap();
    stage.clock.advance(9 * SECOND).await;
    said("WATCHDOG_USEC=20000000", "d").await;
    stage.clock.advance(20 * SECOND - MS).await;
    assert_eq!(stage.told("signal a 6"), 0);
    stage.clock.advance(MS).await;
    stage.fake.saw("signal a 6").await;
    stage.clock.advance(10 * SECOND).await;
    drop(process);
    assert_eq!(container.wait().await.unwrap().cause, Cause::Watchdog);
    assert_eq!(container.inspect().vitals.failure.as_deref(), Some("watchdog: no sign of life within 20s"));
    stage.end().await;
}

#[tokio::test]
async fn what_it_says_of_its_end_does_not_hurry_a_stop() {
    let stage = Stage::set();
    let hook = orangery::Hook::new("hook").deadline(60 * SECOND);
    let service = stage.command().pre_stop(hook).watchdog(60 * SECOND).supervise().await.unwrap();
    let process = stage.fake.actor().await;
    let stopping = service.stop(15, SECOND);
    let hook = stage.fake.actor().await;
    notify(&process, b"STOPPING=1");
    service.wait_for(|now| now.vitals.as_ref().is_some_and(|vitals| vitals.stopping)).await.unwrap();
    stage.clock.advance(SECOND).await;
    assert_eq!(stage.told("signal a 15"), 0, "its command before the stop has its time");
    hook.exit(0);
    stage.fake.saw("signal a 15").await;
    process.exit(0);
    stopping.await.unwrap();
    drop(service);
    stage.end().await;
}

#[tokio::test]
async fn it_may_ask_for_its_end_itself() {
    let stage = Stage::set();
    let watchdog = Watchdog::new(10 * SECOND).ended_by(15, SECOND);
    let container = stage.command().watchdog(watchdog).spawn().await.unwrap();
    let process = stage.fake.actor().await;
    notify(&process, b"WATCHDOG=trigger");
    stage.fake.saw("signal a 15").await;
    process.exit(0);
    assert_eq!(container.wait().await.unwrap().cause, Cause::Watchdog);
    stage.end().await;
}

#[tokio::test]
async fn a_flood_of_messages_is_heard_in_its_time() {
    let stage = Stage::set();
    let container = stage.command().ready_when(Probe::notify()).spawn().await.unwrap();
    let process = stage.fake.actor().await;
    let name = process.env("NOTIFY_SOCKET").unwrap();
    let flood = std::thread::spawn(move || {
        let address = SocketAddr::from_abstract_name(name.strip_prefix('@').unwrap()).unwrap();
        let socket = UnixDatagram::unbound().unwrap();
        for n in 0..1000 {
            socket.send_to_addr(format!("STATUS={n}").as_bytes(), &address).unwrap();
        }
    });
    // It stands in the kernel's queue until the time goes on.
    known(&container, |vitals| vitals.status.as_deref() == Some("99")).await;
    let mut seconds = 0;
    while !flood.is_finished() {
        stage.clock.advance(SECOND).await;
        seconds += 1;
    }
    flood.join().unwrap();
    assert!(seconds > 1, "{seconds}");
    drop((container, process));
    stage.end().await;
}

/// Answers one connection after the other with these bytes; what was asked.
async fn serve(listener: &TcpListener, answer: &[u8]) -> String {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut asked = Vec::new();
    while !asked.ends_with(b"\r\n\r\n") {
        asked.push(stream.read_u8().await.unwrap());
    }
    // Who has read enough goes.
    let _ = stream.write_all(answer).await;
    String::from_utf8(asked).unwrap()
}

#[tokio::test]
async fn a_server_is_healthy_as_long_as_its_answers_are() {
    let stage = Stage::set();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let http = Http::get(port, "/healthz").header("X-Probe", "1");
    let health = Health::new(http).interval(SECOND).failures(1).on_unhealthy(OnUnhealthy::Report).timeout(9 * SECOND);
    let container = stage.command().healthy_while(health).spawn().await.unwrap();
    let process = stage.fake.actor().await;
    let flood = [b"HTTP/1.1 200 OK\r\nX: ".as_slice(), &[b'a'; 20_000]].concat();
    for (answer, state, failure) in [
        (b"HTTP/1.1 200 OK\r\n\r\n".as_slice(), HealthState::Healthy, None),
        (b"HTTP/1.1 503 No\r\nLocation: /\r\n\r\n", HealthState::Unhealthy, Some("status 503")),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 302 Found\r\n\r\n", HealthState::Healthy, None),
        (b"HTTP/1.1 200", HealthState::Unhealthy, Some("the connection was closed before there was an answer")),
        (b"SSH-2.0\r\n", HealthState::Unhealthy, Some("the answer is not HTTP: ")),
        (&flood, HealthState::Unhealthy, Some("the answer has a head of more than 16384 bytes")),
    ] {
        stage.clock.advance(SECOND).await;
        let asked = serve(&listener, answer).await;
        assert!(asked.starts_with("GET /healthz HTTP/1.1\r\n") && asked.contains("\r\nX-Probe: 1\r\n"), "{asked}");
        let want = |vitals: &Vitals| match failure {
            None => vitals.failure.is_none() && vitals.health == Some(state),
            // Why is known first.
            Some(failure) => {
                vitals.health == Some(state) && vitals.failure.as_ref().is_some_and(|why| why.starts_with(failure))
            }
        };
        known(&container, want).await;
    }
    // It accepts, and says nothing.
    stage.clock.advance(SECOND).await;
    let (silent, _) = listener.accept().await.unwrap();
    stage.clock.advance(9 * SECOND).await;
    known(&container, |vitals| vitals.failure.as_deref() == Some("no answer within 9s")).await;
    drop((silent, container, process));
    stage.end().await;
}

#[tokio::test]
async fn nobody_who_listens_is_a_failure_and_so_is_oneself() {
    let stage = Stage::set();
    // Nobody else gets the port, and nobody listens yet.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = socket.local_addr().unwrap().port();
    let container =
        stage.command().ready_when(Readiness::new(Probe::tcp(port)).interval(SECOND)).spawn().await.unwrap();
    let process = stage.fake.actor().await;
    known(&container, |vitals| vitals.failure.as_ref().is_some_and(|why| why.contains("no connection to"))).await;
    let listener = socket.listen(8).unwrap();
    stage.clock.advance(SECOND).await;
    listener.accept().await.unwrap();
    container.ready().await.unwrap();
    drop((container, process));
    stage.end().await;
}

/// The first three attempts are as it says, and the first notification is lost.
struct Faulty(AtomicU32);

impl FaultPolicy for Faulty {
    fn decide(&self, at: &FaultPoint<'_>) -> Fault {
        let faults = [Fault::Errno(12), Fault::Drop, Fault::Override(0)];
        match (at.site, at.count) {
            (Site::Probe, count) if count < 3 => {
                self.0.fetch_add(1, Ordering::SeqCst);
                faults[usize::try_from(count).unwrap()]
            }
            (Site::Notification, 0) => Fault::Drop,
            _ => Fault::Continue,
        }
    }
}

#[tokio::test]
async fn a_fault_stands_in_the_place_of_an_answer() {
    let faulty = Arc::new(Faulty(AtomicU32::new(0)));
    let stage = Stage::with(faulty.clone());
    let readiness = Readiness::new(Probe::exec(["check"])).interval(SECOND);
    let container = stage.command().ready_when(readiness).watchdog(SECOND).spawn().await.unwrap();
    let process = stage.fake.actor().await;
    let failure = || container.inspect().vitals.failure;
    known(&container, |vitals| vitals.failure.is_some()).await;
    assert!(failure().unwrap().contains("a fault was injected"));
    stage.clock.advance(SECOND).await;
    assert_eq!(failure().as_deref(), Some("no answer: a fault was injected"));
    stage.clock.advance(SECOND).await;
    container.ready().await.unwrap();
    assert_eq!((stage.told("exec a"), faulty.0.load(Ordering::SeqCst)), (0, 3));
    notify(&process, b"STATUS=lost");
    notify(&process, b"STATUS=heard");
    known(&container, |vitals| vitals.status.is_some()).await;
    assert_eq!(container.inspect().vitals.status.as_deref(), Some("heard"));
    drop((container, process));
    stage.end().await;
}
