//! `orangery rootfs`: root file systems from archives and directories, and their removal. Needs no daemon and no supervisor.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use orangery::Error;
use orangery::runtime::ErrorKind;
use orangery::runtime::rootfs::{
    Layer, Progress, Unpack, UnpackLimits, UnpackReport, Unpacked, Unpacking, data_dir, remove, report_of,
};
use orangery::{Access, RootfsProvider};
use serde::Serialize;

use crate::args::{RemoveArgs, RootfsAct, RootfsArgs, UnpackArgs};
use crate::commands::{document, say};
use crate::errors::{Failure, notice};
use crate::signals::by_signal;

/// So much of what was left out is told to people; all of it with `--json`.
const TOLD: usize = 10;
/// So long an interrupted one may take to undo what it has made.
const UNDOING: std::time::Duration = std::time::Duration::from_secs(60);

#[derive(Debug, Serialize)]
struct Made<'a> {
    schema: u32,
    rootfs: &'a Path,
    report: &'a UnpackReport,
}

#[derive(Debug, Serialize)]
struct Gone {
    schema: u32,
    removed: Vec<GoneDir>,
}

#[derive(Debug, Serialize)]
struct GoneDir {
    dir: PathBuf,
    entries: u64,
}

/// Unpack or remove.
///
/// # Errors
/// What the library refuses, with the entry; what was made until then is gone.
pub(crate) fn rootfs(args: &RootfsArgs, json: bool) -> Result<u8, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::system("cannot start the event loop", &error))?;
    let done = runtime.block_on(async {
        let mut signals = crate::signals::Signals::listen()?;
        let work = async {
            match &args.act {
                RootfsAct::Unpack(args) => unpacked(args, json).await,
                RootfsAct::Remove(args) => removed(args, json).await,
            }
        };
        tokio::select! {
            done = work => done,
            signal = signals.next() => Err(Failure::new("interrupted").with_exit_code(by_signal(signal))),
        }
    });
    // Interrupted, the work is told and undoes what it has made. What is stuck in an input is left to the next one's sweep.
    runtime.shutdown_timeout(UNDOING);
    done
}

async fn unpacked(args: &UnpackArgs, json: bool) -> Result<u8, Failure> {
    let default = UnpackLimits::default();
    let limits = args.max_size.map_or(default, |most| default.bytes(most));
    let limits = args.max_entries.map_or(limits, |most| limits.entries(most));
    let limits = args.max_depth.map_or(limits, |most| limits.depth(most));
    let mut unpack = source(&args.sources).limits(limits);
    let shows = std::io::stderr().is_terminal() && !json;
    if shows {
        unpack = unpack.progress(shown);
    }
    let done = unpack.into_dir(&args.dir).await;
    if shows {
        // The line of the progress goes.
        let _ = std::io::stderr().write_all(b"\r\x1b[K");
    }
    let Unpacked { rootfs, report, .. } = done.map_err(|error| failed(error, &args.sources))?;
    if json {
        document(&Made { schema: 1, rootfs: &rootfs, report: &report })?;
    } else {
        told(&report);
        say(format!("{}\n", rootfs.display()).as_bytes())?;
    }
    Ok(0)
}

/// One source, or layers.
fn source(sources: &[PathBuf]) -> Unpack {
    let layer = |path: &PathBuf| match path {
        path if path.as_os_str() == "-" => Layer::reader(std::io::stdin()),
        path if path.is_dir() => Layer::directory(path),
        path => Layer::tar(path),
    };
    match sources {
        [one] if one.as_os_str() == "-" => Unpack::from_reader(std::io::stdin()),
        [one] if one.is_dir() => Unpack::from_directory(one),
        [one] => Unpack::from_tar(one),
        many => Unpack::from_layers(many.iter().map(layer)),
    }
}

/// A failure says which source it is about.
fn failed(error: orangery::runtime::Error, sources: &[PathBuf]) -> Failure {
    let field = error.field().unwrap_or_default().to_owned();
    let number = field.strip_prefix("layers[").and_then(|rest| rest.split_once(']')).and_then(|(n, _)| n.parse().ok());
    let of = sources.get(number.unwrap_or(0_usize)).map(|path| path.display().to_string()).unwrap_or_default();
    let failure = Failure::from(Error::from(error));
    match field.as_str() {
        "to" => failure.with_option("DIR"),
        "limits.bytes" => failure.with_option("--max-size"),
        "limits.entries" => failure.with_option("--max-entries"),
        "limits.depth" => failure.with_option("--max-depth"),
        _ => failure.with_option(&of),
    }
}

/// What was not kept, for people.
fn told(report: &UnpackReport) {
    for skip in report.skipped.iter().take(TOLD) {
        let attribute = skip.attribute.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
        notice(&format!("left out: {}{attribute}: {}", skip.entry, skip.reason.words()));
    }
    if let more @ 1.. = report.skipped_count.saturating_sub(TOLD as u64) {
        notice(&format!("left out: {more} more"));
    }
    if report.owners_lost > 0 {
        let why = report.why_owners_lost.as_deref().unwrap_or("no container has their ids");
        notice(&format!("{} entries belong to the container's root now: {why}", report.owners_lost));
    }
    tracing::info!(entries = report.entries, bytes = report.bytes, whiteouts = report.whiteouts, "unpacked");
}

/// An archive that is unpacked for each container, below the directory of this user's data.
pub(crate) fn of_archive(path: &Path, access: Access) -> Result<Arc<dyn RootfsProvider>, Failure> {
    let store = data_dir().ok_or_else(|| {
        Failure::refused("--rootfs", "neither XDG_DATA_HOME nor HOME says where an archive can be unpacked")
    })?;
    let unpacking = Unpacking::from_tar(store, path).access(access);
    Ok(Arc::new(if std::io::stderr().is_terminal() { unpacking.progress(shown) } else { unpacking }))
}

fn shown(progress: Progress) {
    let line = match progress.done {
        true => "\r\x1b[K".to_owned(),
        false => format!("\r\x1b[K{} entries, {} MiB", progress.entries, progress.bytes >> 20),
    };
    // Nobody to tell is no failure.
    let _ = std::io::stderr().write_all(line.as_bytes());
}

async fn removed(args: &RemoveArgs, json: bool) -> Result<u8, Failure> {
    let mut gone = Gone { schema: 1, removed: Vec::new() };
    for dir in &args.dirs {
        let option = dir.display().to_string();
        match report_of(dir) {
            Ok(_) => {}
            Err(error) if args.force || error.kind() == ErrorKind::NotFound => {}
            Err(error) => {
                return Err(Failure::from(Error::from(error))
                    .with_option(&option)
                    .with_hint("--force removes it all the same"));
            }
        }
        let removed = remove(dir).await.map_err(|error| Failure::from(Error::from(error)).with_option(&option))?;
        tracing::info!(dir = %dir.display(), entries = removed.entries, "removed");
        gone.removed.push(GoneDir { dir: dir.clone(), entries: removed.entries });
    }
    if json {
        document(&gone)?;
    }
    Ok(0)
}
