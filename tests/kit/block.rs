//! Block devices for trials: a loop device of the trial's own, and what a limit of one comes to.
//!
//! Nothing is timed. A container that may write twice a second is held up while another one, which began later, writes the same
//! number of blocks to the same device; the kernel's counters say who has written what. Without its limit the first one goes on.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use orangery_runtime::cgroup::{BlockDevice, IoMax, Limits};
use orangery_runtime::native::NativeRuntime;
use orangery_runtime::spec::{Mount, Stdio as Stream};
use orangery_runtime::{Container, ContainerSpec, ExitStatus, ProcessSpec, Runtime as _, Started};

use crate::wait::{self, Lines};

const BLOCKS: u64 = 256;
const BLOCK: u64 = 4096;

/// A loop device over a file; both are gone when it is dropped.
#[derive(Debug)]
pub struct Loop {
    device: PathBuf,
    file: PathBuf,
}

impl Loop {
    /// Over a file in this directory. Needs root and `losetup`.
    ///
    /// # Errors
    /// There is no such program, or no loop device.
    pub fn new(dir: &Path) -> Result<Self, String> {
        let file = dir.join("disk");
        let sized = File::create(&file).and_then(|made| made.set_len(BLOCKS * BLOCK));
        sized.map_err(|error| format!("{}: {error}", file.display()))?;
        // The free one that is told may be somebody else's by now.
        let mut last = String::new();
        for _ in 0..8 {
            let device = losetup(&[Path::new("-f")])?;
            match losetup(&[Path::new(&device), &file]) {
                Ok(_) => return Ok(Self { device: device.into(), file }),
                Err(why) => last = why,
            }
        }
        let _ = std::fs::remove_file(&file);
        Err(last)
    }

    /// Its node.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.device
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        if let Err(why) = losetup(&[Path::new("-d"), &self.device]) {
            eprintln!("{why}");
        }
        let _ = std::fs::remove_file(&self.file);
    }
}

#[expect(clippy::disallowed_methods, reason = "the distribution's own program")]
fn losetup(args: &[&Path]) -> Result<String, String> {
    let output = Command::new("losetup").args(args).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("needs losetup: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    Err(format!("losetup {args:?}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// Whether a trial may have a loop device.
///
/// # Errors
/// Why not.
pub fn loops() -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("needs root for a loop device".into());
    }
    losetup(&[Path::new("-f")]).map(drop)
}

/// A limit on some disk of this machine; where there is none, on one that is not there.
#[must_use]
pub fn most_of_any() -> IoMax {
    let disks = std::fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let number = |disk: std::fs::DirEntry| std::fs::read_to_string(disk.path().join("dev")).ok()?.trim().parse().ok();
    let device = disks.filter_map(number).next().unwrap_or(BlockDevice::Number { major: 0, minor: 0 });
    IoMax { write_bps: Some(10 << 20), read_iops: Some(500), ..IoMax::new(device) }
}

/// A container of this name, and a shell that runs this script in it.
pub type Writer<'a> = &'a dyn Fn(&str, &str) -> (ContainerSpec, ProcessSpec);

/// Writes to `device` are held up by a limit, as the kernel counts; they go on when it is taken away, and a kill ends them at once.
pub async fn writes_are_held_up(rt: &NativeRuntime, device: &Path, writer: Writer<'_>) {
    let most = |set: fn(&mut IoMax)| {
        let mut most = IoMax::new(BlockDevice::Path(device.into()));
        set(&mut most);
        Limits { io_max: vec![most], ..Limits::default() }
    };
    let all = format!("bs={BLOCK} count={BLOCKS}");
    let held = begin(rt, device, writer, "held", (most(|most| most.write_iops = Some(2)), &all)).await;
    // All at once, which waits for a quarter of an hour, also for a slow machine: a signal is not felt meanwhile.
    let at_once = format!("bs={} count=1", BLOCK * BLOCKS);
    let killed = begin(rt, device, writer, "killed", (most(|most| most.write_bps = Some(1 << 10)), &at_once)).await;
    // One that limits nothing: on v1 only who has some limit is counted.
    let free = begin(rt, device, writer, "free", (most(|most| most.write_iops = Some(1_000_000)), &all)).await;
    let (free, exit) = ended(free).await;
    assert_eq!(exit, ExitStatus::Code(0));
    assert!(written(&*free) >= (BLOCKS, BLOCKS * BLOCK), "{:?}", free.stats());
    wait::soon("delete", free.delete()).await.expect("deleted");
    let (ops, bytes) = written(&*held.0);
    assert!((1..BLOCKS).contains(&ops) && bytes < BLOCKS * BLOCK, "{ops} {bytes}");
    killed.0.kill().expect("killed");
    let (killed, exit) = ended(killed).await;
    assert_eq!(exit, ExitStatus::Signal { signal: 9, core_dumped: false });
    wait::soon("delete", killed.delete()).await.expect("deleted");
    held.0.update(most(|most| most.write_iops = Some(u64::MAX))).expect("updated");
    let (held, exit) = ended(held).await;
    assert_eq!(exit, ExitStatus::Code(0));
    assert!(written(&*held) >= (BLOCKS, BLOCKS * BLOCK), "{:?}", held.stats());
    wait::soon("delete", held.delete()).await.expect("deleted");
}

/// Operations and bytes.
fn written(container: &dyn Container) -> (u64, u64) {
    let stats = container.stats();
    (stats.io_write_ops.expect("counted"), stats.io_write_bytes.expect("counted"))
}

type Writing = (Box<dyn Container>, Started);

/// A container with this limit that has written one block, and goes on with more.
async fn begin(
    rt: &NativeRuntime,
    device: &Path,
    writer: Writer<'_>,
    id: &str,
    (limits, more): (Limits, &str),
) -> Writing {
    let dd = format!("dd if=/dev/zero of={} oflag=direct conv=notrunc", device.display());
    let script = format!("{dd} bs={BLOCK} count=1 && echo one && exec {dd} {more}");
    let (mut spec, mut main) = writer(id, &script);
    spec.mounts.push(Mount::device(device));
    spec.limits = limits;
    main.stdout = Stream::Piped;
    let container =
        wait::soon("create", rt.create(spec, main)).await.unwrap_or_else(|errors| panic!("create: {errors}"));
    let mut started = wait::soon("start", container.start()).await.expect("started");
    let mut lines = Lines::of(started.stdout.take().expect("a pipe"));
    assert_eq!(wait::soon("a block", lines.next()).await, "one");
    (container, started)
}

async fn ended((container, started): Writing) -> (Box<dyn Container>, ExitStatus) {
    let exit = wait::soon("the end of a writer", started.exit).await.expect("an exit");
    (container, exit.status)
}
