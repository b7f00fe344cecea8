//! Terminals, through the library: of main and of further processes.

use orangery::stream::EndReason;
use orangery::stream::log::LogOptions;
use orangery::{
    Command, ContainerHandle, ErrorKind, Event, Measured, ProcessHandle, Stdin, Subscriber, Supervisor, User,
};
use orangery_tests::{Scene, Trial, trial, wait};
use tokio::io::AsyncWriteExt as _;

use crate::stage::play;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial!(a_terminal_is_the_containers_own),
        trial!(a_command_that_is_pid_1_has_one_too),
        trial!(further_processes_have_their_own),
        trial!(a_terminal_belongs_to_the_user_that_has_it, ManyIds),
        trial!(every_reader_gets_the_same_and_a_background_process_holds_nothing_up),
        trial!(what_is_typed_is_read_to_an_end_that_is_typed),
        trial!(without_a_keyboard_nobody_types),
        trial!(it_is_resized),
        trial!(it_is_hung_up),
        trial!(what_it_prints_is_kept_in_a_log),
        trial!(nobody_watches_it_and_it_ends_with_its_container),
        trial!(what_it_excludes_is_refused_by_name),
    ]
}

fn shell(supervisor: &Supervisor, script: &str) -> Command {
    supervisor.command("sh").arg("-c").arg(script).tty(true)
}

/// Read on until `text` has come; the line that ends with it.
async fn until(output: &mut Subscriber, text: &str) -> String {
    let mut all = String::new();
    while !all.contains(text) {
        match wait::soon(text, output.recv()).await {
            Some(Event::Chunk(chunk)) => all += &String::from_utf8_lossy(&chunk.data),
            other => panic!("{other:?} after {all:?}"),
        }
    }
    all
}

const LOOK: &str = "tty; stty size; ls -1 /dev/pts; cut -d' ' -f6-8 /proc/self/stat; stat -c '%u %a' $(tty); \
                    test -t 0 && test -t 1 && test -t 2 && echo three; tty < /dev/tty";

/// Its name, its size, what else there is, that it controls session and foreground (device 136:0), its owner; and that it
/// is three streams and /dev/tty.
fn looked(main: u32) -> String {
    format!("/dev/pts/0\r\n24 80\r\n0\r\nptmx\r\n{main} 34816 {main}\r\n0 620\r\nthree\r\n/dev/tty\r\n")
}

fn a_terminal_is_the_containers_own(scene: &Scene) {
    play(scene, async |supervisor| {
        let script = format!("{LOOK}; echo to the console > /dev/console; echo error >&2; exit 3");
        let output = shell(supervisor, &script).run().await.unwrap();
        let said = String::from_utf8(output.stdout.to_vec()).unwrap();
        assert_eq!(said, looked(2) + "to the console\r\nerror\r\n");
        assert_eq!((output.report.shell_code(), output.stderr.to_vec().len()), (3, 0));
        assert_eq!(output.report.stdout.bytes, Measured::Known(said.len() as u64));
    });
}

fn a_command_that_is_pid_1_has_one_too(scene: &Scene) {
    play(scene, async |supervisor| {
        let sandbox = orangery::Sandbox::builder().init(false).build().unwrap();
        let script = format!("{LOOK}; echo to the console > /dev/console");
        let output = shell(supervisor, &script).sandbox(&sandbox).run().await.unwrap();
        assert_eq!(String::from_utf8(output.stdout.to_vec()).unwrap(), looked(1) + "to the console\r\n");
    });
}

fn further_processes_have_their_own(scene: &Scene) {
    play(scene, async |supervisor| {
        let container = shell(supervisor, "echo ready; exec sleep 1000").spawn().await.unwrap();
        until(&mut container.stdout(), "ready").await;
        let script = "tty; stty size; tty < /dev/tty; ls -l /dev/console | grep -c '136, 0'";
        let more = container.command("sh").arg("-c").arg(script).tty_size(5, 7).run().await.unwrap();
        assert_eq!(String::from_utf8(more.stdout.to_vec()).unwrap(), "/dev/pts/1\r\n5 7\r\n/dev/tty\r\n1\r\n");
        assert!(more.report.success());
        // One without is not given another's.
        let plain = container.command("sh").arg("-c").arg("test -t 0; echo $?; : < /dev/tty").run().await.unwrap();
        assert!(plain.stdout.to_vec() == b"1\n" && !plain.report.success(), "{plain:?}");
        container.kill().unwrap();
        wait::soon("its end", container.wait()).await.unwrap();
    });
}

fn a_terminal_belongs_to_the_user_that_has_it(scene: &Scene) {
    play(scene, async |supervisor| {
        let user = User::Ids { uid: 1234, gid: 1234 };
        let script = "stat -c '%u %g %a' $(tty); id -u; echo again > $(tty)";
        for init in [true, false] {
            let sandbox = orangery::Sandbox::builder().init(init).build().unwrap();
            let output = shell(supervisor, script).sandbox(&sandbox).user(user.clone()).run().await.unwrap();
            let said = String::from_utf8(output.stdout.to_vec()).unwrap();
            assert_eq!(said, "1234 5 620\r\n1234\r\nagain\r\n", "init: {init}");
        }
    });
}

/// Of a terminal nothing is waited for after the exit, whatever the grace, and nothing is lost.
fn every_reader_gets_the_same_and_a_background_process_holds_nothing_up(scene: &Scene) {
    play(scene, async |supervisor| {
        let sandbox = orangery::Sandbox::builder().drain_grace(None).ring(1 << 20).build().unwrap();
        let container = supervisor.command("sleep").arg("1000").sandbox(&sandbox).spawn().await.unwrap();
        let lines = "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done";
        let whole: String = (0..20_000).map(|i| format!("line {i}\r\n")).collect();
        // The child ignores the hang-up that comes with its session's end, and keeps the terminal open.
        for (before, held) in [("", false), ("trap '' HUP; sleep 1000 & ", true)] {
            let script = format!("{before}{lines}");
            let writer = container.command("sh").arg("-c").arg(script).tty(true).spawn().await.unwrap();
            let (early, mut ends) = (writer.stdout(), writer.output());
            let report = wait::soon("its report", writer.wait()).await.unwrap();
            assert!(report.success() && report.leaked_writers == held, "{report:?}");
            for reader in [early, writer.stdout()] {
                assert!(reader.collect(1 << 20).await.to_vec() == whole.as_bytes());
            }
            let end = loop {
                match ends.recv().await {
                    Some(Event::End(end)) => break end,
                    Some(_) => {}
                    None => panic!("an end is told"),
                }
            };
            // EIO is an end, and no error.
            assert_eq!(end.reason, if held { EndReason::Leaked } else { EndReason::Eof });
        }
    });
}

fn what_is_typed_is_read_to_an_end_that_is_typed(scene: &Scene) {
    play(scene, async |supervisor| {
        // The echo of a terminal, then what cat says; the last line has no end of its own.
        let output = supervisor.command("cat").tty(true).stdin(Stdin::Bytes("one\ntwo".into())).run().await.unwrap();
        let said = String::from_utf8(output.stdout.to_vec()).unwrap();
        assert!(output.report.success() && said.contains("one\r\n") && said.ends_with("two"), "{said:?}");

        let container =
            shell(supervisor, "read a; echo \"<$a>\"; cat; echo end").stdin(Stdin::Kept).spawn().await.unwrap();
        let mut output = container.stdout();
        container.stdin().unwrap().write_all(b"hello\n").await.unwrap();
        until(&mut output, "<hello>").await;
        // The writer that went has ended nothing.
        container.stdin().unwrap().shutdown().await.unwrap();
        until(&mut output, "end").await;
        assert!(wait::soon("its end", container.wait()).await.unwrap().success());
        assert!(container.stdin().is_none());
    });
}

fn without_a_keyboard_nobody_types(scene: &Scene) {
    play(scene, async |supervisor| {
        let container = shell(supervisor, "echo ready; read a").spawn().await.unwrap();
        until(&mut container.stdout(), "ready").await;
        assert!(container.stdin().is_none());
        container.kill().unwrap();
        wait::soon("its end", container.wait()).await.unwrap();
    });
}

fn it_is_resized(scene: &Scene) {
    play(scene, async |supervisor| {
        let script = "trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 0.05; done";
        let container = shell(supervisor, script).tty_size(5, 7).spawn().await.unwrap();
        let mut output = container.stdout();
        until(&mut output, "ready").await;
        container.resize(50, 132).unwrap();
        until(&mut output, "50 132\r\n").await;
        assert!(wait::soon("its end", container.wait()).await.unwrap().success());
        assert_eq!(container.resize(1, 1).unwrap_err().kind(), ErrorKind::State);
    });
}

fn it_is_hung_up(scene: &Scene) {
    play(scene, async |supervisor| {
        let script = "trap 'exit 6' HUP; echo ready; while :; do sleep 0.05; done";
        let container = shell(supervisor, script).stdin(Stdin::Piped).spawn().await.unwrap();
        let mut keyboard = container.stdin().unwrap();
        until(&mut container.stdout(), "ready").await;
        assert_eq!(container.resize(0, 1).unwrap_err().field(), Some("tty"));
        container.hang_up().unwrap();
        assert_eq!(keyboard.write(b"x").await.unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
        let report = wait::soon("its end", container.wait()).await.unwrap();
        assert_eq!((report.shell_code(), report.leaked_writers), (6, false));
        for gone in [container.hang_up(), container.resize(1, 1)] {
            assert_eq!(gone.unwrap_err().kind(), ErrorKind::State);
        }
        let plain = supervisor.command("sleep").arg("1000").spawn().await.unwrap();
        assert_eq!(plain.hang_up().unwrap_err().kind(), ErrorKind::State, "it has none");
    });
}

fn nobody_watches_it_and_it_ends_with_its_container(scene: &Scene) {
    play(scene, async |supervisor| {
        let container: ContainerHandle = supervisor.command("sleep").arg("1000").spawn().await.unwrap();
        let flood: ProcessHandle = container.command("yes").tty(true).spawn().await.unwrap();
        container.kill().unwrap();
        wait::soon("its end", container.wait()).await.unwrap();
        assert_eq!(wait::soon("the flood's end", flood.wait()).await.unwrap().shell_code(), 137);
    });
}

fn what_it_excludes_is_refused_by_name(scene: &Scene) {
    play(scene, async |supervisor| {
        let null = || std::fs::File::open("/dev/null").unwrap().into();
        let command = || supervisor.command("true").tty(true);
        for (refused, field) in [
            (command().stdin_fd(null()), "stdin"),
            (command().stdout_fd(null()), "stdout"),
            (command().stderr_fd(null()), "stderr"),
            (command().tty_size(24, 0), "tty"),
        ] {
            let error = refused.spawn().await.unwrap_err();
            assert_eq!((error.kind(), error.field()), (ErrorKind::Invalid, Some(field)), "{error}");
        }
        let container = supervisor.command("sleep").arg("1000").spawn().await.unwrap();
        let error = container.command("true").tty(true).stderr_fd(null()).spawn().await.unwrap_err();
        assert_eq!((error.kind(), error.field()), (ErrorKind::Invalid, Some("stderr")), "{error}");
    });
}

fn what_it_prints_is_kept_in_a_log(scene: &Scene) {
    play(scene, async |supervisor| {
        let dir = scene.dir().join("log");
        // Read first: the echo of what is typed comes in between what is written.
        let script = "read -r word; echo typed at $(tty); echo $word";
        let command = shell(supervisor, script).log(&dir, LogOptions::default());
        let mut container = command.stdin(Stdin::Bytes("again\n".into())).spawn().await.unwrap();
        let output = container.stdout();
        let report = wait::soon("its end", container.wait()).await.unwrap();
        // Its echo, and its word.
        let all = b"typed at /dev/pts/0\r\nagain\r\nagain\r\n";
        let printed = output.collect(1000).await.to_vec();
        let sorted = |bytes: &[u8]| {
            let mut lines: Vec<_> = bytes.split(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
            lines.sort();
            lines
        };
        assert_eq!(sorted(&printed), sorted(all), "{:?}", String::from_utf8_lossy(&printed));
        assert_eq!(report.stdout.bytes, Measured::Known(all.len() as u64));
        // The next one goes on with it, and ends where it is hung up.
        container =
            shell(supervisor, "echo ready; exec sleep 1000").log(&dir, LogOptions::default()).spawn().await.unwrap();
        until(&mut container.stdout(), "ready").await;
        let output = container.stdout();
        assert_eq!(output.opening().start.offset(orangery::Source::Stdout), all.len() as u64);
        container.hang_up().unwrap();
        assert_eq!(wait::soon("the end of its output", output.collect(100)).await.to_vec(), b"ready\r\n");
        container.kill().unwrap();
        wait::soon("its end", container.wait()).await.unwrap();
    });
}
