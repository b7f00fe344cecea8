//! Limits of block devices as people write them: `DEVICE:WEIGHT` and `DEVICE:KEY=RATE,...`, with the keys of the kernel's `io.max`.

use super::size::parse_size;
use crate::cgroup::{BlockDevice, IoMax, IoWeight};

const FORM: &str = "write DEVICE:KEY=N,..., such as /dev/sda:rbps=10M,wiops=500: rbps and wbps are bytes read and written a \
                    second, riops and wiops operations; N may be max";

/// The most of one device, such as `/dev/sda:wbps=10M,riops=500` or `8:0:rbps=max`.
///
/// # Errors
/// Not of that form, with the sentence that says it.
///
/// ```
/// use orangery_runtime::spec::io::parse_io_max;
/// let most = parse_io_max("/dev/sda:wbps=10M,riops=500").unwrap();
/// assert_eq!((most.write_bps, most.read_iops, most.read_bps), (Some(10 << 20), Some(500), None));
/// ```
pub fn parse_io_max(text: &str) -> Result<IoMax, String> {
    let (device, rates) = split(text).ok_or_else(|| format!("{text:?} has no device and rates: {FORM}"))?;
    let mut most = IoMax::new(device.parse::<BlockDevice>()?);
    for rate in rates.split(',') {
        let (key, value) = rate.split_once('=').ok_or_else(|| format!("{rate:?} is no rate: {FORM}"))?;
        let (place, is_size) = match key {
            "rbps" => (&mut most.read_bps, true),
            "wbps" => (&mut most.write_bps, true),
            "riops" => (&mut most.read_iops, false),
            "wiops" => (&mut most.write_iops, false),
            _ => return Err(format!("{key:?} is no rate: {FORM}")),
        };
        let value = match value {
            "max" => u64::MAX,
            _ if is_size => parse_size(value)?,
            _ => value.parse().map_err(|_| format!("{value:?} is not a whole number, such as 500"))?,
        };
        if place.replace(value).is_some() {
            return Err(format!("{key} is there twice"));
        }
    }
    Ok(most)
}

/// A weight on one device, such as `/dev/sda:50`.
///
/// # Errors
/// Not of that form.
///
/// ```
/// use orangery_runtime::spec::io::parse_io_weight;
/// assert_eq!(parse_io_weight("8:0:50").unwrap().weight, 50);
/// ```
pub fn parse_io_weight(text: &str) -> Result<IoWeight, String> {
    let form = || format!("{text:?} is no device with a weight, such as /dev/sda:50");
    let (device, weight) = split(text).ok_or_else(form)?;
    Ok(IoWeight { device: device.parse()?, weight: weight.parse().map_err(|_| form())? })
}

/// At the last colon: devices have some of their own.
fn split(text: &str) -> Option<(&str, &str)> {
    text.rsplit_once(':').filter(|(device, rest)| !device.is_empty() && !rest.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_colons() {
        for (text, device) in [("8:0:rbps=1", "8:0"), ("/dev/disk/by-path/a:b:rbps=1", "/dev/disk/by-path/a:b")] {
            assert_eq!(parse_io_max(text).unwrap().device, device.parse::<BlockDevice>().unwrap(), "{text}");
        }
        assert_eq!(parse_io_max("/:rbps=max").unwrap().read_bps, Some(u64::MAX));
    }

    #[test]
    fn what_is_no_rate_says_what_is() {
        for bad in [
            "",
            ":",
            "/dev/sda",
            "8:0",
            "sda:rbps=1",
            ":rbps=1",
            "/dev/sda:",
            "/dev/sda:rbps",
            "/dev/sda:rbps=",
            "/dev/sda:bps=1",
            "/dev/sda:rbps=1,",
            "/dev/sda:rbps=1,rbps=2",
            "/dev/sda:riops=1K",
            "/dev/sda:rbps=-1",
            "/dev/sda:rbps=1;wbps=2",
        ] {
            assert!(parse_io_max(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "50", "/dev/sda", "/dev/sda:", "/dev/sda:x", "8:50", "sda:50"] {
            assert!(parse_io_weight(bad).is_err(), "{bad:?}");
        }
    }
}
