//! What went wrong, as it is told, and the exit code that says so.

use std::fmt;

/// Why a command has failed.
#[derive(Debug)]
pub(crate) struct Failure {
    what: String,
    code: u8,
}

impl Failure {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), code: 1 }
    }

    /// A call of the system has failed.
    pub(crate) fn system(what: impl fmt::Display, error: impl Into<std::io::Error>) -> Self {
        Self::new(format!("{what}: {}", error.into()))
    }

    /// In the words that callers look for.
    pub(crate) fn no_such_container() -> Self {
        Self::new("container does not exist")
    }

    pub(crate) fn with_code(self, code: u8) -> Self {
        Self { code, ..self }
    }

    pub(crate) fn code(&self) -> u8 {
        self.code
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

/// A program that cannot be executed, in runc's words as well: callers tell by them that it is not there (127 with Docker) or may
/// not be executed (126), from everything else. Other failures have ours alone.
fn no_program(error: &orangery_runtime::Error) -> Option<String> {
    use orangery_runtime::ErrorKind::{CommandNotExecutable, CommandNotFound};
    let what = error.what();
    let (program, why) = match error.kind() {
        CommandNotFound => {
            let program = what.strip_suffix(" not found in the container")?;
            let why = match program.contains('/') {
                true => format!("stat {program}: no such file or directory"),
                false => "executable file not found in $PATH".to_owned(),
            };
            (program, why)
        }
        CommandNotExecutable => {
            let why = std::io::Error::from_raw_os_error(error.errno()?).to_string();
            let why = why.split(" (os error").next().unwrap_or_default().to_lowercase();
            (what.strip_suffix(" cannot be executed")?, why)
        }
        _ => return None,
    };
    Some(format!("{error}: unable to start container process: exec: {program:?}: {why}"))
}

impl From<orangery_runtime::Error> for Failure {
    fn from(error: orangery_runtime::Error) -> Self {
        if let Some(what) = no_program(&error) {
            return Self::new(what);
        }
        match error.hint() {
            Some(hint) => Self::new(format!("{error} ({hint})")),
            None => Self::new(error.to_string()),
        }
    }
}

impl From<orangery_runtime::Errors> for Failure {
    fn from(errors: orangery_runtime::Errors) -> Self {
        let each: Vec<String> = errors.0.into_iter().map(|error| Self::from(error).what).collect();
        Self::new(each.join("; "))
    }
}
