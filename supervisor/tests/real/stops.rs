//! Stops of processes that do not want to, and the commands that go with a stop.

use std::time::Duration;

use orangery::{
    Cause, Command, ContainerHandle, ErrorKind, ExitStatus, Hook, HookOutcome, Pause, Report, Sandbox, StopLadder,
    Supervisor,
};
use orangery_tests::{Scene, Trial, trial, wait};

use crate::stage::{play, up};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial!(what_ignores_term_dies_with_its_descendants),
        trial!(what_forks_without_end_dies),
        trial!(a_stopped_process_feels_the_signal_and_dies_in_time),
        trial!(a_frozen_container_dies_at_the_end_of_its_ladder, Freezer),
        trial!(a_container_that_is_paused_by_stop_dies_of_the_signal),
        trial!(each_rung_is_felt),
        trial!(a_pre_stop_command_sees_the_running_process_and_a_post_stop_command_its_files),
        trial!(a_post_stop_command_runs_after_a_death_too_and_not_after_a_kill),
        trial!(a_pre_stop_command_in_a_frozen_container_is_not_started, Freezer),
    ]
}

const HOUR: Duration = Duration::from_secs(3600);
const SOON: Duration = Duration::from_millis(50);
const KILLED: ExitStatus = ExitStatus::Signal { signal: 9, core_dumped: false };

fn sh(supervisor: &Supervisor, script: &str) -> Command {
    supervisor.command("sh").arg("-c").arg(script)
}

async fn stopped(container: &ContainerHandle, ladder: impl Into<StopLadder>) -> Report {
    wait::soon("the stop", container.stop_with(ladder.into())).await.unwrap();
    Report::clone(&*wait::soon("the report", container.wait()).await.unwrap())
}

fn what_ignores_term_dies_with_its_descendants(scene: &Scene) {
    play(scene, async |supervisor| {
        // In sessions of their own, and orphans: a signal to a process or a group would miss them.
        // Ready when they are there and who was between them is not: what is listed has its place by then.
        let script = "trap '' TERM; mkfifo /tmp/there; \
                      (setsid sh -c 'trap \"\" TERM; sleep 1000 & echo >/tmp/there; sleep 1000' &); \
                      read line </tmp/there; echo ready; sleep 1000";
        let container = up(sh(supervisor, script)).await;
        let init = container.inspect().init_pid.unwrap().cast_unsigned();
        let all: Vec<_> = orangery_tests::stock::descendants(init)
            .into_iter()
            .filter_map(|process| wait::try_pidfd(process.pid))
            .collect();
        assert!(all.len() >= 2, "{}", all.len());
        let report = stopped(&container, (15, SOON)).await;
        assert_eq!((report.exit, report.cause), (KILLED, Cause::Stop { escalated: true }));
        assert!(all.iter().all(|process| wait::readable(process, Duration::ZERO)), "one is alive");
    });
}

fn what_forks_without_end_dies(scene: &Scene) {
    play(scene, async |supervisor| {
        // Each ends as soon as the next is born: whoever is looked for is gone already, and there are never many.
        let script = "trap '' TERM; f() { f & }; f; f; f; echo ready; while :; do sleep 1000; done";
        let container = up(sh(supervisor, script)).await;
        let report = stopped(&container, (15, SOON)).await;
        assert_eq!((report.exit, report.cause), (KILLED, Cause::Stop { escalated: true }));
        assert!(report.unkillable.is_none());
    });
}

fn a_stopped_process_feels_the_signal_and_dies_in_time(scene: &Scene) {
    play(scene, async |supervisor| {
        let container = up(sh(supervisor, "echo ready; kill -STOP $$; sleep 1000")).await;
        let stat = format!("/proc/{}/stat", container.pid());
        let is_stopped = async {
            // The kernel tells nobody but its parent.
            while !std::fs::read_to_string(&stat).unwrap().contains(") T ") {
                tokio::task::yield_now().await;
            }
        };
        wait::soon("it is stopped", is_stopped).await;
        let report = stopped(&container, (15, HOUR)).await;
        assert_eq!(report.exit, ExitStatus::Signal { signal: 15, core_dumped: false });
        assert_eq!(report.cause, Cause::Stop { escalated: false });
    });
}

fn a_frozen_container_dies_at_the_end_of_its_ladder(scene: &Scene) {
    play(scene, async |supervisor| {
        // A frozen process dies of a signal that it does not handle, but cannot handle one.
        let container = up(sh(supervisor, "trap 'exit 0' TERM; echo ready; while :; do sleep 0.01; done")).await;
        wait::soon("a pause", container.pause()).await.unwrap();
        let report = stopped(&container, (15, SOON)).await;
        assert_eq!((report.exit, report.cause), (KILLED, Cause::Stop { escalated: true }));
    });
}

fn a_container_that_is_paused_by_stop_dies_of_the_signal(scene: &Scene) {
    play(scene, async |supervisor| {
        let container = up(sh(supervisor, "echo ready; exec sleep 1000")).await;
        wait::soon("a pause", container.pause_with(Pause::Stop)).await.unwrap();
        let report = stopped(&container, (15, HOUR)).await;
        assert_eq!(report.exit, ExitStatus::Signal { signal: 15, core_dumped: false });
        assert_eq!(report.cause, Cause::Stop { escalated: false });
    });
}

fn each_rung_is_felt(scene: &Scene) {
    play(scene, async |supervisor| {
        let script = "trap 'echo hup' HUP; trap 'echo usr; exit 5' USR1; echo ready; while :; do sleep 0.01; done";
        let ladder = StopLadder::new().then(1, SOON).then(10, HOUR);
        let container = up(sh(supervisor, script).stop_ladder(ladder)).await;
        wait::soon("the stop", container.stop_gently()).await.unwrap();
        let report = wait::soon("the report", container.wait()).await.unwrap();
        assert_eq!((report.exit, report.cause.clone()), (ExitStatus::Code(5), Cause::Stop { escalated: false }));
        let said = container.stdout().collect(1 << 10).await.to_vec();
        assert_eq!(String::from_utf8_lossy(&said), "ready\nhup\nusr\n");
    });
}

fn a_pre_stop_command_sees_the_running_process_and_a_post_stop_command_its_files(scene: &Scene) {
    play(scene, async |supervisor| {
        let script =
            "trap 'cat /tmp/asked; echo bye > /tmp/said; exit 7' TERM; echo ready; while :; do sleep 0.01; done";
        let kept = Sandbox::builder().keep_files(true).build().unwrap();
        let hook = |script: &str| Hook::new("sh").arg("-c").arg(script);
        let command = sh(supervisor, script).sandbox(&kept).env("WORD", "hello").current_dir("/tmp");
        let command = command.pre_stop(hook("echo $WORD > asked"));
        let command = command.post_stop(hook("echo \"$(cat said) $ORANGERY_EXIT_CODE\" > /tmp/last"));
        let container = up(command).await;
        wait::soon("the stop", container.stop_gently()).await.unwrap();
        let report = wait::soon("the report", container.wait()).await.unwrap();
        assert_eq!((report.exit, report.cause.clone()), (ExitStatus::Code(7), Cause::Stop { escalated: false }));
        assert!(
            report.pre_stop.as_ref().unwrap().success() && report.post_stop.as_ref().unwrap().success(),
            "{report:?}"
        );
        let said = container.stdout().collect(1 << 10).await.to_vec();
        assert_eq!(String::from_utf8_lossy(&said), "ready\nhello\n");
        let last = container.read_file("/tmp/last", 100).await.unwrap();
        assert_eq!(last, b"bye 7\n"[..]);
        wait::soon("the removal", container.delete()).await.unwrap();
    });
}

fn a_post_stop_command_runs_after_a_death_too_and_not_after_a_kill(scene: &Scene) {
    play(scene, async |supervisor| {
        let post = || Hook::new("sh").arg("-c").arg("[ \"$ORANGERY_EXIT_SIGNAL\" = 6 ] && exit 44");
        let report =
            wait::soon("an end", sh(supervisor, "kill -ABRT $$").post_stop(post()).run()).await.unwrap().report;
        assert!(matches!(report.post_stop, Some(HookOutcome::Ended { exit: ExitStatus::Code(44), .. })), "{report:?}");
        let container = up(sh(supervisor, "echo ready; exec sleep 1000").post_stop(post())).await;
        container.kill().unwrap();
        assert_eq!(wait::soon("an end", container.wait()).await.unwrap().post_stop, Some(HookOutcome::Skipped));
        let missing = sh(supervisor, "exit 0").post_stop(Hook::new("no-such-program"));
        let report = wait::soon("an end", missing.run()).await.unwrap().report;
        assert!(matches!(report.post_stop, Some(HookOutcome::NotStarted { .. })) && report.success(), "{report:?}");
    });
}

fn a_pre_stop_command_in_a_frozen_container_is_not_started(scene: &Scene) {
    play(scene, async |supervisor| {
        let command = sh(supervisor, "echo ready; exec sleep 1000").pre_stop(Hook::new("true"));
        let container = up(command).await;
        wait::soon("a pause", container.pause()).await.unwrap();
        let refused = container.command("true").run().await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::State);
        let report = stopped(&container, (15, SOON)).await;
        assert!(matches!(report.pre_stop, Some(HookOutcome::NotStarted { .. })), "{report:?}");
    });
}
