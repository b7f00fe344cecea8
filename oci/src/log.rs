//! Where errors, warnings and what `--debug` says go: standard error, and `--log`, in logrus's shape, which callers read.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber, span};

use crate::args::{Global, LogFormat};
use crate::clock;
use crate::failure::Failure;

/// The file that is meant, which crun's callers may say: it has others than files.
///
/// # Errors
/// It is none.
fn named(path: &Path) -> Result<&Path, Failure> {
    let bytes = path.as_os_str().as_bytes();
    if bytes.starts_with(b"syslog:") || bytes.starts_with(b"journald:") {
        return Err(Failure::new(format!("--log {}: there are files alone", path.display())));
    }
    Ok(bytes.strip_prefix(b"file:").map_or(path, |file| Path::new(OsStr::from_bytes(file))))
}

/// The log of this command. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    file: Option<Arc<File>>,
    format: LogFormat,
}

impl Log {
    /// Open it, and let what the library tells go there.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub(crate) fn open(global: &Global) -> Result<Log, Failure> {
        let file = match &global.log {
            Some(path) => {
                let path = named(path)?;
                let opened = File::options().append(true).create(true).open(path);
                Some(Arc::new(
                    opened.map_err(|error| Failure::system(format!("cannot open {}", path.display()), error))?,
                ))
            }
            None => None,
        };
        let log = Log { file, format: global.log_format };
        // What is no failure is said on nobody's terminal who has not asked for it.
        let level = match (global.debug, &log.file) {
            (true, _) => Level::DEBUG,
            (false, Some(_)) => Level::WARN,
            (false, None) => Level::ERROR,
        };
        let listener = Listener { log: log.clone(), level, spans: AtomicU64::new(1) };
        // A program that is not this one alone may have one already.
        let _ = tracing::subscriber::set_global_default(listener);
        Ok(log)
    }

    /// Why the command fails: on standard error in any case, in plain words where the log is elsewhere.
    pub(crate) fn error(&self, what: &str) {
        self.write("error", what);
        if self.file.is_some() {
            eprintln!("{}", plain(what));
        }
    }

    fn write(&self, level: &str, what: &str) {
        let time = clock::now();
        let line = match self.format {
            LogFormat::Json => {
                format!("{}\n", serde_json::json!({ "level": level, "msg": what, "time": time }))
            }
            LogFormat::Text => format!("time={time:?} level={level} msg={what:?}\n"),
        };
        // In one write, as others may append to the same file. There is nobody to tell that it cannot be written.
        let _ = match &self.file {
            Some(file) => (&**file).write_all(line.as_bytes()),
            None => std::io::stderr().write_all(line.as_bytes()),
        };
    }
}

/// For a terminal: what a hook or an image says is no command to it.
fn plain(what: &str) -> String {
    let mut said = String::with_capacity(what.len());
    for c in what.chars() {
        match c {
            '\n' | '\t' => said.push(c),
            c if c.is_control() => said.extend(c.escape_debug()),
            c => said.push(c),
        }
    }
    said
}

/// Hears what the library tells.
struct Listener {
    log: Log,
    level: Level,
    spans: AtomicU64,
}

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.level
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(self.spans.fetch_add(1, Ordering::Relaxed))
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut words = Words::default();
        event.record(&mut words);
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warning",
            Level::INFO => "info",
            _ => "debug",
        };
        self.log.write(level, &format!("{}{}", words.message, words.fields));
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[derive(Default)]
struct Words {
    message: String,
    fields: String,
}

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        } else {
            self.fields.push_str(&format!(" {}={value:?}", field.name()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_no_command_to_a_terminal() {
        assert_eq!(plain("two\nlines\té"), "two\nlines\té");
        assert_eq!(plain("a\u{1b}]0;x\u{7}\u{9b}2J\r"), r"a\u{1b}]0;x\u{7}\u{9b}2J\r");
    }
}
