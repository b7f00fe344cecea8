//! Containers that live in namespaces which exist already: each kind alone, all of them, what is refused, and that nothing
//! of it is left, changed or killed that was not theirs.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "test code: a panic is a failed trial")]

mod pids;
mod refused;

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use orangery_runtime::spec::{Stdio, User, UserNamespace, namespaces};
use orangery_runtime::{Container, ContainerSpec, ErrorKind, Errors, Started};
use orangery_tests::host::{outcome, probe, see};
use orangery_tests::{Host, Scene, trial, wait};
use pids::{
    a_dead_pid_namespace, a_pid_namespace_without_rights_over_it_is_refused, a_stop_would_stop_others,
    everything_of_another_container, it_ends_with_its_supervisor, what_is_left_in_our_own_pid_namespace_is_reaped,
    what_runs_in_anothers_pid_namespace_ends_with_its_container, without_a_cgroup_no_pid_namespace,
};
use refused::{
    a_user_namespace_without_anybody_in_it, the_kernels_own_words, what_is_no_namespace_is_refused,
    what_makes_no_sense_beside_is_refused_by_its_name, what_others_own_is_refused,
};

fn main() -> ExitCode {
    orangery_tests::main(&[
        trial!(each_kind_alone),
        trial!(everything_but_the_pid_namespace),
        trial!(everything_of_another_container, GroupKill),
        trial!(the_hosts_own_namespaces, Root, GroupKill),
        trial!(a_pid_namespace_without_rights_over_it_is_refused, GroupKill),
        trial!(what_runs_in_anothers_pid_namespace_ends_with_its_container, GroupKill),
        trial!(what_is_left_in_our_own_pid_namespace_is_reaped, Root, GroupKill),
        trial!(it_ends_with_its_supervisor, Root, GroupKill),
        trial!(a_stop_would_stop_others, GroupKill),
        trial!(without_a_cgroup_no_pid_namespace, User),
        trial!(the_ids_are_those_of_the_user_namespace, ManyIds),
        trial!(no_group_of_ours_comes_into_a_foreign_user_namespace, Root),
        trial!(users_of_a_joined_root_are_numbers),
        trial!(a_socket_is_in_the_joined_network),
        trial!(a_namespace_outlives_its_container),
        trial!(what_is_no_namespace_is_refused),
        trial!(what_makes_no_sense_beside_is_refused_by_its_name),
        trial!(what_others_own_is_refused, User),
        trial!(a_user_namespace_without_anybody_in_it),
        trial!(a_dead_pid_namespace, Root, GroupKill),
        trial!(the_kernels_own_words, Root),
        trial!(the_keeper_stays_where_it_is),
    ])
}

pub(crate) const KINDS: [&str; 7] = ["net", "ipc", "uts", "cgroup", "pid", "mnt", "user"];

/// A process's namespace, as text.
pub(crate) fn link(pid: i32, kind: &str) -> String {
    fs::read_link(format!("/proc/{pid}/ns/{kind}")).expect("a namespace").display().to_string()
}

pub(crate) fn links(pid: i32) -> Vec<String> {
    KINDS.iter().map(|kind| link(pid, kind)).collect()
}

pub(crate) fn open(pid: i32, kind: &str) -> Arc<OwnedFd> {
    Arc::new(namespaces::open(kind, Path::new(&format!("/proc/{pid}/ns/{kind}"))).expect("a namespace"))
}

/// A container with a process that stays, until its standard input ends.
pub(crate) struct Living {
    pub(crate) container: Box<dyn Container>,
    pub(crate) main: Started,
}

impl Living {
    pub(crate) async fn new(host: &Host, spec: ContainerSpec) -> Self {
        let mut main = probe(&["cat"]);
        main.stdin = Stdio::Piped;
        let container = host.create(spec, main).await.unwrap_or_else(|errors| panic!("create: {errors}"));
        let main = wait::soon("start", container.start()).await.unwrap_or_else(|error| panic!("start: {error}"));
        Self { container, main }
    }

    pub(crate) fn namespaces(&self, kinds: &[&str]) -> Vec<Arc<OwnedFd>> {
        kinds.iter().map(|kind| open(self.main.pid, kind)).collect()
    }

    /// Another process of it that stays.
    pub(crate) async fn beside(&self) -> Started {
        let mut further = probe(&["cat"]);
        further.stdin = Stdio::Piped;
        wait::soon("exec", self.container.exec(further)).await.unwrap_or_else(|error| panic!("exec: {error}"))
    }

    /// The same, whose standard input has ended.
    pub(crate) async fn beside_and_closed(&self) -> Started {
        let mut started = self.beside().await;
        drop(started.stdin.take());
        started
    }

    /// It is unharmed: its process goes on, and another one can be started.
    pub(crate) async fn end(self) {
        let next = wait::soon("exec", self.container.exec(probe(&["exit", "5"]))).await.expect("the next exec works");
        assert_eq!(outcome(next).await.code(), 5);
        assert_eq!(outcome(self.main).await.code(), 0);
        wait::soon("delete", self.container.delete()).await.expect("deleted");
    }
}

/// A spec that joins these of `other`. With its mounts come its root, and the probe in it.
pub(crate) fn joining(host: &Host, id: &str, other: &Living, kinds: &[&str]) -> ContainerSpec {
    let mut spec = host.spec(id);
    if kinds.contains(&"mnt") {
        spec.mounts.clear();
    }
    spec.join = other.namespaces(kinds);
    spec
}

pub(crate) async fn in_the_right_ones(host: &Host, other: &Living, kinds: &[&str]) {
    let (own, others) = (links(std::process::id().cast_signed()), links(other.main.pid));
    for without_init in [false, true] {
        let mut spec = joining(host, "joins", other, kinds);
        spec.without_init = without_init;
        let living = Living::new(host, spec).await;
        let (main, further) = (links(living.main.pid), living.beside().await);
        for (index, kind) in KINDS.iter().enumerate() {
            if kinds.contains(kind) {
                assert_eq!(main[index], others[index], "{kinds:?}: {kind}");
            } else {
                assert!(main[index] != others[index] && main[index] != own[index], "{kinds:?}: {kind} {main:?}");
            }
        }
        assert_eq!(links(living.container.init_pid()), main, "{kinds:?}: the first process");
        assert_eq!(links(further.pid), main, "{kinds:?}: a further process");
        assert_eq!(outcome(further).await.code(), 0);
        living.end().await;
    }
}

fn each_kind_alone(scene: &Scene) {
    scene.play(async |host| {
        let other = Living::new(host, host.spec("other")).await;
        for kind in KINDS.iter().filter(|kind| **kind != "pid") {
            in_the_right_ones(host, &other, &[kind]).await;
        }
        other.end().await;
    });
}

fn everything_but_the_pid_namespace(scene: &Scene) {
    scene.play(async |host| {
        let other = Living::new(host, host.spec("other")).await;
        in_the_right_ones(host, &other, &["user", "mnt", "cgroup", "uts", "ipc", "net"]).await;
        in_the_right_ones(host, &other, &["user", "cgroup", "uts", "ipc", "net"]).await;
        other.end().await;
    });
}

/// Root may join what it lives in itself.
fn the_hosts_own_namespaces(scene: &Scene) {
    scene.play(async |host| {
        let own = std::process::id().cast_signed();
        for kinds in [&["net", "ipc", "uts", "cgroup"][..], &["pid"], &["net", "ipc", "uts", "cgroup", "pid"]] {
            let mut spec = host.spec("host");
            spec.user_namespace = UserNamespace::Host;
            spec.join = kinds.iter().map(|kind| open(own, kind)).collect();
            let living = Living::new(host, spec).await;
            for kind in KINDS.iter().filter(|kind| **kind != "user") {
                assert_eq!(link(living.main.pid, kind) == link(own, kind), kinds.contains(kind), "{kinds:?}: {kind}");
            }
            living.end().await;
        }
        let mut spec = ContainerSpec::default();
        spec.id = "root".into();
        spec.user_namespace = UserNamespace::Host;
        spec.join = vec![open(own, "mnt")];
        let mut main = probe(&["touch", &scene.dir().join("touched").display().to_string()]);
        main.argv[0] = scene.probe().into();
        assert_eq!(host.once(spec, main).await.out, "{\"errno\":0}\n");
        assert!(scene.dir().join("touched").exists());
    });
}

fn the_ids_are_those_of_the_user_namespace(scene: &Scene) {
    scene.play(async |host| {
        let other = Living::new(host, host.spec("other")).await;
        let map = |pid: i32| fs::read_to_string(format!("/proc/{pid}/uid_map")).expect("a map");
        let mut main = probe(&["cat"]);
        main.stdin = Stdio::Piped;
        main.user = User::Ids { uid: 7, gid: 8 };
        main.groups = vec![9];
        let container = host.create(joining(host, "ids", &other, &["user"]), main.clone()).await.expect("created");
        let started = container.start().await.expect("started");
        assert_eq!(map(started.pid), map(other.main.pid));
        let status = fs::read_to_string(format!("/proc/{}/status", started.pid)).expect("its status");
        let outside: u32 = map(started.pid)
            .lines()
            .last()
            .and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
            .expect("a first id");
        let uid =
            status.lines().find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().next()?.parse::<u32>().ok());
        let inside: u32 = map(started.pid)
            .lines()
            .last()
            .and_then(|line| line.split_whitespace().next()?.parse().ok())
            .expect("its inside");
        assert_eq!(uid, Some(outside + 7 - inside), "{status}");
        assert_eq!(outcome(started).await.code(), 0);
        container.delete().await.expect("deleted");
        main.user = User::Ids { uid: 4_000_000_000, gid: 0 };
        let errors = host.refused(joining(host, "none", &other, &["user"]), main).await;
        assert_eq!((errors.0[0].kind(), errors.0[0].field()), (ErrorKind::Invalid, Some("user")), "{errors:?}");
        other.end().await;
    });
}

/// One that somebody else has made, with one id, and in which setgroups is denied.
#[expect(clippy::disallowed_methods, reason = "a user namespace that is not of our making")]
fn no_group_of_ours_comes_into_a_foreign_user_namespace(scene: &Scene) {
    nix::unistd::setgroups(&[7.into(), 8.into()]).expect("groups");
    let mut other = std::process::Command::new("unshare");
    let other = other.args(["--map-root-user", "sh", "-c", "echo ready; exec cat"]);
    let mut other =
        other.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().expect("unshare");
    let mut said = [0; 6];
    std::io::Read::read_exact(other.stdout.as_mut().expect("its output"), &mut said).expect("ready");
    let pid = other.id().cast_signed();
    scene.play(async |host| {
        let seen = host.see(&[], |spec, _| spec.join = vec![open(pid, "user")]).await;
        assert_eq!(seen["ns"]["user"], link(pid, "user"));
        assert_eq!(seen["status"]["Groups"], "");
        let mut first = host.spec("first");
        (first.join, first.without_init) = (vec![open(pid, "user")], true);
        assert_eq!(host.once(first, see(&[])).await.json()["status"]["Groups"], "");
        let (mut spec, mut main) = (host.spec("asked"), probe(&["true"]));
        spec.join = vec![open(pid, "user")];
        main.groups = vec![7];
        let errors = host.refused(spec, main).await;
        assert_eq!(fields(&errors), [(ErrorKind::Invalid, "groups")]);
    });
    drop(other.stdin.take());
    assert!(other.wait().expect("its end").success());
}

fn users_of_a_joined_root_are_numbers(scene: &Scene) {
    scene.play(async |host| {
        let other = Living::new(host, host.spec("other")).await;
        let mut main = probe(&["true"]);
        main.user = User::Name("root".into());
        let errors = host.refused(joining(host, "names", &other, &["mnt"]), main.clone()).await;
        assert_eq!((errors.0[0].kind(), errors.0[0].field()), (ErrorKind::Invalid, Some("user")), "{errors:?}");
        main.user = User::Name("0:0".into());
        assert_eq!(host.once(joining(host, "numbers", &other, &["mnt"]), main).await.code(), 0);
        other.end().await;
    });
}

/// What is fetched out of a container comes from the namespaces that it has joined.
fn a_socket_is_in_the_joined_network(scene: &Scene) {
    scene.play(async |host| {
        let other = Living::new(host, host.spec("other")).await;
        let living = Living::new(host, joining(host, "socket", &other, &["net"])).await;
        let socket = living.container.socket(libc::AF_INET as u32, libc::SOCK_STREAM as u32).await.expect("a socket");
        let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        rustix::net::bind(&socket, &any).expect("bound");
        rustix::net::listen(&socket, 1).expect("listens");
        let listener = std::net::TcpListener::from(socket);
        let port = listener.local_addr().expect("an address").port();
        let client = other.container.exec(probe(&["connect", &port.to_string()])).await.expect("exec");
        let (mut stream, _) =
            tokio::task::spawn_blocking(move || listener.accept()).await.expect("no panic").expect("heard");
        let mut hello = [0; 5];
        std::io::Read::read_exact(&mut stream, &mut hello).expect("said hello");
        drop(stream);
        assert_eq!(outcome(client).await.code(), 0);
        living.end().await;
        other.end().await;
    });
}

/// A descriptor keeps it, and nobody need live in it; afterwards we keep none ourselves.
fn a_namespace_outlives_its_container(scene: &Scene) {
    scene.play(async |host| {
        let other = Living::new(host, host.spec("other")).await;
        let kinds = ["net", "ipc", "uts"];
        let (kept, names) = (other.namespaces(&kinds), kinds.map(|kind| link(other.main.pid, kind)));
        other.end().await;
        let mut spec = host.spec("later");
        spec.join.clone_from(&kept);
        let living = Living::new(host, spec).await;
        assert_eq!(kinds.map(|kind| link(living.main.pid, kind)), names);
        assert!(kept.iter().all(|namespace| Arc::strong_count(namespace) == 1), "descriptors are kept");
        living.end().await;
    });
}

pub(crate) fn fields(errors: &Errors) -> Vec<(ErrorKind, &str)> {
    errors.0.iter().map(|error| (error.kind(), error.field().unwrap_or(""))).collect()
}

/// Where it is, and where its children will be.
pub(crate) fn keeper_links(pid: i32) -> Vec<String> {
    let mut all = links(pid);
    all.push(link(pid, "pid_for_children"));
    all
}

fn the_keeper_stays_where_it_is(scene: &Scene) {
    scene.play(async |host| {
        let keeper = host.rt.keeper_pid().cast_signed();
        let before = keeper_links(keeper);
        let other = Living::new(host, host.spec("other")).await;
        let kinds = ["user", "mnt", "cgroup", "uts", "ipc", "net"];
        let living = Living::new(host, joining(host, "joins", &other, &kinds)).await;
        assert_eq!(keeper_links(keeper), before, "beside a container that joined");
        drop(living.beside().await);
        assert_eq!(keeper_links(keeper), before, "beside its further process");
        living.end().await;
        let mut late = probe(&["true"]);
        late.cwd = Some("/no/such".into());
        let container = host.create(joining(host, "fails", &other, &kinds), late).await.expect("created");
        container.start().await.expect_err("no such directory");
        container.delete().await.expect("deleted");
        assert_eq!(keeper_links(keeper), before, "after a failure");
        let plain = Living::new(host, host.spec("plain")).await;
        assert!(!links(plain.main.pid).iter().any(|link| links(other.main.pid).contains(link)), "born elsewhere");
        plain.end().await;
        other.end().await;
    });
}
