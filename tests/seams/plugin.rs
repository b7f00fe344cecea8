//! The administrator's plugin, end to end: it runs as root in a network of the trial's own, the supervisor as an ordinary user.

use std::io::{IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use orangery_network_plugin::Options as PluginOptions;
use orangery_runtime::native::{NativeRuntime, Options};
use orangery_runtime::network::{NetworkPlugin, NetworkProperties, PluginMessage};
use orangery_runtime::{Container, ErrorKind};
use orangery_tests::host::probe;
use orangery_tests::net::{Net, ip_says};
use orangery_tests::victim::{Victim, role};
use orangery_tests::{Host, Scene, wait};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    SocketAddrUnix, SocketFlags, SocketType,
};

/// The ordinary user.
const USER: u32 = 1000;

fn socket(scene: &Scene) -> PathBuf {
    scene.dir().join("plugin.sock")
}

/// The privileged program, until it is killed.
fn be_plugin(scene: &Scene) {
    let text = format!("--socket {} --allow {USER}", socket(scene).display());
    let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
    orangery_network_plugin::serve(&PluginOptions::parse(&words).expect("options")).expect("it serves");
}

/// A supervisor without any right.
fn be_user(scene: &Scene, play: impl AsyncFnOnce(&Host)) {
    use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
    setgroups(&[]).expect("no groups");
    setresgid(Gid::from_raw(USER), Gid::from_raw(USER), Gid::from_raw(USER)).expect("the group");
    setresuid(Uid::from_raw(USER), Uid::from_raw(USER), Uid::from_raw(USER)).expect("the user");
    // A change of ids has made us undumpable, and our files in /proc root's.
    nix::sys::prctl::set_dumpable(true).expect("dumpable");
    let mut options = Options::default();
    options.state_dir = Some(scene.dir().join("user"));
    options.no_cgroups = true;
    scene.block_on(async {
        let (rt, driver) = NativeRuntime::start(options).expect("a runtime");
        let driver = tokio::spawn(driver.run());
        let host = Host::new(rt, scene);
        play(&host).await;
        wait::soon("shutdown", orangery_runtime::Runtime::shutdown(&host.rt)).await;
        drop(host);
        wait::soon("the driver's end", driver).await.expect("no panic");
    });
}

/// A place for the user's, the plugin, and then the user.
fn set_out(scene: &Scene) -> (Net, Victim, Victim) {
    let net = Net::set(scene);
    let place = scene.dir().join("user");
    std::fs::create_dir(&place).expect("a directory");
    std::os::unix::fs::chown(&place, Some(USER), Some(USER)).expect("his own");
    let mut plugin = Victim::start(scene, "plugin");
    assert!(plugin.line().starts_with("listening"));
    // One of root's, which is not the plugin's.
    let foreign = std::thread::spawn(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("a network");
        std::fs::File::open("/proc/thread-self/ns/net").expect("opened")
    });
    let foreign = foreign.join().expect("no panic");
    (net, plugin, Victim::with_input(scene, "user", foreign.into()))
}

async fn made(host: &Host, scene: &Scene, id: &str) -> Box<dyn Container> {
    let mut spec = host.spec(id);
    spec.network_provider = Some(Arc::new(NetworkPlugin::new(socket(scene))));
    host.create(spec, probe(&["true"])).await.expect("created")
}

async fn tcp(container: &dyn Container) -> OwnedFd {
    let made = container.socket(2, libc::SOCK_STREAM.cast_unsigned());
    wait::soon("a socket", made).await.expect("a socket of its network")
}

/// Connect from inside to who listens there, and say something.
async fn connects(from: &dyn Container, to: SocketAddr, listener: &TcpListener) {
    let socket = tcp(from).await;
    rustix::net::connect(&socket, &to).expect("connected");
    let mut inner = TcpStream::from(socket);
    let (mut outer, _) = listener.accept().expect("somebody comes");
    inner.write_all(b"ping").expect("said");
    let mut heard = [0; 4];
    outer.read_exact(&mut heard).expect("heard");
    assert_eq!(&heard, b"ping");
}

fn address(told: &NetworkProperties) -> IpAddr {
    told["address"].split('/').next().expect("an address").parse().expect("an address")
}

pub(crate) fn an_ordinary_user_gets_an_address_of_a_bridge(scene: &Scene) {
    match role().as_deref() {
        Some("plugin") => return be_plugin(scene),
        Some("user") => return be_user(scene, async |host| talk_and_stay(host, scene).await),
        _ => {}
    }
    let (net, mut plugin, mut user) = set_out(scene);
    let lines = |plugin: &mut Victim, all: &[&str]| all.iter().for_each(|line| assert_eq!(plugin.line(), *line));
    lines(&mut plugin, &["attached 10.88.0.2/24 for user 1000", "attached 10.88.0.3/24 for user 1000"]);
    lines(&mut plugin, &["detached 10.88.0.2/24", "attached 10.88.0.2/24 for user 1000"]);
    assert_eq!(user.line(), "ready");
    assert_eq!(ip_says("-o link show type veth").lines().count(), 2);
    // Whoever ends it, the plugin hears of it.
    user.kill();
    let mut gone = [plugin.line(), plugin.line()];
    gone.sort();
    assert_eq!(gone, ["gone 10.88.0.2/24", "gone 10.88.0.3/24"]);
    assert_eq!(ip_says("-o link show type veth"), "");
    plugin.kill();
    orangery_tests::scene::end_descendants(std::process::id());
    drop(net);
}

async fn talk_and_stay(host: &Host, scene: &Scene) {
    let (one, two) = (made(host, scene, "one").await, made(host, scene, "two").await);
    let told = two.network().expect("a network");
    assert_eq!((told["address"].as_str(), told["gateway"].as_str()), ("10.88.0.3/24", "10.88.0.1"));
    assert_eq!((told["kind"].as_str(), told["state"].as_str()), ("plugin", "up"));
    // The other container, and the bridge on the host.
    let inside = tcp(&*two).await;
    rustix::net::bind(&inside, &SocketAddr::from(([0, 0, 0, 0], 7))).expect("bound");
    rustix::net::listen(&inside, 1).expect("listening");
    connects(&*one, SocketAddr::new(address(&told), 7), &TcpListener::from(inside)).await;
    let bridge = TcpListener::bind("10.88.0.1:0").expect("the bridge's address");
    connects(&*one, bridge.local_addr().expect("an address"), &bridge).await;
    let error = one.change_network(NetworkProperties::new()).await.expect_err("nothing can be changed");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    wait::soon("delete", one.delete()).await.expect("deleted");
    let three = made(host, scene, "three").await;
    assert_eq!(three.network().expect("a network")["address"], "10.88.0.2/24");
    // What the plugin refuses is said in its words.
    let mut spec = host.spec("red");
    spec.network_provider = Some(Arc::new(NetworkPlugin::new(socket(scene)).property("color", "red")));
    let errors = host.refused(spec, probe(&["true"])).await;
    assert_eq!((errors.0[0].kind(), errors.0[0].field()), (ErrorKind::Unsupported, Some("network.color")), "{errors}");
    let mut spec = host.spec("nobody");
    spec.network_provider = Some(Arc::new(NetworkPlugin::new(scene.dir().join("nothing.sock"))));
    let errors = host.refused(spec, probe(&["true"])).await;
    assert_eq!((errors.0[0].kind(), errors.0[0].field()), (ErrorKind::NotFound, Some("network_provider")), "{errors}");
    println!("ready");
    std::future::pending::<()>().await;
    drop((two, three));
}

/// What is answered to this message, with these descriptors; `None`: the plugin hangs up without a word.
fn answer(scene: &Scene, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Option<PluginMessage> {
    let kind = SocketType::SEQPACKET;
    let socket_fd = rustix::net::socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).expect("a socket");
    rustix::net::connect(&socket_fd, &SocketAddrUnix::new(socket(scene)).expect("a path")).expect("connected");
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(fds));
    }
    // One that is hung up on at once is told so, and its words may come too late.
    let _ = rustix::net::sendmsg(&socket_fd, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL);
    let mut buffer = [0; PluginMessage::MOST];
    let mut none = RecvAncillaryBuffer::new(&mut []);
    assert!(wait::readable(&socket_fd, wait::PATIENCE), "no answer");
    let got =
        rustix::net::recvmsg(&socket_fd, &mut [IoSliceMut::new(&mut buffer)], &mut none, RecvFlags::empty()).ok()?;
    (got.bytes > 0).then(|| PluginMessage::decode(&buffer[..got.bytes]).expect("a message"))
}

pub(crate) fn who_asks_the_plugin_for_what_is_not_his_gets_nothing(scene: &Scene) {
    match role().as_deref() {
        Some("plugin") => return be_plugin(scene),
        Some("user") => return be_user(scene, async |_| ask_for_all_that_is_wrong(scene)),
        _ => {}
    }
    let (net, mut plugin, mut user) = set_out(scene);
    assert_eq!(user.line(), "done");
    // Root may not either, where he is not allowed to.
    let refused = answer(scene, ATTACH, &[]).expect("an answer");
    assert_eq!(refused.entries["kind"], "permission");
    assert_eq!(ip_says("-o link show type veth"), "");
    plugin.kill();
    user.kill();
    orangery_tests::scene::end_descendants(std::process::id());
    drop(net);
}

const ATTACH: &[u8] = b"orangery-network/1 attach\ncontainer=x\n";

fn ask_for_all_that_is_wrong(scene: &Scene) {
    let open = |path: &str| OwnedFd::from(std::fs::File::open(Path::new(path)).expect("opened"));
    let (hosts, pids, file) = (open("/proc/self/ns/net"), open("/proc/self/ns/pid"), open("/dev/null"));
    let foreign = std::io::stdin();
    let long = [ATTACH, &[b'a'; 5000]].concat();
    let cases: [(&str, &[u8], Vec<BorrowedFd<'_>>); 12] = [
        ("permission", ATTACH, vec![hosts.as_fd()]),
        ("permission", ATTACH, vec![foreign.as_fd()]),
        ("invalid", ATTACH, vec![pids.as_fd()]),
        ("invalid", ATTACH, vec![file.as_fd()]),
        ("invalid", ATTACH, Vec::new()),
        ("invalid", ATTACH, vec![hosts.as_fd(), hosts.as_fd()]),
        ("invalid", ATTACH, vec![hosts.as_fd(); 8]),
        ("invalid", &long, vec![hosts.as_fd()]),
        ("invalid", b"orangery-network/1 attach\ncontainer", vec![hosts.as_fd()]),
        ("invalid", b"\0\xff garbage", Vec::new()),
        ("invalid", b"orangery-network/2 attach\n", vec![hosts.as_fd()]),
        ("state", b"orangery-network/1 detach\n", Vec::new()),
    ];
    for (index, (kind, bytes, fds)) in cases.into_iter().enumerate() {
        let refused = answer(scene, bytes, &fds).expect("an answer");
        assert_eq!((refused.verb.as_str(), refused.entries["kind"].as_str()), ("no", kind), "{index}: {refused:?}");
    }
    println!("done");
}
