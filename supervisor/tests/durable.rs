//! A supervisor whose state lies in a directory, on the scripted runtime: what is written down, and who finds it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says why by panicking")]

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use orangery::events::{Item, Kind, Since};
use orangery::faults::{Fault, FaultPoint, FaultPolicy, Site, Step};
use orangery::testing::FakeRuntime;
use orangery::{Cause, Error, ErrorKind, ExitStatus, Restart, Sandbox, State, Supervisor};
use tempfile::TempDir;
use tokio::sync::mpsc::UnboundedSender;

struct Stage {
    dir: TempDir,
    fake: FakeRuntime,
}

impl Stage {
    fn set() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), fake: FakeRuntime::default() }
    }

    fn root(&self) -> std::path::PathBuf {
        self.dir.path().join("state")
    }

    fn supervisor(&self) -> Supervisor {
        self.begin().unwrap()
    }

    fn begin(&self) -> Result<Supervisor, Error> {
        let builder = Supervisor::builder().shards(1).durable(self.root());
        builder.build_on(Arc::new(self.fake.clone()))
    }

    fn with(&self, faults: impl FaultPolicy) -> Supervisor {
        let builder = Supervisor::builder().shards(1).durable(self.root()).fault_policy(Arc::new(faults));
        builder.build_on(Arc::new(self.fake.clone())).unwrap()
    }

    fn containers(&self) -> Vec<String> {
        names(&self.root().join("containers"))
    }
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn fields(error: &Error) -> Vec<String> {
    error.messages().map(|message| message.split(':').next().unwrap_or("").to_owned()).collect()
}

#[tokio::test]
async fn what_has_ended_is_found_until_it_is_forgotten() {
    let stage = Stage::set();
    let supervisor = stage.supervisor();
    let container = supervisor.command("prog").id("a").spawn().await.unwrap();
    let mut actor = stage.fake.actor().await;
    actor.say(b"hello ");
    let mut reader = container.output();
    let first = reader.recv().await.unwrap();
    let orangery::Event::Chunk(chunk) = first else { unreachable!("{first:?}") };
    let cursor = chunk.cursor_after(chunk.data.len());
    actor.say(b"world");
    actor.exit(3);
    let report = container.wait().await.unwrap();
    assert_eq!(report.exit, ExitStatus::Code(3));
    drop((container, reader));
    // With and without another supervisor in between.
    let mut supervisor = supervisor;
    for round in 0..2 {
        let found = supervisor.container("a").await.unwrap().unwrap();
        assert_eq!(*found.wait().await.unwrap(), *report, "{round}");
        assert_eq!((found.inspect().state, found.wait_exit().await.unwrap()), (State::Gone, ExitStatus::Code(3)));
        assert_eq!(found.stdout().collect(100).await.to_vec(), b"hello world");
        let rest = found.resume_from(cursor, orangery::SubscribeOptions::default()).unwrap();
        assert_eq!(rest.collect(100).await.to_vec(), b"world");
        assert_eq!(supervisor.list().await.unwrap().len(), 1);
        found.kill().unwrap();
        let taken = supervisor.command("prog").id("a").spawn().await.unwrap_err();
        assert_eq!((taken.kind(), taken.field()), (ErrorKind::Exists, Some("id")));
        if round == 0 {
            supervisor.leave().await;
            supervisor = stage.supervisor();
            assert_eq!(supervisor.recovery().unwrap().ended, ["a"]);
            // Who holds a handle of the one before does nothing to what is another's now.
            assert_eq!(found.delete().await.unwrap_err().kind(), ErrorKind::ShutDown);
        }
    }
    assert_eq!(stage.containers(), ["a"]);
    assert!(supervisor.forget("a").await.unwrap());
    assert!(!supervisor.forget("a").await.unwrap());
    assert!(supervisor.container("a").await.unwrap().is_none() && stage.containers().is_empty());
    let again = supervisor.command("prog").id("a").spawn().await.unwrap();
    assert_eq!(supervisor.forget("a").await.unwrap_err().kind(), ErrorKind::State);
    again.delete().await.unwrap();
    assert!(stage.containers().is_empty());
    supervisor.shutdown().await;
}

#[tokio::test]
async fn it_lives_without_a_handle_and_its_end_is_told_as_lost_where_nobody_knows_it() {
    let stage = Stage::set();
    let supervisor = stage.supervisor();
    let container = supervisor.command("prog").id("a").spawn().await.unwrap();
    let mut actor = stage.fake.actor().await;
    actor.say(b"hello");
    assert!(matches!(container.output().recv().await, Some(orangery::Event::Chunk(_))));
    drop(container);
    let found = supervisor.container("a").await.unwrap().unwrap();
    assert_eq!(found.inspect().state, State::Running);
    let pid = found.pid();
    drop(found);
    // As the end of the process would be.
    drop(supervisor.leave());
    drop(supervisor);
    let supervisor = loop {
        match stage.begin() {
            Ok(supervisor) => break supervisor,
            Err(error) => assert_eq!(error.kind(), ErrorKind::State),
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(supervisor.recovery().unwrap().lost, ["a"]);
    let found = supervisor.container("a").await.unwrap().unwrap();
    let report = found.wait().await.unwrap();
    assert_eq!((report.exit, report.pid), (ExitStatus::Lost, pid));
    assert_eq!(found.stdout().collect(100).await.to_vec(), b"hello");
    supervisor.shutdown().await;
    // A report is there once and for all.
    let supervisor = stage.supervisor();
    assert_eq!(
        (supervisor.recovery().unwrap().ended.as_slice(), stage.containers()),
        (&["a".into()][..], vec!["a".into()])
    );
    supervisor.shutdown().await;
}

#[tokio::test]
async fn what_is_run_to_its_end_leaves_nothing() {
    let stage = Stage::set();
    let supervisor = stage.supervisor();
    let running = tokio::spawn(supervisor.command("prog").id("a").run());
    let mut actor = stage.fake.actor().await;
    actor.say(b"hello");
    actor.exit(0);
    assert_eq!(running.await.unwrap().unwrap().stdout.to_vec(), b"hello");
    assert!(stage.containers().is_empty() && supervisor.list().await.unwrap().is_empty());
    supervisor.shutdown().await;
}

#[tokio::test]
async fn a_creation_that_fails_or_is_given_up_leaves_nothing() {
    let stage = Stage::set();
    let supervisor = stage.supervisor();
    stage.fake.refuse(orangery::runtime::Error::invalid("mounts", "no"));
    supervisor.command("prog").id("a").spawn().await.unwrap_err();
    assert!(stage.containers().is_empty(), "{:?}", stage.containers());
    supervisor.shutdown().await;
}

#[tokio::test]
async fn what_cannot_be_written_down_is_refused_by_its_field() {
    let stage = Stage::set();
    let supervisor = stage.supervisor();
    let fd = || std::os::fd::OwnedFd::from(std::io::pipe().unwrap().1);
    let files = Sandbox::builder().keep_files(true).build().unwrap();
    let refused = supervisor.command("prog").stdout_fd(fd()).preserve(fd()).sandbox(&files).spawn().await.unwrap_err();
    assert_eq!(
        (refused.kind(), fields(&refused)),
        (ErrorKind::Unsupported, ["stdout", "preserved", "keep_files"].map(str::to_owned).to_vec())
    );
    for id in ["../escape", ".", "a/b"] {
        let refused = supervisor.command("prog").id(id).spawn().await.unwrap_err();
        assert_eq!((refused.kind(), refused.field()), (ErrorKind::Invalid, Some("id")), "{id}");
    }
    let service = supervisor.command("prog").stderr_fd(fd()).restart(Restart::always()).supervise().await.unwrap_err();
    assert_eq!((service.kind(), service.field()), (ErrorKind::Unsupported, Some("stderr")));
    assert!(stage.containers().is_empty());
    supervisor.shutdown().await;
}

#[tokio::test]
async fn records_that_nobody_understands_are_set_aside_and_told() {
    let stage = Stage::set();
    let supervisor = stage.supervisor();
    for id in ["torn", "report", "other", "whole"] {
        let container = supervisor.command("prog").id(id).spawn().await.unwrap();
        stage.fake.actor().await.exit(7);
        container.wait().await.unwrap();
    }
    supervisor.leave().await;
    let containers = stage.root().join("containers");
    let torn = containers.join("torn/record.json");
    let text = fs::read(&torn).unwrap();
    fs::write(&torn, &text[..text.len() / 2]).unwrap();
    fs::write(containers.join("report/report.json"), "{}").unwrap();
    fs::rename(containers.join("other"), containers.join("renamed")).unwrap();
    fs::create_dir(containers.join("begun")).unwrap();
    fs::write(containers.join("..nonsense"), "x").unwrap();
    let supervisor = stage.supervisor();
    let found = supervisor.recovery().unwrap();
    assert_eq!((&found.ended[..], &found.lost[..]), (&["whole".to_owned()][..], &["report".to_owned()][..]));
    assert_eq!(found.set_aside.len(), 4, "{found:?}");
    assert!(found.set_aside.iter().all(|it| it.path.exists() && !it.why.is_empty()), "{found:?}");
    assert_eq!(stage.containers(), ["report", "whole"]);
    supervisor.shutdown().await;
}

#[tokio::test]
async fn one_supervisor_at_a_time_and_its_services_come_and_go_in_one_place() {
    let stage = Stage::set();
    let supervisor = stage.supervisor();
    let second = stage.begin().unwrap_err();
    assert_eq!((second.kind(), second.field()), (ErrorKind::State, Some("durable")));
    let restart = Restart::always().delays([]);
    let service = tokio::spawn(supervisor.command("prog").id("web").restart(restart).supervise());
    stage.fake.actor().await.exit(1);
    let service = service.await.unwrap().unwrap();
    let mut actor = stage.fake.actor().await;
    service.wait_for(|now| now.generation == 2 && now.state == orangery::ServiceState::Running).await.unwrap();
    actor.say(b"second");
    let container = service.current().unwrap();
    assert_eq!((container.inspect().generation, stage.containers()), (2, vec!["web".to_owned()]));
    supervisor.shutdown().await;
}

#[tokio::test]
async fn a_service_that_cannot_be_written_down_is_refused_and_its_name_is_free() {
    let stage = Stage::set();
    let supervisor = stage.supervisor();
    let services = stage.root().join("services");
    // Where even root cannot write.
    fs::remove_dir(&services).unwrap();
    fs::write(&services, "").unwrap();
    let service = || supervisor.command("prog").id("web").restart(Restart::always()).supervise();
    let refused = service().await.unwrap_err();
    assert_eq!((refused.kind(), refused.field()), (ErrorKind::NotFound, Some("durable")), "{refused}");
    assert!(supervisor.services().await.unwrap().is_empty() && supervisor.list().await.unwrap().is_empty());
    fs::remove_file(&services).unwrap();
    fs::create_dir(&services).unwrap();
    service().await.unwrap();
    assert_eq!(names(&services), ["web.json"]);
    supervisor.shutdown().await;
}

/// Whoever writes the first record waits in the middle of that, on a thread that may block, until somebody lets it go on.
struct Slow {
    is_there: UnboundedSender<()>,
    goes_on: Mutex<mpsc::Receiver<()>>,
}

impl FaultPolicy for Slow {
    fn decide(&self, at: &FaultPoint<'_>) -> Fault {
        if at.site == Site::Record(Step::Drafted) && at.count == 0 {
            let _ = self.is_there.send(());
            let _ = self.goes_on.lock().unwrap().recv();
        }
        Fault::Continue
    }
}

#[tokio::test]
async fn a_record_is_written_to_its_end_before_it_is_undone() {
    let stage = Stage::set();
    let (is_there, mut writes) = tokio::sync::mpsc::unbounded_channel();
    let (go, goes_on) = mpsc::channel();
    let supervisor = stage.with(Slow { is_there, goes_on: Mutex::new(goes_on) });
    let mut events = supervisor.events(Since::Now);
    let asked = tokio::spawn(supervisor.command("prog").id("a").spawn());
    writes.recv().await.unwrap();
    // Nobody wants it any more.
    asked.abort();
    stage.fake.saw("delete a").await;
    go.send(()).unwrap();
    loop {
        if let Some(Item::Event(event)) = events.recv().await
            && matches!(event.kind, Kind::ContainerFailed(_))
        {
            break;
        }
    }
    assert!(!stage.root().join("containers/a/record.json").exists());
    supervisor.shutdown().await;
    assert!(stage.supervisor().recovery().unwrap().lost.is_empty());
}

/// An actor panics over the first news that its stop is written down.
struct Unlucky;

impl FaultPolicy for Unlucky {
    fn decide(&self, at: &FaultPoint<'_>) -> Fault {
        if at.site == Site::ProcessMessage("prepared") && at.count == 0 { Fault::Panic } else { Fault::Continue }
    }
}

#[tokio::test]
async fn a_stop_goes_on_after_a_panic_with_the_news_that_it_is_written_down() {
    let stage = Stage::set();
    let supervisor = stage.with(Unlucky);
    let container = supervisor.command("prog").id("a").spawn().await.unwrap();
    let actor = stage.fake.actor().await;
    let stop = tokio::spawn(container.stop(15, Duration::from_secs(3600)));
    stage.fake.saw("signal a 15").await;
    actor.exit(3);
    stop.await.unwrap().unwrap();
    assert_eq!(container.wait().await.unwrap().cause, Cause::Stop { escalated: false });
    supervisor.shutdown().await;
}
