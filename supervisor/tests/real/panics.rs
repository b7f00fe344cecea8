//! Each actor made to panic at each of its messages, one after the other, while two hundred containers run in the same
//! supervisor: all of them go on as they are, and at the end each has its exit and every byte. A message without a way to
//! provoke it fails the trial.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt as _;
use orangery::events::{Item, Kind, Since};
use orangery::faults::{Fault, FaultPoint, FaultPolicy, Site};
use orangery::{
    ContainerHandle, Error, ErrorKind, EventFilter, ExitStatus, Group, Limits, Measured, Pause, Restart, Service,
    Stdin, Supervisor,
};
use orangery_tests::{Scene, Trial, trial, wait};
use tokio::io::AsyncWriteExt as _;

use crate::stage::builder;

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial!(each_actor_panics_at_each_message_while_two_hundred_run).long()]
}

const CROWD: usize = 200;
const HOUR: Duration = Duration::from_secs(3600);
/// An actor that panics more often within five seconds is broken, which is another trial's.
const MANAGER_BUDGET: usize = 4;

/// Panics at the next message of this kind.
#[derive(Default)]
struct Armed(Mutex<Option<Site>>);

impl FaultPolicy for Armed {
    fn decide(&self, at: &FaultPoint<'_>) -> Fault {
        match self.0.lock().unwrap().take_if(|site| *site == at.site) {
            Some(_) => Fault::Panic,
            None => Fault::Continue,
        }
    }
}

/// One of the crowd: says what it is told, and exits with its number.
struct Parrot {
    container: ContainerHandle,
    stdin: orangery::StdinWriter,
    pid: i32,
    said: Vec<u8>,
}

impl Parrot {
    async fn new(supervisor: &Supervisor, number: usize) -> Self {
        let script = format!("while read line; do echo $line; done; exit {}", number % 100);
        let command = supervisor.command("sh").arg("-c").arg(script).stdin(Stdin::Piped);
        let container = command.spawn().await.unwrap();
        let (stdin, pid) = (container.stdin().unwrap(), container.pid());
        Self { container, stdin, pid, said: Vec::new() }
    }

    async fn say(&mut self, line: &str) {
        self.stdin.write_all(line.as_bytes()).await.unwrap();
        self.said.extend(line.as_bytes());
    }

    /// To its own end, with everything that it has said.
    async fn ends(mut self, number: usize) {
        self.stdin.shutdown().await.unwrap();
        let report = wait::soon("the report", self.container.wait()).await.unwrap();
        assert_eq!(report.exit, ExitStatus::Code(i32::try_from(number % 100).unwrap()));
        assert_eq!((&report.stdout.bytes, report.stdout.lost), (&Measured::Known(self.said.len() as u64), 0));
        assert_eq!(self.container.stdout().collect(1 << 20).await.to_vec(), self.said);
    }
}

fn each_actor_panics_at_each_message_while_two_hundred_run(scene: &Scene) {
    let of_manager = |site: &Site| matches!(site, Site::ManagerMessage(_));
    let (manager, others): (Vec<_>, Vec<_>) = Site::mailboxes().partition(of_manager);
    for (round, of_manager) in manager.chunks(MANAGER_BUDGET).enumerate() {
        let others = if round == 0 { others.as_slice() } else { &[] };
        scene.block_on(play(scene, [others, of_manager].concat()));
    }
}

async fn play(scene: &Scene, sites: Vec<Site>) {
    let armed = Arc::new(Armed::default());
    let supervisor = builder(scene).fault_policy(Arc::clone(&armed) as Arc<dyn FaultPolicy>).build().unwrap();
    let mut crowd = Vec::new();
    for number in 0..CROWD {
        crowd.push(Parrot::new(&supervisor, number).await);
    }
    let mut panics = supervisor.events(Since::Now).only(EventFilter::new().kind("actor_panicked"));
    let (at_the_end, meanwhile): (Vec<_>, Vec<_>) =
        sites.into_iter().partition(|site| *site == Site::ManagerMessage("shut down"));
    for site in meanwhile {
        *armed.0.lock().unwrap() = Some(site);
        provoke(site, &supervisor).await;
        let panicked = wait::soon(&format!("a panic at {site:?}"), panics.recv()).await;
        assert!(
            matches!(panicked, Some(Item::Event(event)) if matches!(event.kind, Kind::ActorPanicked { restarted: true, .. }))
        );
        for parrot in &mut crowd {
            assert_eq!((parrot.container.pid(), parrot.container.inspect().report), (parrot.pid, None), "{site:?}");
            parrot.say(&format!("{site:?}\n")).await;
        }
    }
    for (number, parrot) in crowd.into_iter().enumerate() {
        parrot.ends(number).await;
    }
    *armed.0.lock().unwrap() = at_the_end.first().copied();
    wait::soon("shutdown", supervisor.shutdown()).await;
    assert!(armed.0.lock().unwrap().is_none());
}

fn lost<T>(answer: Result<T, Error>) {
    assert_eq!(answer.err().map(|error| error.kind()), Some(ErrorKind::SupervisorFault));
}

async fn sleeper(supervisor: &Supervisor) -> ContainerHandle {
    supervisor.command("sleep").arg("1000").spawn().await.unwrap()
}

async fn service(supervisor: &Supervisor) -> Service {
    let command = supervisor.command("sleep").arg("1000").restart(Restart::always());
    wait::soon("a service", command.supervise()).await.unwrap()
}

fn group(supervisor: &Supervisor) -> orangery::GroupBuilder {
    Group::builder("g").service("a", supervisor.command("sleep").arg("1000"))
}

/// Have this message sent. A request is lost and its caller is told; news and what follows from it is not.
async fn provoke(site: Site, supervisor: &Supervisor) {
    match site {
        Site::ManagerMessage(name) => of_manager(name, supervisor).await,
        Site::ServiceMessage(name) => of_service(name, supervisor).await,
        Site::GroupMessage(name) => of_group(name, supervisor).await,
        Site::ContainerMessage(name) => of_container(name, supervisor).await,
        Site::ProcessMessage(name) => of_process(name, supervisor).await,
        _ => panic!("{site:?} is no mailbox"),
    }
}

async fn of_manager(name: &str, supervisor: &Supervisor) {
    match name {
        "create" => lost(supervisor.command("true").spawn().await),
        "gone" => assert!(supervisor.command("true").run().await.unwrap().report.success()),
        "list" => lost(supervisor.list().await),
        "find" => lost(supervisor.container("nobody").await),
        "supervise" => lost(supervisor.command("true").supervise().await),
        "service gone" => drop(service(supervisor).await),
        "find service" => lost(supervisor.service("nobody").await),
        "list services" => lost(supervisor.services().await),
        _ => panic!("nobody knows how to have the manager told {name:?}"),
    }
}

async fn of_service(name: &str, supervisor: &Supervisor) {
    match name {
        "start" => lost(supervisor.command("true").supervise().await),
        "stop" => {
            let service = service(supervisor).await;
            lost(service.stop(15, HOUR).await);
            service.stop(15, HOUR).await.unwrap();
        }
        // Its container runs, and that it does is seen.
        "news" => service(supervisor).await.stop(9, HOUR).await.unwrap(),
        "close" => drop(service(supervisor).await),
        _ => panic!("nobody knows how to have a service told {name:?}"),
    }
}

async fn of_group(name: &str, supervisor: &Supervisor) {
    match name {
        "start" => lost(group(supervisor).start(supervisor).await),
        "stop" => {
            let group = group(supervisor).start(supervisor).await.unwrap();
            lost(group.stop(15, HOUR).await);
            group.stop(15, HOUR).await.unwrap();
        }
        "news" => group(supervisor).start(supervisor).await.unwrap().stop(9, HOUR).await.unwrap(),
        "close" => drop(group(supervisor).start(supervisor).await.unwrap()),
        _ => panic!("nobody knows how to have a group told {name:?}"),
    }
    // Its members' names are the next one's.
    while !supervisor.services().await.unwrap().is_empty() || supervisor.group("g").is_some() {}
}

async fn of_container(name: &str, supervisor: &Supervisor) {
    let container = sleeper(supervisor).await;
    match name {
        "exec" => {
            lost(container.command("true").spawn().await);
            assert!(container.command("true").run().await.unwrap().report.success());
        }
        "pause" => lost(container.pause_with(Pause::Stop).await),
        "socket" => lost(container.socket(1, 1).await),
        "update" => lost(container.update(Limits::default()).await),
        // Who pushes is lost: the last ones come at once.
        "stats" => while container.stats_stream(HOUR).next().await.is_none() {},
        "removed" => {}
        _ => panic!("nobody knows how to have a container told {name:?}"),
    }
    container.delete().await.unwrap();
    assert_eq!(container.wait().await.unwrap().exit, ExitStatus::Signal { signal: 9, core_dumped: false });
}

async fn of_process(name: &str, supervisor: &Supervisor) {
    let container = match name {
        "prepared" => {
            let command = supervisor.command("sleep").arg("1000").pre_stop(orangery::Hook::new("true"));
            command.spawn().await.unwrap()
        }
        _ => sleeper(supervisor).await,
    };
    match name {
        "signal" => lost(container.process().signal_in_order(15).await),
        "stop" => lost(container.stop(15, HOUR).await),
        "prepared" | "exited" => {}
        _ => panic!("nobody knows how to have a process told {name:?}"),
    }
    container.stop(15, HOUR).await.unwrap();
    assert_eq!(container.wait().await.unwrap().exit, ExitStatus::Signal { signal: 15, core_dumped: false });
}
