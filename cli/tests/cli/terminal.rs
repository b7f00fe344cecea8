//! `run -t`: a terminal for the command, and what becomes of ours.
#![allow(clippy::disallowed_methods, reason = "a panic needs a process of its own")]

use std::process::Command;

use rustix::process::Signal;

use crate::kit::{fed, ran, sh};
use crate::tty::AtTerminal;
use crate::{Test, always, needs};

/// As the binary has it, for a process that panics.
#[path = "../../src/terminal/raw.rs"]
mod raw;

/// Names a process that is to panic at its terminal.
pub(crate) const PANICS: &str = "ORANGERY_TEST_PANICS";

pub(crate) fn tests() -> Vec<Test> {
    vec![
        always("a_terminal_of_its_own_as_large_as_ours", own_terminal),
        always("our_terminal_is_as_it_was_however_it_ends", restored),
        always("our_terminal_is_as_it_was_after_a_panic", panicked),
        always("our_terminal_is_as_it_was_after_a_command_that_is_not_there", not_found),
        always("what_is_typed_before_the_end_is_the_commands", typed),
        always("a_stop_of_ours_is_no_end", stopped),
        always("jobs_are_controlled_inside", jobs),
        always("the_detach_keys_give_our_terminal_back", detached),
        always("other_detach_keys_and_none", other_keys),
        always("a_closed_terminal_hangs_the_commands_up", closed),
        always("a_command_that_ignores_the_hang_up_is_killed", ignored),
        needs("nothing_can_be_typed_at_our_terminal_from_inside", no_perl(), injected),
        always("a_terminal_without_input_needs_none", without_input),
        always("the_output_of_a_terminal_comes_whole", whole),
        always("input_that_is_no_terminal_is_refused", refused),
    ]
}

const WAIT: &str = "while :; do sleep 0.05; done";

fn own_terminal() {
    let script = format!(
        "trap 'stty size; exit 0' WINCH; tty; stty size; ls -1 /dev/pts; cut -d' ' -f7 /proc/self/stat; echo ready; {WAIT}"
    );
    let mut at = AtTerminal::sh(&[], &script);
    // Its number is 136:0, wherever ours is.
    assert_eq!(at.until("ready\r\n"), "/dev/pts/0\r\n33 101\r\n0\r\nptmx\r\n34816\r\nready\r\n");
    assert!(at.is_raw());
    at.resize(40, 120);
    assert_eq!(at.until("120\r\n"), "40 120\r\n");
    assert_eq!(at.end(), (Some(0), String::new()));
}

fn restored() {
    let waits = format!("echo ready; {WAIT}");
    let signalled = |signal| move |at: &AtTerminal| at.signal(signal);
    type Do = Box<dyn Fn(&AtTerminal)>;
    let nothing = || -> Do { Box::new(|_| {}) };
    let cases: [(&[&str], &str, Do, i32); 7] = [
        (&[], "echo ready", nothing(), 0),
        (&[], "echo ready; exit 3", nothing(), 3),
        (&[], "echo ready; kill -9 $$", nothing(), 137),
        (&["--no-init"], "echo ready; exit 4", nothing(), 4),
        (&["--output-limit", "1K"], "echo ready; yes", nothing(), 137),
        (&[], &waits, Box::new(signalled(Signal::TERM)), 143),
        (&[], &waits, Box::new(signalled(Signal::HUP)), 129),
    ];
    for (options, script, act, code) in cases {
        let mut at = AtTerminal::sh(options, script);
        at.until("ready\r\n");
        act(&at);
        assert_eq!(at.end().0, Some(code), "{options:?} {script}");
    }
    // Nothing is shown by one whose time is over before it has said a word.
    let timed_out = |limit| {
        let (code, said) = AtTerminal::sh(&["--timeout", limit], &waits).end();
        assert_eq!(code, Some(124), "{said}");
        said == "ready\r\n"
    };
    assert!(["300ms", "3s", "30s"].into_iter().any(timed_out), "it never says a word in time");
}

/// In the process that is to panic.
pub(crate) fn panic_at_the_terminal() -> ! {
    let held = raw::Raw::enter().unwrap();
    held.again().unwrap();
    // One of another thread changes nothing.
    assert!(std::thread::spawn(|| panic!("elsewhere")).join().is_err());
    let mut byte = [0];
    rustix::io::write(rustix::stdio::stdout(), b"ready\r\n").unwrap();
    rustix::io::read(rustix::stdio::stdin(), &mut byte).unwrap();
    panic!("at the terminal");
}

fn panicked() {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env(PANICS, "1");
    let mut at = AtTerminal::start(command);
    at.until("ready\r\n");
    assert!(at.is_raw());
    at.type_in("x");
    // Told after it was put back: its lines begin where lines do.
    at.until("at the terminal\r\n");
    assert_eq!(at.end().0, Some(101));
}

fn not_found() {
    let mut at = AtTerminal::run(&["run", "-it", "--", "no-such-command"]);
    at.until("no-such-command");
    assert_eq!(at.end().0, Some(127));
}

/// ^D is the end of the input, and what was typed before is read before.
fn typed() {
    let mut at = AtTerminal::sh(&[], "echo ready; stty -echo; echo quiet; cat; exit 5");
    at.until("quiet\r\n");
    at.type_in("hello\rworld\r\u{4}");
    assert_eq!(at.until("world\r\n"), "hello\r\nworld\r\n");
    assert_eq!(at.end(), (Some(5), String::new()));
}

/// Whoever had the terminal meanwhile has set other modes.
fn stopped() {
    let script = format!("trap 'stty size; exit 9' WINCH; echo ready; {WAIT}");
    let mut at = AtTerminal::sh(&[], &script);
    at.until("ready\r\n");
    at.signal(Signal::STOP);
    at.cook();
    at.signal(Signal::CONT);
    at.until_raw();
    at.resize(40, 120);
    at.until("40 120\r\n");
    assert_eq!(at.end().0, Some(9));
}

/// The keys of a shell reach what runs in its foreground, and not the shell.
fn jobs() {
    let mut at = AtTerminal::run(&["run", "-it", "-e", "PS1=$ ", "--", "bash", "--norc", "-i"]);
    let banner = at.until("$ ");
    assert!(!banner.contains("job control"), "{banner}");
    let in_cat = |at: &mut AtTerminal, word: &str| {
        at.type_in("echo st''arts; cat\r");
        at.until("starts\r\n");
        at.type_in(&format!("{word}\r"));
        // By the terminal, and by cat.
        at.until(&format!("{word}\r\n"));
        at.until(&format!("{word}\r\n"));
    };
    in_cat(&mut at, "first");
    at.type_in("\u{3}");
    at.until("$ ");
    at.type_in("echo interrup''ted $?\r");
    at.until("interrupted 130\r\n");
    at.until("$ ");
    in_cat(&mut at, "second");
    at.type_in("\u{1a}");
    at.until("Stopped");
    at.until("$ ");
    at.type_in("fg\r");
    at.until("cat\r\n");
    at.type_in("third\r\u{4}");
    at.until("third\r\nthird\r\n");
    at.until("$ ");
    at.type_in("exit 6\r");
    assert_eq!(at.end().0, Some(6));
}

fn detached() {
    let script = format!("trap 'echo told; exit 7' INT; echo ready; read line; echo \"<$line>\"; {WAIT}");
    let mut at = AtTerminal::sh(&[], &script);
    at.until("ready\r\n");
    // Half of them is a key like any other as soon as it is known.
    at.type_in("a\u{10}b\r");
    at.until("<a\u{10}b>\r\n");
    at.type_in("\u{10}\u{11}");
    at.until("goes on without input");
    assert!(at.is_as_before());
    // A signal again, and for us.
    at.type_in("\u{3}");
    at.until("told");
    assert_eq!(at.end().0, Some(7));
}

fn other_keys() {
    let mut at = AtTerminal::sh(&["--detach-keys", "ctrl-a,d"], "echo ready; read line; exit 8");
    at.until("ready\r\n");
    at.type_in("\u{1}d");
    at.until("goes on without input");
    at.signal(Signal::TERM);
    assert_eq!(at.end().0, Some(143));

    let mut at = AtTerminal::sh(&["--detach-keys", ""], "stty -echo; echo ready; read line; echo \"<$line>\"");
    at.until("ready\r\n");
    at.type_in("\u{10}\u{11}\r");
    at.until("<\u{10}");
    assert_eq!(at.end().0, Some(0));
}

fn closed() {
    let mut at = AtTerminal::sh(&[], &format!("trap 'exit 6' HUP; echo ready; {WAIT}"));
    at.until("ready\r\n");
    assert_eq!(at.close(), Some(6));
}

fn ignored() {
    let mut at = AtTerminal::sh(&["--kill-after", "200ms"], &format!("trap '' HUP; echo ready; {WAIT}"));
    at.until("ready\r\n");
    assert_eq!(at.close(), Some(137));
}

fn no_perl() -> Option<String> {
    (sh(&[], "command -v perl").code != Some(0)).then(|| "there is no perl to call ioctl".into())
}

/// TIOCSTI, at each of its descriptors and at the terminal that controls it.
fn injected() {
    let script = r#"my $x = "x"; for my $fd (*STDIN, *STDOUT, *STDERR) { ioctl($fd, 0x5412, $x) and print "typed\n" }
        open(my $tty, "+<", "/dev/tty") or die; ioctl($tty, 0x5412, $x) and print "typed\n"; print "done\n";"#;
    let mut at = AtTerminal::run(&["run", "-it", "--", "perl", "-e", script]);
    let said = at.until("done\r\n");
    assert!(!said.contains("typed"), "{said}");
    assert_eq!(at.unread(), 0);
    assert_eq!(at.end().0, Some(0));
}

fn without_input() {
    let ran = sh(&["-t"], "test -t 0 && tty && stty size && printf 'a\\nb'; echo error >&2");
    assert_eq!((ran.ended(0).text(), ran.err.as_str()), ("/dev/pts/0\r\n24 80\r\na\r\nberror\r\n", ""));
    let ran = sh(&["-t", "--report", "/dev/stderr"], "echo 12345; exit 3");
    assert_eq!(ran.ended(3).text(), "12345\r\n");
    assert!(ran.err.contains("\"stdout\":{\"bytes\":7,"), "{}", ran.err);
    let ran = sh(&["-t", "--output-limit", "1000"], "yes");
    assert_eq!(ran.ended(137).out.len(), 1000);
    // A pager that is left early: the terminal is hung up.
    let mut child =
        crate::kit::orangery(&["run", "-t", "--", "yes"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(129));
}

fn whole() {
    let ran = sh(&["-t"], "i=0; while [ $i -lt 30000 ]; do echo line $i; i=$((i+1)); done; seq 1 200000");
    let lines = (0..30_000).map(|i| format!("line {i}\r\n")).chain((1..=200_000).map(|i| format!("{i}\r\n")));
    assert!(ran.ended(0).text() == lines.collect::<String>(), "{} bytes", ran.out.len());
}

fn refused() {
    let refusal = fed(&["run", "-it", "--", "true"], b"");
    assert!(refusal.ended(125).err.contains("the input device is not a TTY"), "{}", refusal.err);
    for (args, word) in [
        (&["run", "-t", "--detach-keys", "ctrl-", "--", "true"][..], "--detach-keys"),
        (&["run", "-t", "--restart", "always", "--", "true"], "--restart"),
    ] {
        let refusal = ran(args);
        assert!(refusal.ended(125).err.contains(word), "{}", refusal.err);
    }
}
