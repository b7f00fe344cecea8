//! What crosses the keeper's socket: each descriptor has a purpose, and what does not match is refused and closed, on
//! both sides.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "test code: a panic is a failed trial")]

use std::fs;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ExitCode;

use orangery_runtime::ErrorKind;
use orangery_runtime::keeper::{Client, Launched};
use orangery_runtime::plan::reach;
use orangery_runtime::plan::wire::{self, Ask, Deed, Errand, MESSAGE, Message, Purpose, Stage, Tell};
use orangery_tests::raw::{Raw, framed};
use orangery_tests::{Scene, trial, wait};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, sendmsg, socketpair,
};

fn main() -> ExitCode {
    orangery_tests::main(&[
        trial!(requests_with_other_descriptors_are_refused_and_closed),
        trial!(a_plan_does_not_take_a_descriptor_for_another),
        trial!(a_request_that_cannot_be_sent_later_is_told),
        trial!(answers_with_other_descriptors_are_refused_and_closed),
        trial!(a_hand_refuses_what_is_no_errand, Root),
        trial!(what_was_asked_before_the_end_counts),
    ])
}

fn head(ask: Ask) -> Message {
    Message { kind: ask as u16, id: 9, ..Message::default() }
}

/// Refused for its descriptors, and nothing else.
fn refused(keeper: &Raw, what: &str) {
    let message = keeper.next();
    assert_eq!(Tell::from_u16(message.kind), Some(Tell::Failed), "{what}: {message:?}");
    assert_eq!((message.errno, message.x), (libc::EPROTO, Stage::Purpose as u64), "{what}");
}

/// What each request takes is refused to every other one; a count that does not match is refused to all.
fn requests_with_other_descriptors_are_refused_and_closed(_: &Scene) {
    let keeper = Raw::start();
    keeper.lives();
    let before = keeper.descriptors();
    let null = fs::File::open("/dev/null").expect("null");
    let takes = |ask: Ask, purpose: Purpose| match ask {
        Ask::Hello => matches!(purpose, Purpose::Trace | Purpose::Door),
        Ask::Register => purpose == Purpose::TreeRoot,
        Ask::Arm => matches!(purpose, Purpose::Pidfd | Purpose::Control),
        Ask::Store => matches!(
            purpose,
            Purpose::Stdio
                | Purpose::PtyMaster
                | Purpose::Report
                | Purpose::Gate
                | Purpose::Channel
                | Purpose::Listener
                | Purpose::Lock
                | Purpose::Pidfd
        ),
        Ask::Forget | Ask::Userns | Ask::Cancel | Ask::Kill | Ask::Discard | Ask::Settle | Ask::Claim => false,
        // Each of a plan's own purposes alone is a matter of the plan.
        Ask::Spawn => !matches!(
            purpose,
            Purpose::Trace
                | Purpose::TreeRoot
                | Purpose::Socket
                | Purpose::Control
                | Purpose::PtyMaster
                | Purpose::Door
                | Purpose::Log
                | Purpose::Told
                | Purpose::Lock
                | Purpose::Place
                | Purpose::Opened
                | Purpose::Listener
        ),
    };
    for ask in (1..100).filter_map(Ask::from_u16) {
        for purpose in Purpose::ALL.iter().copied().filter(|purpose| !takes(ask, *purpose)) {
            if (ask, purpose) == (Ask::Spawn, Purpose::Plan) {
                continue;
            }
            keeper.send(&framed(head(ask), &[purpose], b"x\0y\0"), &[null.as_fd()]);
            refused(&keeper, &format!("{ask:?} with a {}", purpose.name()));
        }
        // Unknown, none, one too many, one too few, more than the message has bytes for.
        let mut unknown = framed(head(ask), &[Purpose::Report], &[]);
        for number in [0, 200, 255] {
            unknown[MESSAGE] = number;
            keeper.send(&unknown, &[null.as_fd()]);
            refused(&keeper, "an unknown purpose");
        }
        keeper.send(&framed(head(ask), &[], &[]), &[null.as_fd()]);
        refused(&keeper, "a descriptor without a purpose");
        let two = framed(head(ask), &[Purpose::Pidfd, Purpose::Pidfd], &[]);
        for count in [0, 1, 3, 100] {
            keeper.send(&two, &vec![null.as_fd(); count]);
            refused(&keeper, "another number of descriptors");
        }
        keeper.send(&Message { fds: u16::MAX, ..head(ask) }.encode(), &[null.as_fd()]);
        refused(&keeper, "a list longer than the message");
    }
    let in_memfd = Message { flags: 1, x: 4096, ..head(Ask::Spawn) };
    for purposes in [&[Purpose::Plan, Purpose::Report][..], &[Purpose::Plan, Purpose::Plan], &[Purpose::Report]] {
        keeper.send(&framed(in_memfd, purposes, &[]), &vec![null.as_fd(); purposes.len()]);
        refused(&keeper, "the plan is not the last");
    }
    keeper.lives();
    assert_eq!(keeper.descriptors(), before, "descriptors of refused requests");
    keeper.end();
}

/// A good plan whose report pipe is called something else, and one with two of its descriptors exchanged.
fn a_plan_does_not_take_a_descriptor_for_another(scene: &Scene) {
    let mut plan = None;
    scene.play(async |host| {
        let (container, _) = host.rt.plan(host.spec("plan"), orangery_tests::host::probe(&["true"])).expect("a plan");
        plan = Some(container);
    });
    let plan = plan.expect("a plan");
    let right: Vec<Purpose> = plan.needs().iter().map(|need| need.purpose()).collect();
    let named = [Some(plan.header().expect("a header").report), plan.header().map(|header| header.cgroup)];
    let null = fs::File::open("/dev/null").expect("null");
    let keeper = Raw::start();
    keeper.lives();
    let before = keeper.descriptors();
    for slot in named.into_iter().flatten().filter_map(|slot| usize::try_from(slot).ok()) {
        for other in [Purpose::Gate, Purpose::Stdio, Purpose::Tree] {
            let mut wrong = right.clone();
            wrong[slot] = other;
            keeper.send(&framed(head(Ask::Spawn), &wrong, plan.bytes()), &vec![null.as_fd(); wrong.len()]);
            refused(&keeper, &format!("slot {slot} as a {}", other.name()));
        }
    }
    keeper.lives();
    assert_eq!(keeper.descriptors(), before);
    keeper.end();
}

/// Whatever comes: it says so, keeps no descriptor, and does what it is asked next.
fn a_hand_refuses_what_is_no_errand(_: &Scene) {
    let plan = reach::hand((1234, 1234));
    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).expect("a pair");
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).expect("a pipe");
    let keeper = Raw::start();
    keeper.lives();
    let needs: Vec<Purpose> = plan.needs().iter().map(|need| need.purpose()).collect();
    keeper.send(&framed(head(Ask::Spawn), &needs, plan.bytes()), &[write.as_fd(), theirs.as_fd()]);
    drop((write, theirs));
    let born = keeper.next();
    assert_eq!(Tell::from_u16(born.kind), Some(Tell::Done), "{born:?}");
    let hand = wait::pidfd(born.pid.cast_unsigned());
    let mut report = [0; wire::REPORT];
    assert!(wait::readable(&read, wait::PATIENCE), "it is not ready");
    assert_eq!(rustix::io::read(&read, &mut report), Ok(wire::REPORT));
    assert_eq!(wire::read_report(&report), Some((wire::REPORT_READY, 0)));

    let root = fs::File::open("/").expect("a directory");
    let place = root.as_fd();
    let ask = |bytes: &[u8], fds: &[BorrowedFd<'_>]| {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(fds.is_empty() || control.push(SendAncillaryMessage::ScmRights(fds)));
        sendmsg(&ours, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL).expect("asked");
        assert!(wait::readable(&ours, wait::PATIENCE), "no answer");
        let mut answer = [0; MESSAGE];
        rustix::net::recv(&ours, &mut answer, rustix::net::RecvFlags::empty()).expect("an answer");
        Message::decode(&answer).expect("our protocol")
    };
    let flags = (libc::O_RDONLY | libc::O_DIRECTORY).cast_unsigned();
    let open = Errand { deed: Deed::Open, flags, mode: 0, resolve: 0, names: [&b"tmp"[..], b""] }.head();
    let good = framed(open, &[Purpose::Place], b"tmp\0");
    assert_eq!(ask(&good, &[place]).errno, 0);
    // What it has sent it closes behind that, and before it hears what comes next.
    let descriptors = || {
        assert_eq!(ask(b"x", &[]).errno, libc::EPROTO);
        fs::read_dir(format!("/proc/{}/fd", born.pid)).expect("its descriptors").count()
    };
    assert_eq!(descriptors(), 1, "beside its socket it has nothing");
    let of = |head, purpose, body: &[u8]| framed(head, &[purpose], body);
    for (what, bytes, fds) in [
        ("one byte", vec![b'x'], 0),
        ("no head", vec![0xff; 200], 1),
        ("too long", [&good[..], &[0; wire::ERRAND]].concat(), 1),
        ("no place", good.clone(), 0),
        ("two places", good.clone(), 2),
        ("another purpose", of(open, Purpose::Opened, b"tmp\0"), 1),
        ("no such deed", of(Message { kind: 99, ..open }, Purpose::Place, b"tmp\0"), 1),
        ("no name", of(open, Purpose::Place, b""), 1),
        ("a name without an end", of(open, Purpose::Place, b"tmp"), 1),
        ("two names", of(open, Purpose::Place, b"tmp\0tmp\0"), 1),
    ] {
        assert_eq!(ask(&bytes, &vec![place; fds]).errno, libc::EPROTO, "{what}");
        assert_eq!(ask(&good, &[place]).errno, 0, "after {what}");
    }
    assert_eq!(descriptors(), 1, "what came with wrong errands is closed");
    drop(ours);
    wait::gone(&hand, "a hand without its socket");
    let ended = keeper.next();
    assert_eq!((Tell::from_u16(ended.kind), ended.pid), (Some(Tell::Exited), born.pid), "{ended:?}");
    keeper.end();
}

/// A keeper that we play: it answers a request with whatever a trial wants.
fn answer(theirs: &OwnedFd, message: Message, purposes: &[u8], fds: &[BorrowedFd<'_>]) {
    let mut asked = [0; 4096];
    assert!(wait::readable(theirs, wait::PATIENCE), "nothing was asked");
    rustix::net::recv(theirs, &mut asked, rustix::net::RecvFlags::empty()).expect("asked");
    let id = Message::decode(&asked).expect("our protocol").id;
    let mut bytes = Message { id, ..message }.encode().to_vec();
    bytes.extend_from_slice(purposes);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
    }
    sendmsg(theirs, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL).expect("answered");
}

fn open_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("our descriptors").count()
}

fn answers_with_other_descriptors_are_refused_and_closed(scene: &Scene) {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).expect("a pair");
    scene.block_on(async {
        let launched = Launched {
            socket: ours,
            pidfd: wait::pidfd(std::process::id()),
            pid: 0,
            enters_pidns: false,
            privileged: false,
            ids: None,
        };
        let (client, driver) = Client::new(launched);
        let driver = tokio::spawn(driver.run());
        let null = fs::File::open("/dev/null").expect("null");
        let fd = null.as_fd();
        let ask = async |count: u16, purposes: &[u8], fds: &[BorrowedFd<'_>]| {
            let done = Message { kind: Tell::Done as u16, fds: count, ..Message::default() };
            let asked = client.userns("0 0 1\n", "0 0 1\n");
            let (answered, ()) = tokio::join!(wait::soon("an answer", asked), async {
                answer(&theirs, done, purposes, fds);
            });
            answered
        };
        let (user, pidfd) = (Purpose::User as u8, Purpose::Pidfd as u8);
        ask(1, &[user, 0, 0, 0, 0, 0, 0, 0], &[fd]).await.expect("as it should be");
        let before = open_descriptors();
        let wrong: [(u16, &[u8], &[BorrowedFd<'_>]); 9] = [
            (1, &[pidfd], &[fd]),
            (1, &[0], &[fd]),
            (1, &[Purpose::Gate as u8], &[fd]),
            (0, &[], &[fd]),
            (1, &[user], &[]),
            (2, &[user, user], &[fd, fd]),
            (1, &[user], &[fd, fd]),
            (7, &[user], &[fd]),
            (0, &[], &[]),
        ];
        for (count, purposes, fds) in wrong {
            let error = ask(count, purposes, fds).await.expect_err("refused");
            assert_eq!(error.kind(), ErrorKind::Keeper, "{count} {purposes:?}: {error:?}");
        }
        // More than we take at all: the kernel cuts, nothing stays.
        let error = ask(10, &[user; 10], &[fd; 10]).await.expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Keeper, "{error:?}");
        assert_eq!(open_descriptors(), before, "descriptors of refused answers");
        client.close();
        driver.abort();
    });
}

/// It waits behind others for room in the socket, and then turns out to be larger than the socket.
fn a_request_that_cannot_be_sent_later_is_told(scene: &Scene) {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).expect("a pair");
    rustix::net::sockopt::set_socket_send_buffer_size(&ours, 4096).expect("a small buffer");
    scene.block_on(async {
        let pidfd = wait::pidfd(std::process::id());
        let launched = Launched { socket: ours, pidfd, pid: 0, enters_pidns: false, privileged: false, ids: None };
        let (client, driver) = Client::new(launched);
        let driver = tokio::spawn(driver.run());
        let large = "0 0 1\n".repeat(10_000);
        let mut asked: Vec<_> = (0..100).map(|_| Box::pin(client.userns("0 0 1\n", "0 0 1\n"))).collect();
        let mut larger = Box::pin(client.userns(&large, "0 0 1\n"));
        std::future::poll_fn(|cx| {
            assert!(asked.iter_mut().all(|ask| ask.as_mut().poll(cx).is_pending()));
            assert!(larger.as_mut().poll(cx).is_pending(), "there was room in the socket");
            std::task::Poll::Ready(())
        })
        .await;
        let listener = std::thread::spawn(move || {
            for _ in 0..100 {
                assert!(wait::readable(&theirs, wait::PATIENCE), "not all that was asked arrives");
                rustix::net::recv(&theirs, &mut [0; 4096], rustix::net::RecvFlags::empty()).expect("asked");
            }
            theirs
        });
        let error = wait::soon("an answer", larger).await.expect_err("too large");
        assert_eq!((error.kind(), error.errno()), (ErrorKind::Keeper, Some(libc::EMSGSIZE)), "{error:?}");
        drop(listener.join().expect("no panic"));
        driver.abort();
    });
}

/// A supervisor has let go of everything and leaves, with an answer unread: the kernel tells of that before it tells what was
/// asked. A keeper that has nothing does not wait for a next one.
fn what_was_asked_before_the_end_counts(_: &Scene) {
    let keeper = Raw::start();
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let door = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).expect("a socket");
    let hello = Message { x: wire::End::Keep as u64, ..head(Ask::Hello) };
    keeper.send(&framed(hello, &[Purpose::Door], &[]), &[door.as_fd()]);
    let (pipe, _end) = std::io::pipe().expect("a pipe");
    keeper.send(&framed(Message { id: 10, ..head(Ask::Store) }, &[Purpose::Report], b"label"), &[pipe.as_fd()]);
    let place = loop {
        let message = keeper.next();
        if message.id == 10 {
            assert_eq!(Tell::from_u16(message.kind), Some(Tell::Done), "{message:?}");
            break message.x;
        }
    };
    // Refused, which nobody reads.
    keeper.send(&Message { kind: 99, id: 11, ..Message::default() }.encode(), &[]);
    assert!(wait::readable(&keeper.socket, wait::PATIENCE), "no answer");
    keeper.stop();
    keeper.send(&Message { id: 10, x: place, ..head(Ask::Discard) }.encode(), &[]);
    keeper.end();
}
