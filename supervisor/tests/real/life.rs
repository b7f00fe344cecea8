//! Whole lives: output, exits, limits, files, further processes.

use std::time::Duration;

use orangery::{
    Cause, ErrorKind, Event, ExitStatus, LimitKind, Measured, OomVerdict, Sandbox, Source, State, Stdin, User,
};
use orangery_tests::{Scene, Trial, trial, wait};
use tokio::io::AsyncWriteExt as _;

use crate::stage::{builder, play};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial!(output_code_and_report),
        trial!(a_mebibyte_and_an_exit_at_once_all_arrives_before_the_end),
        trial!(standard_input_is_whole_and_half_closed),
        trial!(further_processes_share_the_container_and_die_with_it),
        trial!(the_wall_limit_takes_descendants_along),
        trial!(a_grandchild_that_holds_the_output_is_told_as_a_leak_or_dies_with_the_container),
        trial!(the_memory_limit_is_the_cause, Memory),
        trial!(the_oom_killers_victim_says_so_and_nobody_else, Memory),
        trial!(pause_holds_it_and_a_paused_container_can_be_killed, Freezer),
        trial!(a_descriptor_of_its_own_ends_with_the_process),
        trial!(a_handle_of_an_ended_container_costs_no_descriptor),
        trial!(a_user_by_number_has_a_home_and_no_capabilities),
        trial!(dropping_run_at_every_poll_leaves_nothing),
        trial!(the_blocking_form_works_without_a_runtime),
        trial!(sixteen_in_flight_from_a_multi_threaded_runtime),
        trial!(a_socket_of_the_container_is_not_the_hosts),
    ]
}

fn output_code_and_report(scene: &Scene) {
    play(scene, async |supervisor| {
        let output = supervisor.command("sh").arg("-c").arg("echo hello; echo oops >&2; exit 3").run().await.unwrap();
        assert_eq!((output.stdout.to_vec(), output.stderr.to_vec()), (b"hello\n".to_vec(), b"oops\n".to_vec()));
        assert_eq!((output.report.exit, output.report.cause.clone()), (ExitStatus::Code(3), Cause::Own));
        assert!(output.report.usage.known().is_some());
        assert_eq!((output.report.stdout.bytes, output.report.stderr.bytes), (Measured::Known(6), Measured::Known(5)));
    });
}

fn a_mebibyte_and_an_exit_at_once_all_arrives_before_the_end(scene: &Scene) {
    play(scene, async |supervisor| {
        let script = "i=0; while [ $i -lt 16384 ]; do printf '%063d\\n' $i; i=$((i+1)); done";
        let output = supervisor.command("sh").arg("-c").arg(script).capture(4 << 20).run().await.unwrap();
        let text = String::from_utf8(output.stdout.to_vec()).unwrap();
        assert_eq!(text.len(), 1 << 20);
        assert!(text.lines().enumerate().all(|(number, line)| line.parse() == Ok(number)));
    });
}

fn standard_input_is_whole_and_half_closed(scene: &Scene) {
    play(scene, async |supervisor| {
        let input: Vec<u8> = (0..3_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let command = supervisor.command("cat").stdin(Stdin::Bytes(input.clone().into())).capture(8 << 20);
        assert!(command.run().await.unwrap().stdout.to_vec() == input);
        let early = supervisor.command("true").stdin(Stdin::Bytes(input.into())).run().await.unwrap();
        assert!(early.report.success(), "input that nobody reads is no error");
        let container = supervisor.command("cat").stdin(Stdin::Piped).spawn().await.unwrap();
        let mut stdin = container.stdin().unwrap();
        assert!(container.stdin().is_none(), "once");
        stdin.write_all(b"abc").await.unwrap();
        stdin.shutdown().await.unwrap();
        assert_eq!(container.wait().await.unwrap().stdout.bytes, Measured::Known(3));
    });
}

fn further_processes_share_the_container_and_die_with_it(scene: &Scene) {
    play(scene, async |supervisor| {
        let container = supervisor.command("sleep").arg("1000").spawn().await.unwrap();
        let mut output =
            container.command("sh").arg("-c").arg("echo $$; ls /proc | grep -c '^[0-9]'").spawn().await.unwrap();
        assert!(output.wait().await.unwrap().success());
        let mut reader = output.stdout();
        let Some(Event::Chunk(chunk)) = reader.recv().await else { panic!("no output") };
        assert!(chunk.source == Source::Stdout && !chunk.data.is_empty());
        output = container.command("sleep").arg("1000").spawn().await.unwrap();
        let missing = container.command("no-such-program").spawn().await.unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::CommandNotFound);
        container.kill().unwrap();
        let along = output.wait().await.unwrap();
        assert!(matches!(along.exit, ExitStatus::Signal { signal: 9, .. }));
        assert_eq!((along.cause.clone(), along.oom.clone()), (Cause::Stop { escalated: true }, OomVerdict::No));
        assert_eq!(along.cgroup.mode, container.inspect().cgroup_mode.unwrap());
        assert_eq!(container.wait().await.unwrap().cause, Cause::Stop { escalated: true });
        assert_eq!(container.command("true").spawn().await.unwrap_err().kind(), ErrorKind::State);
    });
}

fn the_wall_limit_takes_descendants_along(scene: &Scene) {
    play(scene, async |supervisor| {
        let sandbox = Sandbox::builder().wall(Duration::from_millis(200)).build().unwrap();
        let script = "(setsid sh -c 'sleep 1000' &) ; sleep 1000";
        let output = supervisor.command("sh").arg("-c").arg(script).sandbox(&sandbox).run().await.unwrap();
        assert_eq!(output.report.cause, Cause::Limit(LimitKind::Wall));
        assert_eq!(output.report.shell_code(), 124);
        assert!(!output.report.leaked_writers, "with the container gone nobody holds its pipes");
    });
}

fn a_grandchild_that_holds_the_output_is_told_as_a_leak_or_dies_with_the_container(scene: &Scene) {
    play(scene, async |supervisor| {
        let began = std::time::Instant::now();
        let container = supervisor.command("sh").arg("-c").arg("sleep 1000 & echo done").spawn().await.unwrap();
        assert_eq!(container.wait_exit().await.unwrap(), ExitStatus::Code(0));
        let exited = began.elapsed();
        let report = container.wait().await.unwrap();
        assert!(report.wall().unwrap() <= exited, "the drain grace is not the command's time: {report:?}");
        assert!(report.leaked_writers);
        assert_eq!(report.stdout.bytes, Measured::Known(5));
    });
}

fn the_memory_limit_is_the_cause(scene: &Scene) {
    play(scene, async |supervisor| {
        let sandbox = Sandbox::builder().memory(32 << 20).build().unwrap();
        let script = "x=a; while :; do x=$x$x; done";
        let output = supervisor.command("sh").arg("-c").arg(script).sandbox(&sandbox).run().await.unwrap();
        assert_eq!(output.report.cause, Cause::Limit(LimitKind::Memory), "{:?}", output.report);
        assert!(matches!(output.report.oom, OomVerdict::Own { .. } | OomVerdict::Killed { .. }));
    });
}

fn the_oom_killers_victim_says_so_and_nobody_else(scene: &Scene) {
    play(scene, async |supervisor| {
        let sandbox = Sandbox::builder().memory(32 << 20).build().unwrap();
        let container = supervisor.command("sleep").arg("1000").sandbox(&sandbox).spawn().await.unwrap();
        let hog = container.command("sh").arg("-c").arg("x=a; while :; do x=$x$x; done").spawn().await.unwrap();
        let report = hog.wait().await.unwrap();
        assert_eq!(report.cause, Cause::Limit(LimitKind::Memory), "{report:?}");
        assert_eq!(report.oom, OomVerdict::Killed { kills: 1 });
        // A SIGKILL that is nobody's limit: the victim above has been claimed.
        container.process().signal(9).unwrap();
        let report = container.wait().await.unwrap();
        assert_eq!(report.cause, Cause::Own, "{report:?}");
        assert!(matches!(report.oom, OomVerdict::Own { kills: 1 } | OomVerdict::Killed { kills: 1 }), "{report:?}");
    });
}

fn pause_holds_it_and_a_paused_container_can_be_killed(scene: &Scene) {
    play(scene, async |supervisor| {
        let container = supervisor.command("sleep").arg("1000").spawn().await.unwrap();
        container.pause().await.unwrap();
        assert_eq!(container.inspect().state, State::Paused);
        assert_eq!(container.command("true").spawn().await.unwrap_err().kind(), ErrorKind::State);
        container.resume().await.unwrap();
        container.pause().await.unwrap();
        container.kill().unwrap();
        container.wait().await.unwrap();
    });
}

/// Who reads at the other end sees the end, although the handle lives on.
fn a_descriptor_of_its_own_ends_with_the_process(scene: &Scene) {
    play(scene, async |supervisor| {
        for init in [true, false] {
            let (read, write) = std::io::pipe().unwrap();
            let sandbox = Sandbox::builder().init(init).build().unwrap();
            let command = supervisor.command("sh").arg("-c").arg("echo out; echo err >&2").sandbox(&sandbox);
            let container = command.stdout_fd(write.into()).spawn().await.unwrap();
            let report = container.wait().await.unwrap();
            assert_eq!(std::io::read_to_string(read).unwrap(), "out\n");
            assert!(report.stdout.bytes.known().is_none(), "we have not seen them: {report:?}");
            assert_eq!(report.stderr.bytes, Measured::Known(4));
        }
    });
}

fn a_handle_of_an_ended_container_costs_no_descriptor(scene: &Scene) {
    scene.block_on(async {
        // One shard: another brings descriptors of its own with its first container.
        let supervisor = builder(scene).shards(1).build().unwrap();
        let ended = async || {
            let container = supervisor.command("sleep").arg("1000").spawn().await.unwrap();
            let more = container.command("true").spawn().await.unwrap();
            more.wait().await.unwrap();
            container.delete().await.unwrap();
            container.wait().await.unwrap();
            (container, more)
        };
        let mut kept = vec![ended().await, ended().await];
        let before = scene.stock().descriptors.len();
        for _ in 0..20 {
            kept.push(ended().await);
        }
        assert_eq!(scene.stock().descriptors.len(), before);
        drop(kept);
        wait::soon("shutdown", supervisor.shutdown()).await;
    });
}

fn a_user_by_number_has_a_home_and_no_capabilities(scene: &Scene) {
    play(scene, async |supervisor| {
        let user = User::Ids { uid: 1234, gid: 1234 };
        let script = "id -u; touch ~/x && echo home; grep CapEff /proc/self/status";
        let output = supervisor.command("sh").arg("-c").arg(script).user(user).run().await.unwrap();
        let text = String::from_utf8(output.stdout.to_vec()).unwrap();
        assert_eq!(text, "1234\nhome\nCapEff:\t0000000000000000\n");
    });
}

/// Without a shutdown in between that would clean up: the drop alone gives everything back.
fn dropping_run_at_every_poll_leaves_nothing(scene: &Scene) {
    play(scene, async |supervisor| {
        supervisor.command("true").run().await.unwrap();
        for polls in 0..24 {
            let mut running = Box::pin(supervisor.command("sh").arg("-c").arg("echo; sleep 0.05").run());
            for _ in 0..polls {
                let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(running.as_mut().poll(cx))).await;
                if polled.is_ready() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
    });
}

fn the_blocking_form_works_without_a_runtime(scene: &Scene) {
    let supervisor = builder(scene).build().expect("a supervisor");
    let output = supervisor.command("echo").arg("hi").run_blocking().unwrap();
    assert_eq!(output.stdout.to_vec(), b"hi\n");
    supervisor.shutdown_blocking();
}

fn sixteen_in_flight_from_a_multi_threaded_runtime(scene: &Scene) {
    let supervisor = builder(scene).build().expect("a supervisor");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let mut running = tokio::task::JoinSet::new();
        for n in 0..64u32 {
            let command = supervisor.command("sh").arg("-c").arg(format!("exit {n}"));
            running.spawn(async move { (n, command.run().await) });
        }
        while let Some(ended) = running.join_next().await {
            let (n, output) = ended.unwrap();
            assert_eq!(output.unwrap().report.exit, ExitStatus::Code(n.cast_signed()));
        }
        supervisor.shutdown().await;
    });
}

fn a_socket_of_the_container_is_not_the_hosts(scene: &Scene) {
    use rustix::net::{bind, listen};
    use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
    play(scene, async |supervisor| {
        // Somebody listens at the same port outside, which two cannot do in one network.
        let outside = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = outside.local_addr().unwrap().port();
        let container = supervisor.command("sleep").arg("1000").spawn().await.unwrap();
        // AF_INET, SOCK_STREAM
        let socket = container.socket(2, 1).await.unwrap();
        bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)).expect("nobody listens there in its network");
        listen(&socket, 1).unwrap();
        assert_eq!(container.socket(9999, 1).await.unwrap_err().field(), Some("socket"));
        container.delete().await.unwrap();
        assert_eq!(container.socket(2, 1).await.unwrap_err().kind(), ErrorKind::State);
    });
}
