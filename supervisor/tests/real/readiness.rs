//! Probes on real containers: commands, connections and lines, and what is left of them.

use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::os::fd::OwnedFd;
use std::time::Duration;

use orangery::events::{Item, Kind, Since};
use orangery::{
    Cause, ContainerHandle, ErrorKind, ExitStatus, Health, HealthState, Mount, Network, NotifyRefusal, OnUnhealthy,
    Probe, Readiness, Sandbox, SandboxBuilder, ServiceState, Supervisor, Watchdog,
};
use orangery_tests::{Scene, Trial, trial, wait};

use crate::stage::play;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial!(a_line_that_was_written_at_once_is_not_missed),
        trial!(a_connection_is_made_in_the_containers_network),
        trial!(a_probe_that_hangs_is_killed_with_all_that_it_has_started),
        trial!(a_probe_runs_as_the_main_process_does),
        trial!(an_unhealthy_service_is_restarted),
        trial!(one_that_is_never_ready_is_ended_and_says_why),
        trial!(it_says_that_it_is_ready_from_inside),
        trial!(in_the_hosts_network_nobody_else_is_heard),
        trial!(a_line_on_its_descriptor_is_a_sign),
        trial!(a_watchdog_aborts_what_is_silent),
    ]
}

const MS: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(600);

fn patient(probe: Probe) -> Readiness {
    Readiness::new(probe).interval(5 * MS).timeout(LONG).attempt_timeout(LONG)
}

/// Wait until this is said of why it is not ready or not healthy.
async fn fails(container: &ContainerHandle, with: &str) {
    let until = std::time::Instant::now() + wait::PATIENCE;
    while !container.inspect().vitals.failure.is_some_and(|why| why.contains(with)) {
        assert!(std::time::Instant::now() < until, "{with:?}: {:?}", container.inspect().vitals);
        tokio::task::yield_now().await;
    }
}

/// Wait until so many attempts in a row have failed.
async fn fails_often(container: &ContainerHandle, failures: u32) {
    let until = std::time::Instant::now() + wait::PATIENCE;
    while container.inspect().vitals.failures < failures {
        assert!(std::time::Instant::now() < until, "{:?}", container.inspect().vitals);
        tokio::task::yield_now().await;
    }
}

/// Arguments of all that runs in it.
async fn arguments(container: &ContainerHandle) -> Vec<String> {
    let listed = container.command("sh").arg("-c").arg("cat /proc/[0-9]*/cmdline").run().await.unwrap();
    String::from_utf8(listed.stdout.to_vec()).unwrap().split('\0').map(str::to_owned).collect()
}

fn a_line_that_was_written_at_once_is_not_missed(scene: &Scene) {
    play(scene, async |supervisor| {
        let script = "echo 'now it is ready' >&2; exec sleep 1000";
        let command = supervisor.command("sh").arg("-c").arg(script).ready_when(patient(Probe::line("is ready")));
        let (container, _, stderr) = command.spawn_with_output().await.unwrap();
        wait::soon("ready", container.ready()).await.unwrap();
        container.kill().unwrap();
        assert_eq!(wait::soon("output", stderr.collect(100)).await.to_vec(), b"now it is ready\n");
        wait::soon("report", container.wait()).await.unwrap();
    });
}

/// Somebody who listens in the container's network, whoever that is.
async fn listen(container: &ContainerHandle, port: u16) -> TcpListener {
    let socket: OwnedFd = container.socket(2, 1).await.unwrap();
    rustix::net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)).unwrap();
    rustix::net::listen(&socket, 8).unwrap();
    socket.into()
}

fn a_connection_is_made_in_the_containers_network(scene: &Scene) {
    play(scene, async |supervisor| {
        // Somebody listens on the same port outside.
        let host = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = host.local_addr().unwrap().port();
        let command = supervisor.command("sleep").arg("1000").ready_when(patient(Probe::tcp(port)));
        let container = command.spawn().await.unwrap();
        wait::soon("a failure", fails(&container, "refused")).await;
        let listener = listen(&container, port).await;
        wait::soon("ready", container.ready()).await.unwrap();
        assert!(listener.accept().is_ok());
        host.set_nonblocking(true).unwrap();
        assert!(host.accept().is_err(), "nobody came out");
    });
}

fn a_probe_that_hangs_is_killed_with_all_that_it_has_started(scene: &Scene) {
    play(scene, async |supervisor| {
        let probe = Probe::exec(["sh", "-c", "echo trying; sleep 1001 & (sleep 1002 &); sleep 1003"]);
        let health = Health::new(probe).interval(MS).timeout(250 * MS).on_unhealthy(OnUnhealthy::Report);
        let container =
            supervisor.command("tail").arg("-f").arg("/dev/null").healthy_while(health).spawn().await.unwrap();
        wait::soon("a failure", fails(&container, "no answer within 250ms: trying")).await;
        wait::soon("unhealthy", fails_often(&container, 3)).await;
        assert_eq!(container.inspect().vitals.health, Some(HealthState::Unhealthy));
        // No more than one of them runs at a time. A look is no moment: one and the next may both be seen by it, those that are
        // left would be seen by each.
        let until = std::time::Instant::now() + wait::PATIENCE;
        loop {
            let all = arguments(&container).await;
            let twice = |sleep: &str| all.iter().filter(|argument| *argument == sleep).count() > 1;
            if !["1001", "1002", "1003"].into_iter().any(twice) {
                break;
            }
            assert!(std::time::Instant::now() < until, "some are left of those before: {all:?}");
        }
    });
}

fn a_probe_runs_as_the_main_process_does(scene: &Scene) {
    play(scene, async |supervisor| {
        let probe = Probe::exec(["sh", "-c", "test \"$WHO\" = me && test $PWD = /tmp && test $(umask) = 0077"]);
        let command = supervisor.command("sleep").arg("1000").env("WHO", "me").current_dir("/tmp").umask(0o77);
        let container = command.ready_when(patient(probe)).spawn().await.unwrap();
        wait::soon("ready", container.ready()).await.unwrap();
    });
}

fn an_unhealthy_service_is_restarted(scene: &Scene) {
    play(scene, async |supervisor| {
        let probe = Probe::exec(["sh", "-c", "! cat /tmp/sick >&2"]);
        let health = Health::new(probe).interval(MS).timeout(LONG).failures(2);
        let service = supervisor.command("sleep").arg("1000").healthy_while(health).supervise().await.unwrap();
        let healthy = |now: &orangery::ServiceInspect| {
            now.vitals.as_ref().is_some_and(|vitals| vitals.health == Some(HealthState::Healthy))
        };
        wait::soon("healthy", service.wait_for(healthy)).await.unwrap();
        let first = service.current().unwrap();
        // Whole, whenever it is asked.
        first.command("sh").arg("-c").arg("echo fever > /tmp/ill; mv /tmp/ill /tmp/sick").run().await.unwrap();
        let again = service.wait_for(move |now| now.generation == 2 && healthy(now));
        let again = wait::soon("the next", again).await.unwrap();
        assert_eq!(again.deaths[0].cause, Some(Cause::Unhealthy));
        assert_eq!(first.inspect().vitals.failure.as_deref(), Some("exit code 1: fever"));
        assert_eq!(again.state, ServiceState::Running);
        wait::soon("a stop", service.stop(15, LONG)).await.unwrap();
    });
}

fn one_that_is_never_ready_is_ended_and_says_why(scene: &Scene) {
    play(scene, async |supervisor| {
        let readiness = Readiness::new(Probe::exec(["sh", "-c", "echo no; exit 4"])).timeout(300 * MS).interval(MS);
        let readiness = readiness.attempt_timeout(LONG);
        let command = supervisor.command("sleep").arg("1000").id("svc").ready_when(readiness);
        let error = wait::soon("a refusal", command.supervise()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotReady);
        // On a slow machine no attempt may have had an end.
        let told = error.to_string();
        assert!(told == "it was not ready in time: exit code 4: no" || told.ends_with("there was no answer"), "{told}");
        // Its name is free, and nothing is left.
        let container = supervisor.command("true").id("svc").spawn().await.unwrap();
        wait::soon("its end", container.wait()).await.unwrap();
    });
}

/// A sandbox with the kit's program, which speaks to $NOTIFY_SOCKET.
pub(crate) fn with_programs(scene: &Scene) -> SandboxBuilder {
    let programs = scene.dir().join("programs");
    std::fs::create_dir_all(&programs).unwrap();
    std::fs::copy(scene.probe(), programs.join("probe")).unwrap();
    Sandbox::builder().mount(Mount::bind(&programs, "/programs").read_only())
}

fn it_says_that_it_is_ready_from_inside(scene: &Scene) {
    play(scene, async |supervisor| {
        let sandbox = with_programs(scene).build().unwrap();
        // A child says so and has ended when it is heard.
        let script = "/programs/probe notify 'STATUS=it is up' READY=1 BARRIER=1; exec sleep 1000";
        let command = supervisor.command("sh").args(["-c", script]).sandbox(&sandbox);
        let service = command.ready_when(patient(Probe::notify())).supervise();
        let service = wait::soon("ready", service).await.unwrap();
        let vitals = service.inspect().vitals.unwrap();
        assert_eq!((vitals.ready, vitals.status.as_deref()), (true, Some("it is up")));
        drop(service);
    });
}

/// Where it is to speak, as its own first line says.
async fn told_where(container: &ContainerHandle) -> String {
    let mut stdout = container.stdout();
    let mut text = Vec::new();
    while !text.ends_with(b"\n") {
        match wait::soon("a line", stdout.recv()).await {
            Some(orangery::Event::Chunk(chunk)) => text.extend_from_slice(&chunk.data),
            other => panic!("{other:?} after {text:?}"),
        }
    }
    String::from_utf8(text).unwrap().trim().trim_start_matches('@').to_owned()
}

async fn refusal(supervisor: &Supervisor) -> NotifyRefusal {
    let mut events = supervisor.events(Since::Oldest);
    loop {
        if let Some(Item::Event(event)) = wait::soon("a refusal", events.recv()).await
            && let Kind::NotifyRefused { why } = event.kind
        {
            return why;
        }
    }
}

fn in_the_hosts_network_nobody_else_is_heard(scene: &Scene) {
    use std::os::linux::net::SocketAddrExt as _;
    play(scene, async |supervisor| {
        let sandbox = with_programs(scene).network(Network::Host).build().unwrap();
        let script = "echo $NOTIFY_SOCKET; read go; exec /programs/probe notify-and-wait READY=1";
        let command = supervisor.command("sh").args(["-c", script]).sandbox(&sandbox).stdin(orangery::Stdin::Piped);
        let container = command.ready_when(patient(Probe::notify())).spawn().await.unwrap();
        let name = told_where(&container).await;
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
        let stranger = std::os::unix::net::UnixDatagram::unbound().unwrap();
        stranger.send_to_addr(b"READY=1", &address).unwrap();
        assert_eq!(refusal(supervisor).await, NotifyRefusal::Stranger);
        assert!(!container.inspect().vitals.ready);
        let mut stdin = container.stdin().unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stdin, b"go\n").await.unwrap();
        wait::soon("ready", container.ready()).await.unwrap();
        container.kill().unwrap();
        wait::soon("its end", container.wait()).await.unwrap();
        assert!(stranger.send_to_addr(b"READY=1", &address).is_err(), "nothing is left of the name");
    });
}

fn a_line_on_its_descriptor_is_a_sign(scene: &Scene) {
    play(scene, async |supervisor| {
        let script = "echo \"$NOTIFY_FD\"; eval \"echo up >&$NOTIFY_FD\"; exec sleep 1000";
        let command = supervisor.command("sh").args(["-c", script]).ready_when(patient(Probe::descriptor()));
        let container = command.spawn().await.unwrap();
        wait::soon("ready", container.ready()).await.unwrap();
        assert_eq!(told_where(&container).await, "3");
    });
}

fn a_watchdog_aborts_what_is_silent(scene: &Scene) {
    play(scene, async |supervisor| {
        let watchdog = Watchdog::new(50 * MS).ended_by(6, LONG);
        let container = supervisor.command("sleep").arg("1000").watchdog(watchdog).spawn().await.unwrap();
        let report = wait::soon("its end", container.wait()).await.unwrap();
        assert_eq!(report.cause, Cause::Watchdog);
        assert!(matches!(report.exit, ExitStatus::Signal { signal: 6, .. }), "{report:?}");
    });
}
