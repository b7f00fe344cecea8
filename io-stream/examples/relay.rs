//! One pipe, terminal, socket or growing file for many clients, with cursors and without a supervisor.
//!
//! ```console
//! $ (while date; do sleep 1; done) | cargo run -p orangery-io-stream --example relay -- /tmp/relay.sock
//! $ echo start | nc -U /tmp/relay.sock          # or: now, tail 10, or the cursor of an event
//! $ cargo run -p orangery-io-stream --example relay -- /tmp/relay.sock growing.log
//! ```
//!
//! A client sends one line and gets, for each event, one line; after a `chunk` so many bytes follow:
//!
//! ```text
//! oldest CURSOR
//! chunk CURSOR OFFSET LENGTH      the cursor resumes behind it
//! gap CURSOR FROM TO CAUSE
//! end REASON
//! gone CURSOR REASON              the wanted place cannot be read; the cursor is the oldest that can
//! ```

use std::error::Error;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use orangery_io_stream::{
    Event, From, Gone, Hub, HubOptions, PipeReader, Source, StreamErrorKind, SubscribeOptions, Subscriber, pump_pair,
};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut args = std::env::args_os().skip(1);
    let Some(socket) = args.next() else {
        return Err("usage: relay SOCKET [FILE]".into());
    };
    let hub = Hub::new(HubOptions { ring_bytes: 16 << 20, ..HubOptions::default() });
    let feeding = hub.clone();
    match args.next() {
        Some(path) => drop(tokio::spawn(follow(File::open(path)?, feeding))),
        None => feed_stdin(feeding)?,
    }
    let listener = UnixListener::bind(&socket)?;
    loop {
        let (client, _) = listener.accept().await?;
        let hub = hub.clone();
        tokio::spawn(async move {
            // A client that leaves is no failure, and disturbs nobody.
            match serve(client, &hub).await {
                Err(error) if !error.is::<std::io::Error>() => eprintln!("relay: a client asked wrongly: {error}"),
                _ => {}
            }
        });
    }
}

/// Standard input: whatever can be waited for through a pump, a file by looking at it.
fn feed_stdin(hub: Hub) -> Result<()> {
    let stdin = std::io::stdin().as_fd().try_clone_to_owned()?;
    match PipeReader::from_fd(stdin.try_clone()?) {
        Ok(reader) => drop(tokio::spawn(pump_pair(Some(reader), None, hub, std::future::pending(), None))),
        Err(error) if error.kind() == StreamErrorKind::NotAPipe => drop(tokio::spawn(follow(stdin.into(), hub))),
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// A file that grows: there is nothing to wait for, so it is looked at.
async fn follow(file: File, hub: Hub) {
    let mut offset = 0;
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read_at(&mut buffer, offset) {
            Ok(0) => tokio::time::sleep(Duration::from_millis(100)).await,
            Ok(len) => {
                offset += len as u64;
                let data = buffer.get(..len).unwrap_or_default().to_vec();
                if !hub.publish(Source::Stdout, data.into()).await {
                    return;
                }
            }
            Err(error) => {
                eprintln!("relay: the file cannot be read: {error}");
                return;
            }
        }
    }
}

async fn serve(client: UnixStream, hub: &Hub) -> Result<()> {
    let (read, mut write) = client.into_split();
    let mut request = String::new();
    BufReader::new(read).read_line(&mut request).await?;
    match subscribe(hub, request.trim())? {
        Ok(reader) => relay(reader, &mut write).await,
        Err(gone) => {
            let answer = format!("gone {} {}\n", gone.oldest, gone.reason);
            Ok(write.write_all(answer.as_bytes()).await?)
        }
    }
}

/// What a client asked for; the inner error is a cursor that cannot be resumed at.
fn subscribe(hub: &Hub, request: &str) -> Result<std::result::Result<Subscriber, Gone>> {
    let from = match request.split_once(' ') {
        Some(("tail", lines)) => From::TailLines(lines.parse()?),
        _ if request == "start" => From::Start,
        _ if request == "now" => From::Now,
        _ => return Ok(hub.resume(request.parse()?, SubscribeOptions::default())),
    };
    Ok(Ok(hub.subscribe(SubscribeOptions { from, ..SubscribeOptions::default() })))
}

async fn relay(mut reader: Subscriber, write: &mut OwnedWriteHalf) -> Result<()> {
    let oldest = reader.opening().oldest;
    write.write_all(format!("oldest {oldest}\n").as_bytes()).await?;
    while let Some(event) = reader.recv().await {
        let cursor = reader.cursor();
        match event {
            Event::Chunk(chunk) => {
                let header = format!("chunk {cursor} {} {}\n", chunk.offset, chunk.data.len());
                write.write_all(header.as_bytes()).await?;
                write.write_all(&chunk.data).await?;
            }
            Event::Gap(gap) => {
                let line = format!("gap {cursor} {} {} {}\n", gap.from, gap.to, gap.cause);
                write.write_all(line.as_bytes()).await?;
            }
            Event::End(end) => write.write_all(format!("end {:?}\n", end.reason).as_bytes()).await?,
            _ => {}
        }
    }
    Ok(())
}
