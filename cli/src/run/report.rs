//! `run --report`: how it ended, or the failure that came instead, as one JSON document.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

use orangery::Report;
use serde::Serialize;

use super::{Ended, kept};
use crate::errors::Failure;

/// What `--report` writes.
#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    report: &'a Report,
    #[serde(flatten)]
    restarts: &'a Option<kept::Restarts>,
}

/// Where the report goes; opened before anything is made, so that a bad path is told before the command runs.
pub(super) enum ReportPlace {
    Stdout,
    File(File),
}

impl ReportPlace {
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        if path == Path::new("-") {
            return Ok(Self::Stdout);
        }
        let failed =
            |error| Failure::system(format!("cannot write {}", path.display()), &error).with_option("--report");
        File::create(path).map(Self::File).map_err(failed)
    }

    /// The report, or the failure that came instead of it.
    pub(super) fn write(self, ended: &Result<Ended, Failure>) -> Result<(), Failure> {
        let document = match ended {
            Ok(Ended { report: Some(report), restarts, .. }) => serde_json::to_string(&Document { report, restarts }),
            Ok(Ended { report: None, .. }) => Failure::new("a signal came before the command had started").json(),
            Err(failure) => failure.json(),
        };
        let text = document.map_err(|error| Failure::new(format!("cannot write the report: {error}")))? + "\n";
        let written = match self {
            Self::Stdout => io::stdout().write_all(text.as_bytes()),
            Self::File(mut file) => file.write_all(text.as_bytes()),
        };
        written.map_err(|error| Failure::system("cannot write the report", &error).with_option("--report"))
    }
}
