//! Services on real containers: incarnations, restarts and their ends.

use std::time::Duration;

use orangery::restart::GiveUp;
use orangery::{
    Cause, ContainerHandle, ErrorKind, ExitClass, ExitStatus, LimitKind, Restart, Sandbox, ServiceState, Treatment,
};
use orangery_tests::{Scene, Trial, trial, wait};

use crate::stage::play;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial!(each_incarnation_is_a_fresh_container_of_the_same_name),
        trial!(a_killed_service_comes_back_and_a_stopped_one_does_not),
        trial!(an_oom_kill_is_a_class, Memory),
        trial!(a_first_start_that_fails_leaves_nothing),
        trial!(dropping_it_in_a_crash_loop_leaves_nothing),
        trial!(a_restart_without_any_delay_does_not_slow_others),
    ]
}

const MS: Duration = Duration::from_millis(1);

async fn text(container: &ContainerHandle) -> String {
    String::from_utf8(container.stdout().collect(1 << 16).await.to_vec()).unwrap()
}

fn each_incarnation_is_a_fresh_container_of_the_same_name(scene: &Scene) {
    play(scene, async |supervisor| {
        // What one leaves behind: a file, and a process that would hold the output and count in the next one's list.
        let script = "ls /tmp | wc -l; ls /proc | grep -c '^[0-9]'; touch /tmp/mark; setsid sleep 1000 & exit 3";
        let sandbox = Sandbox::builder().drain_grace(Some(Duration::ZERO)).build().unwrap();
        let command = supervisor.command("sh").arg("-c").arg(script).id("svc").sandbox(&sandbox.with_id("svc"));
        let restart = Restart::on_failure().back_off(MS, 1, MS).at_most(3);
        let service = command.restart(restart).supervise().await.unwrap();
        let mut said = Vec::new();
        for generation in 1..=4 {
            let reached = service.wait_for(move |now| now.deaths.iter().any(|death| death.generation == generation));
            wait::soon("a death", reached).await.unwrap();
            // The loop is fast: only the last one is sure to be there still.
            if generation == 4 {
                said.push(text(&service.current().unwrap()).await);
            }
        }
        let end = wait::soon("its end", service.wait()).await.unwrap();
        assert_eq!((end.state, end.give_up), (ServiceState::Failed, Some(GiveUp::WindowSpent)));
        let report = end.report.unwrap();
        assert_eq!((report.id.as_str(), report.generation, report.exit), ("svc", 4, ExitStatus::Code(3)));
        let generations: Vec<_> = end.deaths.iter().map(|death| (death.generation, death.exit)).collect();
        assert_eq!(generations, (1..=4).map(|n| (n, Some(ExitStatus::Code(3)))).collect::<Vec<_>>());
        let lines: Vec<_> = said[0].lines().map(|line| line.trim().parse::<u32>().unwrap()).collect();
        assert_eq!(lines[0], 0, "an empty /tmp");
        assert!(lines[1] <= 5, "its own processes alone: {lines:?}");
    });
}

fn a_killed_service_comes_back_and_a_stopped_one_does_not(scene: &Scene) {
    play(scene, async |supervisor| {
        let command = supervisor.command("sleep").arg("1000");
        let service = command.restart(Restart::always().back_off(MS, 1, MS)).supervise().await.unwrap();
        let first = service.current().unwrap();
        first.signal(9).unwrap();
        let again = service.wait_for(|now| now.generation == 2 && now.state == ServiceState::Running);
        let again = wait::soon("the next", again).await.unwrap();
        assert_eq!(again.restarts, 1);
        assert_eq!(again.report.unwrap().exit, ExitStatus::Signal { signal: 9, core_dumped: false });
        let second = service.current().unwrap();
        assert!(second.id() == first.id() && second.pid() != first.pid());
        assert!(second.command("true").run().await.unwrap().report.generation == 2);
        wait::soon("a stop", service.stop(15, Duration::from_secs(60))).await.unwrap();
        assert_eq!(
            (service.state(), service.inspect().report.unwrap().cause),
            (ServiceState::Stopped, Cause::Stop { escalated: false })
        );
        service.start().await.unwrap();
        assert_eq!(service.inspect().generation, 3);
        service.kill();
        wait::soon("a kill", service.wait()).await.unwrap();
    });
}

fn an_oom_kill_is_a_class(scene: &Scene) {
    play(scene, async |supervisor| {
        let sandbox = Sandbox::builder().memory(16 << 20).build().unwrap();
        let hungry = supervisor.command("tail").arg("/dev/zero").sandbox(&sandbox);
        let restart = Restart::always().class(ExitClass::Oom, Treatment::Prevent);
        let service = hungry.restart(restart).supervise().await.unwrap();
        let end = wait::soon("its end", service.wait()).await.unwrap();
        assert_eq!((end.state, end.generation), (ServiceState::Ended, 1));
        assert_eq!(end.report.unwrap().cause, Cause::Limit(LimitKind::Memory));
    });
}

fn a_first_start_that_fails_leaves_nothing(scene: &Scene) {
    play(scene, async |supervisor| {
        let command = supervisor.command("no-such-program").id("svc").restart(Restart::always());
        assert_eq!(command.supervise().await.unwrap_err().kind(), ErrorKind::CommandNotFound);
        let service = supervisor.command("true").id("svc").supervise().await.unwrap();
        assert_eq!(service.wait().await.unwrap().state, ServiceState::Ended);
    });
}

fn dropping_it_in_a_crash_loop_leaves_nothing(scene: &Scene) {
    play(scene, async |supervisor| {
        for _ in 0..10 {
            let crash = supervisor.command("false").restart(Restart::always().delays([]).without_window());
            let service = crash.supervise().await.unwrap();
            let changes = service.changes();
            wait::soon("a restart", service.wait_for(|now| now.restarts > 2)).await.unwrap();
            drop(service);
            wait::soon("its end", futures_util::StreamExt::collect::<Vec<_>>(changes)).await;
            assert!(supervisor.list().await.unwrap().is_empty());
        }
    });
}

fn a_restart_without_any_delay_does_not_slow_others(scene: &Scene) {
    play(scene, async |supervisor| {
        let crash = supervisor.command("false").restart(Restart::always().delays([]).without_window());
        let service = crash.supervise().await.unwrap();
        // They all get through while it restarts as fast as it can.
        for _ in 0..20 {
            assert!(wait::soon("a run", supervisor.command("true").run()).await.unwrap().report.success());
        }
        assert!(service.inspect().restarts > 0);
    });
}
