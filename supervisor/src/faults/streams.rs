//! The sites that bytes pass.

use orangery_io_stream::{Interceptor, Interference, Passage, PipeReader, StdinWriter};
use tokio::runtime::Handle;

use super::held::Held;
use super::{Fault, Faults, Site};

impl Faults {
    /// For a pump, on the thread that will run it.
    pub(crate) fn watch_reader(&self, reader: PipeReader) -> PipeReader {
        if self.is_armed() { reader.intercepted(self.interceptor()) } else { reader }
    }

    /// For a standard input, on a thread of the supervisor: its writer may be anywhere.
    pub(crate) fn watch_writer(&self, writer: StdinWriter) -> StdinWriter {
        if self.is_armed() { writer.intercepted(self.interceptor()) } else { writer }
    }

    fn interceptor(&self) -> Interceptor {
        let (faults, ours) = (self.clone(), Handle::current());
        Interceptor::new(move |passage| {
            let stalled = match passage {
                Passage::Read(source) => faults.stalled(source),
                _ => Held::default(),
            };
            let fault = match passage {
                Passage::Read(source) => faults.ask(Site::PumpRead(source)),
                Passage::Publish(source) => faults.ask(Site::PumpWrite(source)),
                Passage::Log(_) => faults.ask(Site::Log),
                Passage::Write => faults.ask(Site::Stdin),
                _ => Fault::Continue,
            };
            let delay = match fault {
                Fault::Delay(time) => {
                    let _time = ours.enter();
                    Some(tokio::time::sleep(time))
                }
                _ => None,
            };
            Box::pin(async move {
                stalled.over().await;
                if let Some(delay) = delay {
                    delay.await;
                }
                match fault {
                    Fault::Drop => Interference::Lose,
                    Fault::Errno(errno) => Interference::Fail(std::io::Error::from_raw_os_error(errno)),
                    _ => Interference::None,
                }
            })
        })
    }
}
