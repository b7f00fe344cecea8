//! Byte for byte.
#![allow(clippy::disallowed_methods, reason = "the tests start the binary under test")]

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::process::Stdio;

use crate::kit::{Ran, fed, orangery, sh};
use crate::{Test, always};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        always("a_mebibyte_comes_back_unchanged", unchanged),
        always("stdin_is_dev_null_by_default", stdin_is_null),
        always("a_command_may_leave_its_input_unread", unread_input),
        always("files_are_copied_and_stay_in_order", files),
        always("a_closed_reader_ends_it_like_sigpipe", closed_reader),
        always("a_full_disk_is_our_failure", full),
        always("the_names_of_the_streams_can_be_opened", names),
    ]
}

fn random(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
    bytes
}

/// Through pipes, which are handed over; through the supervisor, which counts; and from and to files.
fn unchanged() {
    let bytes = random(1 << 20);
    for options in [&["run", "-i", "--", "cat"][..], &["run", "-i", "--output-limit", "1G", "--", "cat"]] {
        let ran = fed(options, &bytes);
        assert!(ran.ended(0).out == bytes, "{options:?}: {} bytes came back", ran.out.len());
    }
    let (mut input, mut output) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
    input.write_all(&bytes).unwrap();
    input.rewind().unwrap();
    let status =
        orangery(&["run", "-i", "--", "cat"]).stdin(input).stdout(output.try_clone().unwrap()).status().unwrap();
    let mut copied = Vec::new();
    output.rewind().unwrap();
    output.read_to_end(&mut copied).unwrap();
    assert!(status.success() && copied == bytes, "{status}: {} bytes came back", copied.len());
}

fn stdin_is_null() {
    let ran = fed(&["run", "--", "sh", "-c", "cat; readlink /proc/self/fd/0"], b"not for you");
    assert_eq!(ran.ended(0).text(), "/dev/null\n");
}

fn unread_input() {
    let bytes = random(1 << 20);
    assert_eq!(fed(&["run", "-i", "--", "echo", "done"], &bytes).ended(0).text(), "done\n");
    assert_eq!(fed(&["run", "-i", "--", "head", "-c", "3"], b"abcdef").ended(0).text(), "abc");
}

fn files() {
    let mut file = tempfile::tempfile().unwrap();
    let script = "for i in 1 2 3 4 5 6 7 8 9; do echo $i; echo $i >&2; done";
    let status = orangery(&["run", "--", "sh", "-c", script])
        .stdout(file.try_clone().unwrap())
        .stderr(file.try_clone().unwrap())
        .status()
        .unwrap();
    let mut text = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    assert!(status.success());
    assert_eq!(text.replace('\n', ""), "112233445566778899");
}

fn closed_reader() {
    // Handed over, and copied.
    for options in [&[][..], &["--output-limit", "1T"]] {
        let args = [&["run"], options, &["--", "yes"]].concat();
        let mut child = orangery(&args).stdout(Stdio::piped()).spawn().unwrap();
        let mut out = child.stdout.take().unwrap();
        out.read_exact(&mut [0; 2]).unwrap();
        drop(out);
        assert_eq!(child.wait().unwrap().code(), Some(141), "{options:?}");
    }
}

fn full() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let ran: Ran = orangery(&["run", "--", "echo", "hello"]).stdout(full).output().unwrap().into();
    assert!(ran.ended(125).err.contains("cannot write stdout: No space left"), "{ran:?}");
}

fn names() {
    for options in [&[][..], &["--output-limit", "1M"]] {
        let ran = sh(options, "echo out > /dev/stdout; echo err > /dev/stderr");
        assert_eq!((ran.ended(0).text(), ran.err.as_str()), ("out\n", "err\n"), "{options:?}");
    }
    assert_eq!(fed(&["run", "-i", "--", "sh", "-c", "cat < /dev/stdin"], b"in").ended(0).text(), "in");
}
