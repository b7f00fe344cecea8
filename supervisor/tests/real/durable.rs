//! A supervisor that is killed, and the next one in the same directory: bytes, exits and containers are all there, once.

use std::path::PathBuf;
use std::time::Duration;

use orangery::faults::{Fault, FaultPoint, FaultPolicy, Site};
use orangery::stream::log::LogOptions;
use orangery::{
    Cause, ContainerHandle, Cursor, ErrorKind, Event, ExitStatus, LimitKind, Restart, Sandbox, ServiceState, State,
    Stdin, SubscribeOptions, Supervisor, SupervisorBuilder,
};
use orangery_tests::victim::{self, Victim, reap_adopted};
use orangery_tests::{Scene, Trial, trial, wait};

use crate::stage;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial!(what_runs_is_adopted_with_its_streams),
        trial!(an_end_that_nobody_saw_is_told),
        trial!(a_flood_is_exact_over_many_kills).long(),
        trial!(whatever_was_answered_is_found_and_the_rest_is_gone),
        trial!(who_leaves_takes_nothing_along),
        trial!(services_go_on_where_they_were),
        trial!(a_report_that_comes_when_its_container_is_forgotten_is_let_go),
    ]
}

pub(crate) fn dir(scene: &Scene) -> PathBuf {
    scene.dir().join("durable")
}

pub(crate) fn durable(scene: &Scene) -> Supervisor {
    durable_with(scene, |builder| builder)
}

fn durable_with(scene: &Scene, more: impl FnOnce(SupervisorBuilder) -> SupervisorBuilder) -> Supervisor {
    // A trial that fails says what was warned of.
    let _ = tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(tracing::Level::WARN).try_init();
    // Small, so that they are left behind all the time.
    let log = LogOptions { segment_bytes: 16 << 10, keep_segments: 1 << 20, ..LogOptions::default() };
    more(stage::builder(scene).durable(dir(scene)).durable_log(log)).build().expect("a durable supervisor")
}

/// Say so, and be killed.
pub(crate) async fn stand(line: &str) {
    println!("{line}");
    std::future::pending().await
}

pub(crate) async fn found(supervisor: &Supervisor, id: &str) -> ContainerHandle {
    supervisor.container(id).await.expect("an answer").unwrap_or_else(|| panic!("no {id}: {:?}", supervisor.recovery()))
}

/// The end of all of it.
pub(crate) async fn end(scene: &Scene, supervisor: Supervisor) {
    for left in supervisor.list().await.unwrap() {
        found(&supervisor, &left.id).await.delete().await.unwrap();
    }
    wait::soon("shutdown", supervisor.shutdown()).await;
    drop(supervisor);
    assert_eq!(std::fs::read_dir(dir(scene).join("containers")).unwrap().count(), 0);
}

/// Keepers that have ended are ours to reap.
pub(crate) fn settle(scene: &Scene) {
    let until = std::time::Instant::now() + wait::PATIENCE;
    while !orangery_tests::stock::descendants(std::process::id()).is_empty() {
        reap_adopted();
        assert!(std::time::Instant::now() < until, "left: {:?}", scene.stock().processes);
        std::thread::yield_now();
    }
}

fn what_runs_is_adopted_with_its_streams(scene: &Scene) {
    if victim::role().is_some() {
        return scene.block_on(async {
            let supervisor = durable(scene);
            let script =
                "i=0; while [ $i -lt 5000 ]; do echo line $i; i=$((i+1)); done; read x; echo got $x >&2; exit 7";
            let command = supervisor.command("sh").arg("-c").arg(script).id("a").stdin(Stdin::Kept);
            let limits = Sandbox::builder().label("tenant", "x").wall(Duration::from_secs(300)).build().unwrap();
            let container = command.sandbox(&limits.with_id("a")).spawn().await.unwrap();
            container.set_property("note", "kept").unwrap();
            let ended = container.command("true").spawn().await.unwrap();
            wait::soon("its end", ended.wait()).await.unwrap();
            let mut further = container.command("sh").arg("-c").arg("echo further; exec sleep 1000");
            further = further.stdin(Stdin::Null);
            let further = further.spawn().await.unwrap();
            assert!(matches!(further.stdout().recv().await, Some(Event::Chunk(_))));
            // An ordinary user's has no freezer.
            if scene.root() {
                container.pause().await.unwrap();
            }
            let mut output = container.stdout();
            let Some(Event::Chunk(chunk)) = output.recv().await else { panic!("no output") };
            let cursor = chunk.cursor_after(7);
            stand(&format!("{cursor} {}", container.pid())).await;
        });
    }
    let mut before = Victim::start(scene, "runs");
    let line = before.line();
    let (cursor, pid) = line.split_once(' ').expect("what it said");
    before.kill();
    scene.block_on(async {
        let supervisor = durable(scene);
        let told = supervisor.recovery().expect("it is durable").clone();
        assert_eq!(
            (told.adopted.as_slice(), told.lost.len(), told.set_aside.len()),
            (&["a".to_owned()][..], 0, 0),
            "{told:?}"
        );
        let container = found(&supervisor, "a").await;
        let now = container.inspect();
        let state = if scene.root() { State::Paused } else { State::Running };
        assert_eq!((now.state, now.pid), (state, pid.parse().ok()));
        assert_eq!((now.labels["tenant"].as_str(), now.watched.wall_ms), ("x", Some(300_000)));
        assert_eq!(container.property("note").as_deref(), Some("kept"));
        assert_eq!(now.processes.len(), 2, "{now:?}");
        if scene.root() {
            container.resume().await.unwrap();
        }
        let further = container.process_by_id(orangery::ProcessId(2)).expect("the further process");
        assert_eq!(
            further.stdout().recv().await.and_then(|event| match event {
                Event::Chunk(chunk) => Some(chunk.data.to_vec()),
                _ => None,
            }),
            Some(b"further\n".to_vec())
        );
        further.kill().unwrap();
        assert_eq!(wait::soon("its end", further.wait()).await.unwrap().shell_code(), 137);
        // What had ended before is known by its report, and in no record any more.
        container.set_property("note", "again").unwrap();
        let record = dir(scene).join("containers/a/record.json");
        let written = loop {
            let text = std::fs::read_to_string(&record).unwrap();
            if text.contains(r#""note":"again""#) {
                break text;
            }
            tokio::task::yield_now().await;
        };
        assert!(written.contains(r#""number":0,"#) && !written.contains(r#""number":1,"#), "{written}");
        assert!(container.report_of(orangery::ProcessId(1)).await.is_some());
        // Another one gets another number.
        let more = container.command("echo").arg("more").run().await.unwrap();
        assert_eq!(more.stdout.to_vec(), b"more\n");
        let cursor: Cursor = cursor.parse().unwrap();
        let rest = container.resume_from(cursor, SubscribeOptions::default()).expect("the cursor is as good as ever");
        let mut stdin = container.stdin().expect("its input");
        stdin.write_all_bytes("hello\n".into()).await.unwrap();
        drop(stdin);
        let report = wait::soon("the end", container.wait()).await.unwrap();
        assert_eq!((report.exit, report.cause.clone()), (ExitStatus::Code(7), Cause::Own));
        let lines: String = (0..5000).map(|n| format!("line {n}\n")).collect();
        assert_eq!(container.stdout().collect(1 << 20).await.to_vec(), lines.as_bytes());
        assert_eq!(container.stderr().collect(1 << 20).await.to_vec(), b"got hello\n");
        assert_eq!(report.stdout.bytes.known(), Some(&(lines.len() as u64)));
        assert!(report.usage.known().is_some());
        let mut seen = rest.collect(1 << 20).await.to_vec();
        seen.retain(|byte| *byte != 0);
        assert_eq!(seen.len(), lines.len() - 7 + b"got hello\n".len());
        end(scene, supervisor).await;
    });
    settle(scene);
}

fn an_end_that_nobody_saw_is_told(scene: &Scene) {
    let go = scene.dir().join("go");
    if victim::role().is_some() {
        return scene.block_on(async {
            let supervisor = durable(scene);
            let sandbox = Sandbox::builder().bind_ro(&go, "/go").build().unwrap();
            let script = "while [ ! -e /go/now ]; do sleep 0.01; done; echo last words; exit 5";
            let sandbox = sandbox.with_id("a");
            let container = supervisor.command("sh").arg("-c").arg(script).sandbox(&sandbox).spawn().await.unwrap();
            let limited = Sandbox::builder().id("b").wall(Duration::from_millis(200)).build().unwrap();
            let other = supervisor.command("sleep").arg("1000").sandbox(&limited).spawn().await.unwrap();
            stand(&format!("{} {}", container.pid(), other.pid())).await;
        });
    }
    std::fs::create_dir(&go).unwrap();
    let mut before = Victim::start(scene, "ends");
    let pids: Vec<_> = before.line().split(' ').map(|pid| pid.parse().unwrap()).collect();
    let gone: Vec<_> = pids.into_iter().filter_map(wait::try_pidfd).collect();
    before.kill();
    std::fs::write(go.join("now"), "").unwrap();
    gone.iter().for_each(|process| wait::gone(process, "a process without a supervisor"));
    scene.block_on(async {
        for round in 0..2 {
            let supervisor = durable(scene);
            let told = supervisor.recovery().unwrap().clone();
            // On a busy machine the limit of the second may have come before the kill.
            let (adopted, ended) = (told.adopted.len(), told.ended.len());
            let all = if round == 0 { adopted + ended == 2 } else { (adopted, ended) == (0, 2) };
            assert!(all && (round > 0 || told.adopted.contains(&"a".to_owned())), "{told:?}");
            let container = found(&supervisor, "a").await;
            let report = wait::soon("the report", container.wait()).await.unwrap();
            assert_eq!((report.exit, report.cause.clone()), (ExitStatus::Code(5), Cause::Own), "{report:?}");
            assert!(report.usage.known().is_some(), "{report:?}");
            assert_eq!(container.stdout().collect(100).await.to_vec(), b"last words\n");
            let other = wait::soon("the report", found(&supervisor, "b").await.wait()).await.unwrap();
            assert_eq!(other.cause, Cause::Limit(LimitKind::Wall), "{other:?}");
            if round == 0 {
                wait::soon("its end", supervisor.leave()).await;
            } else {
                end(scene, supervisor).await;
            }
        }
    });
    settle(scene);
}

const KILLS: usize = 12;
const LINES: usize = 60_000;

/// Each supervisor is killed after it has read for a while; the last one sees the end.
fn a_flood_is_exact_over_many_kills(scene: &Scene) {
    if let Some(bytes) = victim::role() {
        return scene.block_on(async {
            let supervisor = durable(scene);
            let bytes: usize = bytes.parse().unwrap();
            if bytes == 0 {
                let script = format!("i=0; while [ $i -lt {LINES} ]; do echo line $i; i=$((i+1)); done; exit 9");
                supervisor.command("sh").arg("-c").arg(script).id("flood").spawn().await.unwrap();
                return stand("ready").await;
            }
            let mut output = found(&supervisor, "flood").await.stdout();
            let mut seen = 0;
            while seen < bytes {
                match output.recv().await {
                    Some(Event::Chunk(chunk)) => seen += chunk.data.len(),
                    _ => break,
                }
            }
            stand("ready").await;
        });
    }
    for round in 0..KILLS {
        let mut before = Victim::start(scene, &(round * 20_000).to_string());
        assert_eq!(before.line(), "ready");
        before.kill();
    }
    scene.block_on(async {
        let supervisor = durable(scene);
        let container = found(&supervisor, "flood").await;
        let report = wait::soon("the end", container.wait()).await.unwrap();
        assert_eq!(report.exit, ExitStatus::Code(9));
        let text = container.stdout().collect(1 << 24).await.to_vec();
        let lines: String = (0..LINES).map(|n| format!("line {n}\n")).collect();
        assert!(text == lines.as_bytes(), "{} bytes instead of {}", text.len(), lines.len());
        end(scene, supervisor).await;
    });
    settle(scene);
}

/// Killed while it makes one container after the other.
fn whatever_was_answered_is_found_and_the_rest_is_gone(scene: &Scene) {
    if victim::role().is_some() {
        return scene.block_on(async {
            let supervisor = durable(scene);
            for n in 0.. {
                let id = format!("c{n}");
                supervisor.command("sleep").arg("1000").id(&id).spawn().await.unwrap();
                println!("{id}");
            }
        });
    }
    for round in 0..4 {
        let mut before = Victim::start(scene, "makes");
        let mut answered: Vec<_> = (0..3 + round).map(|_| before.line()).collect();
        before.kill();
        // What it has said before it was killed.
        answered.extend(std::iter::from_fn(|| Some(before.line()).filter(|line| !line.is_empty())));
        scene.block_on(async {
            let supervisor = durable(scene);
            let told = supervisor.recovery().unwrap().clone();
            for id in &answered {
                assert!(told.adopted.contains(id), "{id}: {told:?}");
                assert_eq!(found(&supervisor, id).await.inspect().state, State::Running);
            }
            assert!(told.adopted.len() <= answered.len() + 1, "{told:?}");
            end(scene, supervisor).await;
        });
        settle(scene);
    }
}

/// One that runs in its second incarnation, one that waits for an hour, one that was stopped.
fn services_go_on_where_they_were(scene: &Scene) {
    if victim::role().is_some() {
        return scene.block_on(async {
            let supervisor = durable(scene);
            let always = |delay| Restart::always().delays([delay]).jitter(0);
            let command = |script: &str, id: &str| supervisor.command("sh").arg("-c").arg(script).id(id);
            let web = command("exec sleep 1000", "web").restart(always(Duration::ZERO)).supervise().await.unwrap();
            web.current().unwrap().kill().unwrap();
            let running = |now: &orangery::ServiceInspect| now.generation == 2 && now.state == ServiceState::Running;
            wait::soon("a restart", web.wait_for(running)).await.unwrap();
            let hour = always(Duration::from_secs(3600));
            let late = command("exec sleep 1000", "late").restart(hour).supervise().await.unwrap();
            late.current().unwrap().kill().unwrap();
            let waits = wait::soon("its delay", late.wait_state(ServiceState::BackOff)).await.unwrap();
            let still = command("exec sleep 1000", "still").supervise().await.unwrap();
            still.stop(9, Duration::ZERO).await.unwrap();
            let (pid, until) = (web.current().unwrap().pid(), waits.back_off.unwrap().until_ms);
            stand(&format!("{pid} {until}")).await;
        });
    }
    let mut before = Victim::start(scene, "serves");
    let line = before.line();
    let (pid, until) = line.split_once(' ').expect("what it said");
    before.kill();
    scene.block_on(async {
        let supervisor = durable(scene);
        assert_eq!(supervisor.recovery().unwrap().services, ["late", "still", "web"]);
        let service = async |id: &str| supervisor.service(id).await.unwrap().expect("it goes on");
        let (web, late, still) = (service("web").await, service("late").await, service("still").await);
        let running = |now: &orangery::ServiceInspect| now.state == ServiceState::Running;
        let now = wait::soon("it runs", web.wait_for(running)).await.unwrap();
        assert_eq!((now.generation, now.restarts, now.deaths.len()), (2, 1, 1));
        assert_eq!(web.current().unwrap().pid().to_string(), pid);
        let now = wait::soon("it waits", late.wait_state(ServiceState::BackOff)).await.unwrap();
        assert_eq!((now.back_off.unwrap().until_ms.to_string().as_str(), now.deaths.len()), (until, 1));
        wait::soon("it rests", still.wait_state(ServiceState::Stopped)).await.unwrap();
        // And each goes on from there.
        web.current().unwrap().kill().unwrap();
        let third = |now: &orangery::ServiceInspect| now.generation == 3 && now.state == ServiceState::Running;
        let now = wait::soon("a restart", web.wait_for(third)).await.unwrap();
        assert_eq!((now.restarts, now.deaths.len()), (2, 2));
        wait::soon("a start", late.start()).await.unwrap();
        assert_eq!(late.inspect().generation, 2);
        assert_eq!(supervisor.forget("web").await.unwrap_err().kind(), ErrorKind::State);
        for (id, service) in [("web", web), ("late", late), ("still", still)] {
            wait::soon("its end", service.stop(9, Duration::ZERO)).await.unwrap();
            drop(service);
            assert!(supervisor.forget(id).await.unwrap(), "{id}");
        }
        end(scene, supervisor).await;
        assert_eq!(std::fs::read_dir(dir(scene).join("services")).unwrap().count(), 0);
    });
    settle(scene);
}

/// In one process, so that nothing but its own word ends it.
fn who_leaves_takes_nothing_along(scene: &Scene) {
    scene.block_on(async {
        let supervisor = durable(scene);
        let container = supervisor.command("sh").arg("-c").arg("read x; exit $x").stdin(Stdin::Kept).id("a");
        let container = container.spawn().await.unwrap();
        let oneshot = tokio::spawn(supervisor.command("sleep").arg("1000").run());
        let pid = container.pid();
        wait::soon("leaving", supervisor.leave()).await;
        drop((container, supervisor));
        drop(wait::soon("a one-shot", oneshot).await);
        let supervisor = durable(scene);
        assert_eq!(supervisor.recovery().unwrap().adopted, ["a"], "{:?}", supervisor.recovery());
        let container = found(&supervisor, "a").await;
        assert_eq!(container.pid(), pid);
        container.stdin().unwrap().write_all_bytes("3\n".into()).await.unwrap();
        assert_eq!(wait::soon("the end", container.wait()).await.unwrap().exit, ExitStatus::Code(3));
        end(scene, supervisor).await;
    });
    settle(scene);
}

/// The first report is on its way for a while.
#[derive(Debug)]
struct LateReport;

impl FaultPolicy for LateReport {
    fn decide(&self, point: &FaultPoint<'_>) -> Fault {
        match (point.site, point.count) {
            (Site::ReportDelivery, 0) => Fault::Delay(Duration::from_millis(500)),
            _ => Fault::Continue,
        }
    }
}

/// Of a further process, which the keeper holds until its report is written down: it would hold it for ever, and never end.
fn a_report_that_comes_when_its_container_is_forgotten_is_let_go(scene: &Scene) {
    scene.block_on(async {
        let supervisor = durable_with(scene, |builder| builder.fault_policy(std::sync::Arc::new(LateReport)));
        let container = supervisor.command("sleep").arg("1000").id("a").spawn().await.unwrap();
        let further = container.command("sleep").arg("1000").spawn().await.unwrap();
        further.kill().unwrap();
        wait::soon("its exit", further.wait_exit()).await.unwrap();
        container.delete().await.unwrap();
        wait::soon("its report", further.wait()).await.unwrap();
        end(scene, supervisor).await;
    });
    settle(scene);
}
