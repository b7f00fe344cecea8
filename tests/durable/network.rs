//! Networks by pasta go on without a supervisor, are the next one's, and end with their container whoever is there to see it.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;

use orangery_runtime::Container;
use orangery_runtime::durable::{Came, ClaimedProcess, Holds};
use orangery_runtime::network::{Pasta, Publish};
use orangery_tests::host::probe;
use orangery_tests::net::Net;
use orangery_tests::victim::reap_adopted;
use orangery_tests::{Scene, stock, wait};

use super::saved::*;

const LOCALHOST: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// The processes called so that were started here.
pub(crate) fn called(name: &str) -> Vec<u32> {
    let all = stock::descendants(std::process::id()).into_iter();
    all.filter(|process| process.state != 'Z' && process.name.starts_with(name)).map(|process| process.pid).collect()
}

/// One that will go on and one that ends meanwhile; the keeper is killed as well, or not.
fn one_goes_on_and_one_ends(scene: &Scene, both: bool) {
    let was = be_victim(scene, async |host, _, _| {
        for id in ["goes-on", "ends"] {
            let free = TcpListener::bind((LOCALHOST, 0)).expect("bound").local_addr().expect("an address").port();
            let deaf = held(scene, id, probe(&["deaf"]));
            let mut spec = host.spec(id);
            spec.pasta = Some(Pasta::new().publish(Publish::tcp(free, 80).on(LOCALHOST)));
            let container = create(host, scene, spec, deaf).await;
            save(scene, &format!("{id}.port"), &free);
            let started = start(&*container, scene, id).await;
            stays((container, started));
        }
    });
    if was {
        return;
    }
    let net = Net::set(scene);
    if scene.root() {
        net.route();
    }
    let (mut victim, keeper) = victim(scene, "play");
    assert_eq!((called("pas").len(), called("orangery-net").len()), (2, 2));
    if both {
        // The keeper first, so that it does not go on alone; and the supervisor cannot start another one.
        victim.stop();
        wait::kill(&keeper);
        wait::gone(&keeper, "the keeper");
    }
    victim.kill();
    let before: Vec<_> = called("pas").into_iter().map(wait::pidfd).collect();
    let main = wait::pidfd(pid_of(scene, "ends"));
    wait::kill(wait::pidfd(init_of(scene, "ends")));
    wait::gone(&main, "the process of a container that was killed");
    // Where we are its parent by now, pid 1 waits for it to be reaped.
    reap_adopted();
    // Nobody of ours has to see it.
    assert!(one_ends(&before), "both go on");
    assert_eq!(called("pas").len(), 1);
    reap_adopted();
    scene.block_on(async {
        let mut next = Next::after(scene, if both { Came::KeeperGone } else { Came::KeeperLives });
        let container = next.container(scene, "goes-on").await.expect("it is there");
        let ended = next.container(scene, "ends").await;
        let main = next.found(scene, "goes-on", "goes-on", true).await;
        let other = next.process(scene, "ends", "ends", true).await;
        let (living, _) = next.finish().await;
        let port: u16 = load(scene, "goes-on.port").expect("written");
        assert_eq!(container.network().expect("a network")["state"], "up");
        assert_eq!(container.network().expect("a network")["publish"], format!("127.0.0.1:{port}:80/tcp"));
        if !both {
            // A socket of its network is a child's of the keeper that it was made by.
            talk(&*container, port).await;
        }
        let lost = container.network_lost();
        called("pas").into_iter().map(wait::pidfd).for_each(wait::kill);
        let why = wait::soon("the loss", lost).await;
        assert!(why.contains("ended"), "{why}");
        assert_eq!(container.network().expect("a network")["state"], "down");
        if let ClaimedProcess::Found(started) = other {
            started.held.into_iter().for_each(Holds::settle);
        }
        container.kill().expect("killed");
        wait::gone(&main.pidfd, "its main process");
        reap_adopted();
        for container in [Some(container), ended].into_iter().flatten() {
            wait::soon("delete", container.delete()).await.expect("deleted");
        }
        assert_eq!((called("pas"), called("orangery-net")), (Vec::new(), Vec::new()));
        main.held.into_iter().for_each(Holds::settle);
        living.end(scene).await;
    });
}

/// One of these processes ends.
pub(crate) fn one_ends(all: &[OwnedFd]) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut fds: Vec<_> = all.iter().map(|pidfd| PollFd::new(pidfd, PollFlags::IN)).collect();
    let patience = Timespec { tv_sec: wait::PATIENCE.as_secs().cast_signed(), tv_nsec: 0 };
    poll(&mut fds, Some(&patience)).is_ok_and(|ended| ended > 0)
}

/// pid 1 of the container of this name.
pub(crate) fn init_of(scene: &Scene, id: &str) -> u32 {
    let record: serde_json::Value = load(scene, id).expect("written");
    u32::try_from(record["init"]["pid"].as_u64().expect("a number")).expect("a pid")
}

async fn talk(container: &dyn Container, port: u16) {
    let socket =
        wait::soon("a socket", container.socket(2, libc::SOCK_STREAM.cast_unsigned())).await.expect("a socket");
    rustix::net::bind(&socket, &SocketAddr::from(([0, 0, 0, 0], 80))).expect("bound");
    rustix::net::listen(&socket, 1).expect("listening");
    let mut outer = TcpStream::connect((LOCALHOST, port)).expect("connected");
    let (mut inner, _) = TcpListener::from(socket).accept().expect("somebody comes");
    outer.write_all(b"ping").expect("said");
    let mut heard = [0; 4];
    inner.read_exact(&mut heard).expect("heard");
    assert_eq!(&heard, b"ping");
}

pub(crate) fn a_network_goes_on_and_ends_without_a_supervisor(scene: &Scene) {
    one_goes_on_and_one_ends(scene, false);
}

pub(crate) fn a_network_goes_on_and_ends_without_anybody(scene: &Scene) {
    one_goes_on_and_one_ends(scene, true);
}
