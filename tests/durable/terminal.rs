//! A terminal whose supervisor is gone.

use orangery_runtime::ExitStatus;
use orangery_runtime::durable::{Came, Leftovers};
use orangery_runtime::spec::WindowSize;
use orangery_tests::host::probe;
use orangery_tests::noise::period;
use orangery_tests::{Scene, wait};

use super::saved::*;

const TOTAL: usize = 300_000;

/// It shows more than its buffer takes, and nobody but the keeper reads.
pub(crate) fn nobody_waits_for_a_reader_of_a_terminal(scene: &Scene) {
    let was = be_victim(scene, async |host, _, _| {
        let mut main = held(scene, "main", probe(&["noise", &TOTAL.to_string()]));
        main.tty = Some(WindowSize::default());
        main.stdout = orangery_runtime::spec::Stdio::Null;
        main.stderr = orangery_runtime::spec::Stdio::Null;
        let container = create(host, scene, host.spec("shows"), main).await;
        let started = start(&*container, scene, "main").await;
        let master = started.tty.as_ref().expect("a terminal");
        rustix::fs::fcntl_setfl(master, rustix::fs::OFlags::NONBLOCK).expect("as a pump wants it");
        stays((container, started));
    });
    if was {
        return;
    }
    let (mut victim, _keeper) = victim(scene, "play");
    let main = wait::pidfd(pid_of(scene, "main"));
    victim.kill();
    wait::gone(&main, "who writes to a terminal that nobody but the keeper reads");
    scene.block_on(async {
        let mut next = Next::after(scene, Came::KeeperLives);
        let container = next.container(scene, "shows").await.expect("there");
        let started = next.found(scene, "shows", "main", true).await;
        let (living, left) = next.finish().await;
        assert_eq!(left, Leftovers::default());
        assert_eq!(wait::soon("its end", started.exit).await.expect("told").status, ExitStatus::Code(0));
        let held = started.held.expect("held");
        let drained = held.tty.as_ref().expect("held").drained.expect("it was emptied");
        assert!(started.tty.is_some() && started.stdout.is_some());
        let mut shown = std::fs::read(log(scene, "main")).expect("the log");
        assert_eq!((drained.logged as usize, drained.lost, drained.errno), (shown.len(), 0, 0));
        let mut rest = [0; 8192];
        while let Ok(len @ 1..) = rustix::io::read(started.tty.as_ref().expect("a terminal"), &mut rest) {
            shown.extend_from_slice(&rest[..len]);
        }
        // A terminal makes two of each line's end.
        let noise = &period()[..TOTAL];
        let expected: Vec<u8> =
            noise.iter().flat_map(|byte| if *byte == b'\n' { vec![b'\r', b'\n'] } else { vec![*byte] }).collect();
        assert!(shown == expected, "{} bytes of {}", shown.len(), expected.len());
        held.settle();
        wait::soon("delete", container.delete()).await.expect("deleted");
        living.end(scene).await;
    });
}
