//! How descriptions are written down that come from crates without serde, or hold bytes.

use std::time::Duration;

use orangery_io_stream::log::{LogOptions, SyncPolicy};
use orangery_io_stream::{Generation, StreamId};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// [`LogOptions`].
pub(crate) mod log_options {
    use super::*;

    #[derive(Serialize, Deserialize)]
    struct Form {
        segment_bytes: u64,
        segment_age: Option<Duration>,
        keep_segments: usize,
        keep_bytes: Option<u64>,
        compress: Option<i32>,
        sync: Sync,
        retry: Duration,
        stream: Option<[u8; 16]>,
        generation: u32,
    }

    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Sync {
        Never,
        OnClose,
        Every(Duration),
    }

    pub(crate) fn serialize<S: Serializer>(options: &LogOptions, serializer: S) -> Result<S::Ok, S::Error> {
        let LogOptions { segment_bytes, segment_age, keep_segments, keep_bytes, compress, .. } = *options;
        let sync = match options.sync {
            SyncPolicy::Never => Sync::Never,
            SyncPolicy::OnClose => Sync::OnClose,
            SyncPolicy::Every(often) => Sync::Every(often),
        };
        let (retry, generation) = (options.retry, options.generation.0);
        let stream = options.stream.map(StreamId::to_bytes);
        Form { segment_bytes, segment_age, keep_segments, keep_bytes, compress, sync, retry, stream, generation }
            .serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<LogOptions, D::Error> {
        let Form { segment_bytes, segment_age, keep_segments, keep_bytes, compress, sync, retry, stream, generation } =
            Form::deserialize(from)?;
        let sync = match sync {
            Sync::Never => SyncPolicy::Never,
            Sync::OnClose => SyncPolicy::OnClose,
            Sync::Every(often) => SyncPolicy::Every(often),
        };
        let (stream, generation) = (stream.map(StreamId::from_bytes), Generation(generation));
        Ok(LogOptions {
            segment_bytes,
            segment_age,
            keep_segments,
            keep_bytes,
            compress,
            sync,
            retry,
            stream,
            generation,
        })
    }
}

/// [`bytes::Bytes`]: what a command reads.
pub(crate) mod input {
    use bytes::Bytes;

    use super::*;

    pub(crate) fn serialize<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(bytes) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => serializer.collect_seq(bytes.iter()),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Bytes, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Text(String),
            Bytes(Vec<u8>),
        }
        Ok(match Written::deserialize(from)? {
            Written::Text(text) => text.into(),
            Written::Bytes(bytes) => bytes.into(),
        })
    }
}
