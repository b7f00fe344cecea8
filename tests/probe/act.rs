//! Things that a workload does: end in some way, eat something, spawn, ignore signals.

use std::fs;
use std::io::{Read as _, Write as _};

use crate::json::{object, string};
use crate::raw::{self, call, nr};

pub fn act(name: &str, rest: &[String]) {
    let number = |index: usize| rest.get(index).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    match name {
        "true" => {}
        "exit" => std::process::exit(i32::try_from(number(0)).unwrap_or(1)),
        "raise" => raise(number(0) as i32),
        "cat" => {
            let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::stdout().lock());
        }
        "wait" => wait(),
        "deaf" => deaf(),
        "both" => {
            println!("{}", rest.first().map_or("", String::as_str));
            eprintln!("{}", rest.get(1).map_or("", String::as_str));
        }
        "size" => size(),
        "connect" => connect(number(0)),
        "read-fd" => read_fd(number(0)),
        "noise" => noise(number(0)),
        "count" => count(number(0), number(1)),
        "alloc" => alloc(number(0)),
        "forks" => forks(number(0)),
        "orphan" => orphan(),
        "executes" => executes(rest.is_empty()),
        "traced" => traced(number(0) as i32),
        "notify" => notify(rest),
        "notify-and-wait" => {
            notify(rest);
            wait();
        }
        "burn" => burn(number(0)),
        "fill" => fill(rest.first().map_or("/tmp/fill", String::as_str)),
        "inodes" => inodes(rest.first().map_or("/tmp", String::as_str)),
        "create" => create(rest),
        "touch" => say(
            "errno",
            rest.first().map_or(0, |path| fs::write(path, "x").err().and_then(|e| e.raw_os_error()).unwrap_or(0)),
        ),
        "narrow" => say("result", narrow(number(0))),
        "call" => say("result", call(number(0) as i64, [0; 6])),
        "status" => print!("{}", fs::read_to_string(format!("/proc/{}/status", number(0))).unwrap_or_default()),
        _ => {
            eprintln!("the probe does not know {name:?}");
            std::process::exit(99);
        }
    }
}

/// A system call as a 32-bit program makes it.
#[cfg(target_arch = "x86_64")]
fn narrow(number: u64) -> i32 {
    let result: i32;
    // SAFETY: calls without arguments and without an effect in memory; the registers that the entry may change are named.
    unsafe {
        core::arch::asm!("int 0x80", inlateout("eax") number as i32 => result,
            lateout("r8") _, lateout("r9") _, lateout("r10") _, lateout("r11") _);
    }
    result
}

#[cfg(not(target_arch = "x86_64"))]
fn narrow(_: u64) -> i32 {
    -38
}

fn say(key: &str, value: impl std::fmt::Display) {
    println!("{}", object([(key.to_owned(), value.to_string())]));
}

fn raise(number: i32) {
    raw::default(number);
    call(nr::KILL, [call(nr::GETPID, [0; 6]) as usize, number as usize, 0, 0, 0, 0]);
    println!("survived");
}

/// Say "ready", end when standard input does.
fn wait() {
    println!("ready");
    let mut nothing = Vec::new();
    let _ = std::io::stdin().lock().read_to_end(&mut nothing);
}

/// Ignore all that can be ignored, say "ready", stay.
fn deaf() {
    (1..=64).filter(|number| ![9, 19, 32, 33].contains(number)).for_each(raw::ignore);
    // Who would have read it may be gone already: it lives on all the same.
    let _ = writeln!(std::io::stdout(), "ready");
    raw::pause();
}

/// Say "hello" to a port of this network's own address, then whatever comes back.
fn connect(port: u64) {
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port as u16)).expect("connected");
    stream.write_all(b"hello").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    println!("{answer}");
}

fn size() {
    let argv: usize = std::env::args_os().map(|arg| arg.len()).sum();
    let env: usize = std::env::vars_os().map(|(key, value)| key.len() + value.len() + 1).sum();
    let items =
        [("argc", std::env::args_os().count()), ("argv", argv), ("envc", std::env::vars_os().count()), ("env", env)];
    println!("{}", object(items.into_iter().map(|(key, value)| (key.to_owned(), value.to_string()))));
}

fn read_fd(number: u64) {
    let text = fs::read_to_string(format!("/proc/self/fd/{number}"));
    println!("{}", text.map_or_else(|error| error.to_string(), string));
}

/// Write so many bytes that look random, in writes of every size up to 70,001.
fn noise(total: u64) {
    let (noise, mut stdout) = (crate::noise::period(), std::io::stdout().lock());
    let mut written = 0;
    while written < total {
        let rest = &noise[(written % noise.len() as u64) as usize..];
        let len = rest.len().min((1 + written % 70_001).min(total - written) as usize);
        stdout.write_all(&rest[..len]).and_then(|()| stdout.flush()).expect("written");
        written += len as u64;
    }
}

/// Write so many numbered lines of ten bytes, each in a write of its own; then, as an error, how long the longest of them took;
/// end with that code.
fn count(lines: u64, code: u64) -> ! {
    let mut longest = std::time::Duration::ZERO;
    let mut stdout = std::io::stdout().lock();
    for line in 0..lines {
        let line = format!("{line:09}\n");
        let began = std::time::Instant::now();
        // Line-buffered, and this is a line: one call.
        stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush()).expect("written");
        longest = longest.max(began.elapsed());
    }
    eprintln!("{}", longest.as_micros());
    std::process::exit(i32::try_from(code).unwrap_or(1))
}

/// Touch so many MiB.
fn alloc(mib: u64) {
    let mut kept: Vec<Vec<u8>> = Vec::new();
    for _ in 0..mib {
        let mut block = vec![0u8; 1 << 20];
        block.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
        kept.push(std::hint::black_box(block));
    }
    say("touched_mib", kept.len());
}

/// When standard input has ended: fork children that stay, until the kernel refuses or there are `most`.
fn forks(most: u64) {
    let _ = std::io::stdin().lock().read_to_end(&mut Vec::new());
    let mut made = 0;
    let mut refused = 0;
    while made < most {
        match raw::clone_process() {
            0 => {
                (0..3).for_each(drop_fd);
                raw::pause();
            }
            pid if pid < 0 => {
                refused = -pid;
                break;
            }
            _ => made += 1,
        }
    }
    println!("{}", object([("made".to_owned(), made.to_string()), ("errno".to_owned(), refused.to_string())]));
}

/// Leave a grandchild behind that nobody waits for and that holds no standard stream. Who is between is gone by the word.
fn orphan() {
    let between = raw::clone_process();
    if between == 0 {
        call(nr::SETSID, [0; 6]);
        if raw::clone_process() == 0 {
            (0..3).for_each(drop_fd);
            raw::pause();
        }
        std::process::exit(0);
    }
    raw::wait(between);
    println!("left");
}

/// Become itself again and again, each time by another of five threads than the first, whose others the kernel has to end.
#[expect(clippy::disallowed_methods, reason = "nothing is started: it is replaced")]
fn executes(first: bool) {
    if first {
        println!("ready");
    }
    for _ in 0..4 {
        std::thread::spawn(raw::pause);
    }
    let last = std::thread::spawn(|| {
        use std::os::unix::process::CommandExt as _;
        std::process::Command::new("/proc/self/exe").args(["executes", "again"]).exec()
    });
    eprintln!("{:?}", last.join());
}

/// End with `code` while a child of ours traces us; the child lives until standard input ends.
fn traced(code: i32) {
    const ANYBODY: usize = usize::MAX;
    const PTRACE_SEIZE: usize = 0x4206;
    let parent = call(nr::GETPID, [0; 6]) as usize;
    // PR_SET_PTRACER: where Yama would not let a child trace its parent.
    call(nr::PRCTL, [0x5961_6d61, ANYBODY, 0, 0, 0, 0]);
    let Ok((mut told, mut tell)) = std::io::pipe() else { return };
    if raw::clone_process() == 0 {
        drop(told);
        say("errno", -call(nr::PTRACE, [PTRACE_SEIZE, parent, 0, 0, 0, 0]));
        let _ = tell.write_all(b"x");
        drop(tell);
        let _ = std::io::stdin().lock().read_to_end(&mut Vec::new());
        std::process::exit(0);
    }
    drop(tell);
    let _ = told.read(&mut [0]);
    std::process::exit(code);
}

fn drop_fd(fd: usize) {
    // close: 3 on x86-64, 57 on aarch64
    call(if cfg!(target_arch = "x86_64") { 3 } else { 57 }, [fd, 0, 0, 0, 0, 0]);
}

/// Say each of these to $NOTIFY_SOCKET, as sd_notify(3) does.
fn notify(messages: &[String]) {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    let name = std::env::var("NOTIFY_SOCKET").unwrap_or_default();
    let address = match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&name),
    };
    let sent = address.and_then(|address| {
        let socket = UnixDatagram::unbound()?;
        messages.iter().try_for_each(|message| socket.send_to_addr(message.as_bytes(), &address).map(drop))
    });
    say("errno", sent.err().and_then(|error| error.raw_os_error()).unwrap_or(0));
}

/// Compute until so many milliseconds of CPU time are used; say how many of wall time that took.
fn burn(ms: u64) {
    let start = std::time::Instant::now();
    let mut x = 1u64;
    while raw::cpu_time().as_millis() < u128::from(ms) {
        for _ in 0..100_000 {
            x = std::hint::black_box(x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        }
    }
    say("wall_ms", start.elapsed().as_millis());
}

/// Write until there is no room.
fn fill(path: &str) {
    let mut bytes = 0usize;
    let block = [7u8; 64 << 10];
    let mut errno = 0;
    match fs::File::create(path) {
        Ok(mut file) => {
            while bytes < 1 << 30 {
                match file.write(&block) {
                    Ok(wrote) => bytes += wrote,
                    Err(error) => {
                        errno = error.raw_os_error().unwrap_or(0);
                        break;
                    }
                }
            }
        }
        Err(error) => errno = error.raw_os_error().unwrap_or(0),
    }
    println!("{}", object([("bytes".to_owned(), bytes.to_string()), ("errno".to_owned(), errno.to_string())]));
}

/// Make empty files until there is no room.
fn inodes(dir: &str) {
    let mut made = 0;
    let errno = loop {
        match fs::File::create(format!("{dir}/inode-{made}")) {
            Ok(_) if made < 100_000 => made += 1,
            Ok(_) => break 0,
            Err(error) => break error.raw_os_error().unwrap_or(0),
        }
    };
    println!("{}", object([("made".to_owned(), made.to_string()), ("errno".to_owned(), errno.to_string())]));
}

/// Write "x" to each path; minus the errno, or 0, for each.
fn create(paths: &[String]) {
    let one = |path: &String| fs::write(path, "x").err().and_then(|error| error.raw_os_error()).unwrap_or(0);
    println!("{}", object(paths.iter().map(|path| (path.clone(), one(path).to_string()))));
}
