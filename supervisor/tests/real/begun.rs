//! A supervisor that is killed in the middle of a stop: the keeper and the next one go on with it, and it stays a stop.

use std::time::Duration;

use orangery::{
    Cause, ContainerHandle, Event, ExitStatus, Probe, ProcessId, Readiness, Restart, Sandbox, ServiceState, Stdin,
    StopLadder, Subscriber,
};
use orangery_tests::victim::Victim;
use orangery_tests::{Scene, Trial, trial, victim, wait};

use crate::durable::{dir, durable, end, found, settle, stand};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial!(a_stop_that_was_begun_goes_on),
        trial!(input_that_is_known_needs_nobody),
        trial!(who_is_ready_meanwhile_is_heard),
        trial!(a_restart_that_is_refused_by_our_end_is_no_end_of_the_service),
    ]
}

/// Says what it is asked, and ends of nothing but USR2.
pub(crate) const STUBBORN: &str = "trap 'echo usr' USR1; trap 'echo term' TERM; trap 'exit 3' USR2; echo up; \
                        while :; do sleep 0.02; done";
const USR1: i32 = 10;
pub(crate) const USR2: i32 = 12;
pub(crate) const TERM: i32 = 15;

pub(crate) async fn until(mut output: Subscriber, text: &str) {
    let mut seen = String::new();
    while !seen.contains(text) {
        match output.recv().await {
            Some(Event::Chunk(chunk)) => seen += &String::from_utf8_lossy(&chunk.data),
            Some(_) => {}
            None => panic!("{seen:?} without {text:?}"),
        }
    }
}

async fn text(container: &ContainerHandle) -> String {
    String::from_utf8_lossy(&container.stdout().collect(1 << 16).await.to_vec()).into_owned()
}

fn a_stop_that_was_begun_goes_on(scene: &Scene) {
    let hour = || StopLadder::new().then(TERM, Duration::from_secs(3600));
    if victim::role().is_some() {
        return scene.block_on(async {
            let supervisor = durable(scene);
            let command = |id: &str| supervisor.command("sh").arg("-c").arg(STUBBORN).id(id);
            let short = command("short").spawn().await.unwrap();
            let long = command("long").spawn().await.unwrap();
            let further = long.command("sh").arg("-c").arg(STUBBORN).spawn().await.unwrap();
            let web = command("web").restart(Restart::always()).supervise().await.unwrap();
            until(further.stdout(), "up").await;
            for container in [&short, &long, &web.current().unwrap()] {
                until(container.stdout(), "up").await;
            }
            let half = Duration::from_millis(500);
            // The kill comes much later than what it is to say before, also where the keeper asks, which comes later than we.
            drop(short.stop_with(StopLadder::new().then(USR1, half).then(TERM, half * 4)));
            drop((long.stop_with(hour()), further.stop_with(hour()), web.stop_with(hour())));
            until(short.stdout(), "usr").await;
            until(further.stdout(), "term").await;
            for container in [&long, &web.current().unwrap()] {
                until(container.stdout(), "term").await;
            }
            // From then on nobody is asked twice.
            let record = dir(scene).join("containers/long/record.json");
            while std::fs::read_to_string(&record).unwrap().matches(r#""first":1,"rungs":[]"#).count() < 2 {
                tokio::task::yield_now().await;
            }
            stand(&short.pid().to_string()).await;
        });
    }
    let mut before = Victim::start(scene, "stops");
    let short = wait::try_pidfd(before.line().parse().unwrap());
    before.kill();
    if let Some(short) = short {
        wait::gone(short, "a process that was being stopped");
    }
    for round in 0..2 {
        scene.block_on(async {
            let supervisor = durable(scene);
            let short = found(&supervisor, "short").await;
            let report = wait::soon("its report", short.wait()).await.unwrap();
            assert_eq!(report.cause, Cause::Stop { escalated: true }, "{report:?}");
            assert_eq!(report.exit, ExitStatus::Signal { signal: 9, core_dumped: false });
            let said = text(&short).await;
            assert!(said.contains("usr") && said.contains("term"), "{said}");
            let (long, web) = (found(&supervisor, "long").await, supervisor.service("web").await.unwrap().unwrap());
            let state = wait::soon("its state", web.wait_for(|now| now.generation == 1)).await.unwrap().state;
            assert_eq!(state, ServiceState::Stopping);
            if round == 0 {
                // And it is as if it had been begun here.
                return supervisor.leave().await;
            }
            // Whoever asks once more joins, and does not begin it anew.
            let (joined, stopped) = (long.stop_with(hour()), web.stop_with(hour()));
            let further = long.process_by_id(ProcessId(1)).expect("a further process");
            further.signal(USR2).unwrap();
            let report = wait::soon("its end", further.wait()).await.unwrap();
            assert_eq!((report.exit, report.cause.clone()), (ExitStatus::Code(3), Cause::Stop { escalated: false }));
            long.signal(USR2).unwrap();
            wait::soon("the stop", joined).await.unwrap();
            let report = wait::soon("its end", long.wait()).await.unwrap();
            assert_eq!((report.exit, report.cause.clone()), (ExitStatus::Code(3), Cause::Stop { escalated: false }));
            assert_eq!(text(&long).await, "up\nterm\n");
            web.current().unwrap().signal(USR2).unwrap();
            wait::soon("the stop", stopped).await.unwrap();
            let now = web.inspect();
            assert_eq!((now.state, now.generation, now.deaths.len()), (ServiceState::Stopped, 1, 0));
            drop(web);
            assert!(supervisor.forget("web").await.unwrap());
            end(scene, supervisor).await;
        });
    }
    settle(scene);
}

/// The supervisor is killed before anything was read.
fn input_that_is_known_needs_nobody(scene: &Scene) {
    let go = scene.dir().join("go");
    // In memory, and on the disk.
    let inputs = [("short", 1_000), ("long", 3_000_000)].map(|(id, length)| (id, vec![b'x'; length]));
    if victim::role().is_some() {
        return scene.block_on(async {
            let supervisor = durable(scene);
            let sandbox = Sandbox::builder().bind_ro(&go, "/go").build().unwrap();
            let script = |file: &str| format!("while [ ! -e /go/{file} ]; do sleep 0.02; done; wc -c");
            for (id, input) in inputs {
                let command =
                    supervisor.command("sh").arg("-c").arg(script("last")).stdin(Stdin::Bytes(input.clone().into()));
                let container = command.sandbox(&sandbox.with_id(id)).spawn().await.unwrap();
                // Also by its name, as whoever the container makes of it.
                let named = container.command("sh").arg("-c").arg(script("first") + " < /dev/stdin");
                named.stdin(Stdin::Bytes(input.into())).spawn().await.unwrap();
            }
            stand("ready").await;
        });
    }
    std::fs::create_dir(&go).unwrap();
    let mut before = Victim::start(scene, "feeds");
    assert_eq!(before.line(), "ready");
    before.kill();
    scene.block_on(async {
        let supervisor = durable(scene);
        let mut all = Vec::new();
        for (id, input) in &inputs {
            let container = found(&supervisor, id).await;
            let further = container.process_by_id(ProcessId(1)).expect("a further process");
            all.push((container, further, format!("{}\n", input.len())));
        }
        std::fs::write(go.join("first"), "").unwrap();
        for (_, further, said) in &all {
            assert_eq!(String::from_utf8_lossy(&further.output().collect(100).await.to_vec()), *said);
        }
        std::fs::write(go.join("last"), "").unwrap();
        for (container, _, said) in all {
            assert_eq!(text(&container).await, said);
        }
        end(scene, supervisor).await;
    });
    settle(scene);
}

/// They say so while nobody is there: over a socket, by a child that has ended by then, and on a descriptor.
fn who_is_ready_meanwhile_is_heard(scene: &Scene) {
    let go = scene.dir().join("go");
    if victim::role().is_some() {
        return scene.block_on(async {
            let supervisor = durable(scene);
            let sandbox = crate::readiness::with_programs(scene).bind_ro(&go, "/go").build().unwrap();
            let says = [
                ("socket", Probe::notify(), "/programs/probe notify 'STATUS=it is up' READY=1"),
                ("descriptor", Probe::descriptor(), "eval \"echo up >&$NOTIFY_FD\""),
            ];
            for (id, probe, says) in says {
                let script = format!("while [ ! -e /go/now ]; do sleep 0.02; done; {says}; echo said; exec sleep 1000");
                let command = supervisor.command("sh").arg("-c").arg(script).sandbox(&sandbox.with_id(id));
                let readiness = Readiness::new(probe).timeout(Duration::from_secs(3600));
                let container = command.ready_when(readiness).spawn().await.unwrap();
                println!("{}", container.pid());
            }
            stand("ready").await;
        });
    }
    std::fs::create_dir(&go).unwrap();
    let mut before = Victim::start(scene, "awaits");
    let pids = [before.line(), before.line()];
    assert_eq!(before.line(), "ready");
    before.kill();
    std::fs::write(go.join("now"), "").unwrap();
    for pid in &pids {
        // It has said so, and goes on.
        let until = std::time::Instant::now() + wait::PATIENCE;
        while std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap() != "sleep\n" {
            assert!(std::time::Instant::now() < until, "it waits for somebody");
            std::thread::yield_now();
        }
    }
    scene.block_on(async {
        let supervisor = durable(scene);
        for id in ["socket", "descriptor"] {
            let container = found(&supervisor, id).await;
            wait::soon("ready", container.ready()).await.unwrap();
            if id == "socket" {
                assert_eq!(container.inspect().vitals.status.as_deref(), Some("it is up"));
            }
        }
        end(scene, supervisor).await;
    });
    settle(scene);
}

/// It is restarted all the time, so that whoever leaves meets a restart.
fn a_restart_that_is_refused_by_our_end_is_no_end_of_the_service(scene: &Scene) {
    scene.block_on(async {
        for round in 0..6_u32 {
            let supervisor = durable(scene);
            if round == 0 {
                let restart = Restart::always().delays([Duration::ZERO]).jitter(0).without_window();
                let service = supervisor.command("false").id("churns").restart(restart).supervise().await.unwrap();
                service.detach();
            }
            let service = supervisor.service("churns").await.unwrap().expect("it goes on");
            let further = service.inspect().generation + 2;
            wait::soon("restarts", service.wait_for(move |now| now.generation >= further)).await.unwrap();
            let left = supervisor.leave();
            wait::soon("leaving", left).await;
            assert!(!service.state().is_settled(), "{round}: {:?}", service.inspect());
        }
        let supervisor = durable(scene);
        assert_eq!(supervisor.recovery().unwrap().services, ["churns"]);
        let service = supervisor.service("churns").await.unwrap().expect("it goes on");
        wait::soon("its end", service.stop(9, Duration::ZERO)).await.unwrap();
        assert!(supervisor.forget("churns").await.unwrap());
        // A restart that was given up on its way leaves its directory to the next supervisor, which removes it.
        wait::soon("shutdown", supervisor.shutdown()).await;
    });
    settle(scene);
}
