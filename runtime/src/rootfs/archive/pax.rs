//! Extended headers of POSIX: records `LEN KEY=VALUE\n` that say of the next entry what its header has no room for. Pure.

/// Pieces of a sparse file that are kept at most.
pub(super) const MAX_PIECES: usize = 1 << 18;

/// What records have said.
#[derive(Clone, Debug, Default)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) mtime: Option<(i64, u32)>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: Sparse,
}

/// GNU's three ways to say where the holes of a file are.
#[derive(Clone, Debug, Default)]
pub(super) struct Sparse {
    /// 1.0: the pieces stand in front of the content.
    pub(super) in_front: bool,
    pub(super) name: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    /// 0.0 and 0.1: offsets and lengths, in turns.
    pub(super) map: Option<Vec<u64>>,
}

impl Pax {
    /// Take records in. The error says what is wrong with which.
    pub(super) fn read(&mut self, mut records: &[u8]) -> Result<(), String> {
        while !records.is_empty() {
            let (record, rest) = record(records).ok_or("a record of an extended header has a wrong length")?;
            let at = record.iter().position(|byte| *byte == b'=').ok_or("a record of an extended header has no =")?;
            let (key, value) = (record.get(..at).unwrap_or_default(), record.get(at + 1..).unwrap_or_default());
            self.one(key, value).ok_or_else(|| format!("the record {} is wrong", key.escape_ascii()))?;
            records = rest;
        }
        Ok(())
    }

    fn one(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        match key {
            b"path" => self.path = Some(value.to_vec()),
            b"linkpath" => self.link = Some(value.to_vec()),
            b"size" => self.size = Some(decimal(value)?),
            b"uid" => self.uid = Some(u32::try_from(decimal(value)?).ok()?),
            b"gid" => self.gid = Some(u32::try_from(decimal(value)?).ok()?),
            b"mtime" => self.mtime = Some(time(value)?),
            b"GNU.sparse.major" => self.sparse.in_front = value == b"1",
            b"GNU.sparse.name" => self.sparse.name = Some(value.to_vec()),
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => self.sparse.size = Some(decimal(value)?),
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => {
                let map = self.sparse.map.get_or_insert_default();
                let turn = usize::from(key == b"GNU.sparse.numbytes");
                if map.len() % 2 != turn || map.len() >= 2 * MAX_PIECES {
                    return None;
                }
                map.push(decimal(value)?);
            }
            b"GNU.sparse.map" => {
                let numbers = value.split(|byte| *byte == b',').filter(|number| !number.is_empty());
                let map: Option<Vec<u64>> = numbers.take(2 * MAX_PIECES + 1).map(decimal).collect();
                self.sparse.map = Some(map.filter(|map| map.len() <= 2 * MAX_PIECES && map.len() % 2 == 0)?);
            }
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.").filter(|name| !name.is_empty()) {
                    self.xattrs.push((name.to_vec(), value.to_vec()));
                }
            }
        }
        Some(())
    }
}

/// The first record without its length and newline, and the rest.
fn record(records: &[u8]) -> Option<(&[u8], &[u8])> {
    let digits = records.iter().position(|byte| *byte == b' ')?;
    let len = usize::try_from(decimal(records.get(..digits)?)?).ok()?;
    let body = records.get(digits + 1..len)?.strip_suffix(b"\n")?;
    Some((body, records.get(len..)?))
}

/// An unsigned number.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    str::from_utf8(text).ok()?.parse().ok()
}

/// Seconds with a fraction, before 1970 with a sign.
fn time(text: &[u8]) -> Option<(i64, u32)> {
    let (negative, text) = text.strip_prefix(b"-").map_or((false, text), |rest| (true, rest));
    let mut parts = text.splitn(2, |byte| *byte == b'.');
    let seconds = i64::try_from(decimal(parts.next()?)?).ok()?;
    let fraction = parts.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = fraction.iter().copied().chain(std::iter::repeat(b'0')).take(9);
    let nanos = digits.fold(0u32, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    Some(match (negative, nanos) {
        (false, nanos) => (seconds, nanos),
        (true, 0) => (-seconds, 0),
        (true, nanos) => (-seconds - 1, 1_000_000_000 - nanos),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_and_wrong_ones_named() {
        let mut pax = Pax::default();
        pax.read(b"12 path=a\nb\n15 mtime=-1.25\n27 SCHILY.xattr.user.a=\0=\n\n").unwrap();
        assert_eq!(pax.path.as_deref(), Some(&b"a\nb"[..]));
        assert_eq!(pax.mtime, Some((-2, 750_000_000)));
        assert_eq!(pax.xattrs, [(b"user.a".to_vec(), b"\0=\n".to_vec())]);
        for (bad, why) in [
            (&b"12 path=a"[..], "length"),
            (b"99999999999999999999 a=b\n", "length"),
            (b"0 a=b\n", "length"),
            (b"5 ab\n", "no ="),
            (b"8 size=\n", "size"),
            (b"21 uid=4294967296\n---", "length"),
            (b"18 uid=4294967296\n", "uid"),
            (b"24 GNU.sparse.numbytes=1\n", "length"),
            (b"25 GNU.sparse.numbytes=1\n", "numbytes"),
        ] {
            let error = Pax::default().read(bad).unwrap_err();
            assert!(error.contains(why), "{}: {error}", bad.escape_ascii());
        }
    }
}
