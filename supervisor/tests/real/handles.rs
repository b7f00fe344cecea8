//! What a handle does to real processes.

use std::fs;

use orangery::stream::From;
use orangery::{
    Cause, ContainerHandle, ErrorKind, Event, Pause, ProcessHandle, ProcessId, Sandbox, Stdin, SubscribeOptions,
    Supervisor,
};
use orangery_tests::{Scene, Trial, trial, wait};
use tokio::io::AsyncWriteExt as _;

use crate::stage::{builder, play};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial!(a_detached_container_is_found_with_its_processes),
        trial!(standard_input_is_closed_or_kept_when_its_writer_goes),
        trial!(a_stop_holds_every_process_and_a_resume_lets_them_go_on),
        trial!(a_stopped_container_can_be_killed),
        trial!(who_had_stopped_before_stays_stopped),
    ]
}

async fn sleeper(supervisor: &Supervisor, id: &str) -> ContainerHandle {
    supervisor.command("sleep").arg("1000").id(id).spawn().await.unwrap()
}

fn a_detached_container_is_found_with_its_processes(scene: &Scene) {
    play(scene, async |supervisor| {
        let container = sleeper(supervisor, "kept").await;
        let cat = container.command("cat").stdin(Stdin::Piped).spawn().await.unwrap();
        assert_eq!(cat.id(), ProcessId(1));
        drop(cat);
        container.detach();
        let container = supervisor.container("kept").await.unwrap().unwrap();
        let cat = container.process_by_id(ProcessId(1)).unwrap();
        let mut stdin = cat.stdin().unwrap();
        stdin.write_all(b"hello").await.unwrap();
        stdin.shutdown().await.unwrap();
        assert!(wait::soon("cat", cat.wait()).await.unwrap().success());
        assert_eq!(cat.stdout().collect(100).await.to_vec(), b"hello");
        container.kill().unwrap();
        let report = wait::soon("end", container.wait()).await.unwrap();
        assert_eq!(report.cause, Cause::Stop { escalated: true });
    });
}

/// The states of all processes in the pid namespace of `process`.
fn states(process: &ProcessHandle) -> Vec<u8> {
    let space = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let own = space(&process.pid().to_string());
    assert!(own.is_some());
    let numbers = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.file_name().into_string().unwrap());
    let inside = numbers.filter(|pid| pid.parse::<u32>().is_ok() && space(pid) == own);
    let stats = inside.filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/stat")).ok());
    stats.map(|stat| stat.rsplit_once(") ").unwrap().1.as_bytes()[0]).collect()
}

fn a_stop_holds_every_process_and_a_resume_lets_them_go_on(scene: &Scene) {
    scene.block_on(async {
        let supervisor = builder(scene).without_cgroups().build().unwrap();
        for init in [true, false] {
            let sandbox = Sandbox::builder().init(init).build().unwrap();
            // Forks all the time, and says so.
            let script = "while :; do (:); echo; done";
            let container = supervisor.command("sh").arg("-c").arg(script).sandbox(&sandbox).spawn().await.unwrap();
            let further = container.command("sleep").arg("1000").spawn().await.unwrap();
            let refused = container.pause().await.unwrap_err();
            assert_eq!((refused.kind(), refused.field()), (ErrorKind::Unsupported, Some("pause")));
            wait::soon("stop", container.pause_with(Pause::Stop)).await.unwrap();
            // A zombie waits for its parent, which is stopped; one that is held up in the kernel stops on its way back.
            let held = || states(&further).iter().all(|state| b"TtZX".contains(state));
            wait::until("all are held", held);
            assert!(held() && states(&further).len() >= 2, "{:?}", states(&further));
            let refused = container.command("true").spawn().await.unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::State);
            assert!(container.read_file("/etc/passwd", 4096).await.is_ok(), "looking inside wakes nobody");
            assert!(held(), "{:?}", states(&further));
            wait::soon("resume", container.resume()).await.unwrap();
            let mut output = container.subscribe(SubscribeOptions { from: From::Now, ..SubscribeOptions::default() });
            assert!(matches!(wait::soon("output", output.recv()).await, Some(Event::Chunk(_))), "it forks on");
            let further = wait::soon("exec", container.command("true").spawn()).await.unwrap();
            assert!(wait::soon("true", further.wait()).await.unwrap().success());
            container.kill().unwrap();
            wait::soon("kill", container.wait()).await.unwrap();
        }
        wait::soon("shutdown", supervisor.shutdown()).await;
    });
}

fn a_stopped_container_can_be_killed(scene: &Scene) {
    play(scene, async |supervisor| {
        let container = sleeper(supervisor, "a").await;
        wait::soon("stop", container.pause_with(Pause::Stop)).await.unwrap();
        container.kill().unwrap();
        let report = wait::soon("end", container.wait()).await.unwrap();
        assert_eq!(report.cause, Cause::Stop { escalated: true });
        assert_eq!(container.resume().await.unwrap_err().kind(), ErrorKind::State);
    });
}

fn who_had_stopped_before_stays_stopped(scene: &Scene) {
    play(scene, async |supervisor| {
        let container = sleeper(supervisor, "a").await;
        let command = container.command("sh").arg("-c").arg("kill -STOP $$; echo woke");
        let stopped = command.spawn().await.unwrap();
        let state = || {
            let stat = fs::read_to_string(format!("/proc/{}/stat", stopped.pid())).unwrap();
            stat.rsplit_once(") ").unwrap().1.as_bytes()[0]
        };
        while state() != b'T' {
            std::thread::yield_now();
        }
        wait::soon("stop", container.pause_with(Pause::Stop)).await.unwrap();
        wait::soon("resume", container.resume()).await.unwrap();
        assert_eq!(state(), b'T');
        stopped.signal(18).unwrap();
        assert!(wait::soon("woke", stopped.wait()).await.unwrap().success());
    });
}

fn standard_input_is_closed_or_kept_when_its_writer_goes(scene: &Scene) {
    play(scene, async |supervisor| {
        let container = supervisor.command("cat").id("kept").stdin(Stdin::Kept).spawn().await.unwrap();
        let mut writer = container.stdin().unwrap();
        assert!(container.stdin().is_none(), "one at a time");
        writer.write_all(b"a").await.unwrap();
        drop(writer);
        container.stdin().unwrap().write_all(b"b").await.unwrap();
        container.detach();
        let container = supervisor.container("kept").await.unwrap().unwrap();
        let further = container.command("cat").stdin(Stdin::Kept).spawn().await.unwrap();
        drop(further.stdin().unwrap());
        assert!(further.stdin().is_some(), "further processes too");
        let mut writer = container.stdin().unwrap();
        writer.write_all(b"c").await.unwrap();
        let output = container.stdout();
        writer.shutdown().await.unwrap();
        drop(writer);
        wait::soon("end", container.wait()).await.unwrap();
        wait::soon("the other's end", further.wait()).await.unwrap();
        assert_eq!(output.collect(100).await.to_vec(), b"abc");
        assert!(container.stdin().is_none() && further.stdin().is_none(), "nobody reads any more");
        let container = supervisor.command("cat").stdin(Stdin::Piped).spawn().await.unwrap();
        drop(container.stdin().unwrap());
        assert!(container.stdin().is_none());
        assert!(wait::soon("end", container.wait()).await.unwrap().success());
    });
}
